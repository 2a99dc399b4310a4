from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

from dcorr import (
    GaussianMixtureLoss,
    Scheduled,
    XCovLoss,
    cosine_ramp,
    linear_ramp,
    piecewise_constant,
    step_decay,
    xcov,
)
from dcorr.schedules import constant

steps = st.integers(0, 10**7)
lengths = st.integers(1, 10**6)
numbers = st.floats(-1e6, 1e6)
quick = settings(max_examples=60, deadline=None)


def test_linear_ramp_is_the_published_warm_up() -> None:
    # λ(t) = λ · min(t, S) / S with S = 50,000 and CDNet's two weights.
    for weight in (1.0, 0.05):
        for t in (0, 1, 2, 12_345, 49_999, 50_000, 50_001, 10**9):
            expected = weight * min(t, 50_000) / 50_000
            assert linear_ramp(t, length=50_000, end=weight) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("ramp", [linear_ramp, cosine_ramp])
@quick
@given(t=steps, length=lengths, start=numbers, end=numbers)
def test_ramps_stay_between_their_ends(
    ramp: Callable[..., float], t: int, length: int, start: float, end: float
) -> None:
    value = ramp(t, length=length, start=start, end=end)
    assert type(value) is float
    slack = 1e-12 * (abs(start) + abs(end))
    assert min(start, end) - slack <= value <= max(start, end) + slack
    assert ramp(0, length=length, start=start, end=end) == start
    assert ramp(length + t, length=length, start=start, end=end) == end


@pytest.mark.parametrize("ramp", [linear_ramp, cosine_ramp])
@quick
@given(t=steps, length=lengths)
def test_ramps_never_turn_back(ramp: Callable[..., float], t: int, length: int) -> None:
    assert ramp(t, length=length) <= ramp(t + 1, length=length)


@quick
@given(t=steps, length=lengths, start=numbers, end=numbers)
def test_ramps_are_symmetric(t: int, length: int, start: float, end: float) -> None:
    t = min(t, length)
    for ramp in (linear_ramp, cosine_ramp):
        there = ramp(t, length=length, start=start, end=end)
        back = ramp(length - t, length=length, start=end, end=start)
        assert there == pytest.approx(back, rel=1e-9, abs=1e-9 * (1 + abs(start) + abs(end)))


@pytest.mark.parametrize("t", [0, 1, 30, 99, 100, 150])
def test_cosine_matches_torch(t: int) -> None:
    # torch's scheduler is the closed form below up to its last step; it then goes up again.
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=1e-5)
    for _ in range(min(t, 100)):
        optimizer.step()
        scheduler.step()
    ours = cosine_ramp(t, length=100, start=3e-4, end=1e-5)
    assert ours == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)


@pytest.mark.parametrize("t", [0, 9, 10, 11, 19, 20, 50])
def test_step_decay_matches_torch(t: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[10, 20], gamma=0.75)
    for _ in range(t):
        optimizer.step()
        scheduler.step()
    ours = step_decay(t, milestones=[10, 20], factor=0.75, start=1e-4)
    assert ours == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)


@quick
@given(t=st.integers(0, 60), milestones=st.lists(st.integers(0, 50), unique=True, max_size=6))
def test_piecewise_constant_by_a_loop(t: int, milestones: list[int]) -> None:
    milestones.sort()
    values = [10.0 * k for k in range(len(milestones) + 1)]
    expected = values[0]
    for milestone, value in zip(milestones, values[1:], strict=True):
        if t >= milestone:
            expected = value
    assert piecewise_constant(t, milestones=milestones, values=values) == expected


def test_length_zero_is_a_constant() -> None:
    for t in (0, 1, 100):
        assert linear_ramp(t, length=0, end=0.05) == 0.05
        assert cosine_ramp(t, length=0, end=0.05) == 0.05
        assert constant(t, value=0.05) == 0.05


def test_values_are_plain_floats() -> None:
    for value in (
        constant(0, value=1),
        linear_ramp(5, length=5, start=0, end=2),
        linear_ramp(1, length=5, start=0, end=2),
        cosine_ramp(0, length=5, start=0, end=2),
        piecewise_constant(0, milestones=[], values=[3]),
        step_decay(0, milestones=[2], factor=1),
    ):
        assert type(value) is float
        assert math.isfinite(value)


# -- the holder -----------------------------------------------------------------------------------


