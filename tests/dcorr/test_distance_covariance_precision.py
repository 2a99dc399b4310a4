"""float32 against float64 on the same data: how many digits each method keeps.

The goals: 1e-5 of the float64 value; 1e-4 for the unbiased statistic of independent data, which is
a small difference of large sums. That one may come out at 0 by chance, so there the size that
counts is the larger of the value and of what it typically is: for independent data its standard
deviation is about sqrt(2 dVar²(x) dVar²(y)) / n.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dcorr import dcor2, dcov2, dvar2
from tests.dcorr import oracle
from tests.dcorr.methods import METHODS, features
from tests.dcorr.oracle import draw
from tests.dcorr.tolerances import tolerance

F64, F32 = torch.float64, torch.float32
DIMS = [(1, 1), (3, 3), (10, 10), (40, 1000), (1000, 1000)]
SLOW_COUNTS = [pytest.param(n, marks=pytest.mark.slow) for n in (1024, 2048)]


def pair(n: int, p: int, q: int, dependent: bool, offset: float) -> tuple[Tensor, Tensor]:
    """Two float32 samples; what the offset has cost them is lost before they get here."""
    x, y = draw(n, p, seed=n), draw(n, q, seed=n + 1)
    if dependent:
        y = 0.3 * y + 0.3 * p**0.5 * x.mean(1, keepdim=True)
        y[:, 0] += x[:, 0]
    return (x + offset).to(F32), (y + offset).to(F32)


def methods(p: int, q: int) -> list[str]:
    return [name for name in METHODS if features(name, p, q) == [p, q]]


def check(n: int, p: int, q: int, dependent: bool, offset: float, methods: list[str]) -> None:
    x, y = pair(n, p, q, dependent, offset)
    for unbiased in (False, True):
        exact = [t.double().requires_grad_() for t in (x, y)]
        theirs = dcov2(*exact, unbiased=unbiased)
        expected = torch.autograd.grad(theirs, exact)
        if n <= 2048:  # minutes of scipy's time above
            outside = oracle.matrices_dcov2(x, y, unbiased=unbiased)
            assert theirs.item() == pytest.approx(outside, rel=1e-7)
        rtol, size = 1e-5, abs(theirs.item())
        if unbiased and not dependent:
            variances = (dvar2(t.detach(), unbiased=True).item() for t in exact)
            rtol, size = 1e-4, max(size, math.sqrt(math.prod(variances)) / n)
        for method in methods:
            narrow = [t.clone().requires_grad_() for t in (x, y)]
            ours = dcov2(*narrow, unbiased=unbiased, method=method)
            label = f"{method}, {unbiased=}"
            assert ours.item() == pytest.approx(theirs.item(), abs=rtol * size), label
            for a, b in zip(torch.autograd.grad(ours, narrow), expected, strict=True):
                atol = tolerance(F32, "gradient")["rtol"] * b.abs().max().item()
                assert_close(a.double(), b, rtol=0, atol=atol, msg=lambda m, s=label: f"{s}: {m}")


def test_one_weight_is_nearly_all(method: str) -> None:
    """What narrow weights lack of their sum is not small beside the others."""
    p, q = features(method, 3, 2)
    weights = torch.full((30,), 1e-6)
    weights[4] = 0.7
    narrow = [draw(30, p, dtype=F32), draw(30, q, seed=1, dtype=F32), weights]
    exact = [t.double().requires_grad_() for t in narrow]
    narrow = [t.requires_grad_() for t in narrow]
    ours = dcov2(*narrow[:2], weights=narrow[2], method=method)
    theirs = dcov2(*exact[:2], weights=exact[2], method="dense")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    expected = torch.autograd.grad(theirs, exact)
    for a, b in zip(torch.autograd.grad(ours, narrow), expected, strict=True):
        assert_close(a.double(), b, rtol=0, atol=1e-4 * b.abs().max().item())


def test_gradient_of_weights_that_hardly_matter(method: str) -> None:
    """What all weights' gradients have in common does not count, and must not cost digits."""
    x = torch.tensor([[0.0], [1e6], [-1e6], [3e6], [2e6]])
    y = torch.tensor([[0.0], [1.0], [-1.0], [3.0], [2.0]])
    narrow = torch.ones(5, requires_grad=True)
    exact = torch.ones(5, dtype=F64, requires_grad=True)
    (ours,) = torch.autograd.grad(dcov2(x, y, weights=narrow, method=method), narrow)
    (theirs,) = torch.autograd.grad(
        dcov2(x.double(), y.double(), weights=exact, method="dense"), exact
    )
    assert_close(ours.double(), theirs, rtol=0, atol=1e-6 * theirs.abs().max().item())


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize(("p", "q"), DIMS)
@pytest.mark.parametrize("n", [4, 5, 16, 65, 128, 513, *SLOW_COUNTS])
def test_table(n: int, p: int, q: int, dependent: bool, offset: float) -> None:
    check(n, p, q, dependent, offset, methods(p, q))


