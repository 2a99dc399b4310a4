"""Fused Triton kernels for CUDA: all pairs twice, without ever storing a matrix of them.

A forward pass is one kernel over all pairs: distances, their shift by estimated row means, row sums
and products. What the shift leaves is put right in float64 by a last, small kernel. A backward pass
is one kernel over all pairs too: the same distances again, forces, and their sums.
``fused_tiles.py`` says how distances and forces are computed; ``docs/kernels.md``, why, and what
speed and precision are to be expected.

Nothing here asks the device for a value, so that a CUDA graph can hold all of it. Triton is
imported when the first problem comes, never with the package.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcorr.pairwise.backend import PAIRS, Incoming, Moments
from dcorr.pairwise.preparation import normalised, work_dtype

# Up to so many features differences cost no more than the products of padded halves.
FEW_FEATURES = 8

# Features in one tile of halves: a tile of both samples, twice buffered, fits in shared memory.
MOST_FEATURES = 64

# Columns from which the row means are estimated before the sums are taken. A bad estimate costs
# digits and no more: what it leaves is put right in float64.
LANDMARKS = 64

# Programs wanted for each multiprocessor, so that the last ones to run do not leave most idle.
PROGRAMS = 4

# Samples that a program with all of a problem's rows takes at once.
ROWS_AT_ONCE = 1024


class Blocks(NamedTuple):
    """Rows and columns of a tile, and how a program is run."""

    rows: int
    columns: int
    warps: int
    stages: int


# By kernel and by the costliest form of the points: the blocks to try, larger ones first. A device
# with less shared memory refuses the first at its launch and takes a later one.
# The gradient holds a tile of both samples' forces besides, and narrow tiles leave room for it.
BLOCKS: dict[tuple[str, str], tuple[Blocks, ...]] = {
    ("moments", "few"): (Blocks(64, 64, 4, 2),),
    ("moments", "many"): (Blocks(32, 32, 4, 1),),
    ("moments", "halves"): (Blocks(128, 64, 8, 2), Blocks(64, 32, 4, 2), Blocks(32, 32, 4, 1)),
    ("moments", "chunks"): (Blocks(128, 64, 8, 2), Blocks(64, 32, 4, 2), Blocks(32, 32, 4, 1)),
    ("gradient", "few"): (Blocks(64, 32, 4, 2),),
    ("gradient", "many"): (Blocks(32, 32, 4, 1),),
    ("gradient", "halves"): (Blocks(64, 32, 4, 2), Blocks(32, 32, 4, 1)),
    ("gradient", "chunks"): (Blocks(64, 32, 4, 2), Blocks(32, 32, 4, 1)),
}
FORMS = ("few", "many", "halves", "chunks")  # by number, as the kernels know them


def missing(device: str) -> str:
    """Return what is missing for these kernels on a device, with the way out; or nothing."""
    # The interpreter runs them on the CPU, slowly, to test them.
    if device != "cuda" and not (device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
        return f"it needs samples on a CUDA device, got {device!r} (method='tiled' runs anywhere)"
    if not _has_triton():
        return (
            "it needs the package triton (pip install 'dcorr[triton]', Linux only; "
            "method='tiled' needs none)"
        )
    return ""


# What torch.compiler.assume_constant_result does; but that would import the compiler, and Triton.
missing._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


class Side(NamedTuple):
    """One sample ``(B, N, P)`` in a form for the kernels."""

    x: Tensor
    hi: Tensor
    lo: Tensor
    norms: Tensor
    scales: Tensor
    form: int
    width: int

    @property
    def features(self) -> int:
        """The number of features."""
        return self.x.shape[-1]

    def unit(self, exponent: float) -> Tensor:
        """Return the unit of the powers of distances ``(B, 1)``, in float64."""
        return self.scales[0].double().pow(exponent).unsqueeze(-1)


class Pairs:
    """All pairs of one problem: its samples, ready for the kernels, and how to run these."""

    def __init__(self, samples: list[Tensor], weights: Tensor | None, exponent: float) -> None:
        first = samples[0]
        self.count, self.n = first.shape[:2]
        self.device = first.device
        self.dtype = work_dtype(samples)
        if self.dtype != torch.float64:
            self.dtype = torch.float32
        # Squares of narrower numbers have room in float64 as they are.
        self.scaled = first.dtype == torch.float64 or self.dtype == torch.float32
        self.exponent = exponent
        self.weights = None if weights is None else normalised(weights).to(self.dtype)
        self.sides = [self._prepare(x.contiguous()) for x in samples]

    def _prepare(self, x: Tensor) -> Side:
        p = x.shape[-1]
        form, width = _form(p, self.dtype)
        side = Side(x, x, x, x, x, form, width)
        if not self.scaled:
            return side
        low, high = x.aminmax(dim=-2)
        side = side._replace(scales=empty((2, self.count), self.dtype, self.device))
        _kernels().scales_kernel[(self.count,)](
            low, high, side.scales, self.count, p,
            WIDE=self.dtype == torch.float64, BLOCK=_block(p),
        )  # fmt: skip
        if form < HALVES:
            return side
        shape = (self.count, self.n, -(-p // width) * width)
        hi, lo = (empty(shape, torch.float16, self.device) for _ in range(2))
        side = side._replace(hi=hi, lo=lo, norms=empty(shape[:2], torch.float32, self.device))
        rows = 64
        blocks = -(-self.n // rows)
        _kernels().halves_kernel[(self.count * blocks,)](
            x, x.mean(-2), side.scales, hi, lo, side.norms, self.count, self.n, p, blocks,
            WIDTH=width, BM=rows,
        )  # fmt: skip
        return side

    def points(self) -> list[Any]:
        """Return the kernels' arguments that describe both sides."""
        arguments: list[Any] = []
        for side in (self.sides[0], self.sides[-1]):
            arguments += [*side[:5], side.features]
        return arguments

    def settings(self) -> dict[str, Any]:
        """Return the kernels' constants that describe both sides."""
        first, last = self.sides[0], self.sides[-1]
        return {
            "X_FORM": first.form,
            "X_WIDTH": first.width,
            "Y_FORM": last.form,
            "Y_WIDTH": last.width,
            "C": _kernels().tl.float64 if self.dtype == torch.float64 else _kernels().tl.float32,
        } | self.common()

    def common(self) -> dict[str, Any]:
        """Return the constants of all kernels."""
        return {
            "HALF": self.exponent / 2,
            "TWO": len(self.sides) == 2,
            "WEIGHTED": self.weights is not None,
            "SCALED": self.scaled,
        }

    def given_weights(self) -> Tensor:
        """Return the weights, or what stands for them where they are not read."""
        return self.sides[0].x if self.weights is None else self.weights

    def shifts(self, rows: list[Tensor], per_row: int) -> Tensor:
        """Return what to subtract from the powers, ``(sides, B, N)``, given sums of their rows.

        Means (``per_row`` 1) come in the unit of the powers; sums are of scaled powers.
        """
        shifts = self.empty_rows(self.dtype)
        common = self.common()
        del common["TWO"]
        common["SCALED"] = common["SCALED"] and per_row == 1
        _kernels().shift_kernel[(self.count * len(self.sides),)](
            rows[0], rows[-1], shifts, self.sides[0].scales, self.sides[-1].scales,
            self.given_weights(), self.count, self.n, per_row, **common, BLOCK=ROWS_AT_ONCE,
        )  # fmt: skip
        return shifts

    def empty_rows(self, dtype: torch.dtype, splits: int | None = None) -> Tensor:
        """Return room for a number a sample and side."""
        shape = (len(self.sides), self.count, self.n)
        return empty(shape if splits is None else (splits, *shape), dtype, self.device)

    def run(self, kernel: str, launch: Callable[[Blocks], Any]) -> Any:
        """Launch a kernel with the largest blocks that the device can hold."""
        form = FORMS[max(side.form for side in self.sides)]
        from triton.runtime.errors import OutOfResources

        for blocks in (tries := BLOCKS[kernel, form])[:-1]:
            try:
                return launch(blocks)
            except OutOfResources:
                continue
        return launch(tries[-1])

    def grid(self, blocks: Blocks, columns: int, split: bool = True) -> tuple[int, int, int]:
        """Return blocks of rows, parts of the columns, and columns of a part."""
        row_blocks = -(-self.n // blocks.rows)
        tiles = -(-columns // blocks.columns)
        wanted = PROGRAMS * processors(self.device) // (row_blocks * self.count) if split else 1
        per_part = -(-tiles // min(tiles, max(1, wanted)))
        return row_blocks, -(-tiles // per_part), per_part * blocks.columns


def forward(
    samples: list[Tensor], weights: Tensor | None, exponent: float, variances: bool
) -> Moments:
    """Return the moments of one or two samples; nothing is kept."""
    with _on(samples[0]):
        pairs = Pairs(samples, weights, exponent)
        shifts = None if pairs.dtype == torch.float64 else _estimated_shifts(pairs)
        products, rows = pairs.run("moments", functools.partial(_sums, pairs, shifts, variances))
    two = len(samples) == 2
    asked = {(0, 1): two, (0, 0): variances, (1, 1): variances and two}
    kept = {pair: t for pair, t in zip(PAIRS, products, strict=True) if asked[pair]}
    return Moments(kept, rows, [])


def keeps(samples: list[Tensor], exponent: float) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return what ``forward`` keeps: nothing."""
    return []


def _estimated_shifts(pairs: Pairs) -> Tensor:
    """Return shifts from the mean powers of distances to some of the samples."""
    step = -(-pairs.n // LANDMARKS)
    count = -(-pairs.n // step)

    def sums(blocks: Blocks) -> Tensor:
        grid = pairs.grid(blocks, count, split=False)
        rows = pairs.empty_rows(torch.float64, grid[1])
        settings = pairs.settings() | {"WEIGHTED": False}
        _launch_moments(pairs, blocks, grid, (count, step), (rows, rows, rows), settings)
        return rows

    rows = pairs.run("moments", sums)
    return pairs.shifts(list(rows[0].unbind(0)), count)


def _sums(
    pairs: Pairs, shifts: Tensor | None, variances: bool, blocks: Blocks
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the three products ``(B,)`` and the row means ``(B, N)`` of each side."""
    grid = pairs.grid(blocks, pairs.n)
    row_sums = pairs.empty_rows(torch.float64, grid[1])
    sums = empty((pairs.count * grid[0] * grid[1], 3), torch.float64, pairs.device)
    # An operator's outputs must not share their memory.
    products = [empty((pairs.count,), torch.float64, pairs.device) for _ in PAIRS]
    shape = (pairs.count, pairs.n)
    rows = [empty(shape, torch.float64, pairs.device) for _ in pairs.sides]
    shifted = {"SHIFTED": shifts is not None}
    given = row_sums if shifts is None else shifts
    settings = pairs.settings() | shifted
    settings |= {"PRODUCTS": len(pairs.sides) == 2, "VARIANCES": variances}
    _launch_moments(pairs, blocks, grid, (pairs.n, 1), (given, row_sums, sums), settings)
    _kernels().finish_kernel[(pairs.count,)](
        row_sums, sums, given, pairs.sides[0].scales, pairs.sides[-1].scales,
        pairs.given_weights(), *products, rows[0], rows[-1], pairs.count, pairs.n, *grid[:2],
        **pairs.common(), **shifted, BLOCK=min(ROWS_AT_ONCE, _block(pairs.n)),
    )  # fmt: skip
    return products, rows


def _launch_moments(
    pairs: Pairs,
    blocks: Blocks,
    grid: tuple[int, int, int],
    columns: tuple[int, int],
    buffers: tuple[Tensor, Tensor, Tensor],
    settings: dict[str, Any],
) -> None:
    constants = {"SHIFTED": False, "PRODUCTS": False, "VARIANCES": False} | settings
    shifts, row_sums, sums = buffers
    _kernels().moments_kernel[(pairs.count * grid[0] * grid[1],)](
        *pairs.points(), shifts, pairs.given_weights(), row_sums, sums,
        pairs.count, pairs.n, *grid, *columns,
        **constants, BM=blocks.rows, BN=blocks.columns,
        num_warps=blocks.warps, num_stages=blocks.stages,
    )  # fmt: skip


def backward(
    samples: list[Tensor],
    weights: Tensor | None,
    exponent: float,
    incoming: Incoming,
    wanted: list[bool],
    kept: list[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of the samples and of the weights."""
    assert not kept
    with _on(samples[0]):
        pairs = Pairs(samples, weights, exponent)
        shifts = pairs.shifts([t.contiguous() for t in incoming.row_means], 1)
        pull = functools.partial(_pull, pairs, shifts, incoming, wanted)
        grads: list[Tensor | None] = pairs.run("gradient", pull)
        if grads[-1] is not None:
            grads[-1] = _finish_weights(pairs, shifts, incoming, grads[-1])
    return grads


def _pull(
    pairs: Pairs, shifts: Tensor, incoming: Incoming, wanted: list[bool], blocks: Blocks
) -> list[Tensor | None]:
    """Return the gradients, that of the weights without diagonal and shifts."""
    grid = pairs.grid(blocks, pairs.n)
    zero = torch.zeros(pairs.count, dtype=torch.float64, device=pairs.device)
    gradients = torch.stack([incoming.products.get(pair, zero) for pair in PAIRS])
    rows = [None if u is None else u.contiguous() for u in incoming.rows]
    grads = [
        empty((grid[1], *side.x.shape), pairs.dtype, pairs.device) if want else None
        for side, want in zip(pairs.sides, wanted, strict=False)
    ]
    shape = (grid[1], pairs.count, pairs.n)
    grads.append(empty(shape, torch.float64, pairs.device) if wanted[-1] else None)
    outputs = [zero if g is None else g for g in grads]
    two = len(pairs.sides) == 2
    _gradient().gradient_kernel[(pairs.count * grid[0] * grid[1],)](
        *pairs.points(), shifts, pairs.given_weights(), gradients,
        *(zero if u is None else u for u in (rows[0], rows[-1])),
        outputs[0], outputs[-2], outputs[-1], pairs.count, pairs.n, *grid,
        X_ROWS=rows[0] is not None, Y_ROWS=two and rows[-1] is not None,
        X_WANTED=wanted[0], Y_WANTED=two and wanted[1], W_WANTED=wanted[-1],
        X_FEATURES=_held(pairs.sides[0]), Y_FEATURES=_held(pairs.sides[-1]),
        **pairs.settings(), BM=blocks.rows, BN=blocks.columns,
        num_warps=blocks.warps, num_stages=blocks.stages,
    )  # fmt: skip
    return [g if g is None else g[0] if grid[1] == 1 else g.sum(0) for g in grads]


def _finish_weights(pairs: Pairs, shifts: Tensor, incoming: Incoming, grad: Tensor) -> Tensor:
    """Add to the gradient of the weights what tiles leave out: the diagonal and the shifts."""
    assert pairs.weights is not None
    units = [
        side.unit(pairs.exponent) if pairs.scaled else 1.0 for side in pairs.sides
    ]  # fmt: skip
    own = [shift.double() for shift in shifts]
    for (k, m), g in incoming.products.items():
        factor = 8 * g.unsqueeze(-1) * units[k] * units[m]
        grad = grad + factor * pairs.weights * own[k] * own[m]
    for shift, unit, u in zip(own, units, incoming.rows, strict=True):
        if u is not None:
            u = u * unit
            total, product = (t.sum(-1, keepdim=True) for t in (u, u * shift))
            grad = grad + shift * total + product - 2 * shift * u
    return grad


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return room for a kernel's output. Tests fill it with NaN to see that all is written."""
    return torch.empty(shape, dtype=dtype, device=device)


def processors(device: torch.device) -> int:
    """Return how many multiprocessors a device has; the interpreter has one."""
    if device.type != "cuda":
        return 1
    count: int = torch.cuda.get_device_properties(device).multi_processor_count
    return count


HALVES = FORMS.index("halves")


def _form(p: int, dtype: torch.dtype) -> tuple[int, int]:
    """Return the form for so many features, and the width of its tiles."""
    if p <= FEW_FEATURES:
        return FORMS.index("few"), p
    if dtype == torch.float64:
        return FORMS.index("many"), 1
    if p <= MOST_FEATURES:
        return HALVES, max(16, _block(p))
    return FORMS.index("chunks"), MOST_FEATURES


def _held(side: Side) -> int:
    """Return the features whose gradient a program holds in registers."""
    return {"few": _block(side.width), "halves": side.width}.get(FORMS[side.form], 1)


def _block(count: int) -> int:
    """Return the smallest power of two that is not below a number."""
    return 1 << (count - 1).bit_length()


def _on(x: Tensor) -> Any:
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


@functools.cache
def _kernels() -> Any:
    from dcorr.pairwise import fused_kernels

    return fused_kernels


@functools.cache
def _gradient() -> Any:
    from dcorr.pairwise import fused_gradient

    return fused_gradient
