"""Identities that hold for every sample, on samples that hypothesis makes up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dcorr import dcor, dcor2, dcov, dcov2, dvar2, pdcor, pdcov2, xcov
from dcorr.pairwise import reference
from tests.dcorr import oracle
from tests.dcorr.methods import METHODS, small_blocks
from tests.dcorr.oracle import draw

F64, F32 = torch.float64, torch.float32
EXAMPLES = settings(max_examples=100)
methods = st.sampled_from(METHODS)
exponents = st.sampled_from([0.3, 1.0, 1.5, 2.0])
seeds = st.integers(0, 2**20)
counts = st.one_of(st.integers(4, 40), st.integers(60, 90))
features = st.sampled_from([1, 2, 3, 7, 60])
offsets = st.sampled_from([0.0, 1.0, -1e3, 1e8])
scales = st.sampled_from([1e-8, 1e-3, 1.0, 1e3, 1e8])
dtypes = st.sampled_from([F64, F32])


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        yield


@st.composite
def sample(draw_from: st.DrawFn, n: int, dtype: torch.dtype = F64, shift: bool = False) -> Tensor:
    """Normal, whole, or one-hot numbers, with duplicated rows and constant columns at times."""
    p = draw_from(features)
    x = draw(n, p, seed=draw_from(seeds))
    kind = draw_from(st.sampled_from(["normal", "whole", "one-hot", "heavy"]))
    if kind == "whole":
        x = (2 * x).round()
    elif kind == "one-hot":
        x = (x == x.amax(-1, keepdim=True)).to(F64)
    elif kind == "heavy":
        x = x / draw(n, 1, seed=draw_from(seeds)).abs().clamp(min=1e-3)
    if draw_from(st.booleans()):
        rows = torch.tensor(draw_from(st.lists(st.integers(0, n - 1), min_size=1, max_size=5)))
        x[rows] = x[rows.roll(1)]
    if draw_from(st.booleans()):
        x[:, draw_from(st.integers(0, p - 1))] = 0.5
    if shift:
        x = x * draw_from(scales) + draw_from(offsets)
    return x.to(dtype)


@st.composite
def samples(
    draw_from: st.DrawFn, count: int = 2, dtype: torch.dtype = F64, shift: bool = False
) -> list[Tensor]:
    n = draw_from(counts)
    return [draw_from(sample(n, dtype, shift)) for _ in range(count)]


def taken(method: str, given: list[Tensor], exponent: float = 1.0) -> tuple[list[Tensor], float]:
    """Return samples and exponent as the method takes them: all, or one column and exponent 1."""
    return ([t[:, :1] for t in given], 1.0) if method == "univariate" else (given, exponent)


def close(ours: Tensor, theirs: Tensor, size: Tensor | float, rtol: float = 1e-9) -> None:
    """Compare to rounding of the terms: a dCov² may cancel to far below them."""
    atol = rtol * float(size) + 1e-300
    assert_close(ours.to(F64), theirs.to(F64), rtol=rtol, atol=atol, equal_nan=True)


def size_of(x: Tensor, y: Tensor, exponent: float = 1.0) -> Tensor:
    """The mean product of distances, from which dCov² is what is left after centring."""
    a, b = (reference.distances(t.to(F64), exponent).mean() for t in (x, y))
    return a * b


# -- against the outside --------------------------------------------------------------------------


@EXAMPLES
@given(samples(), exponents, st.booleans(), methods)
def test_matches_scipy(pair: list[Tensor], exponent: float, unbiased: bool, method: str) -> None:
    pair, exponent = taken(method, pair, exponent)
    x, y = pair
    ours = dcov2(x, y, exponent=exponent, unbiased=unbiased, method=method)
    theirs = oracle.matrices_dcov2(x, y, exponent=exponent, unbiased=unbiased)
    size = oracle.matrices_dcov2(x, x, exponent=exponent) * oracle.matrices_dcov2(
        y, y, exponent=exponent
    )
    # scipy subtracts what our sums never add, so it is the one that rounds more.
    close(ours, torch.tensor(theirs, dtype=F64), size_of(x, y, exponent) + size**0.5, rtol=1e-11)


@EXAMPLES
@given(samples(dtype=F32, shift=True), st.sampled_from([0.5, 1.0, 2.0]), methods)
def test_single_precision_is_that_of_its_inputs(
    pair: list[Tensor], exponent: float, method: str
) -> None:
    """Scales from 1e-8 to 1e8 and offsets up to 1e8: whatever float32 holds of the data counts."""
    pair, exponent = taken(method, pair, exponent)
    ours = dcov2(*pair, exponent=exponent, method=method)
    theirs = dcov2(*(t.double() for t in pair), exponent=exponent, method=method)
    x, y = (t.double() for t in pair)
    size = (dvar2(x, exponent=exponent) * dvar2(y, exponent=exponent)).sqrt()
    close(ours, theirs, size, rtol=2e-6)


@EXAMPLES
@given(samples(dtype=F32, shift=True), exponents, methods)
def test_always_finite_and_in_range(pair: list[Tensor], exponent: float, method: str) -> None:
    pair, exponent = taken(method, pair, exponent)
    pair = [t.clone().requires_grad_() for t in pair]
    x, y = pair
    options: dict[str, Any] = {"exponent": exponent, "method": method}
    values = [f(x, y, **options) for f in (dcov2, dcov, dcor2, dcor)]
    values += [dcor2(x, y, unbiased=True, **options), pdcor(x, y, y, **options)]
    for value in values:
        assert value.isfinite()
        for gradient in torch.autograd.grad(value, pair):
            assert gradient.isfinite().all()
    assert values[0] >= 0
    assert all(0 <= value <= 1 for value in values[2:4])
    assert -1 <= values[4] <= 1


# -- identities -----------------------------------------------------------------------------------


@EXAMPLES
@given(samples(), exponents, st.booleans(), methods)
def test_symmetric(pair: list[Tensor], exponent: float, unbiased: bool, method: str) -> None:
    pair, exponent = taken(method, pair, exponent)
    x, y = pair
    options: dict[str, Any] = {"exponent": exponent, "unbiased": unbiased, "method": method}
    size = size_of(x, y, exponent)
    close(dcov2(x, y, **options), dcov2(y, x, **options), size, 1e-13)
    close(dcor2(x, y, **options), dcor2(y, x, **options), 1.0, 1e-13)


@EXAMPLES
@given(samples(), exponents, st.booleans(), methods, seeds)
def test_order_of_samples_does_not_matter(
    pair: list[Tensor], exponent: float, unbiased: bool, method: str, seed: int
) -> None:
    pair, exponent = taken(method, pair, exponent)
    x, y = pair
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    options: dict[str, Any] = {"exponent": exponent, "unbiased": unbiased, "method": method}
    size = size_of(x, y, exponent)
    close(dcov2(x[order], y[order], **options), dcov2(x, y, **options), size, 1e-12)


@EXAMPLES
@given(samples(), exponents, methods, seeds)
def test_shifts_and_rotations_do_not_matter(
    pair: list[Tensor], exponent: float, method: str, seed: int
) -> None:
    pair, exponent = taken(method, pair, exponent)
    x, y = pair
    rotation, _ = torch.linalg.qr(draw(x.shape[1], x.shape[1], seed=seed))
    moved = x @ rotation + 3.0
    options: dict[str, Any] = {"exponent": exponent, "method": method}
    # Rotating rounds coincident points apart, and a low power makes much of a small distance.
    close(dcov2(moved, y, **options), dcov2(x, y, **options), size_of(x, y, exponent), 1e-4)
    if exponent >= 1:
        close(dcov2(moved, y, **options), dcov2(x, y, **options), size_of(x, y, exponent), 1e-12)


@EXAMPLES
@given(samples(), exponents, st.booleans(), methods, scales, scales)
def test_scale_comes_out(
    pair: list[Tensor], exponent: float, unbiased: bool, method: str, s: float, t: float
) -> None:
    pair, exponent = taken(method, pair, exponent)
    x, y = pair
    options: dict[str, Any] = {"exponent": exponent, "unbiased": unbiased, "method": method}
    factor = s**exponent * t**exponent
    ours = dcov2(s * x, -t * y, **options) / factor
    close(ours, dcov2(x, y, **options), size_of(x, y, exponent), 1e-11)
    if dvar2(x, **options) > 1e-6 and dvar2(y, **options) > 1e-6:
        close(dcor2(s * x, -t * y, **options), dcor2(x, y, **options), 1.0, 1e-7)


@EXAMPLES
@given(samples(count=1), exponents, st.booleans(), methods, scales, offsets, seeds)
def test_correlation_with_a_moved_copy_is_one(
    one: list[Tensor],
    exponent: float,
    unbiased: bool,
    method: str,
    scale: float,
    offset: float,
    seed: int,
) -> None:
    (x,), exponent = taken(method, one, exponent)
    options: dict[str, Any] = {"exponent": exponent, "unbiased": unbiased, "method": method}
    assume(dvar2(x, **options) > 1e-3 * dvar2(x, exponent=exponent))
    rotation, _ = torch.linalg.qr(draw(x.shape[1], x.shape[1], seed=seed))
    # The offset eats digits of a small copy: at 1e8 eight of sixteen, of a scale of 1e-8 all.
    assume(scale * 1e6 > abs(offset))
    value = dcor2(x, scale * x @ rotation + offset * scale, **options)
    assert value <= 1
    assert value == pytest.approx(1.0, abs=1e-4 if exponent < 1 or offset else 1e-10)
    if not unbiased:
        assert dcor(x, x, exponent=exponent, method=method) == pytest.approx(1.0, abs=1e-12)


@EXAMPLES
@given(counts, st.data(), exponents, methods)
def test_whole_weights_are_repetitions(
    n: int, data: st.DataObject, exponent: float, method: str
) -> None:
    pair = [data.draw(sample(n)), data.draw(sample(n))]
    (x, y), exponent = taken(method, pair, exponent)
    repeats = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    assume(repeats.sum() >= 2)
    options: dict[str, Any] = {"exponent": exponent, "method": method}
    long = [t.repeat_interleave(repeats, 0) for t in (x, y)]
    for function in (dcov2, dcor2):
        ours = function(x, y, weights=repeats.to(F64), **options)
        size = size_of(x, y, exponent) if function is dcov2 else 1.0
        close(ours, function(*long, **options), size, 1e-10 if function is dcov2 else 1e-7)


@EXAMPLES
@given(samples(), exponents, st.floats(1e-3, 1e3), methods)
def test_equal_weights_are_none(
    pair: list[Tensor], exponent: float, value: float, method: str
) -> None:
    pair, exponent = taken(method, pair, exponent)
    options: dict[str, Any] = {"exponent": exponent, "method": method}
    weights = torch.full((len(pair[0]),), value, dtype=F64)
    size = size_of(*pair, exponent)
    close(dcov2(*pair, weights=weights, **options), dcov2(*pair, **options), size, 1e-12)


@EXAMPLES
@given(samples(), st.sampled_from(["dense", "tiled"]))
def test_exponent_two_is_four_times_the_squared_cross_covariance(
    pair: list[Tensor], method: str
) -> None:
    x, y = pair
    size = size_of(x, y, 2.0)
    # xcov is half of the same sum of squares.
    close(dcov2(x, y, exponent=2, method=method), 8 * xcov(x, y), size, 1e-12)


@EXAMPLES
@given(samples(), exponents)
def test_one_matrix_needs_centring(pair: list[Tensor], exponent: float) -> None:
    """Centring is a projection, so the sum of A B is that of a B."""
    x, y = pair
    a, b = (reference.distances(t, exponent) for t in (x, y))
    b = b - b.mean(0) - b.mean(1, keepdim=True) + b.mean()
    close(dcov2(x, y, exponent=exponent), (a * b).mean(), size_of(x, y, exponent), 1e-12)


@EXAMPLES
@given(samples(), exponents, st.booleans(), methods, st.sampled_from([0.0, 3.0, -1e8]))
def test_constants_give_zero(
    pair: list[Tensor], exponent: float, unbiased: bool, method: str, value: float
) -> None:
    pair, exponent = taken(method, pair, exponent)
    x = pair[0]
    constant = torch.full_like(pair[1], value)
    options: dict[str, Any] = {"exponent": exponent, "unbiased": unbiased, "method": method}
    for function in (dcov2, dcor2):
        assert function(x, constant, **options) == 0
        assert function(constant, x, **options) == 0
    assert dvar2(constant, **options) == 0


@EXAMPLES
@given(samples(count=3), methods)
def test_partial_by_its_correlations(triple: list[Tensor], method: str) -> None:
    (x, y, z), _ = taken(method, triple)
    options: dict[str, Any] = {"unbiased": True, "method": method}
    xy, xz, yz = (dcor2(s, t, **options) for s, t in ((x, y), (x, z), (y, z)))
    for t in (x, y, z):
        assume(dvar2(t, **options) > 1e-3 * dvar2(t))
    assume(max(abs(xz), abs(yz)) < 0.99)
    by_correlations = (xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)).sqrt()
    close(pdcor(x, y, z, method=method), by_correlations.clamp(-1, 1), 1.0, 1e-8)
    covariance = pdcov2(x, y, z, method=method)
    close(covariance, pdcov2(y, x, z, method=method), size_of(x, y), 1e-12)


@EXAMPLES
@given(samples(), st.integers(2, 4), methods)
def test_batches_are_many_problems(pair: list[Tensor], copies: int, method: str) -> None:
    (x, y), _ = taken(method, pair)
    batch = torch.stack([x * (k + 1) for k in range(copies)])
    expected = torch.stack([dcov(x * (k + 1), y, method=method) for k in range(copies)])
    close(dcov(batch, y, method=method), expected, size_of(x, y).sqrt(), 1e-7)
