"""Lr-LiVAE's networks: counts of parameters, sizes, and BatchNorm with and without statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dcorr_models.nets.lr_livae import ARCHITECTURES, Decoder, Encoder, Norm, latent_classifier
from dcorr_models.nets.projection_discriminator import ProjectionDiscriminator

SHAPES = {
    "facescrub64": (3, 64, 64),
    "cifar10": (3, 32, 32),
    "mnist": (1, 28, 28),
    "mnist_small": (1, 28, 28),
    "toy": (2, 1, 1),
}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_are_those_of_the_release():
    with torch.device("meta"):
        sizes, shape = ARCHITECTURES["facescrub64"], SHAPES["facescrub64"]
        assert count(Encoder(shape, sizes, (512,))) == 17_342_912
        assert count(Encoder(shape, sizes, (512, 512))) == 17_867_712
        assert count(Decoder(shape, sizes, 1024)) == 17_869_763
        assert count(ProjectionDiscriminator(shape, sizes.critic, 530)) == 7_929_729


def test_layers_of_points_are_those_of_the_release():
    sizes, shape = ARCHITECTURES["toy"], SHAPES["toy"]
    encoder = Encoder(shape, sizes, (2, 2))
    widths = [(m.in_features, m.out_features) for m in encoder.modules() if type(m) is nn.Linear]
    assert widths == [(2, 32), (32, 64), (64, 64), (64, 2), (64, 2)]
    decoder = Decoder(shape, sizes, 4)
    widths = [(m.in_features, m.out_features) for m in decoder.modules() if type(m) is nn.Linear]
    assert widths == [(4, 64), (64, 64), (64, 32), (32, 2)]
    classifier = latent_classifier(2, sizes, 3)
    widths = [(m.in_features, m.out_features) for m in classifier if type(m) is nn.Linear]
    assert widths == [(2, 64), (64, 3)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shapes(name: str):
    with torch.device("meta"):
        sizes, shape = ARCHITECTURES[name], SHAPES[name]
        images = torch.zeros(2, *shape)
        assert Encoder(shape, sizes, (3, 4)).eval()(images).shape == (2, 7)
        decoder = Decoder(shape, sizes, 5).eval()
        assert decoder(torch.zeros(2, 3), torch.zeros(2, 2)).shape == (2, *shape)
        extra = Encoder(shape, sizes, (3,), extra_channels=2)
        beside = torch.zeros(2, shape[0] + 2, *shape[1:])
        if sizes.encoder:
            assert extra.eval()(beside).shape == (2, 3)


def test_values_lie_in_the_range_that_the_architecture_says():
    for name in ("mnist_small", "cifar10"):
        sizes, shape = ARCHITECTURES[name], SHAPES[name]
        low, high = sizes.value_range
        images = Decoder(shape, sizes, 4)(50 * torch.randn(4, 2), 50 * torch.randn(4, 2))
        assert low <= images.min() < low + 0.3 < high - 0.3 < images.max() <= high


def test_a_batchs_own_statistics_are_used_in_evaluation_where_asked_for():
    images, sizes = torch.rand(6, 1, 28, 28), ARCHITECTURES["mnist_small"]
    torch.manual_seed(0)
    own = Encoder((1, 28, 28), sizes, (3,), norm=Norm(running=False))
    assert torch.equal(own.eval()(images), own.train()(images))
    assert not torch.allclose(own(images[:3]), own(images)[:3])
    running = Encoder((1, 28, 28), sizes, (3,)).eval()
    torch.testing.assert_close(running(images[:3]), running(images)[:3])
