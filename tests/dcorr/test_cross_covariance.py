from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dcorr import XCovLoss, cross_covariance, dcov2, xcov
from dcorr.cross_covariance import _centred, _feature_form, _normalised, _sample_form
from tests.dcorr.sync import NoHostSync
from tests.dcorr.tolerances import tolerance

F64 = torch.float64


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=F64).to(dtype)


def by_loops(x: Tensor, y: Tensor, weights: Tensor | None = None) -> float:
    """Eq. (2) of CDNet, written as it stands, in Python's own floats."""
    xs, ys = x.double().tolist(), y.double().tolist()
    n = len(xs)
    w = [1.0] * n if weights is None else weights.double().tolist()
    w = [v / sum(w) for v in w]
    total = 0.0
    for i in range(len(xs[0])):
        for j in range(len(ys[0])):
            x_mean = sum(w[m] * xs[m][i] for m in range(n))
            y_mean = sum(w[m] * ys[m][j] for m in range(n))
            covariance = sum(w[m] * (xs[m][i] - x_mean) * (ys[m][j] - y_mean) for m in range(n))
            total += covariance**2
    return 0.5 * total


# -- values ---------------------------------------------------------------------------------------

SIZES = [(2, 1, 1), (3, 2, 1), (4, 7, 9), (5, 1, 4), (25, 3, 2), (26, 60, 70), (63, 3, 2)]


@pytest.mark.parametrize(("n", "p", "q"), SIZES)
@pytest.mark.parametrize("weighted", [False, True])
def test_matches_definition(n: int, p: int, q: int, weighted: bool) -> None:
    x, y = draw(n, p), draw(n, q, seed=1) + 5.0
    weights = draw(n, seed=2).square() if weighted else None
    expected = torch.tensor(by_loops(x, y, weights), dtype=F64)
    assert_close(xcov(x, y, weights=weights), expected, **tolerance(F64, "value"))


@pytest.mark.parametrize("weighted", [False, True])
def test_matches_numpy_covariance(weighted: bool) -> None:
    x, y = draw(40, 3), draw(40, 5, seed=1)
    weights = draw(40, seed=2).square() if weighted else None
    aweights = None if weights is None else weights.numpy()
    joint = np.cov(x.numpy(), y.numpy(), rowvar=False, ddof=0, aweights=aweights)
    expected = torch.tensor(0.5 * np.square(joint[:3, 3:]).sum())
    assert_close(xcov(x, y, weights=weights), expected, **tolerance(F64, "value"))


def test_known_number() -> None:
    # Four times the squared covariance of these samples is 1/9.
    x = torch.arange(1.0, 7.0, dtype=F64)
    y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0], dtype=F64)
    assert xcov(x, y).item() == pytest.approx(1 / 72, rel=1e-14)


@pytest.mark.parametrize(("n", "p", "q"), SIZES)
def test_is_an_eighth_of_dcov2_with_exponent_two(n: int, p: int, q: int) -> None:
    x, y = draw(n, p), draw(n, q, seed=1)
    assert_close(8 * xcov(x, y), dcov2(x, y, exponent=2.0), rtol=1e-9, atol=1e-11)


def test_does_not_see_dependence_without_correlation() -> None:
    x = torch.linspace(-1, 1, 101, dtype=F64)
    assert xcov(x, x.square()).item() < 1e-24
    assert dcov2(x, x.square()).item() > 1e-3


# -- the two forms --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "p", "q"), SIZES)
@pytest.mark.parametrize("weighted", [False, True])
def test_forms_agree_in_value_and_gradient(n: int, p: int, q: int, weighted: bool) -> None:
    results = []
    for form in (_feature_form, _sample_form):
        x, y = draw(n, p).requires_grad_(), draw(n, q, seed=1).requires_grad_()
        weights = draw(n, seed=2).square().requires_grad_() if weighted else None
        w = _normalised(weights, n, like=x)
        value = form(_centred(x, w), _centred(y, w), w)
        inputs = [x, y] if weights is None else [x, y, weights]
        results.append((value, *torch.autograd.grad(value, inputs)))
    (value, *gradients), (other, *others) = results
    assert_close(value, other, **tolerance(F64, "value"))
    assert_close(gradients, others, **tolerance(F64, "gradient"))


