"""The operator behind the statistics: against its definition, precision, memory, choice."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from dcorr.pairwise import (
    DENSE_SAMPLES,
    ORDERED_SAMPLES,
    TABLE,
    Problem,
    choose,
    pair_moments,
    reference,
    sample,
)
from dcorr.pairwise import operator as pair_operator
from dcorr.pairwise.sample_by_product import NEAR, SampleByProduct
from tests.dcorr import oracle
from tests.dcorr.methods import features
from tests.dcorr.oracle import draw
from tests.dcorr.tolerances import tolerance

F64, F32 = torch.float64, torch.float32


def hard_points(n: int, p: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Two problems with coincident points, nearly coincident ones, and clusters."""
    x = draw(2, n, p, seed=seed)
    x[0, 1] = x[0, 2]
    x[0, 3] = x[0, 4] + 1e-6
    x[1, : n // 2] = x[1, :1] + 1e-4 * x[1, : n // 2]
    return x.to(dtype)


def assert_moments_close(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], rtol: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.to(F64), b.to(F64), rtol=0, atol=rtol * b.abs().max().item())


# -- the definition itself ------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.4, 1.0, 2.0])
def test_reference_is_the_definition(exponent: float) -> None:
    x, y, w = draw(6, 2), draw(6, 3, seed=1), draw(6, seed=2).square()
    w = w / w.sum()
    a, b = (oracle.distances(t, exponent) for t in (x, y))
    assert_close(reference.distances(x, exponent), torch.tensor(a, dtype=F64))
    ab, aa, bb, a_rows, b_rows = reference.pair_moments(x, y, w, exponent)
    assert ab.item() == pytest.approx(oracle.dcov2(x, y, exponent=exponent, weights=w))
    assert aa.item() == pytest.approx(oracle.dcov2(x, x, exponent=exponent, weights=w))
    assert bb.item() == pytest.approx(oracle.dcov2(y, y, exponent=exponent, weights=w))
    assert_close(a_rows, torch.tensor(a, dtype=F64) @ w)
    assert_close(b_rows, torch.tensor(b, dtype=F64) @ w)


# -- the backends against the definition ----------------------------------------------------------

# Both sides of 64 samples, under which everything is float64; not multiples of a block.
COUNTS = [2, 5, 16, 17, 64, 65, 83]


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize(("p", "q"), [(1, 1), (1, 2), (3, 40), (300, 4)])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("dtype", [F64, F32])
def test_moments_and_gradients(
    n: int, p: int, q: int, exponent: float, dtype: torch.dtype, method: str
) -> None:
    if n < 5:
        x, y = draw(2, n, p, dtype=dtype), draw(2, n, q, seed=1, dtype=dtype)
    else:
        x, y = hard_points(n, p, dtype), 7 * hard_points(n, q, dtype, seed=1) + 3
    samples = [x.requires_grad_(), y.requires_grad_()]
    exact = [t.detach().to(F64).requires_grad_() for t in samples]
    ours = pair_moments(*samples, exponent=exponent, method=method)
    theirs = reference.pair_moments(*exact, None, exponent)
    rtol = 1e-12 if dtype == F64 else 3e-6
    assert_moments_close(ours, theirs, rtol)
    incoming = [draw(*t.shape, seed=k) for k, t in enumerate(theirs)]
    gradients = torch.autograd.grad(ours, samples, incoming)
    expected = torch.autograd.grad(theirs, exact, incoming)
    # Low powers are steep near 0, and the gradient of the nearest pair is then the largest.
    assert_moments_close(gradients, expected, 1e-9 if dtype == F64 else 2e-5)


