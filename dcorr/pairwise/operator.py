"""The pair moments as one differentiable operator over any backend.

Eagerly, ``_PairMoments`` calls a backend, and its backward calls ``_PairPull``, the closed form.
The backward of that is the definition in ``reference.py``, differentiated twice, so derivatives of
any order work. Under ``torch.compile`` the same backends stand in the graph as opaque operators:
their loops are not unrolled, and near points may be looked for. (Operators of ``torch.library``
alone would not do: ``torch.func`` cannot differentiate them.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dcorr._checks import without_autocast
from dcorr.pairwise import dense, reference, tiled
from dcorr.pairwise.pull import Incoming
from dcorr.pairwise.sample import Sample, prepare, wide, work_dtype

BACKENDS = {"dense": dense, "tiled": tiled}

# ab, aa, bb: (*batch,); row means of a and of b: (*batch, N); kept distances: (*batch, N, N) twice.
# What is not asked for is an empty tensor, so that the operator always has the same outputs.
Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
OptionalTensors = tuple[Tensor | None, ...]


def pair_moments(
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    exponent: float,
    method: str,
    variances: bool,
) -> Outputs:
    """Return the moments of ``(*batch, n, p)`` and ``(*batch, n, q)``, or of one sample alone."""
    outputs: Outputs = _apply(_PairMoments, x, y, weights, exponent, method, variances)
    return outputs


class _PairMoments(torch.autograd.Function):
    @staticmethod
    def forward(  # the arguments by name: from *args torch.compile cannot tell that there is no ctx
        x: Tensor,
        y: Tensor | None,
        weights: Tensor | None,
        exponent: float,
        method: str,
        variances: bool,
    ) -> Outputs:
        run = _moments_op if torch.compiler.is_compiling() else _moments
        return run(x, y, weights, exponent, method, variances)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
        x, y, weights, ctx.exponent, ctx.method, variances = inputs
        two = y is not None
        ctx.asked = two, variances, variances and two, True, two
        ctx.save_for_backward(x, y, weights, *output[3:])
        ctx.mark_non_differentiable(*output[5:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> OptionalTensors:
        # torch.func fills in zeros for outputs that are empty because nobody asked for them.
        incoming = [g if asked else None for g, asked in zip(grads, ctx.asked, strict=False)]
        if all(g is None for g in incoming):
            # In derivatives of third order a node may be reached through kept outputs alone.
            return (None,) * 6
        wanted = ctx.needs_input_grad[:3]
        args = *ctx.saved_tensors, *incoming, ctx.exponent, ctx.method, *wanted
        pulled = _pull_op(*args) if torch.compiler.is_compiling() else _apply(_PairPull, *args)
        kept = (g if want else None for g, want in zip(pulled, wanted, strict=True))
        return *kept, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Outputs, Any]:
        return _apply(_PairMoments, *_leading(info.batch_size, in_dims, args)), (0,) * 7


class _PairPull(torch.autograd.Function):
    """Inputs: samples and weights, the last four outputs, their gradients, and the settings."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        return _pull(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:3], *inputs[7:12])
        ctx.exponent = inputs[12]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> OptionalTensors:
        samples, incoming = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        pulled = reference.pull_of_pull(samples, incoming, grads, ctx.exponent)
        # Nothing goes to the kept outputs: that they too depend on the samples is in the pull.
        return *pulled[:3], *(None,) * 4, *pulled[3:], *(None,) * 5

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        return _apply(_PairPull, *_leading(info.batch_size, in_dims, args)), (0,) * 3


def _apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    return function.apply(*args)  # type: ignore[no-untyped-call]


def _leading(size: int, in_dims: tuple[int | None, ...], args: tuple[Any, ...]) -> list[Any]:
    """Give every tensor the mapped dimension first: all backends take leading batch dimensions."""
    moved = []
    for arg, dim in zip(args, in_dims, strict=True):
        if isinstance(arg, Tensor):
            arg = arg.expand(size, *arg.shape) if dim is None else arg.movedim(dim, 0)
        moved.append(arg)
    return moved


def _moments(
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    exponent: float,
    method: str,
    variances: bool,
) -> Outputs:
    """Run a backend on flattened batch dimensions."""
    batch = x.shape[:-2]
    with without_autocast(x):
        samples, w = _prepare(x, y, weights)
        moments = BACKENDS[method].forward(samples, w, exponent, variances)

    def out(t: Tensor | None, dtype: torch.dtype) -> Tensor:
        if t is None:
            return x.new_empty((*batch, 0), dtype=dtype)
        return t.reshape(batch + t.shape[1:]).contiguous()

    products = (moments.products.get(pair) for pair in ((0, 1), (0, 0), (1, 1)))
    ab, aa, bb = (out(product, wide(x)) for product in products)
    a_rows, b_rows = (out(t, wide(x)) for t in _two(moments.rows))
    a, b = (out(t, _work_dtype(x, y)) for t in _two(moments.kept))
    return ab, aa, bb, a_rows, b_rows, a, b


