"""The fused kernels against the definition, in Triton's interpreter; and when they are chosen.

What runs kernels here needs a process with ``TRITON_INTERPRET=1``: ``make test-fused``. The speed
and all that only a device can show is in ``test_fused_cuda.py``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dcorr import dcor2, dcov2
from dcorr.pairwise import DENSE_SAMPLES, Problem, choose, fused, reference
from dcorr.pairwise.backend import PAIRS, Incoming
from tests.dcorr import interpreter
from tests.dcorr.oracle import draw

F64, F32, F16, BF16 = torch.float64, torch.float32, torch.float16, torch.bfloat16
HERE = Path(__file__)

needs_triton = pytest.mark.skipif(not interpreter.HAS_TRITON, reason="the package triton is absent")
interpreted = pytest.mark.skipif(
    not interpreter.INTERPRETED,
    reason="kernels run on a CPU with TRITON_INTERPRET=1 only (make test-fused)",
)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tiles, programs that share rows, float32 where it came, and NaN where none wrote."""
    interpreter.mend()
    monkeypatch.setattr(fused, "BLOCKS", dict.fromkeys(fused.BLOCKS, (fused.Blocks(32, 16, 4, 1),)))
    monkeypatch.setattr(fused, "processors", lambda device: 1)
    monkeypatch.setattr(fused, "work_dtype", lambda samples: samples[0].dtype)
    monkeypatch.setattr(fused, "LANDMARKS", 16)

    def nan(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full(shape, torch.nan, dtype=dtype, device=device)

    monkeypatch.setattr(fused, "empty", nan)


def points(n: int, p: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Two problems: coincident and nearly coincident points in one, a cluster in the other."""
    x = draw(2, n, p, seed=seed)
    if n > 5:
        x[0, 1] = x[0, 2]
        x[0, 3] = x[0, 4] + 1e-4
        x[1, : n // 3] = x[1, :1] + 1e-3 * x[1, : n // 3]
    return x.to(dtype)


def largest(t: Tensor) -> Tensor:
    """The size that errors are measured by: the largest entry of each problem."""
    return t.reshape(len(t), -1).abs().amax(-1).clamp(min=1e-300)


def assert_close(ours: Tensor, theirs: Tensor, rtol: float) -> None:
    assert ours.shape == theirs.shape
    error = largest(ours.to(F64) - theirs.detach()) / largest(theirs.detach())
    assert error.max().item() <= rtol


def check(
    x: Tensor,
    y: Tensor | None,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    variances: bool = True,
    products: tuple[bool, ...] = (True, True, True),
    rows: bool = True,
    wanted: tuple[bool, bool, bool] = (True, True, True),
    value: float = 3e-6,
    gradient: float = 2e-5,
) -> None:
    """Compare moments and gradients with the definition in float64."""
    samples = [x] if y is None else [x, y]
    exact = [t.to(F64).requires_grad_() for t in samples]
    free = None if weights is None else weights.to(F64).requires_grad_()
    theirs = reference.pair_moments(exact[0], exact[-1], free, exponent)
    moments = fused.forward(samples, weights, exponent, variances or y is None)
    asked = [y is not None, variances or y is None, variances and y is not None]
    assert set(moments.products) == {pair for pair, ask in zip(PAIRS, asked, strict=True) if ask}
    for pair, their in zip(PAIRS, theirs[:3], strict=True):
        if pair in moments.products:
            assert moments.products[pair].dtype == F64
            assert_close(moments.products[pair], their, value)
    for our, their in zip(moments.rows, theirs[3:], strict=False):
        assert_close(our, their, value)
    # A random loss of the moments that are there.
    given = [draw(*t.shape, seed=k) for k, t in enumerate(theirs)]
    in_use = [k for k in range(3) if asked[k] and products[k]]
    row_ids = [3 + k for k in range(len(samples))] if rows else []
    loss = sum((theirs[k] * given[k]).sum() for k in (*in_use, *row_ids))
    inputs = [*exact, *([] if free is None else [free])]
    expected = list(torch.autograd.grad(loss, inputs, materialize_grads=True))
    incoming = Incoming(
        {PAIRS[k]: given[k] for k in in_use},
        [given[k] if rows else None for k in range(3, 3 + len(samples))],
        [t.detach() for t in theirs[3 : 3 + len(samples)]],
    )
    want = [*wanted[: len(samples)], weights is not None and wanted[2]]
    ours = fused.backward(samples, weights, exponent, incoming, want, [])
    assert [g is not None for g in ours] == want
    if want[-1]:  # known up to a constant along them, which their normalisation takes out
        ours[-1], expected[-1] = (t - t.mean(-1, keepdim=True) for t in (ours[-1], expected[-1]))
    for our, their in zip(ours, expected, strict=False):
        if our is not None:
            assert_close(our, their, gradient)


def random_weights(n: int, dtype: torch.dtype) -> Tensor:
    w = draw(2, n, seed=7).square() + 0.01
    w[0, 0] = 0.0
    return (w / w.sum(-1, keepdim=True)).to(dtype)


# -- against the definition -----------------------------------------------------------------------

# Few features, one tile of halves, several tiles of halves: every form alone and beside another.
DIMS = [(1, 2), (3, 20), (17, 64), (70, 5), (33, 130)]


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("n", [5, 49])
@pytest.mark.parametrize(("p", "q"), DIMS)
def test_sizes(n: int, p: int, q: int) -> None:
    check(points(n, p, F32, 0), 7 * points(n, q, F32, 1) + 3)


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("p", "q"), [(2, 20), (70, 9)])
def test_exponents_and_weights(exponent: float, weighted: bool, p: int, q: int) -> None:
    n = 37
    weights = random_weights(n, F32) if weighted else None
    check(points(n, p, F32, 0), points(n, q, F32, 1), exponent, weights)


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("exponent", [0.4, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_float64(exponent: float, weighted: bool) -> None:
    weights = random_weights(35, F64) if weighted else None
    x, y = points(35, 3, F64, 0), points(35, 11, F64, 1)
    check(x, y, exponent, weights, value=1e-12, gradient=1e-9)


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize("q", [3, 20])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, q: int) -> None:
    check(points(37, 2, dtype, 0), points(37, q, dtype, 1))


@interpreted
@pytest.mark.parametrize("p", [3, 12])
def test_few_samples_are_computed_in_float64(p: int, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter.mend()
    monkeypatch.setattr(fused, "BLOCKS", dict.fromkeys(fused.BLOCKS, (fused.Blocks(16, 16, 4, 1),)))
    check(points(33, p, F32, 0), points(33, 2, F32, 1), value=1e-12, gradient=1e-9)


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("p", [3, 20, 70])
def test_one_sample_alone(p: int, weighted: bool) -> None:
    check(points(37, p, F32, 0), None, weights=random_weights(37, F32) if weighted else None)


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("products", [(True, False, False), (False, True, True), (False,) * 3])
@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, True)])
def test_only_what_is_asked_for(
    products: tuple[bool, ...], wanted: tuple[bool, bool, bool]
) -> None:
    weights = random_weights(37, F32)
    x, y = points(37, 3, F32, 0), points(37, 20, F32, 1)
    check(x, y, weights=weights, products=products, wanted=wanted)
    if products[0]:
        check(x, y, variances=False, products=products, rows=False, wanted=wanted)


# -- precision ------------------------------------------------------------------------------------


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("p", [2, 20, 70])
def test_far_from_the_origin(p: int) -> None:
    """What the offset has cost the points is lost before they get here; nothing else may be."""
    check(points(37, p, F32, 0) + 1e4, points(37, 3, F32, 1) - 1e3)


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e18])
@pytest.mark.parametrize("p", [2, 20])
def test_scales(scale: float, p: int) -> None:
    # A gradient of the product is in the unit of y, so that only x may be huge.
    x, y = points(37, p, F64, 0) * scale, points(37, 3, F32, 1)
    check(x.to(F32), y, rows=False, products=(True, False, False))


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("p", [2, 20, 70])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_coincident_points(p: int, exponent: float) -> None:
    """They are at distance exactly 0, and a constant sample has no gradient."""
    x = 1e8 * points(37, p, F32, 0).round()
    x[:, 20:] = x[:, :17]
    y = torch.full((2, 37, 2), 1e8)
    check(x, 1e-8 * x[..., :2], exponent)
    moments = fused.forward([y, x], None, exponent, True)
    assert torch.count_nonzero(moments.rows[0]) == 0
    assert torch.count_nonzero(moments.products[0, 0]) == 0
    incoming = Incoming({(0, 1): torch.ones(2, dtype=F64)}, [None, None], moments.rows)
    grads = fused.backward([y, x], None, exponent, incoming, [True, True, False], [])
    assert all(torch.count_nonzero(g) == 0 for g in grads if g is not None)


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("apart", [1e-9, 1e-15])
def test_points_that_all_but_coincide(apart: float) -> None:
    x = draw(2, 37, 12, dtype=F32)
    x[:, 1] = x[:, 0]
    x[:, :2, 4] = torch.tensor([0.0, apart])
    check(x, draw(2, 37, 3, seed=1, dtype=F32))


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("p", [3, 12])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_points_nearer_than_float32_can_square(p: int, exponent: float) -> None:
    """They count as coincident: their force is 0, not infinite."""
    x = draw(2, 37, p, dtype=F32)
    x[:, 1] = x[:, 0]
    x[:, :2, 2] = torch.tensor([0.0, 1e-21])
    same = x.clone()
    same[:, 1, 2] = 0.0
    y = draw(2, 37, 3, seed=1, dtype=F32)
    rows = [draw(2, 37, seed=k) for k in (2, 3)]
    incoming = Incoming({(0, 1): torch.ones(2, dtype=F64)}, [None, None], rows)
    ours, theirs = (
        fused.backward([t, y], None, exponent, incoming, [True, False, False], [])[0]
        for t in (x, same)
    )
    assert ours is not None
    assert theirs is not None
    assert_close(ours, theirs.to(F64), 1e-6)


@interpreted
@pytest.mark.usefixtures("small_tiles")
def test_nan_stays_nan() -> None:
    for p in (2, 20, 70):
        x = points(37, p, F32, 0)
        x[0, 5, 1] = torch.nan
        moments = fused.forward([x, points(37, 3, F32, 1)], None, 1.0, True)
        for product in (moments.products[0, 1], moments.products[0, 0]):
            assert product.isnan().tolist() == [True, False]


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("p", [3, 20])
def test_results_are_the_same_bit_by_bit(p: int) -> None:
    x, y = points(37, p, F32, 0), points(37, 2, F32, 1)
    one, other = (fused.forward([x, y], None, 1.0, True) for _ in range(2))
    assert torch.equal(one.products[0, 1], other.products[0, 1])
    assert torch.equal(one.rows[0], other.rows[0])


# -- the public functions -------------------------------------------------------------------------


@interpreted
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("unbiased", [False, True])
def test_statistics(unbiased: bool) -> None:
    run: Callable[..., Tensor]
    for run in (dcov2, dcor2):
        x, y = points(37, 3, F32, 0), points(37, 20, F32, 1)
        results = []
        for method, dtype in (("fused", F32), ("dense", F64)):
            free = [t.to(dtype).requires_grad_() for t in (x, y)]
            value = run(*free, unbiased=unbiased, method=method)
            results.append([value, *torch.autograd.grad(value.sum(), free)])
        for ours, theirs in zip(*results, strict=True):
            assert_close(ours, theirs, 1e-5)


@interpreted
@pytest.mark.usefixtures("small_tiles")
def test_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    x, y = (points(37, p, F32, p).requires_grad_() for p in (3, 20))

    def run(x: Tensor, y: Tensor) -> Tensor:
        return dcor2(x, y, method="fused").sum()

    results = []
    for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        value = function(x, y)
        results.append([value, *torch.autograd.grad(value, (x, y))])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@interpreted
@pytest.mark.usefixtures("small_tiles")
def test_second_derivatives() -> None:
    x, y = (draw(9, p, seed=p, dtype=F64).requires_grad_() for p in (2, 3))
    assert torch.autograd.gradgradcheck(lambda s, t: dcov2(s, t, method="fused"), (x, y))


# -- other block sizes ----------------------------------------------------------------------------


@interpreted
@pytest.mark.usefixtures("small_tiles")
def test_a_device_with_less_memory_takes_smaller_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime.errors import OutOfResources

    pairs = fused.Pairs([points(37, 3, F32, 0)], None, 1.0)
    tries = (fused.Blocks(64, 64, 4, 1), fused.Blocks(32, 32, 4, 1), fused.Blocks(16, 16, 4, 1))
    monkeypatch.setitem(fused.BLOCKS, ("moments", "few"), tries)
    seen = []

    def launch(blocks: fused.Blocks) -> int:
        seen.append(blocks)
        if blocks.rows > limit:
            raise OutOfResources(blocks.rows, limit, "shared memory")
        return blocks.rows

    for limit in (64, 32, 16):
        assert pairs.run("moments", launch) == limit
    assert seen == [tries[0], *tries[:2], *tries]
    limit = 8
    with pytest.raises(OutOfResources, match="shared memory"):
        pairs.run("moments", launch)


def test_every_part_of_the_columns_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part without columns would leave its output unwritten."""
    monkeypatch.setattr(fused, "processors", lambda device: 132)
    pairs = fused.Pairs.__new__(fused.Pairs)
    pairs.device = torch.device("cpu")
    for pairs.n in (2, 63, 64, 65, 1000, 4097, 70_001):
        for pairs.count in (1, 7):
            for blocks in {b for tries in fused.BLOCKS.values() for b in tries}:
                row_blocks, parts, share = pairs.grid(blocks, pairs.n)
                assert share % blocks.columns == 0
                assert (parts - 1) * share < pairs.n <= parts * share
                assert (row_blocks - 1) * blocks.rows < pairs.n <= row_blocks * blocks.rows


# -- choice and import ----------------------------------------------------------------------------


def problem(n: int, device: str) -> Problem:
    return Problem(n=n, p=2, q=2, exponent=1.0, weighted=False, device=device)


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    many, few = DENSE_SAMPLES + 1, DENSE_SAMPLES
    for has_triton in (False, True):
        monkeypatch.setattr(fused, "_has_triton", lambda has_triton=has_triton: has_triton)
        assert choose(problem(many, "cuda"), "auto") == ("fused" if has_triton else "tiled")
        assert choose(problem(many, "cpu"), "auto") == "tiled"
        assert choose(problem(few, "cuda"), "auto") == "dense"
        with pytest.raises(
            ValueError, match=r"method 'fused' cannot run .* CUDA device, got 'cpu'"
        ):
            choose(problem(few, "cpu"), "fused")
    assert choose(problem(few, "cuda"), "fused") == "fused"
    monkeypatch.setattr(fused, "_has_triton", lambda: False)
    with pytest.raises(ValueError, match=r"package triton \(pip install 'dcorr\[triton\]'"):
        choose(problem(many, "cuda"), "fused")


def test_the_public_function_refuses_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="method 'fused' cannot run this problem: it needs"):
        dcov2(torch.zeros(5, 2), torch.zeros(5, 2), method="fused")


def run_python(*arguments: str, **environment: str) -> str:
    import os

    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=HERE.parents[2],
        env=os.environ | environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_import_does_not_import_triton() -> None:
    script = "import sys, torch; b = set(sys.modules); import dcorr; print(*(set(sys.modules) - b))"
    assert "triton" not in run_python("-c", script)


@needs_triton
@pytest.mark.slow
def test_kernels_compile_for_cuda() -> None:
    """What the interpreter takes the compiler may not. Needs no device."""
    out = run_python("-m", "tests.dcorr.compile_fused", TRITON_INTERPRET="0")
    kernels = {line.split()[0] for line in out.splitlines()}
    assert kernels >= {"moments_kernel", "gradient_kernel", "finish_kernel", "halves_kernel"}


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(interpreter.INTERPRETED, reason="this process interprets already")
@pytest.mark.timeout(900)
def test_kernels_in_the_interpreter() -> None:
    """The tests above that this process skips, in one that interprets."""
    run_python("-m", "pytest", "-q", "-x", "-n", "0", str(HERE), TRITON_INTERPRET="1")
