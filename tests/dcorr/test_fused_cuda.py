"""The fused kernels on a CUDA device: what only a device can show. Run with ``-m gpu``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dcorr import dcor2, dcov2
from dcorr.pairwise import choose, fused
from tests.dcorr import interpreter
from tests.dcorr.oracle import draw
from tests.dcorr.test_fused import problem

F64, F32 = torch.float64, torch.float32
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(not interpreter.HAS_TRITON, reason="the package triton is absent"),
    pytest.mark.skipif(interpreter.INTERPRETED, reason="this process interprets kernels"),
]


def samples(n: int, p: int, q: int, dtype: torch.dtype = F32) -> list[Tensor]:
    x, y = draw(n, p, seed=n) + 10, draw(n, q, seed=n + 1)
    y[:, 0] += x[:, 0]
    x[1] = x[0]
    x[3] = x[2] + 1e-4
    return [t.to(dtype).to("cuda") for t in (x, y)]


def value_and_gradient(x: Tensor, y: Tensor, method: str, **options: object) -> list[Tensor]:
    free = [t.clone().requires_grad_() for t in (x, y)]
    value = dcov2(*free, method=method, **options)
    return [value.detach(), *torch.autograd.grad(value, free)]


def assert_right(ours: list[Tensor], theirs: list[Tensor], value: float = 1e-5) -> None:
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        rtol = value if k == 0 else 1e-4
        assert_close(a.cpu().double(), b.cpu().double(), rtol=0, atol=rtol * b.abs().max().item())


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("n", [5, 64, 65, 257, 1000, 4097])
@pytest.mark.parametrize(("p", "q"), [(1, 2), (3, 20), (10, 10), (64, 64), (40, 1000), (33, 130)])
def test_agrees_with_float64_on_the_cpu(n: int, p: int, q: int) -> None:
    x, y = samples(n, p, q)
    theirs = value_and_gradient(x.cpu().double(), y.cpu().double(), "tiled")
    assert_right(value_and_gradient(x, y, "fused"), theirs)


@pytest.mark.parametrize("exponent", [0.5, 1.5, 2.0])
@pytest.mark.parametrize("p", [3, 20, 130])
def test_exponents_and_weights(exponent: float, p: int) -> None:
    x, y = samples(700, p, 5)
    w = draw(700, seed=3, dtype=F32).square()
    exact = (x.cpu().double(), y.cpu().double())
    theirs = value_and_gradient(*exact, "tiled", exponent=exponent, weights=w.double())
    ours = value_and_gradient(x, y, "fused", exponent=exponent, weights=w.cuda())
    assert_right(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, F64])
def test_dtypes(dtype: torch.dtype) -> None:
    x, y = samples(700, 20, 3, dtype)
    theirs = dcor2(x.cpu().double(), y.cpu().double(), method="tiled")
    ours = dcor2(x, y, method="fused")
    assert ours.dtype == dtype
    assert_close(ours.cpu().double(), theirs, rtol=1e-2 if dtype != F64 else 1e-10, atol=0)


@pytest.mark.parametrize(("p", "q"), [(10, 10), (64, 64)])
def test_unbiased_statistic_of_independent_samples(p: int, q: int) -> None:
    x, y = (draw(8192, k, seed=k + s, dtype=F32).cuda() for s, k in enumerate((p, q)))
    theirs = dcov2(x.cpu().double(), y.cpu().double(), unbiased=True, method="tiled").item()
    one, other = (dcov2(t, t, method="fused").item() for t in (x, y))
    size = max(abs(theirs), (one * other) ** 0.5 / 8192)
    ours = dcov2(x, y, unbiased=True, method="fused").item()
    assert ours == pytest.approx(theirs, abs=1e-4 * size)


def test_many_samples_agree_with_tiles() -> None:
    x, y = samples(70_001, 20, 3)
    assert_right(value_and_gradient(x, y, "fused"), value_and_gradient(x, y, "tiled"))


def test_batches() -> None:
    x, y = (draw(7, 300, k, seed=k, dtype=F32).cuda() for k in (3, 20))
    ours = dcov2(x, y, method="fused")
    theirs = dcov2(x.cpu().double(), y.cpu().double(), method="dense")
    assert_close(ours.cpu().double(), theirs, rtol=1e-5, atol=0)


def test_auto_takes_it() -> None:
    assert choose(problem(300, "cuda"), "auto") == "fused"


@pytest.mark.parametrize("n", [100, 1000])
def test_nothing_waits_for_the_device(n: int) -> None:
    x, y = samples(n, 20, 3)
    value_and_gradient(x, y, "fused")  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        value_and_gradient(x, y, "fused")
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("n", [100, 1000])
def test_a_graph_holds_value_and_gradient(n: int) -> None:
    x, y = (t.requires_grad_() for t in samples(n, 20, 3))

    def step() -> list[Tensor]:
        value = dcov2(x, y, method="fused")
        return [value, *torch.autograd.grad(value, (x, y))]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ours = step()
    with torch.no_grad():
        for t in (x, y):
            t.copy_(t.flip(0) + 1)
    graph.replay()
    for a, b in zip(ours, step(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("fresh_compiler")
def test_compiles() -> None:
    x, y = (t.requires_grad_() for t in samples(1000, 20, 3))
    compiled = torch.compile(dcov2, fullgraph=True)
    value = compiled(x, y, method="fused")
    ours = [value.detach(), *torch.autograd.grad(value, (x, y))]
    for a, b in zip(ours, value_and_gradient(x, y, "fused"), strict=True):
        assert_close(a, b)


def test_memory() -> None:
    """A matrix of 20,000 x 20,000 would be 1.6 GB."""
    x, y = samples(20_000, 16, 16)
    value_and_gradient(x, y, "fused")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    value_and_gradient(x, y, "fused")
    assert torch.cuda.max_memory_allocated() - before < 64e6


def test_more_tiles_than_a_grid_has_in_a_dimension() -> None:
    """Rows of 70,000 problems: more than the 65,535 of a grid's second and third dimension."""
    x, y = (draw(70_000, 5, k, seed=k, dtype=F32).cuda() for k in (1, 2))
    ours, theirs = (dcov2(t, s, method="fused") for t, s in ((x, y), (x[-3:], y[-3:])))
    assert_close(ours[-3:], theirs)


def test_offsets_beyond_two_gigabytes() -> None:
    """The last of these numbers lie beyond what 32 bits count."""
    n, p = 40_000, 56_000
    x = torch.randn(n, p, dtype=torch.float16, device="cuda")
    rows = fused.forward([x[None], x[None, :, :2].contiguous()], None, 1.0, False).rows
    last = x[-5:].float()
    exact = [torch.cdist(last, part.float()).double().sum(1) for part in x.split(4000)]
    assert_close(rows[0][0, -5:], sum(exact) / n, rtol=1e-4, atol=0)
