"""First and second derivatives against finite differences and against the definition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from dcorr import dcor, dcor2, dcov, dcov2, dvar2, pdcor, pdcov2
from dcorr.pairwise import reference
from tests.dcorr.methods import exponents, features
from tests.dcorr.oracle import draw
from tests.dcorr.tolerances import tolerance

F64 = torch.float64
SIZES = [4, 5, 25, 26, 40]
Function = Callable[..., Tensor]

# The function, and how many samples it takes.
CASES: dict[str, tuple[Function, int]] = {
    "dcov2": (dcov2, 2),
    "dcov2 unbiased": (partial(dcov2, unbiased=True), 2),
    "dcov2 exponent 0.5": (partial(dcov2, exponent=0.5), 2),
    "dcov2 exponent 1.5": (partial(dcov2, exponent=1.5), 2),
    "dcov2 exponent 2": (partial(dcov2, exponent=2.0), 2),
    "dcov": (dcov, 2),
    "dvar2": (dvar2, 1),
    "dvar2 unbiased": (partial(dvar2, unbiased=True), 1),
    "dcor2": (dcor2, 2),
    "dcor2 unbiased": (partial(dcor2, unbiased=True), 2),
    "dcor2 exponent 1.5": (partial(dcor2, exponent=1.5), 2),
    "dcor": (dcor, 2),
    "pdcov2": (pdcov2, 3),
    "pdcor": (pdcor, 3),
}
WEIGHTED = ["dcov2", "dcov2 exponent 0.5", "dcov", "dvar2", "dcor2", "dcor"]


def samples(
    count: int, n: int, coincident: bool, method: str = "auto"
) -> tuple[list[Tensor], Function]:
    """Free points, and how samples are made of them: each as it is, or some of them twice.

    A distance has no derivative where it is 0, so coincident points can only be moved together.
    """
    counts = features(method, 2, 3, 2)[:count]
    free = [draw(n, p, seed=10 + k).requires_grad_() for k, p in enumerate(counts)]
    place = torch.arange(n)
    if coincident:
        place[n // 2 :] = torch.arange(n - n // 2) % 3
    return free, lambda k, t: t[place.roll(k)]


@pytest.mark.parametrize("coincident", [False, True])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_first_and_second_derivatives(case: str, n: int, coincident: bool, method: str) -> None:
    function, count = CASES[case]
    free, make = samples(count, n, coincident, method)

    def statistic(*points: Tensor) -> Tensor:
        return function(*(make(k, t) for k, t in enumerate(points)), method=method)

    # Every derivative for few points; a random projection of them for many, and of the second ones.
    assert gradcheck(statistic, free, fast_mode=n > 5)
    assert gradgradcheck(statistic, free, fast_mode=True)


@pytest.mark.parametrize("coincident", [False, True])
@pytest.mark.parametrize("n", [2, 5, 26])
@pytest.mark.parametrize("case", WEIGHTED)
def test_derivatives_with_weights(case: str, n: int, coincident: bool, method: str) -> None:
    function, count = CASES[case]
    free, make = samples(count, n, coincident, method)
    weights = (draw(n, seed=3).square() + 0.1).requires_grad_()

    def statistic(w: Tensor, *points: Tensor) -> Tensor:
        made = (make(k, t) for k, t in enumerate(points))
        return function(*made, weights=w, method=method)

    assert gradcheck(statistic, [weights, *free], fast_mode=n > 5)
    assert gradgradcheck(statistic, [weights, *free], fast_mode=True)


@pytest.mark.parametrize("case", ["dcov2", "dcov2 unbiased", "dcov", "dcor2", "dcor", "pdcor"])
def test_derivatives_with_respect_to_given_distances(case: str) -> None:
    function, count = CASES[case]
    free = [torch.cdist(t, t).requires_grad_() for t in samples(count, 6, False)[0]]
    free = [t.detach().requires_grad_() for t in free]
    statistic = partial(function, metric="precomputed")
    assert gradcheck(statistic, free)
    assert gradgradcheck(statistic, free)


@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.parametrize("case", [name for name in CASES if CASES[name][1] == 2])
def test_derivatives_of_one_argument_alone(case: str, argument: int, method: str) -> None:
    function, count = CASES[case]
    free, _ = samples(count, 5, False, method)
    free[1 - argument].requires_grad_(False)
    statistic = partial(function, method=method)
    assert gradcheck(statistic, free)
    assert gradgradcheck(statistic, free, fast_mode=True)


@pytest.mark.parametrize("exponent", [0.3, 1.0, 1.6])
def test_pairs_of_coincident_points_contribute_nothing(exponent: float, method: str) -> None:
    """A central difference over the tip of a distance is 0 too, so even this can be compared."""
    p, q = features(method, 2, 3)
    x = draw(6, p)
    x[4] = x[1]
    y = draw(6, q, seed=1)
    y[4] = y[2]
    x.requires_grad_()
    y.requires_grad_()
    # A low power rises so steeply from 0 that its difference quotient is rough.
    assert gradcheck(partial(dcov2, exponent=exponent, method=method), (x, y), atol=1e-4)


@pytest.mark.parametrize("n", [6, 70])
@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("function", [dcov2, dcov, dcor2, dcor, dvar2, pdcov2, pdcor])
def test_no_nan_in_derivatives_of_coincident_points(
    function: Function, dtype: torch.dtype, n: int, method: str
) -> None:
    count = {dvar2: 1, pdcov2: 3, pdcor: 3}.get(function, 2)
    (p,) = features(method, 3)
    for exponent in exponents(method, 0.1, 1.0, 1.9, 2.0):
        points = [draw(n, p, seed=k, dtype=dtype) for k in range(count)]
        for t in points:
            t[n // 2 :] = t[: n - n // 2]
            t.requires_grad_()
        value = function(*points, exponent=exponent, method=method)
        gradients = torch.autograd.grad(value, points, create_graph=True)
        assert value.isfinite()
        assert all(g.isfinite().all() for g in gradients)
        penalty = sum(g.square().sum() for g in gradients)
        assert all(g.isfinite().all() for g in torch.autograd.grad(penalty, points))


@pytest.mark.many_features
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_saturated_softmax_rows(dtype: torch.dtype, method: str) -> None:
    """The labels that a classifier is sure of are one-hot, and coincide by the dozen."""
    logits = (1e6 * draw(100, 10, dtype=dtype)).requires_grad_()
    z = draw(100, 20, seed=1, dtype=dtype).requires_grad_()
    labels = logits.softmax(-1)
    assert len(labels.unique(dim=0)) <= 10
    dcov2(labels, z, method=method).backward()
    assert logits.grad.isfinite().all()
    assert z.grad.isfinite().all()
    exact = z.detach().double().requires_grad_()
    a, b = (reference.distances(t, 1.0) for t in (labels.detach().double(), exact))
    reference.moments_of_distances(a, b, None)[0].backward()
    size = exact.grad.abs().max().item()
    close = tolerance(dtype, "gradient")
    assert_close(z.grad.double(), exact.grad, rtol=0, atol=close["rtol"] * size)


def test_third_derivatives(method: str) -> None:
    (p,) = features(method, 2)
    x, y = draw(5, p), draw(5, p, seed=1)

    def twice(statistic: Function, t: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(statistic(t), t, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), t, create_graph=True)
        return second

    def by_definition(t: Tensor) -> Tensor:
        return reference.pair_moments(t, y, None, 1.0)[0]

    thirds = []
    for statistic in (partial(dcov2, y=y, method=method), by_definition):
        t = x.clone().requires_grad_()
        thirds.append(torch.autograd.grad(twice(statistic, t).square().sum(), t)[0])
    assert_close(thirds[0], thirds[1], **tolerance(F64, "gradient"))
