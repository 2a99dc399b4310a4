from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dcorr_models.data import GreySprites, Sprites
from dcorr_models.data.sprite_rendering import COLOURS, RADIUS, SHAPES, draw_sprites
from dcorr_models.data.views import relabelled, some_rows
from dcorr_models.errors import DataError

SMALL = {"size": 16, "scales": 2, "orientations": 2, "positions": 2}


def outline(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points are inside a sprite in the unit circle, from its geometry alone."""
    if shape == "square":
        return np.maximum(abs(u), abs(v)) <= math.sqrt(0.5)
    if shape == "ellipse":
        return u**2 + (2 * v) ** 2 <= 1
    half = 1 / 1.2612038749637414  # the smallest circle around the heart, solved by hand
    v = v + half - 1 + 2 * (1 - half)
    square = abs(u) + abs(v) <= half
    discs = (abs(u) - half / 2) ** 2 + (v - half / 2) ** 2 <= half**2 / 2
    return square | discs


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_a_sprite_covers_what_its_outline_encloses(shape, angle):
    side, fine = 32, 16
    image = draw_sprites(
        torch.tensor([SHAPES.index(shape)]),
        torch.tensor([list(COLOURS).index("white")]),
        *(torch.tensor([value]) for value in (0.8, angle, 0.25, 0.75)),
        side=side,
    )
    points = (np.arange(side * fine) + 0.5) / (side * fine)
    right, down = np.meshgrid(points - RADIUS - 0.1, points - RADIUS - 0.3)
    u = (math.cos(angle) * right - math.sin(angle) * down) / (0.8 * RADIUS)
    v = (-math.sin(angle) * right - math.cos(angle) * down) / (0.8 * RADIUS)
    inside = outline(shape, u, v).reshape(side, fine, side, fine).mean(axis=(1, 3))
    shown = image[0, 0].numpy() / 255
    assert abs(shown - inside).max() < 0.25  # corners, and the slope of an edge across a pixel
    assert abs(shown - inside).mean() < 0.01
    assert shown.sum() == pytest.approx(inside.sum(), rel=0.02)


def test_no_sprite_leaves_the_image():
    data = Sprites(size=24, colours=1, scales=1, orientations=5, positions=3, turn=360.0)
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(data.num_contents))
    images = data.draw(grid[:, 0], grid[:, 1]).float()
    brightness = images.sum(dim=(1, 2, 3)).reshape(15, 9)
    in_the_middle = brightness[:, 4:5]
    assert ((brightness / in_the_middle - 1).abs() < 0.03).all()


def test_classes_have_their_shapes_and_colours():
    data = Sprites(size=16)
    assert len(data.label_names) == 12
    assert data.label_names[0] == "red square"
    images = data.draw(torch.arange(12), torch.full((12,), 100))
    for name, image in zip(data.label_names, images, strict=True):
        colour, shape = name.split()
        wanted = torch.tensor(COLOURS[colour], dtype=torch.uint8)
        white = data.draw(torch.tensor([SHAPES.index(shape) * 4]), torch.tensor([100]))[0, 0]
        assert torch.equal(image, white & wanted[:, None, None])


def test_class_and_content_fix_the_image_and_the_image_fixes_both():
    data = Sprites(size=32, colours=2)
    grid = torch.cartesian_prod(torch.arange(6), torch.arange(data.num_contents))
    images = data.draw(grid[:, 0], grid[:, 1])
    assert len(images.flatten(1).unique(dim=0)) == len(grid)
    again = data.draw(grid[:7, 0].flip(0), grid[:7, 1].flip(0)).flip(0)
    assert torch.equal(images[:7], again)


def test_symmetric_sprites_of_a_full_turn_look_alike():
    data = Sprites(size=32, colours=1, scales=1, orientations=8, positions=1, turn=360.0)
    square, ellipse, heart = (
        data.draw(torch.full((8,), label), torch.arange(8)).to(torch.int16) for label in range(3)
    )
    # sines and cosines of angles a quarter apart are rounded differently
    assert (square[:2] - square[2:4]).abs().max() <= 1
    assert (ellipse[:4] - ellipse[4:]).abs().max() <= 1
    assert all((heart[0] - other).abs().max() > 100 for other in heart[1:])


def test_splits_are_disjoint_whole_and_alike():
    data = Sprites(**SMALL, valid=0.125, test=0.25)
    splits = data.splits()
    assert [len(split) for split in splits] == [120, 24, 48]
    pairs = [
        (int(y), int(c)) for part in splits for y, c in zip(part.labels, part.content, strict=True)
    ]
    assert sorted(pairs) == [(y, c) for y in range(12) for c in range(16)]
    assert all(split.labels.bincount().unique().numel() == 1 for split in splits)
    again = Sprites(**SMALL, valid=0.125, test=0.25).splits()
    other = Sprites(**SMALL, valid=0.125, test=0.25, seed=1).splits()
    assert torch.equal(splits.test.labels, again.test.labels)
    assert torch.equal(splits.test.content, again.test.content)
    assert not torch.equal(splits.test.content, other.test.content)


def test_whole_classes_test():
    splits = Sprites(**SMALL, valid=0.0, test_classes=["red heart", "green square"]).splits()
    assert set(splits.test.labels.tolist()) == {1, 8}
    assert set(splits.train.labels.tolist()) == set(range(12)) - {1, 8}
    assert len(splits.test) == 2 * 16
    counted = Sprites(**SMALL, test_classes=3).splits()
    assert len(set(counted.test.labels.tolist())) == 3
    assert not set(counted.test.labels.tolist()) & set(counted.train.labels.tolist())
    assert len(counted.valid) == round(0.1 * 9 * 16)


def test_batches_are_the_drawn_images():
    data = Sprites(**SMALL)
    train, kept = data.splits().train, Sprites(**SMALL, keep=True).splits().train
    batch = train.__getitems__([5, 2, 9])
    drawn = data.draw(train.labels[[5, 2, 9]], train.content[[5, 2, 9]])
    assert torch.equal(batch["image"], drawn / 255)
    assert torch.equal(batch["image"], kept.__getitems__([5, 2, 9])["image"])
    assert torch.equal(train[2]["image"], batch["image"][1])
    assert torch.equal(train.tensors(4)[0], kept.tensors(4)[0])
    assert batch["image"].dtype == torch.float32
    assert batch["index"].tolist() == [5, 2, 9]
    assert train.images.shape == (len(train), 3, 16, 16)
    with pytest.raises(NotImplementedError):
        train.images[0].cpu()


def test_content_and_targets_are_the_factors():
    data = Sprites(size=16, scales=3, orientations=4, positions=3)
    train = data.splits().train
    scale, angle, x, y = train.targets.unbind(1)
    content = ((scale * 4 - 2).round() * 4 + (angle / (math.pi / 8)).round()) * 3
    content = (content + (x * 2).round()) * 3 + (y * 2).round()
    assert torch.equal(content.long(), train.content)
    assert data.num_contents == 108
    # where the sprite is seen: to the right with x, downwards with y
    images = data.draw(torch.zeros(3, dtype=torch.int64), torch.tensor([0, 6, 2])).float()[:, 0]
    places = torch.arange(16.0)
    columns = (images.sum(1) * places).sum(1) / images.sum((1, 2))
    rows = (images.sum(2) * places).sum(1) / images.sum((1, 2))
    assert columns[1] > columns[0] + 5
    assert rows[2] > rows[0] + 5
    assert columns[2] == pytest.approx(columns[0].item(), abs=1e-3)


def test_a_part_of_the_grid():
    splits = Sprites(**SMALL, images=60, valid=0.0, test=0.2).splits()
    assert [len(split) for split in splits] == [48, 0, 12]
    assert torch.cat([split.labels for split in splits]).bincount().tolist() == [5] * 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "size must be 8 or more, got 4"),
        ({"colours": 8}, "colours must be from 1 to 7, got 8"),
        ({"positions": 0}, "must be 1 or more, got 3, 4 and 0"),
        ({"turn": 400.0}, "at most 360 degrees, got 400"),
        ({"images": 0}, "images must be 1 or more"),
        ({"valid": 0.6, "test": 0.4}, "shares that leave something"),
        ({"test_classes": -1}, "test_classes must be 0 or more, got -1"),
        ({"seed": -1}, "seed must be"),
        ({"test_classes": 12}, "test_classes asks for 12 of 12 classes"),
        ({"test_classes": ["red hart"]}, "no class 'red hart'; did you mean red heart"),
        ({"images": 12, "test": 0.0, "valid": 0.0}, r"single training image.*12 in all"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(DataError, match=message):
        Sprites(**options).splits()


def test_factors_number_the_levels_that_vary():
    data = Sprites(size=16, scales=1, orientations=2, positions=3)
    assert data.factor_names == ("shape", "colour", "orientation", "x", "y")
    assert data.factor_sizes == (3, 4, 2, 3, 3)
    for split in data.splits():
        shape, colour, orientation, x, y = split.factors.unbind(1)
        assert torch.equal(shape * 4 + colour, split.labels)
        assert torch.equal((orientation * 3 + x) * 3 + y, split.content)
    assert torch.equal(some_rows(split, torch.tensor([3, 1])).factors, split.factors[[3, 1]])
    assert torch.equal(relabelled(split, split.labels).factors, split.factors)


def test_grey_sprites_are_the_white_ones_of_the_same_grid():
    grid = {"size": 16, "scales": 2, "orientations": 3, "positions": 2, "turn": 360.0}
    grey, colour = GreySprites(**grid, binary=False), Sprites(**grid, colours=7)
    labels, content = torch.arange(3).repeat_interleave(24), torch.arange(24).repeat(3)
    images = grey.draw(labels, content)
    assert images.shape == (72, 1, 16, 16)
    white = colour.draw(labels * 7 + 6, content)
    assert torch.equal(images.expand(-1, 3, -1, -1), white)
    binary = GreySprites(**grid).draw(labels, content)
    assert torch.equal(binary == 255, images >= 128)
    assert binary.unique().tolist() == [0, 255]
    train = GreySprites(**grid, keep=True).splits().train
    assert grey.label_names == ("square", "ellipse", "heart")
    assert torch.equal(train.factors[:, 0], train.labels)
    assert math.prod(grey.factor_sizes) == 72
    assert GreySprites().factor_sizes == (3, 6, 40, 32, 32)