@pytest.mark.parametrize("n", [2, 17, 65, 83])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
@pytest.mark.parametrize("dtype", [F64, F32])
def test_weighted_moments_and_gradients(
    n: int, exponent: float, dtype: torch.dtype, method: str
) -> None:
    (p,) = features(method, 3)
    x, y = draw(2, n, p, dtype=dtype), draw(2, n, 1, seed=1, dtype=dtype)
    free = draw(2, n, seed=2, dtype=dtype).square() + 0.01
    free[0, 0] = 0.0
    samples = [x.requires_grad_(), y.requires_grad_(), free.requires_grad_()]
    exact = [t.detach().to(F64).requires_grad_() for t in samples]
    ours, theirs = (
        run(a, b, w / w.sum(-1, keepdim=True))
        for run, (a, b, w) in (
            (
                lambda a, b, w: pair_moments(a, b, weights=w, exponent=exponent, method=method),
                samples,
            ),
            (lambda a, b, w: reference.pair_moments(a, b, w, exponent), exact),
        )
    )
    assert_moments_close(ours, theirs, 1e-12 if dtype == F64 else 3e-6)
    incoming = [draw(*t.shape, seed=k) for k, t in enumerate(theirs)]
    gradients = torch.autograd.grad(ours, samples, incoming)
    expected = torch.autograd.grad(theirs, exact, incoming)
    assert_moments_close(gradients, expected, 1e-9 if dtype == F64 else 2e-5)


@pytest.mark.parametrize("n", [9, 83])
def test_one_sample_alone(n: int, method: str) -> None:
    x = draw(n, *features(method, 3)).requires_grad_()
    alone, twice = pair_moments(x, method=method), pair_moments(x, x, method=method)
    assert_moments_close(alone, twice, 1e-13)
    gradients = [torch.autograd.grad(sum(t.sum() for t in m), x)[0] for m in (alone, twice)]
    assert_close(gradients[0], gradients[1])


def test_what_is_not_asked_for_is_absent(method: str) -> None:
    p, q = features(method, 3, 2)
    x, y = draw(9, p), draw(9, q, seed=1)
    moments = pair_moments(x, y, method=method, variances=False)
    assert moments.aa is None
    assert moments.bb is None
    assert_close(moments.ab, pair_moments(x, y, method=method).ab)


def test_a_loss_of_some_moments_only(method: str) -> None:
    p, q = features(method, 3, 2)
    x, y = draw(9, p).requires_grad_(), draw(9, q, seed=1)
    for k in (0, 1, 3):  # the others depend on y alone
        ours = torch.autograd.grad(pair_moments(x, y, method=method)[k].sum(), x)
        theirs = torch.autograd.grad(reference.pair_moments(x, y, None, 1.0)[k].sum(), x)
        assert_close(ours, theirs)
    for k in (2, 4):
        (nothing,) = torch.autograd.grad(pair_moments(x, y, method=method)[k].sum(), x)
        assert torch.count_nonzero(nothing) == 0


# -- distances ------------------------------------------------------------------------------------

FORMS = [sample.SampleByDifferences, SampleByProduct]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("p", [1, 2, 3, 50])
def test_coincident_points_are_at_distance_zero(
    form: type[sample.Sample], dtype: torch.dtype, p: int
) -> None:
    for offset in (0.0, 1e3, 1e8):
        x = draw(1, 40, p, dtype=dtype) * 3 + offset
        x[0, 20:] = x[0, :20]
        d = form(x, dtype).distances(slice(0, 40), slice(0, 40)).d[0]
        assert torch.count_nonzero(d.diagonal()) == 0
        assert torch.count_nonzero(d.diagonal(20)) == 0
        assert torch.equal(d == 0, (x[0, :, None] == x[0]).all(-1))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("near", [1e-12, 1e-6, 1e-3, 0.03, 0.1, 0.3])
def test_near_points_keep_their_digits(
    form: type[sample.Sample], dtype: torch.dtype, near: float
) -> None:
    """Every distance to a few roundings, whatever share of |x|² + |y|² its square is."""
    x = draw(1, 60, 20)
    x[0, 30:] = x[0, :30] + near * draw(30, 20, seed=1)
    x = x.to(dtype)
    prepared = form(x, dtype)
    d = prepared.distances(slice(0, 60), slice(0, 60)).d[0].to(F64)
    exact = torch.tensor(oracle.distances(x[0]), dtype=F64)
    # By product: the rounding over twice the share below which differences take over.
    rtol = torch.finfo(dtype).eps / NEAR[dtype, dtype] if form is SampleByProduct else 0
    assert_close(d, exact, rtol=rtol + 20 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e8, 1e30])
