"""Variants of dSprites: what each draws, and that a drawing depends on image and step alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image

from dcorr_models.data import DSprites, GreySprites, PartlyLabelled, Sprites, SpriteVariant
from dcorr_models.data.counter_noise import random_bytes
from dcorr_models.data.views import some_rows
from dcorr_models.errors import DataError, UserError
from dcorr_models.methods import BetaVAE
from dcorr_models.training.batches import batches
from dcorr_models.training.fit import LoopSettings, fit
from dcorr_models.training.sampler import StepBatchSampler
from tests.dcorr_models.data.official_files import write_dsprites

GRID = {"size": 16, "scales": 2, "orientations": 2, "positions": 4}
VARIANTS = ("colour_id_gan", "colour_lib", "noisy", "scream")


def changed(variant: str, count: int = 60, **options):
    """Images of the training split as they were, and as they are drawn."""
    grey = GreySprites(**GRID)
    data = SpriteVariant(grey, variant=variant, **options)
    rows = list(range(count))
    sprites = grey.splits().train.__getitems__(rows)["image"]
    return sprites, data.splits().train.__getitems__(rows)["image"]


def finalisers(number: int, word: int) -> int:
    """The definition in Python's integers, for the seed 0."""
    x = number
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    x ^= x >> 31
    y = (x + word) % 2**32
    for turn in range(2):
        y = (y ^ y >> 16) * 0x85EBCA6B % 2**32
        y = (y ^ y >> 13) * 0xC2B2AE35 % 2**32
        y ^= y >> 16
        y ^= (x >> 32) * (turn == 0)
    return y


def test_random_bytes_follow_their_definition():
    numbers = [0, 5, 2**40 + 3]
    drawn = random_bytes(torch.tensor(numbers), 10)
    words = [[finalisers(number, word) for word in range(3)] for number in numbers]
    wanted = [b"".join(word.to_bytes(4, "little") for word in row)[:10] for row in words]
    assert [bytes(row.tolist()) for row in drawn] == wanted


def test_random_bytes_are_uniform_and_unrelated():
    drawn = random_bytes(torch.arange(64) + 1000, 4096)
    counts = drawn.flatten().long().bincount(minlength=256).double()
    expected = drawn.numel() / 256
    chi2 = ((counts - expected) ** 2 / expected).sum().item()
    assert 160 < chi2 < 370  # 255 degrees of freedom: 4 sigma on either side
    related = torch.corrcoef(drawn.double()).fill_diagonal_(0).abs().max().item()
    assert related < 5 / 64
    others = (random_bytes(torch.arange(64) + 1064, 4096), random_bytes(torch.arange(64), 4096))
    seeded = random_bytes(torch.arange(64) + 1000, 4096, seed=1)
    for other in (*others, seeded, drawn.roll(1, 1)):
        pair = torch.stack([drawn.flatten(), other.flatten()]).double()
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 5 / 512


@pytest.mark.parametrize("variant", ["colour_id_gan", "colour_lib"])
def test_a_colour_a_sprite(variant):
    sprites, images = changed(variant)
    colours = images.flatten(2).amax(2)
    assert torch.equal(images, colours[:, :, None, None] * sprites)
    if variant == "colour_id_gan":
        levels = colours * 7
        assert (levels - levels.round()).abs().max() < 1e-6
        assert levels.round().unique().tolist() == list(range(8))
    else:
        assert colours.min() >= 0.5
        assert colours.min() < 0.51
        assert colours.max() > 0.99
    assert len(colours.unique(dim=0)) > 50


def test_noise_behind_white():
    sprites, images = changed("noisy")
    assert (images[sprites.expand_as(images) == 1] == 1).all()
    ground = images[sprites.expand_as(images) == 0]
    assert ground.mean().item() == pytest.approx(0.5, abs=0.01)
    assert ground.var().item() == pytest.approx(1 / 12, abs=0.005)


@pytest.mark.parametrize("size", [(700, 548), (64, 40)])
def test_pieces_of_a_picture(tmp_path, size):
    # red tells the column and green the row, blue nothing
    columns, rows = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    sprites, images = changed("scream", picture=tmp_path / "picture.png")
    cover = sprites.expand_as(images) == 1
    ground = torch.where(cover, 1 - images, images)
    for a, b in pairwise(ground[:, 0].unbind(1)):  # a row goes on as the row above
        torch.testing.assert_close(a, b, atol=1.01 / 255, rtol=0)
    assert (ground[:, 2].flatten(1).std(1) < 1e-3).all()
    first = ground[:, :2, 0, 0]
    assert len(first.unique(dim=0)) > 50
    assert (ground[:, 0, :, -1] > ground[:, 0, :, 0]).all()


