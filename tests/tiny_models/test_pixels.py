import torch

from sam4mllm.synthetic.figures import COLOURS
from sam4mllm.synthetic.scenes import Level, draw_split
from tiny_models.loop import Loop
from tiny_models.pixels import Pixels, coloured, grain
from tiny_models.reading import FIRST, MASKS, DecoderHeads
from tiny_models.sam import PATCH, Batch, SamTraining, batch, build

DRAWING = draw_split("train", 3, Level(objects=(3, 4)))


def test_a_pixel_has_the_colour_of_its_figure():
    plane = coloured(DRAWING)
    for figure in DRAWING.figures:
        assert set(plane[figure.mask]) == {COLOURS.index(figure.colour) + 1}
    assert (plane > 0).sum() == sum(figure.mask.sum() for figure in DRAWING.figures)


def test_patches_are_in_the_order_of_the_embedding():
    labels, side = grain(DRAWING, PATCH), 112 // PATCH
    for row, column in ((2, 9), (8, 3), (15, 15)):
        tile = coloured(DRAWING)[PATCH * row : PATCH * (row + 1), PATCH * column : PATCH * (column + 1)]
        assert (labels.colours[side * row + column].reshape(PATCH, PATCH) == tile).all()
        assert labels.figured[side * row + column] or (tile > 0).sum() < 4 * len(DRAWING.figures)


def test_a_patch_has_the_box_of_the_figure_that_covers_it_most():
    labels, side = grain(DRAWING, PATCH), 112 // PATCH
    figure = max(DRAWING.figures, key=lambda figure: figure.mask.sum())
    tiles = figure.mask.reshape(side, PATCH, side, PATCH).mean(axis=(1, 3)).ravel() > 0.6
    assert tiles.any()
    assert (abs(labels.boxes[tiles] * 112 - figure.seen_box.xyxy) < 1e-4).all()


def test_predicting_the_labels_gives_a_lower_loss():
    head, labels = Pixels(PATCH**2 * 7 + 4, PATCH), grain(DRAWING, PATCH)
    logits = torch.nn.functional.one_hot(torch.tensor(labels.colours), 7).flatten(1) * 20.0
    right = torch.cat([logits, torch.tensor(labels.boxes)], dim=1).T.reshape(1, -1, 16, 16)
    head.head.weight.data.copy_(torch.eye(len(head.head.weight)))
    head.head.bias.data.zero_()
    value, figures = head.loss(right, [DRAWING])
    assert value < 1e-4
    assert head.loss(torch.zeros_like(right), [DRAWING])[0] > 1
    assert figures["box"] < 1e-6


def certain() -> Batch:
    recipe = SamTraining("", Loop(0, 1), scenes=2, prompts=3)
    batches = (batch(recipe, step) for step in range(30))
    return next(chosen for chosen in batches if chosen.certain and len(chosen.prompts) == 3)


def test_correct_tokens_lower_the_loss_of_the_decoder():
    """The loss is 0 if the tokens hold the colours and the image the masks, and high otherwise."""
    chosen, width = certain(), 64
    reading = DecoderHeads(build(0)[0].mask_decoder, width, PATCH)
    for head, size in ((reading.point, 7), (reading.mask, 7), (reading.part, PATCH**2)):
        head.weight.data.copy_(torch.eye(size, width))
        head.bias.data.zero_()
    count = chosen.points.shape[2]
    tokens, image_tokens = torch.zeros(2, 3, FIRST + MASKS + count + 2, width), torch.full((2, 3, 256, width), -30.0)
    tokens[:, :, FIRST : FIRST + MASKS, :7] = 30.0 * torch.nn.functional.one_hot(chosen.targets, 7)[:, :, None]
    tokens[:, :, FIRST + MASKS : FIRST + MASKS + count, :7] = 30.0 * torch.nn.functional.one_hot(chosen.points, 7)
    for scene in range(2):
        for prompt in range(3):
            tiles = chosen.masks[scene, prompt].reshape(16, PATCH, 16, PATCH).transpose(1, 2).reshape(256, -1)
            image_tokens[scene, prompt, :, : PATCH**2] = 60 * tiles - 30
    reading._watch((tokens, image_tokens))
    value, figures = reading.loss(chosen.points, chosen.targets, chosen.masks)
    assert value < 1e-4
    assert figures == {"meant": 1.0, "points": 1.0}
    reading._watch((tokens.flip(1), image_tokens.flip(1)))
    assert reading.loss(chosen.points, chosen.targets, chosen.masks)[0] > 1


def test_the_colour_at_a_point_is_that_of_the_mask_it_is_on():
    chosen = certain()
    on = chosen.prompts["input_labels"] == 1
    same = chosen.points == chosen.targets[:, :, None]
    assert bool(same[on].all())
    assert not bool(same[~on].all())
