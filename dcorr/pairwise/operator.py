"""The pair moments as one differentiable operator over any backend.

Eagerly, ``_PairMoments`` calls a backend, and its backward calls ``_PairPull``, the closed form.
The backward of that is the definition in ``reference.py``, differentiated twice, so derivatives of
any order work. Under ``torch.compile`` the same backends stand in the graph as opaque operators:
their loops are not unrolled, and near points may be looked for. (Operators of ``torch.library``
alone would not do: ``torch.func`` cannot differentiate them.)
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcorr._checks import without_autocast
from dcorr.pairwise import dense, fused, reference, tiled, univariate
from dcorr.pairwise.backend import PAIRS, Backend, Incoming
from dcorr.pairwise.sample import wide

BACKENDS: dict[str, Backend] = {
    "dense": dense,
    "tiled": tiled,
    "univariate": univariate,
    "fused": fused,
}

# ab, aa, bb: (*batch,); row means of a and of b: (*batch, N); then what the backend keeps. There
# are always five before what is kept: what is not asked for is ``None``, or an empty tensor where
# torch.func or torch.compile let an operator return tensors alone.
Outputs = tuple[Tensor, ...]
OptionalTensors = tuple[Tensor | None, ...]
MOMENTS = 5


def pair_moments(
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    exponent: float,
    method: str,
    variances: bool,
) -> Outputs:
    """Return the moments of ``(*batch, n, p)`` and ``(*batch, n, q)``, or of one sample alone."""
    eager = not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())
    function = _EagerPairMoments if eager else _PairMoments
    outputs: Outputs = _apply(function, x, y, weights, exponent, method, variances)
    return outputs[:MOMENTS]


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
        return tuple(run(x, y, weights, exponent, method, variances))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        x, y, weights, ctx.exponent, ctx.method, variances = inputs
        two = y is not None
        ctx.asked = two, variances, variances and two, True, two
        ctx.save_for_backward(x, y, weights, *output[3:])
        ctx.mark_non_differentiable(*output[MOMENTS:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> OptionalTensors:
        # torch.func fills in zeros for outputs that are empty because nobody asked for them.
        incoming = [g if asked else None for g, asked in zip(grads, ctx.asked, strict=False)]
        if all(g is None for g in incoming):
            # In derivatives of third order a node may be reached through kept outputs alone.
            return (None,) * 6
        wanted = ctx.needs_input_grad[:3]
        x, y, weights, a_rows, b_rows, *kept = ctx.saved_tensors
        args = x, y, weights, a_rows, b_rows, *incoming, ctx.exponent, ctx.method, *wanted
        if torch.compiler.is_compiling():
            pulled = _pull_op(*args, kept)
        elif torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            # To be differentiated again, or mapped over.
            pulled = _apply(_PairPull, *args, *kept)
        else:
            backend, rows = BACKENDS[ctx.method], [a_rows, b_rows]
            pulled = run_backward(
                backend, x, y, weights, rows, incoming, ctx.exponent, [*wanted], kept
            )
        asked_for = (g if want else None for g, want in zip(pulled, wanted, strict=True))
        return *asked_for, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Outputs, Any]:
        outputs = _apply(_PairMoments, *_leading(info.batch_size, in_dims, args))
        return outputs, (0,) * len(outputs)


class _EagerPairMoments(_PairMoments):
    """The same without ``torch.func``, whose form binds the arguments anew at each call."""

    @staticmethod
    def forward(  # type: ignore[override]  # torch passes the context here, as not above
        ctx: Any, *inputs: Any
    ) -> tuple[Tensor | None, ...]:
        x, y, weights, exponent, method, variances = inputs
        output = run_forward(BACKENDS[method], x, y, weights, exponent, variances)
        _PairMoments.setup_context(ctx, inputs, output)
        return output

    setup_context = torch.autograd.Function.setup_context  # none of its own


class _PairPull(torch.autograd.Function):
    """Inputs: as those of ``_pull``, with what was kept one by one at their end."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        given: list[Any] = [*args[:PULL_ARGUMENTS], list(args[PULL_ARGUMENTS:])]
        return _pull(*given)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:3], *inputs[5:10])
        ctx.exponent = inputs[10]
        ctx.kept = len(inputs) - PULL_ARGUMENTS
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> OptionalTensors:
        samples, incoming = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        pulled = reference.pull_of_pull(samples, incoming, grads, ctx.exponent)
        # Nothing goes to saved outputs: that they too depend on the samples is in the pull.
        return *pulled[:3], None, None, *pulled[3:], *(None,) * (5 + ctx.kept)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        return _apply(_PairPull, *_leading(info.batch_size, in_dims, args)), (0,) * 3


# torch works the signature out at each call, unless it is there.
_PairMoments.forward.__signature__ = inspect.signature(_PairMoments.forward)  # type: ignore[attr-defined]
_PairPull.forward.__signature__ = inspect.signature(_PairPull.forward)  # type: ignore[attr-defined]


def _apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    return function.apply(*args)  # type: ignore[no-untyped-call]


def _leading(size: int, in_dims: Any, args: Any) -> list[Any]:
    """Give every tensor the mapped dimension first: all backends take leading batch dimensions."""
    moved: list[Any] = []
    for arg, dim in zip(args, in_dims, strict=True):
        if isinstance(arg, list):
            arg = _leading(size, dim, arg)
        elif isinstance(arg, Tensor):
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
) -> list[Tensor]:
    outputs = run_forward(BACKENDS[method], x, y, weights, exponent, variances)
    empty = x.new_empty((*x.shape[:-2], 0), dtype=wide(x))
    return [empty.clone() if t is None else t for t in outputs]  # no two may share memory


