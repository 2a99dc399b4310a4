from __future__ import annotations

import pytest
import torch
from torch import nn

from dcorr_models.training.stage import Stage, frozen, weighted_sum


def test_frozen_gives_every_flag_back_also_after_an_error():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].bias.requires_grad_(False)
    before = [p.requires_grad for p in net.parameters()]

    def interrupted() -> None:
        with frozen(net):
            assert not any(p.requires_grad for p in net.parameters())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert [p.requires_grad for p in net.parameters()] == before


def test_gradients_flow_through_a_frozen_module_to_its_input():
    net, x = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    with frozen(net):
        net(x).sum().backward()
    assert x.grad is not None
    assert net.weight.grad is None


def test_weighted_sum_refuses_a_term_without_weight():
    with pytest.raises(ValueError, match="gan missing"):
        weighted_sum({"gan": torch.tensor(1.0)}, {"image": 1.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": -1, "batch_size": 1}, "max_steps"),
        ({"max_steps": 1, "batch_size": 0}, "batch"),
    ],
)
def test_impossible_stages_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Stage("s", networks={}, optimizers={}, **options)
