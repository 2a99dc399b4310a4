"""Estimates from random projections: right on average, with the error that they state."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap
from torch.testing import assert_close

import dcorr.dcor_names as names
from dcorr import (
    DCor2Loss,
    DCov2Loss,
    DVar2Loss,
    SlicedEstimate,
    _projections,
    dcor,
    dcor2,
    dcov,
    dcov2,
    dvar2,
    sliced_dcov2,
)
from tests.dcorr.oracle import draw

F64 = torch.float64
Function = Callable[..., Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair(n: int = 30, p: int = 3, q: int = 2, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """Dependent samples."""
    x, y = draw(n, p, dtype=dtype), draw(n, q, seed=1, dtype=dtype)
    y[:, 0] += x[:, 0].square()
    return x, y


sliced = partial(dcov2, method="sliced")


# -- what the estimates are of --------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 3, 10, 1000])
def test_mean_length_of_a_projection(p: int) -> None:
    """The mean of |t1| on the sphere, by quadrature of its density (1 - t²)^((p - 3) / 2)."""
    if p == 1:
        expected = 1.0
    else:
        # With t = sin(u) the density is cos(u)^(p - 2) on half of the sphere.
        u = torch.linspace(0, math.pi / 2, 200_001, dtype=F64)
        density = torch.cos(u).clamp(min=0).pow(p - 2)
        share = torch.trapezoid(density * torch.sin(u), u) / torch.trapezoid(density, u)
        expected = 1 / share.item()
    assert _projections._mean_shortening(p) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("p", "q"), [(2, 3), (1, 4), (20, 1)])
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_over_directions_is_exact(p: int, q: int, unbiased: bool, weighted: bool) -> None:
    if unbiased and weighted:
        with pytest.raises(ValueError, match="weights must be None with unbiased=True"):
            sliced(*pair(), unbiased=True, weights=torch.ones(30, dtype=F64))
        return
    x, y = pair(25, p, q)
    weights = draw(25, seed=2).square() if weighted else None
    options: dict[str, Any] = {"unbiased": unbiased, "weights": weights}
    estimate = sliced_dcov2(x, y, num_projections=20_000, generator=generator(), **options)
    exact = dcov2(x, y, **options)
    assert estimate.standard_error > 0
    assert abs(estimate.value - exact) < 4 * estimate.standard_error
    # A test that could not fail would take any value: the error is small beside it.
    assert estimate.standard_error < 0.05 * dcov2(x, y, weights=weights)


@pytest.mark.parametrize("unbiased", [False, True])
def test_variances_take_two_directions(unbiased: bool) -> None:
    """With one direction for both the estimate would be too large by far more than its error."""
    x = draw(25, 3)
    values = torch.stack(
        [
            dvar2(x, unbiased=unbiased, method="sliced", num_projections=50, generator=generator(k))
            for k in range(200)
        ]
    )
    error = values.std() / math.sqrt(len(values))
    exact = dvar2(x, unbiased=unbiased)
    assert abs(values.mean() - exact) < 4 * error
    assert error < 0.02 * exact


@pytest.mark.parametrize("unbiased", [False, True])
def test_correlation_is_the_ratio_of_the_estimates(unbiased: bool) -> None:
    x, y = pair(200)
    options: dict[str, Any] = {"method": "sliced", "num_projections": 4000}
    value = dcor2(x, y, unbiased=unbiased, generator=generator(), **options)
    assert value == pytest.approx(dcor2(x, y, unbiased=unbiased).item(), rel=0.05)
    assert dcor(x, y, generator=generator(), **options) == pytest.approx(
        dcor2(x, y, generator=generator(), **options).sqrt().item()
    )
    assert dcov(x, y, generator=generator(), **options) == pytest.approx(
        dcov2(x, y, generator=generator(), **options).sqrt().item()
    )
    stats = names.distance_stats_sqr(x, y, method="sliced")
    assert stats.variance_x == pytest.approx(dvar2(x).item(), rel=0.3)


def test_standard_error_covers() -> None:
    """Of many estimates 95% are within 1.96 errors of the truth, if the errors are right."""
    x, y = pair(40)
    exact = dcov2(x, y)
    estimates = [
        sliced_dcov2(x, y, num_projections=200, generator=generator(k)) for k in range(400)
    ]
    values, errors = (torch.stack(t) for t in zip(*estimates, strict=True))
    assert values.std() == pytest.approx(errors.mean().item(), rel=0.15)
    covered = ((values - exact).abs() < 1.96 * errors).double().mean().item()
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("unbiased", [False, True])
def test_one_feature_is_exact(dtype: torch.dtype, unbiased: bool) -> None:
    x, y = pair(50, 1, 1, dtype=dtype)
    for function in (dcov2, dcor2):
        value = function(x, y, unbiased=unbiased, method="sliced", num_projections=3)
        assert_close(value, function(x, y, unbiased=unbiased))
    assert_close(dvar2(x, unbiased=unbiased, method="sliced"), dvar2(x, unbiased=unbiased))
    assert sliced_dcov2(x, y).standard_error < 1e-6


# -- random numbers -------------------------------------------------------------------------------


def test_same_state_same_value() -> None:
    x, y = pair()
    one, other = (sliced(x, y, generator=generator(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, sliced(x, y, generator=generator(4)))
    assert torch.equal(one, sliced_dcov2(x, y, generator=generator(3)).value)
    state = torch.get_rng_state()
    free = sliced(x, y)
    assert not torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(state)
    assert torch.equal(free, sliced(x, y))
    torch.set_rng_state(state)


def test_directions_are_on_the_sphere_and_of_both_samples_independent() -> None:
    x, y = draw(5, 4), draw(5, 4, seed=1)
    take = _projections.Draw(10_000, generator())
    theta, phi = take.directions(x), take.directions(y)
    assert_close(theta.square().sum(-1), torch.ones(10_000, dtype=F64))
    for moments in (theta.mT @ theta - phi.mT @ phi, theta.mT @ phi):
        assert (moments.abs() / 10_000).max() < 4 / math.sqrt(4 * 10_000)


def test_more_projections_err_less() -> None:
    x, y = pair()
    few, many = (
        sliced_dcov2(x, y, num_projections=k, generator=generator()).standard_error
        for k in (100, 10_000)
    )
    assert many == pytest.approx(few.item() / 10, rel=0.3)


# -- gradients ------------------------------------------------------------------------------------


def by_hand(x: Tensor, y: Tensor, theta: Tensor, phi: Tensor, **options: Any) -> Tensor:
    """The mean of the univariate statistics, through all pairs."""
    terms = [
        dcov2(x @ t, y @ f, method="dense", **options) for t, f in zip(theta, phi, strict=True)
    ]
    factor = math.prod(_projections._mean_shortening(t.shape[-1]) for t in (x, y))
    return factor * torch.stack(terms).mean(0)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("piece", [1, 100, 1 << 22])
def test_gradient_is_that_of_the_univariate_statistics(
    unbiased: bool, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any number of pieces, which are computed again in the backward pass."""
    monkeypatch.setattr(_projections, "PIECE", piece)
    samples = [t.requires_grad_() for t in pair()]
    take = _projections.Draw(7, generator())
    theta, phi = (take.directions(t) for t in samples)
    theirs = by_hand(*samples, theta, phi, unbiased=unbiased)
    ours = sliced(*samples, unbiased=unbiased, num_projections=7, generator=generator())
    assert_close(ours, theirs)
    gradients = (torch.autograd.grad(value, samples) for value in (ours, theirs))
    for a, b in zip(*gradients, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("piece", [40, 1 << 22])
def test_derivatives(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_projections, "PIECE", piece)
    x, y = (t.requires_grad_() for t in pair(8))
    weights = (draw(8, seed=2).square() + 0.1).requires_grad_()
    functions: list[Function] = [
        lambda a, b, w: dcov2(
            a, b, weights=w, method="sliced", num_projections=9, generator=generator()
        ),
        lambda a, b, w: dcor(
            a, b, weights=w, method="sliced", num_projections=9, generator=generator()
        ),
    ]
    for function in functions:
        assert gradcheck(function, (x, y, weights))
        assert gradgradcheck(function, (x, y, weights), fast_mode=True)


def test_the_error_has_no_gradient() -> None:
    x, y = pair()
    estimate = sliced_dcov2(x.requires_grad_(), y)
    assert estimate.value.requires_grad
    assert not estimate.standard_error.requires_grad


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("n", [7, 64, 1001])
def test_coincident_points_stay_coincident(dtype: torch.dtype, n: int) -> None:
    """Rows that are equal must be projected to equal numbers wherever they stand."""
    x = draw(5, 9, dtype=dtype)[torch.arange(n) % 5] + 1e3
    theta = _projections.Draw(13, generator()).directions(x)
    lines = _projections._projected(x.to(F64) - x.to(F64).mean(0), theta, dtype)
    assert all(len(line.unique()) == min(n, 5) for line in lines)


@pytest.mark.parametrize("function", [dcov2, dcor2, dcov, dcor])
def test_constant_sample(function: Function) -> None:
    x = torch.full((9, 3), 3.7, requires_grad=True)
    y = draw(9, 2, dtype=torch.float32).requires_grad_()
    value = function(x, y, method="sliced")
    value.backward()
    assert value == 0
    assert torch.count_nonzero(x.grad) == torch.count_nonzero(y.grad) == 0


def test_one_point_apart_has_no_unbiased_variance() -> None:
    x = torch.zeros(90, 5, dtype=F64)
    x[3] = draw(5, seed=1)
    assert dvar2(x, unbiased=True, method="sliced") == 0
    assert dcor2(x, draw(90, 2), unbiased=True, method="sliced") == 0


# -- shapes, dtypes, transforms -------------------------------------------------------------------


def test_batches_share_their_directions() -> None:
    x, y = draw(2, 1, 20, 3), draw(3, 20, 2, seed=1)
    weights = draw(20, seed=2).square()
    together = sliced_dcov2(x, y, weights=weights, generator=generator())
    assert isinstance(together, SlicedEstimate)
    assert together.value.shape == together.standard_error.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            alone = sliced_dcov2(x[i, 0], y[j], weights=weights, generator=generator())
            for ours, theirs in zip(alone, together, strict=True):
                assert_close(ours, theirs[i, j])
    assert sliced(x[:0], y).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype: torch.dtype) -> None:
    x, y = (t.to(dtype) for t in pair(100))
    estimate = sliced_dcov2(x, y, generator=generator())
    assert estimate.value.dtype == estimate.standard_error.dtype == dtype
    assert_close(
        estimate.value.float(),
        sliced(x.float(), y.float(), generator=generator()),
        rtol=1e-5 if dtype == torch.float32 else 1e-2,
        atol=0,
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wide = sliced(x.float(), y.float(), generator=generator())
    assert_close(wide, sliced(x.float(), y.float(), generator=generator()), rtol=0, atol=0)


def test_large_offsets_cost_nothing() -> None:
    x, y = (
        t + offset for t, offset in zip(pair(200, dtype=torch.float32), (1e4, -1e4), strict=True)
    )
    take = _projections.Draw(8, generator())
    theta, phi = take.directions(x), take.directions(y)
    values = [
        _projections.covariances(*(t.to(d) for t in (x, theta, y, phi)), None, lambda m: m.ab)
        for d in (torch.float32, F64)
    ]
    assert_close(values[0], values[1], rtol=1e-5, atol=0)


def test_nan_in_nan_out() -> None:
    x, y = draw(2, 9, 3), draw(9, 2, seed=1)
    x[0, 4, 1] = float("nan")
    value = sliced(x, y)
    assert value[0].isnan()
    assert value[1].isfinite()
    with pytest.raises(ValueError, match="x must be finite"):
        sliced_dcov2(x, y, check_finite=True)


def test_module() -> None:
    x, y = draw(2, 20, 3), draw(2, 20, 2, seed=1)
    for module, function in ((DCov2Loss, dcov2), (DCor2Loss, dcor2)):
        loss = module(method="sliced", num_projections=5, unbiased=True)
        assert "num_projections=5" in repr(loss)
        expected = function(
            x, y, method="sliced", num_projections=5, unbiased=True, generator=generator()
        )
        for twin in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert_close(twin(x, y, generator=generator()), expected.mean())
    loss = DVar2Loss(method="sliced", reduction="none")
    assert_close(loss(x, generator=generator()), dvar2(x, method="sliced", generator=generator()))


def test_function_transforms() -> None:
    """Directions are drawn once for all mapped problems."""
    x, y = draw(3, 12, 3), draw(3, 12, 2, seed=1)
    run = partial(sliced, num_projections=6)

    def same(function: Callable[[], Tensor]) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return function()

    mapped = same(lambda: vmap(run, randomness="same")(x, y))
    assert_close(mapped, same(lambda: run(x, y)))
    free = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(same(lambda: run(free, y)).sum(), free)
    assert_close(same(lambda: grad(lambda t: run(t, y).sum())(x)), expected)


def test_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    x, y = (t.requires_grad_() for t in pair(40, dtype=torch.float32))
    run = partial(sliced, num_projections=6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        value = torch.compile(run, fullgraph=True, backend="aot_eager")(x, y)
        ours = torch.autograd.grad(value, (x, y))
        torch.manual_seed(5)
        eager = run(x, y)
        theirs = torch.autograd.grad(eager, (x, y))
    assert_close(value, eager)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b)
    torch._dynamo.reset()