def test_the_texture_is_varied():
    sprites, images = changed("scream")
    ground = torch.where(sprites == 1, 1 - images, images)
    assert ground.mean().item() == pytest.approx(0.5, abs=0.05)
    assert 0.02 < ground.flatten(2).std(2).mean().item() < 0.2
    assert (ground.flatten(2).std(2) > 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_pixels_covered_in_part_mix_sprite_and_ground(variant):
    grey, whole = GreySprites(**GRID, binary=False), GreySprites(**GRID)
    soft, hard = (SpriteVariant(d, variant=variant).splits().valid for d in (grey, whole))
    share = grey.splits().valid.tensors()[0]
    (mixed, _), (image, _) = soft.tensors(), hard.tensors()
    known = (share == 0) | (share == 1)
    assert torch.equal(mixed[known.expand_as(mixed)], image[known.expand_as(image)])
    if variant == "noisy":
        noise = torch.where(share.expand_as(image) < 0.5, image, torch.zeros(()))
        seen = (share < 0.5).expand_as(image)
        wanted = share + (1 - share) * noise
        torch.testing.assert_close(mixed[seen], wanted[seen], atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_drawing_depends_on_image_and_look_alone(variant):
    train, _, test = SpriteVariant(GreySprites(**GRID), variant=variant).splits()
    size = len(train)
    batch = train.__getitems__([5, 2, 5 + size])
    alone = train.__getitems__([2])
    assert torch.equal(batch["image"][1], alone["image"][0])
    assert torch.equal(train[2]["image"], alone["image"][0])
    assert not torch.equal(batch["image"][0], batch["image"][2])
    assert torch.equal(train.tensors(6)[0][5], batch["image"][0])
    assert torch.equal(batch["label"][[0, 2]], train.labels[[5, 5]])
    other = SpriteVariant(GreySprites(**GRID), variant=variant, seed=1).splits().train
    assert not torch.equal(other[5]["image"], batch["image"][0])
    assert torch.equal(test.tensors()[0], test.tensors()[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_trainings_look_anew_and_resume(workers):
    data = SpriteVariant(GreySprites(**GRID), variant="noisy").splits().train
    fabric = Fabric(accelerator="cpu", devices=1)

    def read(start: int, stop: int):
        steps = {"batch_size": 32, "seed": 0, "start": start, "stop": stop}
        sampler = StepBatchSampler(len(data), **steps)
        return list(batches(data, sampler, fabric, seed=0, start=start, workers=workers))

    per_epoch = len(data) // 32
    whole, resumed = read(0, per_epoch + 3), read(per_epoch, per_epoch + 3)
    for a, b in zip(whole[per_epoch:], resumed, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)
    seen = {int(i): image for i, image in zip(whole[0]["index"], whole[0]["image"], strict=True)}
    again = [
        (seen[int(i)], image)
        for batch in whole[1:]
        for i, image in zip(batch["index"], batch["image"], strict=True)
        if int(i) in seen
    ]
    assert len(again) > 0
    assert all(not torch.equal(a, b) for a, b in again)
    assert whole[0]["index"].max() < len(data)


def test_a_training_that_stopped_goes_on_with_what_it_would_have_seen(tmp_path):
    grid = GRID | {"size": 32}
    data = SpriteVariant(GreySprites(**grid), variant="noisy").splits().train

    def weights(folder: str, stops: list[int]) -> torch.Tensor:
        for stop in stops:
            torch.manual_seed(0)
            model = BetaVAE(image_shape=(3, 32, 32), batch_size=16, steps=4)
            (stage,) = model.stages()
            stage.max_steps = stop
            fabric = Fabric(accelerator="cpu", devices=1)
            quiet = LoopSettings(progress=False)
            fit(stage, data, fabric=fabric, folder=tmp_path / folder, settings=quiet)
        return torch.nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(weights("whole", [4]), weights("parts", [3, 4]))
    assert not torch.equal(weights("whole", [4]), weights("short", [3]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_images_kept_on_the_device_are_drawn_there_alike(variant):
    kept = SpriteVariant(GreySprites(**GRID, keep=True), variant=variant).splits().train
    drawn = SpriteVariant(GreySprites(**GRID), variant=variant).splits().train
    fabric = Fabric(accelerator="cpu", devices=1)
    sampler = StepBatchSampler(len(kept), batch_size=32, seed=0, start=3, stop=6)
    resident, loaded = (
        list(batches(data, sampler, fabric, seed=0, start=3, on_device=where))
        for data, where in ((kept, "always"), (drawn, "never"))
    )
    assert len(resident) == len(loaded) == 3
    for a, b in zip(resident, loaded, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in b)
    with pytest.raises(UserError, match="RedrawnImages makes its images when"):
        batches(drawn, sampler, fabric, seed=0, on_device="always")


def test_views_look_anew_too():
    train = SpriteVariant(GreySprites(**GRID), variant="noisy").splits().train
    part = some_rows(train, torch.tensor([7, 3, 9]))
    assert part.redrawn
    fixed, anew = part.__getitems__([1, 2]), part.__getitems__([1 + 3, 2 + 3 * 5])
    assert torch.equal(fixed["image"], train.__getitems__([3, 9])["image"])
    numbers = [3 + len(train), 9 + 5 * len(train)]
    assert torch.equal(anew["image"], train.__getitems__(numbers)["image"])
    assert anew["index"].tolist() == [1, 2]
    assert torch.equal(part.factors, train.factors[[7, 3, 9]])
    assert not some_rows(GreySprites(**GRID).splits().train, torch.tensor([1])).redrawn


def test_all_else_is_the_data_sets(tmp_path):
    grey = GreySprites(**GRID)
    data = SpriteVariant(grey, variant="colour_lib")
    assert data.image_shape == (3, 16, 16)
    assert data.name == "grey sprites, colour_lib"
    assert data.factor_names == grey.factor_names
    assert data.factor_sizes == grey.factor_sizes
    assert data.target_names == grey.target_names
    assert data.label_names == grey.label_names
    for split, inside in zip(data.splits(), grey.splits(), strict=True):
        for name in ("labels", "content", "targets", "factors"):
            assert torch.equal(getattr(split, name), getattr(inside, name))
    hidden = SpriteVariant(PartlyLabelled(grey, labelled=2)).evaluation_splits().train
    assert hidden.labels.min() == 0
    said: list[str] = []
    SpriteVariant(grey, variant="scream").check_files(say=said.append)
    assert said[-1] == "grey sprites, scream: read a picture, now 216 x 270 pixels"
    release = DSprites(write_dsprites(tmp_path / "dsprites.npz"), cache=tmp_path)
    image = SpriteVariant(release, variant="noisy").splits().train[0]["image"]
    assert image.shape == (3, 64, 64)


def test_bad_variants_are_named(tmp_path):
    grey = GreySprites(**GRID)
    with pytest.raises(DataError, match=r"variant must be one of colour_id_gan, .*, got 'color'"):
        SpriteVariant(grey, variant="color")
    with pytest.raises(DataError, match="picture is for the variant scream, not for noisy"):
        SpriteVariant(grey, variant="noisy", picture="scream.png")
    with pytest.raises(DataError, match=r"need images of 1 channel in \[0, 1\], got 3 .*sprites"):
        SpriteVariant(Sprites(**GRID))
    with pytest.raises(DataError, match="seed must be from 0"):
        SpriteVariant(grey, seed=-1)
    path = tmp_path / "scream.png"
    with pytest.raises(DataError, match=r"there is no picture .*scream.png; leave it out"):
        SpriteVariant(grey, variant="scream", picture=path).splits()
    with pytest.raises(DataError, match=r"there is no picture .*scream.png; leave it out"):
        SpriteVariant(grey, variant="scream", picture=path).prepare(say=lambda line: None)
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"scream.png is not an image in a known format"):
        SpriteVariant(grey, variant="scream", picture=path).splits()
    Image.new("RGB", (300, 15)).save(path)
    with pytest.raises(DataError, match=r"300 x 15 pixels once .* too few for pieces of 16 x 16"):
        SpriteVariant(grey, variant="scream", picture=path).splits()