@pytest.mark.parametrize("p", [1, 30])
def test_scale_neither_overflows_nor_vanishes(
    form: type[sample.Sample], dtype: torch.dtype, scale: float, p: int
) -> None:
    x = (scale * draw(2, 20, p)).to(dtype)
    x[1] = 0.0
    prepared = form(x, dtype)
    assert prepared.scale is not None  # for the constant one of the two
    mantissa, _ = torch.frexp(prepared.scale)
    assert (mantissa == 0.5).all()
    d = prepared.distances(slice(0, 20), slice(0, 20)).d.to(F64) * prepared.scale
    exact = reference.distances(x.to(F64), 1.0)
    assert_close(d, exact, rtol=3e-5 if dtype == F32 else 1e-10, atol=0)


def test_many_near_points_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw(2, 30, 5)
    x[:, 10:] = x[:, :1] + 1e-3 * x[:, 10:]
    whole = pair_moments(x, method="dense")
    monkeypatch.setattr("dcorr.pairwise.sample_by_product.PIECE", 64)
    assert_moments_close(pair_moments(x, method="dense"), whole, 0.0)


SOME_PRODUCTS = [["ab"], ["aa"], ["bb"], ["ab", "aa"], ["ab", "bb"], ["aa", "bb"]]


@pytest.mark.parametrize("names", SOME_PRODUCTS)
def test_gradient_of_some_of_the_products(names: list[str], method: str) -> None:
    p, q = features(method, 5, 4)
    x, y = draw(40, p).requires_grad_(), draw(40, q, seed=1).requires_grad_()
    ours = pair_moments(x, y, method=method)
    exact = dict(zip(("ab", "aa", "bb"), reference.pair_moments(x, y, None, 1.0), strict=False))
    grads = [
        torch.autograd.grad(sum(value(name) for name in names), (x, y), materialize_grads=True)
        for value in (ours._asdict().__getitem__, exact.__getitem__)
    ]
    for one, other in zip(*grads, strict=True):
        assert_close(one, other, **tolerance(F64, "gradient"))


# -- precision ------------------------------------------------------------------------------------


def test_tight_clusters_far_apart(method: str) -> None:
    """Within a cluster float32 products hold no digit, and most pairs of a block are near."""
    p, q = features(method, 5, 3)
    x = draw(300, p, dtype=F32) + 1000 * (torch.arange(300) % 3)[:, None]
    y = draw(300, q, seed=1, dtype=F32)
    x.requires_grad_()
    exact = x.detach().to(F64).requires_grad_()
    ours = pair_moments(x, y, method=method).ab
    theirs = reference.pair_moments(exact, y.to(F64), None, 1.0)[0]
    assert_close(ours, theirs, rtol=1e-5, atol=0)
    (one,), (other,) = (torch.autograd.grad(v, t) for v, t in ((ours, x), (theirs, exact)))
    assert_close(one.to(F64), other, rtol=0, atol=1e-4 * other.abs().max().item())


def test_moments_are_wide() -> None:
    moments = pair_moments(draw(70, 3, dtype=F32), draw(70, 3, seed=1, dtype=F32))
    assert all(t.dtype == F64 for t in moments)


def test_gradient_between_near_points(method: str) -> None:
    """A unit vector for each pair: a matrix product alone would lose it for the nearest."""
    n = 80
    p, q = features(method, 4, 2)
    x = draw(n, p, dtype=F32)
    x[1] = x[0] + 1e-6 * draw(p, seed=1, dtype=F32)
    y = draw(n, q, seed=2, dtype=F32)
    x.requires_grad_()
    exact = x.detach().to(F64).requires_grad_()
    (ours,) = torch.autograd.grad(pair_moments(x, y, method=method).ab, x)
    (theirs,) = torch.autograd.grad(reference.pair_moments(exact, y.to(F64), None, 1.0)[0], exact)
    assert_close(ours.to(F64), theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [9, 300])
