import numpy as np
import torch

from sam4mllm.shapes import SHAPES, draw_split
from sam4mllm.tiny.model import PATCH, build
from sam4mllm.tiny.tower import CELLS, KINDS, TowerTraining, dense, loss, train


def test_a_patch_is_named_after_the_figure_that_covers_it_most():
    drawing = draw_split("train", 0)
    labels = dense(drawing)
    for row, column in ((0, 0), (3, 4), (7, 7)):
        tiles = [
            f.mask[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] for f in drawing.figures
        ]
        most = int(np.argmax([tile.sum() for tile in tiles]))
        patch = row * CELLS + column
        assert labels.figured[patch] == (tiles[most].mean() >= 0.06)
        wanted = SHAPES.index(drawing.figures[most].shape) + 1 if labels.figured[patch] else 0
        assert labels.kinds[patch, 0] == wanted
        assert np.array_equal(labels.parts[patch].reshape(PATCH, PATCH) > 0, tiles[most])


def test_saying_the_labels_costs_less_than_saying_nothing():
    labels = [dense(draw_split("train", 1))]
    truth = [torch.nn.functional.one_hot(torch.tensor(labels[0].kinds[:, i]), n) * 20.0 for i, n in enumerate(KINDS)]
    said = torch.cat([*truth, torch.tensor(labels[0].boxes), torch.tensor(labels[0].parts) * 40 - 20], dim=1)[None]
    assert loss(said, labels) < 0.01 < loss(torch.zeros_like(said), labels)


def test_training_changes_the_tower_alike_for_one_seed():
    def taught(seed):
        tower = build(0)[0].model.vision_tower
        torch.manual_seed(0)
        train(tower, 128, TowerTraining(steps=20, scenes=2), seed)
        return torch.cat([weight.flatten() for weight in tower.parameters()])

    assert torch.equal(taught(1), taught(1))
    assert not torch.equal(taught(1), taught(2))
