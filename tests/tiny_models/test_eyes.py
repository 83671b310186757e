import numpy as np
import pytest
import torch

from sam4mllm.synthetic.figures import SHAPES
from sam4mllm.synthetic.scenes import draw_split
from tiny_models.eyes import CELLS, NAMES, PLACES, EncoderHeads, dense, near
from tiny_models.model import PATCH, build

WIDTH = 160


def test_a_patch_is_named_after_the_figure_that_covers_it_most():
    drawing = draw_split("train", 0)
    labels = dense(drawing)
    for row, column in ((0, 0), (3, 4), (7, 7)):
        window = np.s_[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
        tiles = [figure.mask[window] for figure in drawing.figures]
        most = int(np.argmax([tile.sum() for tile in tiles]))
        patch = row * CELLS + column
        assert labels.figured[patch] == (tiles[most].mean() >= 0.06)
        shape = SHAPES.index(drawing.figures[most].shape) + 1 if labels.figured[patch] else 0
        assert labels.kinds[patch, 0] == shape
        assert np.array_equal(labels.parts[patch].reshape(PATCH, PATCH) > 0, tiles[most])


def test_predicting_the_labels_lowers_the_loss():
    """The patches are the embeddings of the correct words."""
    labels = [dense(draw_split("train", 1))]
    names = dict.fromkeys((*(name for names in NAMES for name in names), *PLACES))
    tokens = {name: index for index, name in enumerate(names)}
    eyes, table = EncoderHeads(WIDTH, tokens.__getitem__), torch.eye(len(tokens), WIDTH)
    patches = torch.zeros(1, len(labels[0].figured), WIDTH)
    for patch, kinds in enumerate(labels[0].kinds):
        patches[0, patch, [tokens[names[kind]] for names, kind in zip(NAMES, kinds, strict=True)]] = 1.0
    loss, figures = eyes.loss(patches, table, labels)
    random_loss, random_figures = eyes.loss(torch.randn(patches.shape), table, labels)
    assert figures["shape"] == 1 > random_figures["shape"]
    assert loss < random_loss


def test_a_place_near_the_true_one_has_a_high_weight():
    [weights] = near(torch.tensor([50.0]), 2.0)
    assert weights.sum().item() == pytest.approx(1)
    assert weights[50] > weights[51] == weights[49] > weights[55] > 0


def test_the_label_words_are_tokens_of_the_model():
    _, processor = build(0)
    unknown = processor.tokenizer.unk_token_id
    ids = processor.tokenizer.convert_tokens_to_ids([*PLACES, *(name for names in NAMES for name in names)])
    assert None not in ids
    assert unknown not in ids
    assert len(set(ids)) == len(PLACES) + len({name for names in NAMES for name in names})
