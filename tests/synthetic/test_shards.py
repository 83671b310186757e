from __future__ import annotations

from sam4mllm.geometry.prompts import union
from sam4mllm.synthetic import draw_split
from sam4mllm.synthetic.shards import samples_of


def test_samples_have_the_phrases_and_visible_masks() -> None:
    for index in range(20):
        drawing = draw_split("test", index)
        samples = samples_of(drawing, f"test/{index:06}.png", "test")
        assert [sample.phrase for sample in samples] == [expression.text for expression in drawing.expressions]
        for number, (sample, expression) in enumerate(zip(samples, drawing.expressions, strict=True)):
            assert (sample.ground_truth.mask == union(drawing.masks(expression), 112, 112)).all()
            assert len(sample.masks) == len(expression.targets)
            assert sample.id.startswith(f"shapes-test-{index:06}-{number}-{expression.kind}")
            assert sample.id.endswith("-ambiguous") == expression.ambiguous
            assert (sample.kind == "sentence") == (expression.kind == "reasoning")
            assert (sample.width, sample.height, sample.source, sample.split) == (112, 112, "shapes", "test")
