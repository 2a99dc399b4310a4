"""The rivals: this package by its methods, and what else computes the same statistic.

Formulas of others are written again from their definition, with the arithmetic of the original.
Libraries that are not installed are reported as missing, not left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import dcorr

Function = Callable[[Tensor, Tensor], Tensor]
PROJECTIONS = 64


class Work(NamedTuple):
    """One rival on one pair of samples: what can be called, and what each call returns."""

    forward: Callable[[], Any] | None  # the value, without a graph
    graph: Callable[[], Tensor] | None  # the value, with what backward needs
    backward: Callable[[Tensor], tuple[Tensor, Tensor]] | None
    both: Callable[[], tuple[Any, Tensor, Tensor]] | None


class Rival(NamedTuple):
    """Something that computes a statistic of two samples."""

    make: Callable[[Tensor, Tensor], Work]
    quantity: str = "dcov2"
    library: str = ""  # whose version belongs in the row
    # Time grows with n to this power, and matrices of so many numbers are held at the peak.
    order: int = 2
    numbers: Callable[[int, int], float] = lambda n, features: 0.0
    # Only these are held to the tolerance table; of others it is asked that they compute the same.
    own: bool = False
    univariate: bool = False
    differentiable: bool = True

    def installed(self) -> str:
        """Name and version of the library; empty for formulas written here."""
        if not self.library:
            return ""
        try:
            return f"{self.library} {version(self.library)}"
        except PackageNotFoundError:
            return f"{self.library} not installed"


def samples(
    n: int, p: int, q: int, *, dtype: str = "float32", device: str = "cpu", seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Normal samples ``(n, p)`` and ``(n, q)``; y depends on x, but not linearly."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=generator, dtype=torch.float64)
    y = torch.randn(n, q, generator=generator, dtype=torch.float64) + x[:, :1].abs()
    kind = getattr(torch, dtype)
    return x.to(device, kind), y.to(device, kind)


# -- how a function becomes calls -----------------------------------------------------------------


def by_torch(function: Function) -> Callable[[Tensor, Tensor], Work]:
    def make(x: Tensor, y: Tensor) -> Work:
        leaves = x.clone().requires_grad_(), y.clone().requires_grad_()

        def forward() -> Tensor:
            with torch.no_grad():
                return function(x, y)

        def graph() -> Tensor:
            return function(*leaves)

        def backward(value: Tensor) -> tuple[Tensor, Tensor]:
            x_grad, y_grad = torch.autograd.grad(value, leaves)
            return x_grad, y_grad

        def both() -> tuple[Tensor, Tensor, Tensor]:
            value = graph()
            return value, *backward(value)

        return Work(forward, graph, backward, both)

    return make


def by_numpy(function: Callable[[Any, Any], float]) -> Callable[[Tensor, Tensor], Work]:
    """Without a gradient, on float64 arrays: others dcor does not compile for."""

    def make(x: Tensor, y: Tensor) -> Work:
        arrays = [np.ascontiguousarray(t.cpu().numpy(), dtype=np.float64) for t in (x, y)]
        return Work(lambda: function(*arrays), None, None, None)

    return make


def by_cuda_graph(function: Function) -> Callable[[Tensor, Tensor], Work]:
    """Value and gradient recorded once and played again: no time for launching kernels."""

    def make(x: Tensor, y: Tensor) -> Work:
        if x.device.type != "cuda":
            raise ValueError("a CUDA graph needs a CUDA device")
        both = by_torch(function)(x, y).both
        assert both is not None
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                both()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = both()

        def replay() -> tuple[Tensor, Tensor, Tensor]:
            graph.replay()
            return results

        return Work(None, None, None, replay)

    return make


# -- this package ---------------------------------------------------------------------------------


def own(method: str) -> Function:
    return lambda x, y: dcorr.dcov2(x, y, method=method)


def sliced(x: Tensor, y: Tensor) -> Tensor:
    # A generator at the same state gives the same directions in every call.
    generator = torch.Generator(x.device).manual_seed(0)
    options: dict[str, Any] = {"num_projections": PROJECTIONS, "generator": generator}
    return dcorr.dcov2(x, y, method="sliced", **options)


# -- formulas -------------------------------------------------------------------------------------


def double_centred_mean(a: Tensor, b: Tensor) -> Tensor:
    """The mean of A∘B with both matrices centred by their row, column and total means."""
    a = a - a.mean(0, keepdim=True) - a.mean(1, keepdim=True) + a.mean()
    b = b - b.mean(0, keepdim=True) - b.mean(1, keepdim=True) + b.mean()
    return (a * b).sum() / a.shape[0] ** 2


def broadcast(x: Tensor, y: Tensor) -> Tensor:
    """As CDNet was published: all differences laid out, n·n·p numbers, and their norms."""
    a = torch.linalg.vector_norm(x[:, None, :] - x[None, :, :], dim=-1)
    b = torch.linalg.vector_norm(y[:, None, :] - y[None, :, :], dim=-1)
    return double_centred_mean(a, b)


def by_cdist(x: Tensor, y: Tensor) -> Tensor:
    """What one writes today: torch's own distances, and autograd."""
    return double_centred_mean(torch.cdist(x, x), torch.cdist(y, y))


