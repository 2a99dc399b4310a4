"""Sums along the order of one-dimensional samples: against plain sums over pairs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dcorr import dcor2, dcov2, dvar2
from dcorr.pairwise import pair_moments, reference
from dcorr.pairwise import univariate_sums as order_sums
from dcorr.pairwise.univariate_line import Line
from tests.dcorr.oracle import draw
from tests.dcorr.tolerances import tolerance

F64, F32 = torch.float64, torch.float32


def lattice(*shape: int, step: float, seed: int = 0) -> Tensor:
    """Normal numbers rounded to multiples of ``step``: the larger the step the more ties."""
    return (draw(*shape, seed=seed) / step).round() * step


# -- orders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F64, F32])
def test_sortable_integers_are_in_the_order_of_the_numbers(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal
    huge = torch.finfo(dtype).max
    positive = [tiny / 2, tiny, 1e-9, 1.0, 1.0 + torch.finfo(dtype).eps, 3e20, huge, float("inf")]
    numbers = torch.tensor([*(-v for v in reversed(positive)), 0.0, *positive], dtype=dtype)
    keys = order_sums.sortable(numbers)
    assert (keys[1:] > keys[:-1]).all()
    assert order_sums.sortable(torch.tensor([-0.0], dtype=dtype)) == keys[len(positive)]


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("step", [1e-9, 0.5, 3.0])
def test_joint_order_breaks_ties_by_the_other_sample(n: int, step: float) -> None:
    x, y = lattice(3, n, step=step), lattice(3, n, step=step, seed=1)
    keys = order_sums.sortable(x), order_sums.sortable(y)
    by_x, by_y, ranks, heights = order_sums.joint_order(*keys)
    for order, first, second in ((by_x, x, y), (by_y, y, x)):
        assert_close(order.sort(-1).values, torch.arange(n).expand(3, n))
        for k in range(3):
            points = [(first[k, i].item(), second[k, i].item()) for i in order[k]]
            assert points == sorted(points)
    assert_close(by_x.gather(-1, ranks), by_y)
    assert_close(by_y.gather(-1, heights), by_x)


def test_long_rows_are_sorted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = order_sums.sortable(lattice(4, 50, step=0.3))
    expected = order_sums.argsort(keys)
    monkeypatch.setattr(order_sums, "RADIX_SAMPLES", 10)
    assert_close(order_sums.argsort(keys), expected)
    assert order_sums.argsort(keys[:0]).shape == (0, 50)


# -- sums over dominated points -------------------------------------------------------------------

# Numbers that fill leaves, that leave one point for the last, and in between.
COUNTS = [1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 129, 257]


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("leaf_bits", [1, 2, 4])
@pytest.mark.parametrize(("count_bits", "large"), [(16, 21), (3, 6), (2, 4)])
def test_dominance_sums(
    n: int, leaf_bits: int, count_bits: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few bits for counts, blocks are large, or so large that they are not quartered."""
    monkeypatch.setattr(order_sums, "LEAF_BITS", leaf_bits)
    monkeypatch.setattr(order_sums, "COUNT_BITS", {2: 32, 4: count_bits})
    monkeypatch.setattr(order_sums, "LARGE_COUNT_BITS", large)
    ranks = torch.stack([torch.randperm(n, generator=_generator(k)) for k in range(3)])
    columns = [draw(3, n, seed=k) for k in range(2)]
    heights = order_sums.inverse(ranks)  # in the order of x
    lower = torch.ones(n, n).tril(-1) * (heights.unsqueeze(-1) > heights.unsqueeze(-2))
    counts, *sums = order_sums.dominance_sums(ranks, heights, columns)
    assert torch.equal(counts, lower.sum(-1).to(F64))
    for ours, column in zip(sums, columns, strict=True):
        assert_close(ours, (lower.to(F64) @ column.unsqueeze(-1)).squeeze(-1))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("step", [1e-9, 0.7, 9.0])
def test_sums_along_a_line(weighted: bool, step: float) -> None:
    x, f = lattice(2, 30, 1, step=step), draw(2, 30, seed=1)
    weights = draw(2, 30, seed=2).square() if weighted else None
    line = Line(x, order_sums.argsort(order_sums.sortable(x[..., 0])), weights)
    difference = x - x.mT
    f = line.take(f)
    for ours, matrix in (
        (line.signed(f), difference.sign()),
        (line.distances(f), difference.abs()),
    ):
        expected = (matrix @ line.put_back(f).unsqueeze(-1)).squeeze(-1)
        assert_close(line.put_back(ours), expected)


# -- moments and gradients ------------------------------------------------------------------------


def check(x: Tensor, y: Tensor, weights: Tensor | None = None) -> None:
    """All moments, and gradients of a random projection of them, against the definition."""
    samples = [t.clone().requires_grad_() for t in (x, y)]
    exact = [t.clone().to(F64).requires_grad_() for t in (x, y)]
    ours = pair_moments(*samples, weights=weights, method="univariate")
    theirs = reference.pair_moments(*exact, None if weights is None else weights.to(F64), 1.0)
    narrow = x.dtype == F32
    # Weights that were rounded to float32 sum to 1 up to that rounding.
    rtol = 1e-12 if weights is None or not narrow else 1e-5
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=0, atol=rtol * b.abs().max().item())
    # Each moment counts for as much as the others, whatever the scale.
    incoming = [
        draw(max(1, b.numel()), seed=k).view_as(b) / b.abs().max() for k, b in enumerate(theirs)
    ]
    for a, b in zip(
        torch.autograd.grad(ours, samples, incoming),
        torch.autograd.grad(theirs, exact, incoming),
        strict=True,
    ):
        assert_close(a.to(F64), b, rtol=0, atol=(2e-6 if narrow else 1e-11) * b.abs().max().item())


