from __future__ import annotations

import pytest
import torch
from torch import nn

from dcorr_models.training.ema import AveragedNetwork


def test_parameters_follow_and_buffers_are_copied():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    mean = AveragedNetwork(net, decay=0.9)
    wanted = [p.detach().clone() for p in net.parameters()]
    for _ in range(3):
        with torch.no_grad():
            for k, p in enumerate(net.parameters()):
                p.add_(torch.randn_like(p))
                wanted[k] = 0.9 * wanted[k] + 0.1 * p
        net(torch.randn(4, 2))
        mean.follow(net)
    for own, value in zip(mean.parameters(), wanted, strict=True):
        torch.testing.assert_close(own.detach(), value)
        assert not own.requires_grad
    assert torch.equal(mean.network[1].running_mean, net[1].running_mean)


@pytest.mark.parametrize(("decay", "moved"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_ends_of_the_range(decay, moved):
    net = nn.Linear(1, 1)
    mean, before = AveragedNetwork(net, decay=decay), net.weight.item()
    nn.init.constant_(net.weight, before + 1)
    mean.follow(net)
    assert mean.network.weight.item() == pytest.approx(before + moved)


@pytest.mark.parametrize("decay", [-0.1, 1.5, float("nan")])
def test_other_decays_are_refused(decay):
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\]"):
        AveragedNetwork(nn.Linear(1, 1), decay=decay)