@pytest.mark.parametrize("apart", [1e-9, 1e-15])
def test_gradient_between_points_that_all_but_coincide(
    form: type[sample.Sample], n: int, apart: float, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As saturated softmax rows do: float32 holds such differences, but only next to 0."""
    monkeypatch.setattr("dcorr.pairwise.preparation.form_of", lambda x: form)
    p, q = features(method, 5, 3)
    x = draw(n, p, dtype=F32)
    x[1] = x[0]
    x[:2, -1] = torch.tensor([0.0, apart])
    y = draw(n, q, seed=1, dtype=F32)
    x.requires_grad_()
    exact = x.detach().to(F64).requires_grad_()
    (ours,) = torch.autograd.grad(pair_moments(x, y, method=method).ab, x)
    (theirs,) = torch.autograd.grad(reference.pair_moments(exact, y.to(F64), None, 1.0)[0], exact)
    assert_close(ours.to(F64), theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


# -- memory and choice ----------------------------------------------------------------------------


def in_a_new_thread(run: Callable[[], Tensor]) -> Tensor:
    """Run where no memory has been kept yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def test_kept_memory_is_where_the_samples_are(method: str) -> None:
    x = torch.randn(40, *features(method, 5), generator=torch.Generator().manual_seed(0))
    expected = pair_moments(x, method=method).aa

    def moments() -> Tensor:
        with torch.device("meta"):
            return pair_moments(x, method=method).aa

    assert_close(in_a_new_thread(moments), expected, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["dense", "tiled"])
def test_fake_tensors_leave_nothing_to_later_calls(method: str) -> None:
    x = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    expected = pair_moments(x, method=method).aa

    def moments() -> Tensor:
        with FakeTensorMode() as mode:
            pair_moments(mode.from_tensor(x), method=method)
        first = pair_moments(x, method=method).aa
        with FakeTensorMode() as mode:
            pair_moments(mode.from_tensor(x), method=method)
        assert_close(pair_moments(x, method=method).aa, first, rtol=0, atol=0)
        return first

    assert_close(in_a_new_thread(moments), expected, rtol=0, atol=0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux counts it")
def test_tiles_need_no_matrix() -> None:
    """Peak memory over value and gradient grows with n, not with n²: one matrix is 144 MB here."""
    script = """
        import resource, torch
        from dcorr import dcov2
        torch.set_num_threads(1)
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        def run(n):
            x, y = (torch.randn(n, p, requires_grad=True) for p in (4, 8))
            dcov2(x, y, unbiased=True, method="tiled").backward()
        run(1000)
        before = peak()
        run(6000)
        print(peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert float(done.stdout) < 32


def problem(n: int, p: int = 2, q: int = 2, exponent: float = 1.0, device: str = "cpu") -> Problem:
    return Problem(n=n, p=p, q=q, exponent=exponent, weighted=False, device=device)


def test_auto_takes_the_first_backend_that_wants_to() -> None:
    assert choose(problem(DENSE_SAMPLES), "auto") == "dense"
    assert choose(problem(DENSE_SAMPLES + 1), "auto") == "tiled"
    assert choose(problem(2), "tiled") == "tiled"
    assert set(TABLE) == set(pair_operator.BACKENDS)


def test_auto_orders_samples_of_one_feature() -> None:
    few = ORDERED_SAMPLES["cpu"]
    assert choose(problem(few + 1, 1, 1), "auto") == "univariate"
    assert choose(problem(few, 1, 1), "auto") == "dense"
    assert choose(problem(2, 1, 1), "univariate") == "univariate"
    assert choose(problem(few + 1, 1, 1, device="cuda"), "auto") != "univariate"
    assert choose(problem(10**6, 1, 1, device="cuda"), "auto") == "univariate"
    for other in (problem(10**6, 1, 2), problem(10**6, 2, 1), problem(10**6, 1, 1, 1.5)):
        assert choose(other, "auto") == "tiled"


def test_a_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(problem: Problem) -> str:
        return "it wants an even number of samples" if problem.n % 2 else ""

    monkeypatch.setitem(TABLE, "even", (reason, lambda problem: True))
    assert choose(problem(4), "even") == "even"
    with pytest.raises(
        ValueError, match=r"^method 'even' cannot run this problem: it wants an even"
    ):
        choose(problem(5), "even")


def test_auto_is_one_of_the_methods() -> None:
    x, y = draw(30, 3), draw(30, 2, seed=1)
    assert_moments_close(pair_moments(x, y), pair_moments(x, y, method="dense"), 0.0)


@pytest.mark.parametrize("n", [DENSE_SAMPLES, DENSE_SAMPLES + 1])
def test_both_sides_of_the_choice(n: int) -> None:
    x, y = draw(n, 3, dtype=F32), draw(n, 2, seed=1, dtype=F32)
    expected = oracle.matrices_dcov2(x, y)
    value = pair_moments(x, y).ab
    assert_close(value, torch.tensor(expected, dtype=F64), **tolerance(F32, "value"))