@pytest.mark.parametrize("n", [2, 3, 33, 300, 700])
@pytest.mark.parametrize("step", [1e-9, 0.1, 1.0, 4.0])
@pytest.mark.parametrize("dtype", [F64, F32])
def test_ties_of_all_kinds(n: int, step: float, dtype: torch.dtype) -> None:
    """Ties of x alone, of y alone, and of both at once."""
    x = lattice(2, n, 1, step=step)
    y = lattice(2, n, 1, step=step, seed=1) + x.square()
    check(x.to(dtype), y.to(dtype))
    check(x.to(dtype), x.to(dtype))


def test_gradient_at_ties_is_zero_for_the_pair() -> None:
    """Four points on the corners of a square: each sees one point right of it or left of it."""
    x = torch.tensor([0.0, 0.0, 1.0, 1.0], requires_grad=True)
    y = torch.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    moments = pair_moments(x[:, None], y[:, None], method="univariate")
    (gradient,) = torch.autograd.grad(moments.a_rows[0], x, retain_graph=True)
    assert_close(gradient, torch.tensor([-0.5, 0.0, 0.25, 0.25]))
    (gradient,) = torch.autograd.grad(moments.ab, x)
    assert_close(gradient, torch.zeros(4))


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1.0, 1e15, 1e30])
@pytest.mark.parametrize("dtype", [F64, F32])
def test_scales(scale: float, dtype: torch.dtype) -> None:
    x = (scale * draw(300, 1)).to(dtype)
    check(x, scale * (x / scale).square())
    check(x, draw(300, 1, seed=1).to(dtype))


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_scales_at_the_ends_of_double_precision(scale: float) -> None:
    """The squares of such numbers are 0 or infinity, but nothing here needs them."""
    x, y = draw(300, 1), draw(300, 1, seed=1)
    y = y + x.square()
    results = []
    for factor in (1.0, scale):
        free = [(factor * x).requires_grad_(), y.clone().requires_grad_()]
        value = dcov2(*free, method="univariate")
        gradients = torch.autograd.grad(value, free)
        results.append([value.detach() / factor, gradients[0], gradients[1] / factor])
    assert_close(*results, rtol=1e-12, atol=0)


def test_numbers_that_centring_would_round_together_stay_apart() -> None:
    """The gradient is made of signs, and their order still tells which is larger."""
    x = draw(200, 1)
    x[1], x[2], x[3] = 0.0, 1e-30, -1e-30
    check(x, draw(200, 1, seed=1))


@pytest.mark.parametrize("offset", [1e4, 1e6])
@pytest.mark.parametrize("dependent", [False, True])
def test_precision_at_many_samples(offset: float, dependent: bool) -> None:
    """float32 samples against all pairs of them in float64."""
    n = 8192
    x, y = draw(n, 1), draw(n, 1, seed=1)
    y = y + x.square() if dependent else y
    x, y = (x + offset).to(F32), (y - offset).to(F32)
    for unbiased in (False, True):
        ours = dcov2(x, y, unbiased=unbiased, method="univariate").item()
        theirs = dcov2(x.double(), y.double(), unbiased=unbiased, method="tiled").item()
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_long_samples_match_tiles(weighted: bool) -> None:
    """Sizes at which rows are sorted by digits."""
    n = order_sums.RADIX_SAMPLES + 77
    x, y = draw(2, n, 1, dtype=F32), draw(2, n, 1, seed=1, dtype=F32)
    y[..., 0] += x[..., 0].square().round()  # ties in y too
    x[0] = (20 * x[0]).round()
    weights = draw(2, n, seed=2, dtype=F32).square() if weighted else None
    results = []
    for method, dtype in (("univariate", F32), ("tiled", F64)):
        free = [t.to(dtype).requires_grad_() for t in (x, y)]
        w = None if weights is None else weights.to(dtype).requires_grad_()
        inputs = free if w is None else [*free, w]
        value = dcor2(*free, weights=w, method=method)
        gradients = torch.autograd.grad(value.sum(), inputs)
        results.append([t.to(F64) for t in (value.detach(), *gradients)])
    for ours, theirs in zip(*results, strict=True):
        close = tolerance(F32, "value" if ours.ndim == 1 else "gradient")
        assert_close(ours, theirs, rtol=0, atol=close["rtol"] * theirs.abs().max().item())


@pytest.mark.parametrize("n", [3, 40, 1000])
def test_variance_of_one_point_apart(n: int) -> None:
    """All that is left of it is a small difference of row means, and must not be rounding."""
    x = torch.zeros(n, 1, dtype=F64)
    x[n // 3] = 0.3
    share = 1 / n
    expected = (2 * 0.3 * share * (1 - share)) ** 2
    assert dvar2(x, method="univariate").item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux counts it")
def test_memory_grows_with_the_number_of_samples() -> None:
    """A bounded number of bytes a sample, for value and gradient."""
    script = """
        import resource, torch
        from dcorr import dcov2
        torch.set_num_threads(1)
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        def run(n):
            x, y = (torch.randn(n, requires_grad=True) for _ in "xy")
            dcov2(x, y, unbiased=True, method="univariate").backward()
        run(1000)
        before = peak()
        run(200_000)
        print((peak() - before) / 200_000)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert float(done.stdout) < 600
