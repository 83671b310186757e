"""Speed of the target search compared with a plain search: images per second, and masks that keep other prompts.

The plain search segments one candidate after another at full image size and compares it with the mask. Both methods
embed each image once, which is included in their time, and run on one torch thread. Times are CPU seconds, which
exclude other processes of the machine, or wall-clock seconds on a GPU. Methods alternate for each image, and the best
round counts. Images are `shapes` scenes with each pixel enlarged to a square of --factors pixels.

"predict" upscales all three masks of a candidate and takes the one with the highest predicted IoU, as
`SamPredictor.predict` of segment_anything and the processors of transformers do. "segment" is `Scene.segment`, which
upscales only that mask.

    python benchmarks/targets.py [--scenes 130] [--factors 1 4 8] [--large 2] [--rounds 1] [--device cuda]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from time import perf_counter, process_time

import numpy as np
import torch
import transformers as tf
from scoring import blob

from sam4mllm.data.samples import Sample
from sam4mllm.geometry.prompts import Image, Mask, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.segmenters import Capabilities, ScoredMask, Segmenter
from sam4mllm.segmenters.grouping import group_prompts
from sam4mllm.segmenters.hf import HfScene, HfSegmenter
from sam4mllm.segmenters.load import SegmenterSpec
from sam4mllm.synthetic import draw_split
from sam4mllm.targets.record import Target
from sam4mllm.targets.search import Search, image_targets

SEARCH = Search(candidates=16)
WIDE, CELLS, SIDE = 256, 64, 1024  # sizes of the mask decoder in every original SAM
ImageSample = tuple[Image, Sample]


class Plain:
    """A segmenter without drafts: its scenes segment each candidate separately."""

    capabilities = Capabilities()

    def __init__(self, segmenter: HfSegmenter, draw: Callable[[HfScene, Prompt], ScoredMask]) -> None:
        self.segmenter, self.draw = segmenter, draw

    def embed(self, image: Image) -> PlainScene:
        return PlainScene(self.segmenter.embed(image), self.draw)


class PlainScene:
    """See `Plain`."""

    def __init__(self, scene: HfScene, draw: Callable[[HfScene, Prompt], ScoredMask]) -> None:
        self.scene, self.draw = scene, draw

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        return [self.draw(self.scene, prompt) for prompt in prompts]


def segment(scene: HfScene, prompt: Prompt) -> ScoredMask:
    return scene.segment([prompt])[0]


@torch.inference_mode()
def predict(scene: HfScene, prompt: Prompt) -> ScoredMask:
    [group] = group_prompts([prompt], scene._scale, 1)
    out = scene._decode(group)
    [masks] = scene._segmenter.processor.post_process_masks(out.pred_masks, **scene._sizes)
    scores = out.iou_scores[0, 0]
    return ScoredMask(masks[0, int(scores.argmax())].cpu().numpy(), float(scores.max().clamp(0, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=130, help="number of shapes scenes, with two or three masks each")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 4, 8], help="enlargement of the 112 x 112 pixels")
    parser.add_argument("--large", type=int, default=2, help="images for the large model; 0 skips it")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tiny = SegmenterSpec("tiny", device=options.device).load()
    assert isinstance(tiny, HfSegmenter)
    for factor in options.factors:
        scenes = [scene(index, factor) for index in range(options.scenes)]
        height, width = scenes[0][0].shape[:2]
        compare(f"shapes of {height} x {width}, tiny", tiny, scenes, options.rounds)
    if options.large:
        scenes = [noise(index) for index in range(options.large)]
        # at least two rounds: the first run pays for allocating memory
        compare(
            "noise of 480 x 640, random decoder of SAM's size", large(options.device), scenes, max(2, options.rounds)
        )


def scene(index: int, factor: int) -> ImageSample:
    """A shapes scene enlarged by ``factor``, and a sample with the masks of all figures."""
    drawing = draw_split("test", index)
    image, *masks = (
        pixels.repeat(factor, 0).repeat(factor, 1) for pixels in (drawing.image, *(f.mask for f in drawing.figures))
    )
    return image, sample(str(index), masks)


def noise(index: int) -> ImageSample:
    rng = np.random.default_rng(index)
    image = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return image, sample(str(index), [blob(480, 640, rng) for _ in range(4)])


def sample(name: str, masks: Sequence[Mask]) -> Sample:
    height, width = masks[0].shape
    return Sample(name, f"{name}.png", width, height, "all of it", tuple(map(Rle.from_mask, masks)))


def large(device: str) -> HfSegmenter:
    """A SAM with random weights and a minimal encoder; with this `initializer_range` its masks have edges."""
    torch.manual_seed(0)
    sizes = {"image_size": SIDE, "patch_size": SIDE // CELLS}
    vision = tf.SamVisionConfig(
        hidden_size=32,
        output_channels=WIDE,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_dim=32,
        window_size=8,
        global_attn_indexes=[],
        initializer_range=0.1,
        **sizes,
    )
    config = tf.SamConfig(
        vision_config=vision,
        prompt_encoder_config=tf.SamPromptEncoderConfig(**sizes),
        mask_decoder_config=tf.SamMaskDecoderConfig(),
        initializer_range=0.1,
    )
    return HfSegmenter(tf.SamModel(config).to(device), tf.SamProcessor(tf.SamImageProcessor()))


def now(segmenter: HfSegmenter) -> float:
    if segmenter.model.device.type == "cpu":
        return process_time()
    torch.cuda.synchronize()
    return perf_counter()


def compare(name: str, segmenter: HfSegmenter, scenes: Sequence[ImageSample], rounds: int) -> None:
    ways: dict[str, Segmenter] = {
        "ours": segmenter,
        "segment": Plain(segmenter, segment),
        "predict": Plain(segmenter, predict),
    }
    seconds = dict.fromkeys(ways, 0.0)
    targets_by_method: dict[str, list[Target]] = {way: [] for way in ways}
    for image, about in scenes:
        best = dict.fromkeys(ways, float("inf"))
        for number in range(rounds):
            for way, drawer in ways.items():
                start = now(segmenter)
                targets = list(image_targets(image, [about], drawer, SEARCH))
                best[way] = min(best[way], now(segmenter) - start)
                targets_by_method[way] += targets if number == 0 else []
        seconds = {way: seconds[way] + best[way] for way in ways}
    rate = {way: len(scenes) / seconds[way] for way in ways}
    masks = len(targets_by_method["ours"])
    print(f"{name}: {len(scenes)} images, {masks} masks, K = {SEARCH.candidates}", flush=True)
    for way in ("predict", "segment"):
        differ = sum(
            set(a.prompts) != set(b.prompts)
            for a, b in zip(targets_by_method["ours"], targets_by_method[way], strict=True)
        )
        print(
            f"  ours {rate['ours']:.2f} images per second, {way} {rate[way]:.2f}: {rate['ours'] / rate[way]:.1f} times"
            f" as fast; {differ} of {masks} masks differ ({differ / masks:.1%})",
            flush=True,
        )


if __name__ == "__main__":
    main()