def sample() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    return x, torch.randn(9, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("loss", [xcov, XCovLoss()])
@pytest.mark.parametrize("t", [0, 3, 10, 11])
def test_holder_multiplies_value_and_gradient(loss: Callable[..., Tensor], t: int) -> None:
    x, y = sample()
    x.requires_grad_()
    weights = torch.arange(1.0, 10.0, dtype=torch.float64)
    term = Scheduled(loss, partial(linear_ramp, length=10, end=0.5))
    factor = 0.5 * min(t, 10) / 10
    assert term.weight(t) == pytest.approx(factor)
    value = term(x, y, weights=weights, step=t)
    plain = xcov(x, y, weights=weights)
    assert_close(value, factor * plain)
    gradient, expected = (torch.autograd.grad(v, x)[0] for v in (value, plain))
    assert_close(gradient, factor * expected)


def test_holder_takes_a_number() -> None:
    x, y = sample()
    assert_close(Scheduled(xcov, 0.1)(x, y, step=7), 0.1 * xcov(x, y))


def test_holder_passes_parameters_on() -> None:
    term = Scheduled(GaussianMixtureLoss(3, 2), partial(cosine_ramp, length=10))
    assert sorted(term.state_dict()) == ["loss.means", "loss.raw_log_variances"]
    assert not Scheduled(xcov, 1.0).state_dict()
    assert not term.eval().loss.training


def test_holder_pickles_and_prints() -> None:
    term = Scheduled(xcov, partial(linear_ramp, length=10, end=0.5))
    x, y = sample()
    twin = pickle.loads(pickle.dumps(term))
    assert torch.equal(twin(x, y, step=4), term(x, y, step=4))
    assert repr(term) == "Scheduled(loss=xcov, schedule=linear_ramp(length=10, end=0.5))"
    assert "XCovLoss" in repr(Scheduled(XCovLoss(), 0.5))


@pytest.mark.parametrize(
    "schedule",
    [
        partial(linear_ramp, length=15, end=0.3),
        partial(cosine_ramp, length=15, end=0.3),
        partial(piecewise_constant, milestones=[3, 9], values=[0.0, 2.0, 0.5]),
        partial(step_decay, milestones=[3, 9], factor=0.3),
        partial(constant, value=0.3),
        0.3,
    ],
    ids=["linear", "cosine", "piecewise", "decay", "constant", "number"],
)
def test_holder_compiles_for_every_step(schedule: Callable[[int], float] | float) -> None:
    torch._dynamo.reset()
    term, counter = Scheduled(xcov, schedule), CompileCounter()
    compiled = torch.compile(term, fullgraph=True, backend=counter)
    x, y = sample()
    for t in range(20):
        assert_close(compiled(x, y, step=t), term(x, y, step=t))
    # The first step, the second (from where on the step is a variable), and two bends at most.
    assert counter.frame_count <= 4


WRONG: list[tuple[str, Callable[[], object], type[Exception], str]] = [
    ("step", lambda: linear_ramp(-1, length=3), ValueError, r"step must be at least 0, got -1"),
    ("float step", lambda: cosine_ramp(0.5, length=3), TypeError, r"step must be an integer"),
    ("bool step", lambda: constant(True), TypeError, r"step must be an integer, got bool"),
    ("length", lambda: linear_ramp(1, length=-3), ValueError, r"length must be at least 0, got -3"),
    ("float length", lambda: cosine_ramp(1, length=3.0), TypeError, r"length must be an integer"),
    ("end", lambda: linear_ramp(1, length=3, end="1"), TypeError, r"end must be a number, got str"),
    ("start", lambda: cosine_ramp(1, length=3, start=None), TypeError, r"start must be a number"),
    (
        "inf",
        lambda: linear_ramp(1, length=3, start=math.inf),
        ValueError,
        r"start must be in \(-inf, inf\), got inf",
    ),
    ("nan", lambda: constant(1, value=math.nan), ValueError, r"value must be in .* got nan"),
    (
        "milestones fall",
        lambda: step_decay(1, milestones=[5, 5], factor=0.5),
        ValueError,
        r"milestones must increase, got \[5, 5\]",
    ),
    (
        "milestone type",
        lambda: step_decay(1, milestones=[5, 6.5], factor=0.5),
        TypeError,
        r"milestones\[1\] must be an integer, got float",
    ),
    (
        "factor",
        lambda: step_decay(1, milestones=[5], factor=-0.5),
        ValueError,
        r"factor must be in \[0, inf\), got -0.5",
    ),
    (
        "number of values",
        lambda: piecewise_constant(1, milestones=[5], values=[1.0]),
        ValueError,
        r"values must be one more than the 1 milestones, got 1",
    ),
    (
        "value type",
        lambda: piecewise_constant(1, milestones=[5], values=[1.0, "2"]),
        TypeError,
        r"values\[1\] must be a number, got str",
    ),
    ("loss", lambda: Scheduled(0.5, 0.5), TypeError, r"loss must be callable, got float"),
    ("schedule", lambda: Scheduled(xcov, "x"), TypeError, r"schedule must be a number, got str"),
    ("no step", lambda: Scheduled(xcov, 0.5)(*sample()), TypeError, r"step"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_wrong_calls(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