def by_pykeops(x: Tensor, y: Tensor) -> Tensor:
    """The sums over pairs as reductions of symbolic matrices, which KeOps never stores."""
    from pykeops.torch import LazyTensor

    def symbolic(t: Tensor) -> Any:
        return ((LazyTensor(t[:, None, :]) - LazyTensor(t[None, :, :])) ** 2).sum(-1).sqrt()

    n, a, b = x.shape[0], symbolic(x), symbolic(y)
    a_rows, b_rows, products = a.sum(1) / n, b.sum(1) / n, (a * b).sum(1) / n
    return products.mean() - 2 * (a_rows * b_rows).mean() + a_rows.mean() * b_rows.mean()


def by_geomloss(x: Tensor, y: Tensor) -> Tensor:
    """Energy distance: another statistic, but three such sums over pairs of points."""
    from geomloss import SamplesLoss

    return SamplesLoss("energy", backend="tensorized")(x, y)


# -- libraries without a gradient -----------------------------------------------------------------


def by_dcor(method: str) -> Callable[[Any, Any], float]:
    def function(x: Any, y: Any) -> float:
        from dcor import distance_covariance_sqr

        if x.shape[1] == y.shape[1] == 1:
            x, y = x[:, 0], y[:, 0]
        return float(distance_covariance_sqr(x, y, method=method))

    return function


def by_hyppo(x: Any, y: Any) -> float:
    from hyppo.independence import Dcorr

    return float(Dcorr(bias=True).statistic(x, y))


def by_hyppo_fast(x: Any, y: Any) -> float:
    """Its O(n log n) form for one dimension, which its ``test`` takes where it can."""
    from hyppo.independence import Dcorr

    test = Dcorr(bias=True)
    test.is_fast = True
    return float(test.statistic(x, y))


def by_statsmodels(x: Any, y: Any) -> float:
    from statsmodels.stats.dist_dependence_measures import distance_covariance

    return float(distance_covariance(x, y))


def squares(count: float) -> Callable[[int, int], float]:
    """``count`` matrices of all pairs."""
    return lambda n, features: count * n * n


def cubes(count: float) -> Callable[[int, int], float]:
    """``count`` times the differences of all pairs in all features."""
    return lambda n, features: count * n * n * features


RIVALS: dict[str, Rival] = {
    "dcorr": Rival(by_torch(own("auto")), library="dcorr", own=True),
    "dcorr dense": Rival(by_torch(own("dense")), library="dcorr", own=True, numbers=squares(16)),
    "dcorr tiled": Rival(by_torch(own("tiled")), library="dcorr", own=True),
    "dcorr univariate": Rival(
        by_torch(own("univariate")), library="dcorr", own=True, order=1, univariate=True
    ),
    "dcorr fused": Rival(by_torch(own("fused")), library="dcorr", own=True),
    "dcorr sliced": Rival(by_torch(sliced), "sliced", library="dcorr", own=True, order=1),
    "dcorr dcor2": Rival(by_torch(dcorr.dcor2), "dcor2", library="dcorr", own=True),
    "dense, CUDA graph": Rival(
        by_cuda_graph(own("dense")), library="dcorr", own=True, numbers=squares(16)
    ),
    "fused, CUDA graph": Rival(by_cuda_graph(own("fused")), library="dcorr", own=True),
    "broadcast": Rival(by_torch(broadcast), numbers=cubes(3)),
    "cdist": Rival(by_torch(by_cdist), numbers=squares(10)),
    "pykeops": Rival(by_torch(by_pykeops), library="pykeops"),
    "geomloss energy": Rival(
        by_torch(by_geomloss), "energy", library="geomloss", numbers=squares(8)
    ),
    # It lays out all differences as well.
    "dcor naive": Rival(
        by_numpy(by_dcor("naive")), differentiable=False, library="dcor", numbers=cubes(1)
    ),
    "dcor mergesort": Rival(
        by_numpy(by_dcor("mergesort")),
        differentiable=False,
        library="dcor",
        order=1,
        univariate=True,
    ),
    "dcor AVL": Rival(
        by_numpy(by_dcor("avl")), differentiable=False, library="dcor", order=1, univariate=True
    ),
    "hyppo": Rival(
        by_numpy(by_hyppo),
        quantity="dcor",
        differentiable=False,
        library="hyppo",
        numbers=squares(12),
    ),
    "hyppo fast": Rival(
        by_numpy(by_hyppo_fast),
        quantity="dcor",
        differentiable=False,
        library="hyppo",
        order=1,
        univariate=True,
    ),
    "statsmodels": Rival(
        by_numpy(by_statsmodels),
        quantity="dcov",
        differentiable=False,
        library="statsmodels",
        numbers=squares(12),
    ),
}