def run_forward(
    backend: Backend,
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    exponent: float,
    variances: bool,
) -> tuple[Tensor | None, ...]:
    """Run a backend on flattened batch dimensions; ``None`` for what is not asked for."""
    batch = x.shape[:-2]
    with without_autocast(x):
        moments = backend.forward(*_flat(x, y, weights), exponent, variances)
    products = [moments.products.get(pair) for pair in PAIRS]
    if products[0] is not None:
        products[0].clamp_(min=0.0)  # below 0 by rounding alone, for exponents up to 2
    rows = [*moments.rows, None][:2]
    outputs = *products, *rows, *moments.kept
    return tuple(None if t is None else t.reshape(batch + t.shape[1:]) for t in outputs)


def _pull(
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    a_rows: Tensor,
    b_rows: Tensor,
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
    kept: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    grads = (g_ab, g_aa, g_bb, u, v)
    wanted = [x_wanted, y_wanted, weights_wanted]
    rows = [a_rows, b_rows]
    pulled = run_backward(BACKENDS[method], x, y, weights, rows, grads, exponent, wanted, kept)
    gx, gy, gw = (x.new_empty((*x.shape[:-2], 0)) if g is None else g for g in pulled)
    return gx, gy, gw


def run_backward(
    backend: Backend,
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    row_means: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    exponent: float,
    wanted: list[bool],
    kept: list[Tensor],
) -> OptionalTensors:
    """Run a backend's backward on flattened batch dimensions; ``None`` for what is not wanted."""
    n, sides = x.shape[-2], 1 if y is None else 2
    products = {
        pair: g.reshape(-1) for pair, g in zip(PAIRS, grads[:3], strict=True) if g is not None
    }
    rows = [None if t is None else t.reshape(-1, n) for t in grads[3:]][:sides]
    means = [t.reshape(-1, n) for t in row_means[:sides] if t is not None]
    asked = wanted if y is not None else [wanted[0], wanted[2]]
    kept = [t.reshape(-1, *t.shape[x.ndim - 2 :]) for t in kept]
    with without_autocast(x):
        pulled = backend.backward(
            *_flat(x, y, weights), exponent, Incoming(products, rows, means), asked, kept
        )
    if y is None:
        pulled.insert(1, None)
    if weights is not None and pulled[2] is not None:
        # A constant along the weights is arbitrary, and a large one would cost digits.
        gw, w = pulled[2], weights.reshape(-1, n).to(pulled[2].dtype)
        pulled[2] = gw - ((gw * w).sum(-1, keepdim=True) / w.sum(-1, keepdim=True))
    return tuple(
        None if g is None or t is None else g.to(t.dtype).reshape(t.shape)
        for g, t in zip(pulled, (x, y, weights), strict=True)
    )


PULL_ARGUMENTS = 15  # of _pull, before what was kept


def _flat(
    x: Tensor, y: Tensor | None, weights: Tensor | None
) -> tuple[list[Tensor], Tensor | None]:
    """Return samples and weights with one batch dimension."""
    samples = [t.reshape(-1, *t.shape[-2:]) for t in (x, y) if t is not None]
    return samples, None if weights is None else weights.reshape(-1, weights.shape[-1])


_SAMPLES = "Tensor x, Tensor? y, Tensor? weights"

_moments_op = torch.library.custom_op(
    "dcorr::pair_moments",
    _moments,
    mutates_args=(),
    schema=f"({_SAMPLES}, float exponent, str method, bool variances) -> Tensor[]",
)

_pull_op = torch.library.custom_op(
    "dcorr::pair_pull",
    _pull,
    mutates_args=(),
    schema=f"({_SAMPLES}, Tensor a_rows, Tensor b_rows, Tensor? g_ab, Tensor? g_aa, "
    "Tensor? g_bb, Tensor? u, Tensor? v, float exponent, str method, bool x_wanted, "
    "bool y_wanted, bool weights_wanted, Tensor[] kept) -> (Tensor, Tensor, Tensor)",
)


@_moments_op.register_fake
def _(
    x: Tensor,
    y: Tensor | None,
    weights: Tensor | None,
    exponent: float,
    method: str,
    variances: bool,
) -> list[Tensor]:
    batch, n, two = x.shape[:-2], x.shape[-2], y is not None

    def empty(here: bool, *sizes: int) -> Tensor:
        return x.new_empty((*batch, *(sizes if here else (0,))), dtype=wide(x))

    moments = [empty(two), empty(variances), empty(variances and two), empty(True, n)]
    kept = BACKENDS[method].keeps(_flat(x, y, None)[0], exponent)
    return [
        *moments,
        empty(two, n),
        *(x.new_empty(batch + shape, dtype=dtype) for shape, dtype in kept),
    ]


@_pull_op.register_fake
def _(x: Tensor, y: Tensor | None, weights: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    wanted = rest[-4:-1]
    return tuple(
        x.new_empty(t.shape if t is not None and want else (*x.shape[:-2], 0))
        for t, want in zip((x, y, weights), wanted, strict=True)
    )


@_moments_op.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[list[Tensor], Any]:
    outputs = _moments_op(*_leading(info.batch_size, in_dims, args))
    return outputs, [0] * len(outputs)


@_pull_op.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[tuple[Tensor, ...], Any]:
    return _pull_op(*_leading(info.batch_size, in_dims, args)), (0,) * 3