@pytest.mark.slow
@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize(("p", "q"), DIMS[:4])
def test_table_for_many_samples(p: int, q: int, dependent: bool) -> None:
    check(8192, p, q, dependent, 1e4, methods(p, q))


def test_many_samples_in_one_dimension() -> None:
    """A part of the long table that is quick."""
    check(2500, 1, 1, False, 1e4, ["tiled", "univariate"])


# -- traps that published libraries have fallen into ----------------------------------------------


@pytest.mark.parametrize("n", [20, 25, 26, 100])
def test_offset_of_a_thousand(n: int, method: str) -> None:
    """|x|² + |y|² - 2 x·y without centring is off by 1.0 here."""
    p, q = features(method, 3, 2)
    x, y = draw(n, p, dtype=F32) + 1000, draw(n, q, seed=1, dtype=F32) - 1000
    expected = oracle.matrices_dcov2(x, y)
    assert dcov2(x, y, method=method).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("p", [1, 2, 3, 40])
def test_offset_of_a_hundred_million(p: int, method: str) -> None:
    x = (1000 * draw(90, p, dtype=F32)).round() + 1e8
    y = x.flip(-1).square() / 1e8
    for function in (dcov2, dcor2):
        exact = function(x.double(), y.double()).item()
        assert function(x, y, method=method).item() == pytest.approx(exact, rel=1e-5)
    assert dcor2(x, x, method=method).item() <= 1.0


def test_one_pass_sums_cancel(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unbiased statistic of independent data at n = 2048: one-pass float32 sums are 2% off."""
    monkeypatch.setattr("dcorr.pairwise.tiled.ROWS", 512)
    p, q = features(method, 10, 10)
    x, y = draw(2048, p, dtype=F32), draw(2048, q, seed=1, dtype=F32)
    exact = dcov2(x.double(), y.double(), unbiased=True).item()
    assert dcov2(x, y, unbiased=True, method=method).item() == pytest.approx(exact, rel=1e-4)


def test_integers_do_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """n⁴ leaves an int64 from 55,109 samples on; here only the formula sees that many."""
    from dcorr._distance_statistics import unbiased

    n = 60_000
    half = torch.tensor([0.0, 1.0], dtype=F64).repeat(n // 2)
    # Half zeros, half ones: row means 1/2, dCov² of the sample with itself 1/4.
    rows = torch.full_like(half, 0.5)
    value = unbiased(torch.tensor(0.25, dtype=F64), rows, rows, n).item()
    assert value == pytest.approx(0.25 * n * (n - 2) / ((n - 3) * (n - 1)), rel=1e-12)


@pytest.mark.parametrize("outlier", [1e3, 1e6])
@pytest.mark.parametrize("p", [1, 2, 5])
def test_one_far_point(outlier: float, p: int, method: str) -> None:
    x, y = draw(100, p, dtype=F32), draw(100, p, seed=1, dtype=F32)
    x[7] *= outlier
    y[7] *= outlier
    y = y + 0.5 * x
    exact = [t.double().requires_grad_() for t in (x, y)]
    narrow = [t.requires_grad_() for t in (x, y)]
    for function in (dcov2, dcor2):
        ours, theirs = function(*narrow, method=method), function(*exact)
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    # The correlation is 1 but for rounding then, and its gradient cancels to nothing.
    ours, theirs = dcov2(*narrow, method=method), dcov2(*exact)
    gradients = torch.autograd.grad(ours, narrow), torch.autograd.grad(theirs, exact)
    for a, b in zip(*gradients, strict=True):
        assert_close(a.double(), b, rtol=0, atol=1e-4 * b.abs().max().item())


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e8, 1e12])
def test_scales(exponent: float, scale: float, method: str) -> None:
    p, q = features(method, 4, 2)
    x, y = draw(100, p, dtype=F32), draw(100, q, seed=1, dtype=F32)
    y[:, 0] += x[:, 0]
    one = dcor2(x, y, exponent=exponent, method=method).item()
    other = dcor2(scale * x, y / scale, exponent=exponent, method=method).item()
    assert other == pytest.approx(one, rel=1e-5)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(dcor2(scale * x, y, exponent=exponent, method=method), x)
    (expected,) = torch.autograd.grad(dcor2(x, y, exponent=exponent, method=method), x)
    assert_close(gradient, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
