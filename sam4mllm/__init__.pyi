"""Types of the public names, which are imported on first use."""

from sam4mllm.config import PipelineConfig as PipelineConfig
from sam4mllm.data.samples import read_samples as read_samples
from sam4mllm.errors import UserError as UserError
from sam4mllm.geometry.prompts import Box as Box
from sam4mllm.geometry.prompts import Frame as Frame
from sam4mllm.geometry.prompts import Point as Point
from sam4mllm.geometry.prompts import Prompt as Prompt
from sam4mllm.geometry.rle import Rle as Rle
from sam4mllm.language.messages import Reply as Reply
from sam4mllm.language.messages import Turn as Turn
from sam4mllm.language.notation import Dialect as Dialect
from sam4mllm.mllm import MLLM as MLLM
from sam4mllm.mllm import Chat as Chat
from sam4mllm.mllm.hf.model import HfMLLM as HfMLLM
from sam4mllm.mllm.load import MLLMSpec as MLLMSpec
from sam4mllm.mllm.scripted import ScriptedMLLM as ScriptedMLLM
from sam4mllm.pipeline import Answer as Answer
from sam4mllm.pipeline import Pipeline as Pipeline
from sam4mllm.prediction.record import read_predictions as read_predictions
from sam4mllm.prompters import PointAnswer as PointAnswer
from sam4mllm.prompters import Prompter as Prompter
from sam4mllm.prompters import Prompting as Prompting
from sam4mllm.prompters import Query as Query
from sam4mllm.prompters.adaptive import AdaptivePQPP as AdaptivePQPP
from sam4mllm.prompters.box import BoxPrompter as BoxPrompter
from sam4mllm.prompters.load import PrompterSpec as PrompterSpec
from sam4mllm.prompters.oracle import Oracle as Oracle
from sam4mllm.prompters.ppg import PPG as PPG
from sam4mllm.prompters.pqpp import PQPP as PQPP
from sam4mllm.segmenters import Capabilities as Capabilities
from sam4mllm.segmenters import Scene as Scene
from sam4mllm.segmenters import ScoredMask as ScoredMask
from sam4mllm.segmenters import Segmenter as Segmenter
from sam4mllm.segmenters.box import BoxSegmenter as BoxSegmenter
from sam4mllm.segmenters.grabcut import GrabCutSegmenter as GrabCutSegmenter
from sam4mllm.segmenters.hf import HfSegmenter as HfSegmenter
from sam4mllm.segmenters.load import SegmenterSpec as SegmenterSpec
from sam4mllm.segmenters.sam import SamSegmenter as SamSegmenter

__version__: str
