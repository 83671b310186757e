"""A segmenter with masks that can be computed by hand from its prompts, and small samples."""

import numpy as np

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import write_png
from sam4mllm.segmenters import Capabilities, ScoredMask
from sam4mllm.segmenters.box import fill

HEIGHT, WIDTH = 10, 20


class Painter:
    """Fills the box, without the columns of negative points; records the images and prompts."""

    capabilities = Capabilities()

    def __init__(self):
        self.embedded, self.drawn = 0, []

    def embed(self, image):
        self.embedded += 1
        return self

    def segment(self, prompts):
        self.drawn += prompts
        return [ScoredMask(painted(prompt), 1.0) for prompt in prompts]


def painted(prompt):
    mask = fill(prompt.box, HEIGHT, WIDTH)
    for point in prompt.points:
        if not point.positive:
            mask[:, int(point.x)] = False
    return mask


def filled(x0, y0, x1, y1):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return Rle.from_mask(mask)


def sample(name, *masks, image="a.png", phrase="the cat", ignore=None):
    return Sample(name, image, WIDTH, HEIGHT, phrase, masks, ignore, "set", "val")


def given(folder, *samples):
    """The samples with image files."""
    for name in {sample.image for sample in samples}:
        write_png(folder / name, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return SampleSet(samples, folder)
