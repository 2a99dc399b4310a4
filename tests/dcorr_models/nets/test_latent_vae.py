"""Sizes of the beta-VAE family's networks: parameters as the published layers have them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dcorr_models.errors import UserError
from dcorr_models.nets.latent_vae import LatentDecoder, LatentEncoder
from dcorr_models.nets.tc_critic import TotalCorrelationCritic


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("channels", "latent_dim", "encoder", "decoder"),
    [(1, 10, 382_932, 380_353), (3, 20, 389_096, 383_939)],
)
def test_parameters_are_the_published_ones(channels, latent_dim, encoder, decoder):
    shape = (channels, 64, 64)
    assert count(LatentEncoder(shape, 2 * latent_dim)) == encoder
    assert count(LatentDecoder(shape, latent_dim)) == decoder


def test_as_a_critic_of_dsprites_it_has_the_published_parameters():
    assert count(LatentEncoder((1, 64, 64), 1)) == 378_049


def test_thirty_two_pixels_have_one_layer_less():
    wide, small = LatentEncoder((1, 64, 64), 20), LatentEncoder((1, 32, 32), 20)
    assert count(wide) - count(small) == count(nn.Conv2d(32, 32, 4))
    wide, small = LatentDecoder((1, 64, 64), 10), LatentDecoder((1, 32, 32), 10)
    assert count(wide) - count(small) == count(nn.Conv2d(32, 32, 4))
    assert small(torch.zeros(2, 10)).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 64, 32), (3, 128, 128)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(UserError, match="32 x 32 or 64 x 64 pixels"):
        LatentEncoder(shape, 2)
    with pytest.raises(UserError, match="image_shape"):
        LatentDecoder(shape, 2)


def test_critic_has_six_layers_of_a_thousand():
    assert count(TotalCorrelationCritic(10)) == 11 * 1000 + 5 * 1001 * 1000 + 2 * 1001