@pytest.mark.parametrize(
    ("n", "p", "q", "form"),
    [
        (100, 10, 10, "_feature_form"),
        (128, 40, 1000, "_feature_form"),
        (4, 50, 50, "_sample_form"),
        (25, 50, 50, "_feature_form"),  # a tie: 25 · 50 · 50 = 25² · 100
        (24, 50, 50, "_sample_form"),
    ],
)
def test_cheaper_form_runs(
    monkeypatch: pytest.MonkeyPatch, n: int, p: int, q: int, form: str
) -> None:
    def refuse(*_: Tensor) -> Tensor:
        raise AssertionError("the dearer form ran")

    other = {"_feature_form": "_sample_form", "_sample_form": "_feature_form"}[form]
    monkeypatch.setattr(cross_covariance, other, refuse)
    xcov(draw(n, p), draw(n, q))


# -- shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3), (0,)])
def test_batch_is_a_loop_over_problems(batch: tuple[int, ...]) -> None:
    x, y = draw(*batch, 6, 2), draw(*batch, 6, 3, seed=1)
    weights = draw(*batch, 6, seed=2).square()
    values = xcov(x, y, weights=weights)
    assert values.shape == batch
    for index in itertools.product(*map(range, batch)):
        assert_close(values[index], xcov(x[index], y[index], weights=weights[index]))


def test_batch_dimensions_broadcast() -> None:
    x, y, weights = draw(4, 1, 6, 2), draw(3, 6, 5, seed=1), draw(6, seed=2).square()
    values = xcov(x, y, weights=weights)
    assert values.shape == (4, 3)
    assert_close(values[2, 1], xcov(x[2, 0], y[1], weights=weights))


def test_shapes_on_the_meta_device() -> None:
    x, y = torch.empty(4, 5, 2, device="meta"), torch.empty(5, 3, device="meta")
    assert xcov(x, y).shape == (4,)


def test_vectors_are_columns() -> None:
    x, y = draw(9), draw(9, seed=1)
    assert_close(xcov(x, y), xcov(x[:, None], y[:, None]))
    assert xcov(x, y).shape == ()


@pytest.mark.parametrize("kind", ["transposed", "strided", "expanded"])
def test_memory_layout_does_not_matter(kind: str) -> None:
    y = draw(8, 3, seed=1)
    x = {
        "transposed": draw(4, 8).mT,
        "strided": draw(16, 8)[::2, ::2],
        "expanded": draw(1, 4).expand(8, 4),
    }[kind].requires_grad_()
    plain = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    assert_close(xcov(x, y), xcov(plain, y))
    xcov(x, y).backward()
    xcov(plain, y).backward()
    assert_close(x.grad, plain.grad)


# -- properties -----------------------------------------------------------------------------------

shapes = st.tuples(st.integers(2, 12), st.integers(1, 6), st.integers(1, 6))
seeds = st.integers(0, 2**32)
scales = st.floats(-8, 8).map(lambda exponent: 10.0**exponent)
quick = settings(max_examples=40, deadline=None)


@quick
@given(shapes, seeds, scales, scales, st.booleans())
def test_scale_shift_rotation(
    shape: tuple[int, int, int], seed: int, s: float, t: float, weighted: bool
) -> None:
    n, p, q = shape
    x, y = draw(n, p, seed=seed), draw(n, q, seed=seed + 1)
    weights = draw(n, seed=seed + 2).square() if weighted else None
    rotation = torch.linalg.qr(draw(p, p, seed=seed + 3)).Q
    moved = xcov(s * x @ rotation + s * 10.0, t * y - t, weights=weights)
    # Rounding is relative to the largest value that the variances allow.
    bound = s**2 * t**2 * x.square().sum().item() * y.square().sum().item()
    assert_close(moved, s**2 * t**2 * xcov(x, y, weights=weights), rtol=1e-9, atol=1e-13 * bound)
    assert moved >= 0