def _pull(
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    a_rows: Tensor,
    b_rows: Tensor,
    a: Tensor,
    b: Tensor,
    g_ab: Tensor | None,
    g_aa: Tensor | None,
    g_bb: Tensor | None,
    u: Tensor | None,
    v: Tensor | None,
    exponent: float,
    method: str,
    x_wanted: bool,
    y_wanted: bool,
    weights_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a backend's backward on flattened batch dimensions."""
    n, count = x.shape[-2], 1 if y is None else 2
    products = {
        pair: g.reshape(-1)
        for pair, g in zip(((0, 1), (0, 0), (1, 1)), (g_ab, g_aa, g_bb), strict=True)
        if g is not None
    }
    rows = [None if t is None else t.reshape(-1, n) for t in (u, v)][:count]
    means = [t.reshape(-1, n) for t in (a_rows, b_rows)[:count]]
    kept = [t.reshape(-1, n, n) for t in (a, b) if t.ndim == x.ndim]
    wanted = [x_wanted, y_wanted, weights_wanted] if y is not None else [x_wanted, weights_wanted]
    with without_autocast(x):
        samples, w = _prepare(x, y, weights)
        grads = BACKENDS[method].backward(
            samples, w, exponent, Incoming(products, rows, means), wanted, kept
        )
    if y is None:
        grads.insert(1, None)
    gx, gy, gw = (
        x.new_empty((*x.shape[:-2], 0))
        if g is None or t is None
        else g.reshape(t.shape).to(t.dtype).contiguous()
        for g, t in zip(grads, (x, y, weights), strict=True)
    )
    return gx, gy, gw


def _prepare(
    x: Tensor, y: Tensor | None, weights: Tensor | None
) -> tuple[list[Sample], Tensor | None]:
    """Return samples and weights with one batch dimension, in the dtype to compute in."""
    dtype = _work_dtype(x, y)
    samples = [prepare(t.reshape(-1, *t.shape[-2:]), dtype) for t in (x, y) if t is not None]
    return samples, None if weights is None else weights.reshape(-1, weights.shape[-1]).to(dtype)


def _work_dtype(x: Tensor, y: Tensor | None) -> torch.dtype:
    return work_dtype(x, x.shape[-1] + (0 if y is None else y.shape[-1]))


def _two(tensors: list[Tensor]) -> list[Tensor | None]:
    return [*tensors, None, None][:2]


_SAMPLES = "Tensor x, Tensor? y, Tensor? weights"

_moments_op = torch.library.custom_op(
    "dcorr::pair_moments",
    _moments,
    mutates_args=(),
    schema=f"({_SAMPLES}, float exponent, str method, bool variances) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)

_pull_op = torch.library.custom_op(
    "dcorr::pair_pull",
    _pull,
    mutates_args=(),
    schema=f"({_SAMPLES}, Tensor a_rows, Tensor b_rows, Tensor a, Tensor b, Tensor? g_ab, "
    "Tensor? g_aa, Tensor? g_bb, Tensor? u, Tensor? v, float exponent, str method, "
    "bool x_wanted, bool y_wanted, bool weights_wanted) -> (Tensor, Tensor, Tensor)",
)


@_moments_op.register_fake
def _(
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    exponent: float,
    method: str,
    variances: bool,
) -> Outputs:
    batch, n = x.shape[:-2], x.shape[-2]

    def empty(here: bool, *sizes: int, dtype: torch.dtype = x.dtype) -> Tensor:
        return x.new_empty((*batch, *(sizes if here else (0,))), dtype=dtype)

    moment, two, kept = wide(x), y is not None, BACKENDS[method] is dense
    return (
        empty(two, dtype=moment),
        empty(variances, dtype=moment),
        empty(variances and two, dtype=moment),
        empty(True, n, dtype=moment),
        empty(two, n, dtype=moment),
        empty(kept, n, n, dtype=_work_dtype(x, y)),
        empty(kept and two, n, n, dtype=_work_dtype(x, y)),
    )


@_pull_op.register_fake
def _(x: Tensor, y: Tensor | None, weights: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    wanted = rest[-3:]
    return tuple(
        x.new_empty(t.shape if t is not None and want else (*x.shape[:-2], 0))
        for t, want in zip((x, y, weights), wanted, strict=True)
    )


@_moments_op.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Outputs, Any]:
    return _moments_op(*_leading(info.batch_size, in_dims, args)), (0,) * 7


@_pull_op.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[tuple[Tensor, ...], Any]:
    return _pull_op(*_leading(info.batch_size, in_dims, args)), (0,) * 3
