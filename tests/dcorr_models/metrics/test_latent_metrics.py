"""Likelihoods of codes under encoders, and the network that reads factors, with known answers."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from dcorr_models.data import LabelledImages
from dcorr_models.metrics.convnet import strided_trunk
from dcorr_models.metrics.factor_network import train_factor_network
from dcorr_models.metrics.latent_likelihood import code_log_likelihood, gilbo

PRIOR = -0.5 * (math.log(2 * math.pi) + 1)  # of a standard normal number under its own prior


def test_log_likelihood_by_torch():
    generator = torch.Generator().manual_seed(0)
    codes, mean, logvar = (torch.randn(50, 3, generator=generator).double() for _ in range(3))
    found = code_log_likelihood(codes, mean, logvar)
    normal = torch.distributions.Normal(mean, (logvar / 2).exp())
    each = normal.log_prob(codes).mean(dim=0)
    assert found["per_dimension"] == pytest.approx(each.tolist())
    assert found["log_likelihood"] == pytest.approx(float(each.sum()))
    assert (found["samples"], found["dimensions"]) == (50, 3)


def test_an_encoder_at_the_prior_knows_nothing():
    codes = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros_like(codes)
    assert code_log_likelihood(codes, nothing, nothing)["log_likelihood"] == pytest.approx(
        2 * PRIOR, abs=0.02
    )
    # duplicated numbers count twice, a wrong sign costs
    twice = torch.cat([codes, codes], dim=1)
    zeros = torch.zeros_like(twice)
    assert code_log_likelihood(twice, twice, zeros)["log_likelihood"] == pytest.approx(
        2 * code_log_likelihood(codes, codes, nothing)["log_likelihood"]
    )
    right, wrong = (code_log_likelihood(codes, sign * codes, nothing) for sign in (1, -1))
    assert right["log_likelihood"] - wrong["log_likelihood"] == pytest.approx(
        2 * float(codes.double().square().sum(dim=1).mean())
    )


class Draws:
    """Codes of two numbers, and images of which each half shows one, or a constant."""

    def __init__(self, shown: int, mixed: bool = False) -> None:
        self.shown, self.mixed = shown, mixed
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, count: int) -> tuple[Tensor, Tensor]:
        codes = torch.randn(count, 2, generator=self.generator)
        turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
        seen = (codes @ turn if self.mixed else codes).sigmoid()
        seen[:, self.shown :] = 0.5
        return codes, seen.repeat_interleave(4, dim=1)[:, None, None].expand(-1, 1, 8, -1)


def read(draw: Draws, steps: int = 120) -> float:
    return gilbo(draw, steps=steps, batch=32, held_out=500)["log_likelihood"]


def test_gilbo_knows_what_images_show():
    constant, half, both, mixed = (
        read(d) for d in (Draws(0), Draws(1), Draws(2), Draws(2, mixed=True))
    )
    assert constant == pytest.approx(2 * PRIOR, abs=0.3)
    assert constant + 0.6 < half < both - 0.2
    assert mixed > half + 0.2  # a rotation loses nothing


def test_gilbo_of_large_images_and_its_seed():
    def draw(count: int) -> tuple[Tensor, Tensor]:
        codes = torch.zeros(count, 1)
        return codes, torch.zeros(count, 1, 128, 72)

    before = torch.get_rng_state()
    found = gilbo(draw, steps=2, batch=2, held_out=3)
    assert found == gilbo(draw, steps=2, batch=2, held_out=3)
    assert torch.equal(before, torch.get_rng_state())
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["samples"], found["steps"], found["batch"]) == (3, 2, 2)


def test_mistakes():
    codes = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"codes and mean need one shape, got \(3, 2\) and \(3, 1"):
        code_log_likelihood(codes, codes[:, :1], codes)
    with pytest.raises(ValueError, match="logvar must be finite"):
        code_log_likelihood(codes, codes, codes / 0)
    with pytest.raises(ValueError, match="batch 2 or more, got 1, 5 and 1"):
        gilbo(Draws(1), steps=1, held_out=5, batch=1)
    with pytest.raises(ValueError, match="draw returned 2 codes and 3 images"):
        gilbo(lambda count: (codes[:2], torch.zeros(3, 1, 8, 8)), batch=2)


@pytest.mark.parametrize(("size", "layers"), [(4, 0), (32, 3), (64, 4), (72, 5)])
def test_the_trunk_goes_down_to_four_pixels(size, layers):
    trunk = strided_trunk((3, size, size), (-1.0, 1.0), 16)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in trunk) == layers
    assert trunk(torch.zeros(2, 3, size, size)).shape == (2, 16)


def places() -> LabelledImages:
    """A white column of each place, in two shades, and a factor that never varies."""
    factors = torch.cartesian_prod(torch.arange(8), torch.arange(2), torch.arange(1)).repeat(40, 1)
    images = torch.zeros(len(factors), 1, 8, 8, dtype=torch.uint8)
    shade = torch.where(factors[:, 1] == 0, 120, 255).to(torch.uint8)
    images[torch.arange(len(factors)), 0, :, factors[:, 0]] = shade[:, None]
    # labels that are hidden from training are never looked at
    return LabelledImages(images, torch.full((len(factors),), -1), factors=factors)


def test_the_factor_network_reads_places():
    data = places()
    before = torch.get_rng_state()
    network = train_factor_network(data, held_out=data, epochs=6)
    assert (network.columns, network.sizes, network.train_images) == ((0, 1), (8, 2), 640)
    assert network.accuracy == (1.0, 1.0)
    assert network.chance == (0.125, 0.5)
    features = network.trunk(data.tensors(5)[0])
    assert features.shape == (5, 256)
    assert not network.trunk.training
    again = train_factor_network(data, epochs=6)
    assert torch.equal(again.trunk(data.tensors(5)[0]), features)
    assert again.accuracy is None
    assert torch.equal(before, torch.get_rng_state())


def test_a_few_images_are_enough():
    assert train_factor_network(places(), images=30, epochs=1).train_images == 30


def test_images_that_cannot_be_learned_from():
    data = places()
    unknown = LabelledImages(data.images, data.labels)
    constant = LabelledImages(data.images, data.labels, factors=torch.zeros_like(data.factors))
    with pytest.raises(ValueError, match="train knows no factors"):
        train_factor_network(unknown)
    with pytest.raises(ValueError, match="held_out knows no factors"):
        train_factor_network(data, held_out=unknown, epochs=1)
    with pytest.raises(ValueError, match="every factor of the images has one value"):
        train_factor_network(constant)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        train_factor_network(data, epochs=0)


def test_gilbo_of_other_precisions():
    def draw(count: int) -> tuple[Tensor, Tensor]:
        codes = torch.zeros(count, 1, dtype=torch.float64)
        return codes, torch.zeros(count, 1, 8, 8, dtype=torch.float16)

    assert math.isfinite(gilbo(draw, steps=2, held_out=2)["log_likelihood"])