@quick
@given(shapes, seeds)
def test_symmetry_and_permutation(shape: tuple[int, int, int], seed: int) -> None:
    n, p, q = shape
    x, y = draw(n, p, seed=seed), draw(n, q, seed=seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert_close(xcov(x, y), xcov(y, x), rtol=1e-9, atol=1e-12)
    assert_close(xcov(x, y), xcov(x[order], y[order]), rtol=1e-9, atol=1e-12)


@quick
@given(shapes, seeds, st.lists(st.integers(0, 4), min_size=12, max_size=12))
def test_integer_weights_are_replication(
    shape: tuple[int, int, int], seed: int, counts: list[int]
) -> None:
    n, p, q = shape
    repeats = torch.tensor([counts[0] + 2, *counts[1:n]])
    x, y = draw(n, p, seed=seed), draw(n, q, seed=seed + 1)
    replicated = xcov(x.repeat_interleave(repeats, 0), y.repeat_interleave(repeats, 0))
    assert_close(xcov(x, y, weights=repeats.double()), replicated, rtol=1e-9, atol=1e-12)


@quick
@given(
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.floats(-1e8, 1e8),
    st.integers(2, 40),
    seeds,
    st.booleans(),
)
def test_constants_give_exactly_zero(
    dtype: torch.dtype, offset: float, n: int, seed: int, weighted: bool
) -> None:
    limit = min(1e8, torch.finfo(dtype).max)
    value = max(-limit, min(limit, offset))
    x = torch.full((n, 3), value, dtype=dtype, requires_grad=True)
    y = draw(n, 2, seed=seed, dtype=dtype).requires_grad_()
    weights = draw(n, seed=seed + 1, dtype=dtype).square() if weighted else None
    result = xcov(x, y, weights=weights)
    result.backward()
    assert result.item() == 0.0
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.count_nonzero() == 0
    assert y.grad.count_nonzero() == 0


@quick
@given(seeds, st.sampled_from([0.0, 1e2, 1e4, 1e6, 1e8]), st.integers(2, 60), st.integers(1, 20))
def test_float32_with_an_offset(seed: int, offset: float, n: int, p: int) -> None:
    x = (draw(n, p, seed=seed) * max(1.0, offset * 1e-5) + offset).float()
    y = (x.double() + draw(n, p, seed=seed + 1)).float()  # rounded input, then exact arithmetic
    expected = xcov(x.double(), y.double())
    assert_close(xcov(x, y).double(), expected, **tolerance(torch.float32, "value"))


# -- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64])
@pytest.mark.parametrize("weighted", [False, True])
def test_dtypes(dtype: torch.dtype, weighted: bool) -> None:
    x, y = draw(50, 4, dtype=dtype), draw(50, 3, seed=1, dtype=dtype)
    weights = draw(50, seed=2, dtype=dtype).square() if weighted else None
    value = xcov(x, y, weights=weights)
    wide_weights = None if weights is None else weights.double()
    expected = xcov(x.double(), y.double(), weights=wide_weights)
    assert value.dtype == dtype
    assert_close(value.double(), expected, **tolerance(dtype, "value"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(30, 4, 3), (4, 30, 30)])
def test_autocast_computes_in_float32(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    n, p, q = shape
    x, y = draw(n, p, dtype=torch.float32), draw(n, q, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        inside = xcov(x, y)
        mixed = xcov(x.to(dtype), y)  # a linear layer gives half precision, a softmax float32
        double = xcov(x.double(), y.double())
    assert inside.dtype == mixed.dtype == torch.float32
    assert torch.equal(inside, xcov(x, y))
    assert torch.equal(mixed, xcov(x.to(dtype).float(), y))
    assert torch.equal(double, xcov(x.double(), y.double()))


# -- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 5, 25, 26, 40])
@pytest.mark.parametrize("wide", [False, True])
def test_gradcheck(n: int, wide: bool) -> None:
    p, q = (2 * n + 1, 2 * n + 1) if wide and n < 10 else (2, 3)
    x, y = draw(n, p), draw(n, q, seed=1)
    x[1], y[1] = x[0], y[0]  # coincident points
    weights = draw(n, seed=2).square() + 0.1
    inputs = [t.requires_grad_() for t in (x, y, weights)]

    def weighted(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return xcov(x, y, weights=w)

    assert torch.autograd.gradcheck(weighted, inputs, fast_mode=n > 10)
    assert torch.autograd.gradgradcheck(weighted, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(xcov, inputs[:2], fast_mode=n > 10)
    assert torch.autograd.gradgradcheck(xcov, inputs[:2], fast_mode=True)


@pytest.mark.parametrize("needs_x", [False, True])
@pytest.mark.parametrize("needs_y", [False, True])
def test_any_side_may_need_a_gradient(needs_x: bool, needs_y: bool) -> None:
    x, y = draw(6, 2).requires_grad_(needs_x), draw(6, 2, seed=1).requires_grad_(needs_y)
    value = xcov(x, y)
    assert value.requires_grad == (needs_x or needs_y)
    if value.requires_grad:
        value.backward()
    assert (x.grad is not None) == needs_x
    assert (y.grad is not None) == needs_y


def test_zero_weight_is_absence() -> None:
    x, y = draw(6, 2).requires_grad_(), draw(6, 3, seed=1)
    weights = torch.tensor([0.0, 1.0, 1.0, 2.0, 1.0, 1.0], dtype=F64)
    value = xcov(x, y, weights=weights)
    value.backward()
    assert_close(value, xcov(x[1:], y[1:], weights=weights[1:]))
    assert x.grad is not None
    assert x.grad[0].count_nonzero() == 0


def test_nan_comes_out_unless_asked_for() -> None:
    x, y = draw(6, 2), draw(6, 2, seed=1)
    x[3, 1] = torch.nan
    assert xcov(x, y).isnan()
    with pytest.raises(ValueError, match=r"x must be finite"):
        xcov(x, y, check_finite=True)
    with pytest.raises(ValueError, match=r"y must be finite"):
        XCovLoss(check_finite=True)(y, x)


# -- torch's transformations ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 3, 2), (3, 20, 20)])
def test_compiles_without_a_graph_break(shape: tuple[int, int, int]) -> None:
    n, p, q = shape
    compiled = torch.compile(XCovLoss(), fullgraph=True, backend="aot_eager")
    x, y = draw(n, p).requires_grad_(), draw(n, q, seed=1)
    weights = draw(n, seed=2).square()
    value = compiled(x, y, weights=weights)
    assert_close(value, xcov(x, y, weights=weights))
    assert_close(torch.autograd.grad(value, x), torch.autograd.grad(xcov(x, y, weights=weights), x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compiled(x.detach().bfloat16(), y.bfloat16()).dtype == torch.float32


def test_vmap_and_grad() -> None:
    x, y, weights = draw(5, 6, 2), draw(5, 6, 3, seed=1), draw(5, 6, seed=2).square()

    def weighted(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return xcov(x, y, weights=w)

    assert_close(torch.vmap(weighted)(x, y, weights), xcov(x, y, weights=weights))
    assert_close(torch.vmap(xcov, in_dims=(0, None))(x, y[0]), xcov(x, y[0]))
    gradients = torch.vmap(torch.func.grad(weighted, argnums=(0, 1, 2)))(x, y, weights)
    inputs = [t.requires_grad_() for t in (x, y, weights)]
    expected = torch.autograd.grad(weighted(*inputs).sum(), inputs)
    assert_close(gradients, expected)
    hessian = torch.func.hessian(xcov)(x[0], y[0])
    assert hessian.shape == (6, 2, 6, 2)


@pytest.mark.parametrize("shape", [(7, 3, 2), (3, 20, 20)])
def test_no_host_sync(shape: tuple[int, int, int]) -> None:
    n, p, q = shape
    x, y, weights = draw(n, p).requires_grad_(), draw(n, q), draw(n).square()
    with NoHostSync():
        xcov(x, y, weights=weights).backward()
    with NoHostSync(), pytest.raises(AssertionError, match="waits"):
        xcov(x, y, check_finite=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [(60, 3, 2), (3, 20, 20)])
def test_cuda_matches_the_cpu_and_does_not_wait(shape: tuple[int, int, int]) -> None:
    n, p, q = shape
    x, y, weights = draw(n, p).float(), draw(n, q, seed=1).float(), draw(n, seed=2).square().float()
    leaves = x.requires_grad_(), x.detach().cuda().requires_grad_()
    expected = xcov(leaves[0], y, weights=weights)
    expected.backward()
    y, weights = y.cuda(), weights.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = xcov(leaves[1], y, weights=weights)
        value.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_close(value.cpu(), expected, **tolerance(torch.float32, "value"))
    assert leaves[1].grad is not None
    assert_close(leaves[1].grad.cpu(), leaves[0].grad, **tolerance(torch.float32, "gradient"))


# -- the module -----------------------------------------------------------------------------------


def test_module_mirrors_the_function() -> None:
    x, y, weights = draw(3, 6, 2), draw(3, 6, 2, seed=1), draw(6).square()
    values = xcov(x, y, weights=weights)
    assert_close(XCovLoss()(x, y, weights=weights), values.mean())
    assert_close(XCovLoss(reduction="sum")(x, y, weights=weights), values.sum())
    assert_close(XCovLoss(reduction="none")(x, y, weights=weights), values)


def test_module_holds_settings_only() -> None:
    loss = XCovLoss(reduction="sum", check_finite=True)
    assert repr(loss) == "XCovLoss(reduction='sum', check_finite=True)"
    assert not loss.state_dict()
    for twin in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert repr(twin) == repr(loss)


def test_decorrelates_a_code_in_three_lines() -> None:
    y_hat, z = draw(64, 3), (draw(64, 3) @ draw(3, 4, seed=1)).requires_grad_()
    before = xcov(y_hat, z).item()
    optimizer = torch.optim.SGD([z], lr=100.0)
    for _ in range(100):
        loss = 0.1 * xcov(y_hat, z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert xcov(y_hat, z).item() < 1e-4 * before


# -- wrong calls ----------------------------------------------------------------------------------

X, Y = torch.zeros(4, 2), torch.zeros(4, 3)
WRONG: list[tuple[str, Callable[[], object], type[Exception], str]] = [
    ("no tensor", lambda: xcov([[1.0]], Y), TypeError, r"x must be a torch.Tensor, got list"),
    ("integers", lambda: xcov(X, Y.long()), TypeError, r"y must have a floating-point dtype"),
    ("complex", lambda: xcov(X.cfloat(), Y), TypeError, r"x must have a floating-point dtype"),
    ("sparse", lambda: xcov(X.to_sparse(), Y), TypeError, r"x must be a dense .* got layout"),
    ("dtypes", lambda: xcov(X, Y.double()), TypeError, r"x and y must have the same dtype"),
    ("devices", lambda: xcov(X, Y.to("meta")), ValueError, r"x and y must be on the same device"),
    (
        "scalar",
        lambda: xcov(torch.tensor(1.0), Y),
        ValueError,
        r"x must have shape .* got a scalar",
    ),
    ("n differs", lambda: xcov(X, Y[:3]), ValueError, r"same number of samples, got 4 and 3"),
    (
        "one sample",
        lambda: xcov(X[:1], Y[:1]),
        ValueError,
        r"x must have at least 2 samples, got 1",
    ),
    ("no columns", lambda: xcov(X[:, :0], Y), ValueError, r"x must have at least one feature"),
    (
        "batches",
        lambda: xcov(X.expand(2, 4, 2), Y.expand(3, 4, 3)),
        ValueError,
        r"x and y need batch dimensions that broadcast together, got \(2,\) and \(3,\)",
    ),
    (
        "weights length",
        lambda: xcov(X, Y, weights=torch.ones(3)),
        ValueError,
        r"weights must have shape \(n,\) or \(\*batch, n\) with n = 4, got \(3,\)",
    ),
    (
        "weights batch",
        lambda: xcov(X.expand(2, 4, 2), Y, weights=torch.ones(3, 4)),
        ValueError,
        r"batch dimensions that broadcast",
    ),
    (
        "weights integer",
        lambda: xcov(X, Y, weights=torch.ones(4, dtype=torch.long)),
        TypeError,
        r"weights must have a floating-point dtype, got torch.int64",
    ),
    (
        "weights dtype",
        lambda: xcov(X, Y, weights=torch.ones(4, dtype=F64)),
        TypeError,
        r"x and weights must have the same dtype",
    ),
    ("flag", lambda: xcov(X, Y, check_finite=1), TypeError, r"check_finite must be True or False"),
    (
        "reduction",
        lambda: XCovLoss(reduction="max"),
        ValueError,
        r"reduction must be one of 'mean'",
    ),
    ("reduction type", lambda: XCovLoss(reduction=None), TypeError, r"reduction must be a string"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_wrong_calls(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
