from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dcorr_models.training.gan import (
    EquilibriumGate,
    log_probability,
    minimax_terms,
    with_r1,
)


@given(logit=st.floats(-30, 30), epsilon=st.sampled_from([0.0, 1e-3, 0.1]))
def test_log_probability_is_the_logarithm_of_the_sigmoid(logit, epsilon):
    value = log_probability(torch.tensor(logit, dtype=torch.float64), epsilon=epsilon).item()
    assert value == pytest.approx(math.log(1 / (1 + math.exp(-logit)) + epsilon), abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_extreme_logits_give_finite_costs_and_gradients(epsilon):
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    real, fake = minimax_terms(logits, logits, epsilon=epsilon)
    (real + fake).backward()
    assert torch.isfinite(real + fake)
    assert torch.isfinite(logits.grad).all()


def test_costs_are_means_of_their_own_halves():
    real, fake = minimax_terms(torch.tensor([2.0, 0.0]), torch.tensor([1.0]))
    assert real.item() == pytest.approx((math.log1p(math.exp(-2)) + math.log(2)) / 2)
    assert fake.item() == pytest.approx(math.log1p(math.exp(1)))


def test_a_negative_epsilon_is_refused():
    with pytest.raises(ValueError, match="epsilon must be 0 or more, got -1"):
        log_probability(torch.zeros(1), epsilon=-1.0)


@pytest.mark.parametrize(
    ("real", "fake", "generator", "discriminator"),
    [
        (0.68, 0.68, True, True),  # in balance
        (1.04, 0.68, False, True),  # the discriminator is behind on real images
        (0.68, 1.04, False, True),  # ... and on fakes
        (0.32, 0.68, True, False),  # the discriminator is ahead
        (0.68, 0.32, True, False),
        (1.04, 0.32, True, True),  # both would rest, so both learn
        (1.02, 0.34, True, True),  # just inside the band
    ],
)
def test_equilibrium_gate(real, fake, generator, discriminator):
    assert EquilibriumGate()(real, fake) == (generator, discriminator)


def test_r1_is_the_mean_squared_slope_and_its_derivative_is_exact():
    torch.manual_seed(0)
    critic = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1), nn.Flatten(0)
    ).double()
    images = torch.randn(5, 1, 4, 4, dtype=torch.float64)

    def slope(image: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return (critic(image + step) - critic(image - step)) / 2e-6

    with torch.no_grad():
        steps = 1e-6 * torch.eye(16, dtype=torch.float64).reshape(16, 1, 1, 4, 4)
        wanted = torch.stack([slope(images, step) for step in steps]).square().sum(dim=0).mean()
    judged, penalty = with_r1(lambda x: (critic(x),), images)
    torch.testing.assert_close(judged[0], critic(images))
    assert penalty.item() == pytest.approx(wanted.item(), rel=1e-6)
    penalty.backward()
    weight = critic[0].weight
    ours = weight.grad[0, 0, 0, 0].item()
    with torch.no_grad():
        weight[0, 0, 0, 0] += 1e-6
        above = with_r1(lambda x: (critic(x),), images)[1]
        weight[0, 0, 0, 0] -= 2e-6
        below = with_r1(lambda x: (critic(x),), images)[1]
    assert ours == pytest.approx((above - below).item() / 2e-6, rel=1e-5)


def test_r1_compiles_with_its_critic_as_one_graph():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1))
    images = torch.randn(5, 1, 4, 4)

    def penalty(x: torch.Tensor) -> torch.Tensor:
        return with_r1(lambda images: (critic(images).squeeze(1),), x)[1]

    compiled = torch.compile(penalty, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), penalty(images))
    compiled(images).backward()
    grads = [p.grad.clone() for p in critic.parameters() if p.grad is not None]
    critic.zero_grad()
    penalty(images).backward()
    torch.testing.assert_close(grads, [p.grad for p in critic.parameters() if p.grad is not None])
