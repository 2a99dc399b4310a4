"""LORD's networks: counts of parameters, sizes, AdaIN as written down, and where codes enter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dcorr_models.nets.lord import ARCHITECTURES, LordEncoder, LordGenerator, adain, init_glorot


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_are_those_of_the_releases():
    with torch.device("meta"):
        sizes = ARCHITECTURES["lord64"]
        generator = LordGenerator((3, 64, 64), sizes, 256, 128)
        assert count(generator.modulation) == 526_336
        assert count(generator) - count(generator.modulation) == 7_569_155
        assert count(LordEncoder((3, 64, 64), sizes, 128)) == 3_910_400
        assert count(LordEncoder((3, 64, 64), sizes, 256)) == 3_943_296


@pytest.mark.parametrize(("name", "side"), [("lord64", 64), ("lord128", 128)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(name: str, side: int, channels: int):
    with torch.device("meta"):
        sizes = ARCHITECTURES[name]
        shape = (channels, side, side)
        assert sizes.side == side
        assert LordGenerator(shape, sizes, 256, 128)(
            torch.zeros(2, 256), torch.zeros(2, 128)
        ).shape == (2, *shape)
        assert LordEncoder(shape, sizes, 128)(torch.zeros(2, *shape)).shape == (2, 128)


@pytest.mark.parametrize("form", ["variance", "deviation"])
def test_adain_is_its_formula(form):
    torch.manual_seed(0)
    x, shift, scale = torch.randn(2, 3, 4, 4), torch.randn(2, 3), torch.randn(2, 3)
    out = adain(x, shift, scale, form)
    for n in range(2):
        for c in range(3):
            image = x[n, c].double()
            variance = ((image - image.mean()) ** 2).mean()
            deviation = (variance + 1e-5).sqrt() if form == "variance" else variance.sqrt() + 1e-7
            wanted = scale[n, c] * (image - image.mean()) / deviation + shift[n, c]
            torch.testing.assert_close(out[n, c], wanted.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["variance", "deviation"])
def test_a_constant_map_becomes_its_shift_with_a_finite_gradient(form):
    x = torch.full((1, 1, 2, 2), 3.0, requires_grad=True)
    out = adain(x, torch.tensor([[0.5]]), torch.tensor([[2.0]]), form)
    out.square().sum().backward()
    # The mean's rounding, of 1e-7, comes out divided by the root of 1e-5.
    torch.testing.assert_close(out, torch.full_like(out, 0.5), rtol=0, atol=1e-3)
    assert x.grad.isfinite().all()


def test_class_enters_through_adain_alone_and_content_through_the_first_layer_alone():
    torch.manual_seed(0)
    net = LordGenerator((3, 32, 32), ARCHITECTURES["sprites_small"], 4, 5)
    class_code, content = torch.randn(2, 4), torch.randn(2, 5)
    one = net(class_code, content)
    with torch.no_grad():
        for layer in net.modulation.layers:
            layer.weight.zero_()
    other = net(class_code.flip(0), content)
    assert torch.equal(other, net(class_code, content))
    assert not torch.equal(other, one)
    with torch.no_grad():
        net.dense[0].weight.zero_()
    assert torch.equal(net(class_code, content), net(class_code, content.flip(0)))


def test_glorot_bounds_a_convolution_by_both_fans():
    layer = nn.Conv2d(3, 5, 3)
    init_glorot(layer)
    bound = (6 / (3 * 9 + 5 * 9)) ** 0.5
    assert bound * 0.8 < layer.weight.abs().max().item() <= bound
    assert not layer.bias.any()
