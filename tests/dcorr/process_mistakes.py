"""Mistakes of one process of several, or of all: who calls what, and what everybody has to hear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcorr import dcor2, dcov2, xcov
from tests.dcorr.oracle import draw
from tests.dcorr.process_cases import F32, F64, TILED


class Mistake(NamedTuple):
    call: Callable[[int], Any]  # of the rank
    error: str
    text: str


def _x(rows: int = 5, *shape: int, **kind: Any) -> Tensor:
    return torch.ones(rows, *(shape or (3,)), **kind)


def _both(function: Any, x: Any, y: Any, **options: Any) -> Any:
    return function(x, y, group="world", **options)


def _nan(rank: int) -> Tensor:
    return torch.full((5, 3), float("nan") if rank == 1 else 1.0)


def _twice(x: Tensor) -> None:
    (grad,) = torch.autograd.grad(_both(dcov2, x, x, **TILED), x, create_graph=True)
    grad.sum().backward()


V, T, R = "ValueError", "TypeError", "RuntimeError"
MISTAKES = {
    "features of x": Mistake(
        lambda r: _both(dcov2, _x(5, 3 + (r == 1)), _x()),
        V,
        "must have the same shape of x, got (n, 3) on process",
    ),
    "features of y": Mistake(
        lambda r: _both(dcov2, _x(), _x(5, 3 + (r == 1))),
        V,
        "must have the same shape of y, got (n, 3) on process",
    ),
    "dtype": Mistake(
        lambda r: _both(dcov2, *[_x(dtype=F64 if r == 1 else F32)] * 2),
        V,
        "must have the same dtype of x, got torch.float32 on process",
    ),
    "batch": Mistake(
        lambda r: _both(dcov2, _x(2, 5, 3) if r == 1 else _x(3, 5, 3), _x()),
        V,
        "must have the same shape of x, got (3, n, 3) on process",
    ),
    "unbiased": Mistake(
        lambda r: _both(dcov2, _x(), _x(), unbiased=r == 1),
        V,
        "must have the same unbiased, got False on process",
    ),
    "exponent": Mistake(
        lambda r: _both(dcov2, _x(), _x(), exponent=0.5 if r == 1 else 1),
        V,
        "must have the same exponent, got 1.0 on process",
    ),
    "method": Mistake(
        lambda r: _both(dcov2, _x(), _x(), method="tiled" if r == 1 else "auto"),
        V,
        "must have the same method, got auto on process",
    ),
    "statistic": Mistake(
        lambda r: _both(dcor2 if r == 1 else dcov2, _x(), _x()),
        V,
        "must have the same statistic, got dcov2 on process",
    ),
    "statistic of another kind": Mistake(
        lambda r: _both(xcov if r == 1 else dcov2, _x(), _x()),
        V,
        "must have the same statistic, got dcov2 on process",
    ),
    "weights": Mistake(
        lambda r: _both(dcov2, _x(), _x(), weights=torch.ones(5) if r == 1 else None),
        V,
        "must have the same arguments, got x, y on process",
    ),
    "requires_grad": Mistake(
        lambda r: _both(dcov2, _x().requires_grad_(r == 1), _x()),
        V,
        "must have the same requires_grad of x, got False on process",
    ),
    "no grad on one": Mistake(
        lambda r: torch.no_grad()(_both)(dcov2, _x().requires_grad_(), _x())
        if r == 1
        else _both(dcov2, _x().requires_grad_(), _x()),
        V,
        "must have the same requires_grad of x, got True on process",
    ),
    "x and y differ on one": Mistake(
        lambda r: _both(dcov2, _x(), _x(4 if r == 1 else 5)),
        V,
        "x and y need the same number of samples, got 5 and 4",
    ),
    "a list on one": Mistake(
        lambda r: _both(dcov2, [1.0, 2.0] if r == 1 else _x(), _x()),
        T,
        "x must be a torch.Tensor, got list",
    ),
    "an option of one": Mistake(
        lambda r: _both(dcov2, _x(), _x(), exponent=3.0 if r == 1 else 1.0),
        V,
        "exponent must be in (0, 2], got 3.0",
    ),
    "a method of one": Mistake(
        lambda r: _both(dcov2, _x(), _x(), method="fast" if r == 1 else "auto"),
        V,
        "method must be one of",
    ),
    "NaN on one": Mistake(
        lambda r: _both(dcov2, _nan(r), _x(), check_finite=True),
        V,
        "x must be finite, got NaN or infinity",
    ),
    "NaN on one, not checked elsewhere": Mistake(
        lambda r: _both(dcov2, _nan(r), _x(), check_finite=r == 1),
        V,
        "x must be finite, got NaN or infinity",
    ),
    "too few together": Mistake(
        lambda r: _both(dcov2, *[_x(int(r == 1))] * 2),
        V,
        "x must have at least 2 samples over all processes of group, got 0 + 1",
    ),
    "too few together, unbiased": Mistake(
        lambda r: _both(dcov2, *[_x(3 * (r == 1))] * 2, unbiased=True),
        V,
        "x must have at least 4 samples over all processes of group, got 0 + 3",
    ),
    "forced univariate": Mistake(
        lambda r: _both(dcov2, _x(), _x(), method="univariate"),
        V,
        "method",
    ),
    "fused": Mistake(
        lambda r: _both(dcov2, _x(), _x(), method="fused"),
        V,
        "method must be one of",
    ),
    "precomputed": Mistake(
        lambda r: _both(dcov2, _x(5, 5), _x(5, 5), metric="precomputed"),
        V,
        "group must be None with metric='precomputed'",
    ),
    "xcov, features": Mistake(
        lambda r: _both(xcov, _x(5, 3 + (r == 1)), _x()),
        V,
        "must have the same shape of x, got (n, 3) on process",
    ),
    "xcov, NaN": Mistake(
        lambda r: _both(xcov, _nan(r), _x(), check_finite=True),
        V,
        "x must be finite, got NaN or infinity",
    ),
    "xcov, too few": Mistake(
        lambda r: _both(xcov, *[_x(int(r == 1))] * 2),
        V,
        "x must have at least 2 samples over all processes of group, got 0 + 1",
    ),
    "a long message": Mistake(
        lambda r: _both(dcov2, _x(*[1] * 500, 5, 3) if r == 1 else _x(), _x(4)),
        V,
        "x and y need the same number of samples",
    ),
    "vmap": Mistake(
        lambda r: torch.vmap(lambda t: _both(dcov2, t, t))(torch.ones(2, 5, 3)),
        "NotImplementedError",
        "cannot be mapped by torch.vmap",
    ),
    "vmap of xcov": Mistake(
        lambda r: torch.vmap(lambda t: _both(xcov, t, t))(torch.ones(2, 5, 3)),
        "NotImplementedError",
        "cannot be mapped by torch.vmap",
    ),
    "forward mode": Mistake(
        lambda r: torch.func.jvp(lambda t: _both(dcov2, t, t), (_x(),), (_x(),)),
        "NotImplementedError",
        "no forward-mode derivative",
    ),
    "twice": Mistake(
        lambda r: _twice(draw(5, 3).requires_grad_()),
        R,
        "cannot be differentiated again",
    ),
}  # fmt: skip
