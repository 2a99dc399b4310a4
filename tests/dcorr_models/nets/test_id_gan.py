"""ID-GAN's networks: published sizes, the bottleneck's divergence, and what a critic reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dcorr_models.errors import UserError
from dcorr_models.nets.id_gan import (
    Bottleneck,
    Critic,
    ResidualBlock,
    ResNetGenerator,
    ResNetTrunk,
    check_side,
    critic_widths,
    generator_widths,
    make_critic,
    make_generator,
)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("side", "width", "generator", "critic"),
    [
        (64, 64, 9_559_747, 7_299_265),
        (128, 64, 14_279_363, 12_018_881),
        (256, 64, 18_998_979, 16_738_497),
        (1024, 16, 18_965_683, 16_705_201),
    ],
)
def test_published_sizes(side, width, generator, critic):
    shape = (3, side, side)
    with torch.device("meta"):
        trunk = ResNetTrunk(shape, width)
        assert count(ResNetGenerator(shape, 256 + 20, width)) == generator
        assert count(Critic(trunk, 16 * trunk.channels)) == critic


def test_published_sizes_for_sprites():
    assert count(make_generator("sprites", (1, 64, 64), 10, 64)) == 380_353
    assert count(make_critic("sprites", (1, 64, 64), 64)) == 378_049


def test_published_widths():
    assert generator_widths((3, 64, 64), 64)[1:] == [512, 256, 128, 64, 64]
    assert generator_widths((3, 256, 256), 64)[1:] == [512, 512, 512, 256, 128, 64, 64]
    hq = [512, 512, 512, 256, 128, 64, 32, 16, 16]
    assert generator_widths((3, 1024, 1024), 16)[1:] == hq
    assert critic_widths((3, 64, 64), 64) == [64, 64, 128, 256, 512, 512]


@pytest.mark.parametrize(("architecture", "side"), [("resnet", 8), ("sprites", 32)])
def test_the_critic_judges_what_the_generator_draws(architecture, side):
    torch.manual_seed(0)
    shape = (2, side, side)
    images = make_generator(architecture, shape, 5, 4)(torch.randn(3, 2), torch.randn(3, 3))
    assert images.shape == (3, *shape)
    assert images.abs().max() <= 1
    judged = make_critic(architecture, shape, 4)(images)
    assert judged.logits.shape == (3,)
    assert torch.equal(judged.divergence, torch.zeros(3))


def test_a_block_adds_a_tenth():
    torch.manual_seed(0)
    block, maps = ResidualBlock(3, 3), torch.randn(2, 3, 4, 4)
    leaky = nn.LeakyReLU(0.2)
    wanted = maps + 0.1 * block.second(leaky(block.first(leaky(maps))))
    torch.testing.assert_close(block(maps), wanted)


def test_the_bottleneck_measures_the_divergence_of_its_gaussians():
    torch.manual_seed(0)
    bottleneck, maps = Bottleneck(3), torch.randn(2, 3, 4, 4)
    mean = bottleneck.mean(maps)
    posterior = torch.distributions.Normal(mean, bottleneck.log_deviation(maps).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    wanted = torch.distributions.kl_divergence(posterior, prior).sum(dim=1).mean(dim=(1, 2))
    torch.testing.assert_close(bottleneck(maps)[1], wanted)
    torch.manual_seed(1)
    noise = torch.randn(2, 3, 4, 4)
    torch.manual_seed(1)
    torch.testing.assert_close(bottleneck.eval()(maps)[0], mean + posterior.stddev * noise)


def test_a_projection_reads_codes_through_an_inner_product():
    torch.manual_seed(0)
    trunk = ResNetTrunk((1, 8, 8), width=4)
    critic, images = Critic(trunk, 16 * trunk.channels, code_dim=2), torch.randn(3, 1, 8, 8)
    codes = torch.randn(3, 2)
    none = critic(images, torch.zeros(3, 2))
    wanted = none.logits + (critic.projection(codes) * none.features).sum(dim=1)
    torch.testing.assert_close(critic(images, codes).logits, wanted)


@pytest.mark.parametrize("shape", [(3, 48, 48), (3, 64, 32), (1, 28, 28), (1, 4, 4), (1, 0, 0)])
def test_other_sides_are_refused(shape):
    with pytest.raises(UserError, match="power of two from 8 on") as error:
        check_side(shape)
    assert "\n" not in str(error.value)


def test_sprites_of_other_sides_are_told_of_the_resnet():
    with pytest.raises(UserError, match=r"sprites has no networks for images of \(1, 128, 128\)"):
        make_generator("sprites", (1, 128, 128), 10, 64)
