"""The pair moments as one differentiable operator over any backend.

Eagerly, :class:`_PairMoments` calls a backend, and its backward calls :class:`_PairPull`, the closed
form. The backward of that is the definition in ``reference.py``, differentiated twice, so derivatives
of any order work. Under ``torch.compile`` the same backends stand in the graph as opaque operators:
their loops are not unrolled, and near points may be looked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dcorr.pairwise import dense, reference, tiled
from dcorr.pairwise.centring import Moments
from dcorr.pairwise.pull import Incoming
from dcorr.pairwise.sample import wide

BACKENDS = {"dense": dense, "tiled": tiled}

# ab, aa, bb: (*batch,); row means of a and b: (*batch, N); kept distances of a and b: (*batch, N, N).
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
    outputs: Outputs = _PairMoments.apply(x, y, weights, exponent, method, variances)
    return outputs


class _PairMoments(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any) -> Outputs:
        run = _moments_op if torch.compiler.is_compiling() else _moments
        return run(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
        x, y, weights, ctx.exponent, ctx.method, _ = inputs
        ctx.save_for_backward(x, y, weights, *output[3:])
        ctx.mark_non_differentiable(*output[5:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> OptionalTensors:
        if all(grad is None for grad in grads):
            # In derivatives of third order a node may be reached through kept outputs alone.
            return (None,) * 6
        wanted = ctx.needs_input_grad[:3]
        pull = _pull_op if torch.compiler.is_compiling() else _PairPull.apply
        pulled = pull(*ctx.saved_tensors, *grads[:5], ctx.exponent, ctx.method, *wanted)
        kept = (g if want else None for g, want in zip(pulled, wanted, strict=True))
        return *kept, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Outputs, Any]:
        args = _leading(info.batch_size, in_dims, args)
        return _PairMoments.apply(*args), (0,) * 7


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
        tensors = ctx.saved_tensors
        pulled = _pull_of_pull(tensors[:3], tensors[3:], ctx.exponent, grads)
        samples, incoming = pulled[:3], pulled[3:]
        return *samples, *(None,) * 4, *incoming, *(None,) * 5

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        return _PairPull.apply(*_leading(info.batch_size, in_dims, args)), (0,) * 3


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
    xs = [t.reshape(-1, *t.shape[-2:]) for t in (x, y) if t is not None]
    w = None if weights is None else weights.reshape(-1, weights.shape[-1])
    with torch.autocast(x.device.type, enabled=False):
        moments = BACKENDS[method].forward(xs, w, exponent, variances)

    def out(t: Tensor | None) -> Tensor:
        return x.new_empty((*batch, 0)) if t is None else t.reshape(batch + t.shape[1:]).contiguous()

    products = (moments.products.get(pair) for pair in ((0, 1), (0, 0), (1, 1)))
    ab, aa, bb = (out(product) for product in products)
    a_rows, b_rows = (out(t) for t in _two(moments.rows))
    a, b = (out(t) for t in _two(moments.kept))
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
    n = x.shape[-2]
    xs = [t.reshape(-1, *t.shape[-2:]) for t in (x, y) if t is not None]
    w = None if weights is None else weights.reshape(-1, n)
    products = {
        pair: g.reshape(-1)
        for pair, g in zip(((0, 1), (0, 0), (1, 1)), (g_ab, g_aa, g_bb), strict=True)
        if g is not None
    }
    rows = [None if t is None else t.reshape(-1, n) for t in (u, v)][: len(xs)]
    means = [t.reshape(-1, n) for t in (a_rows, b_rows)[: len(xs)]]
    kept = [t.reshape(-1, n, n) for t in (a, b) if t.numel()]
    wanted = [x_wanted, y_wanted, weights_wanted] if y is not None else [x_wanted, weights_wanted]
    with torch.autocast(x.device.type, enabled=False):
        grads = BACKENDS[method].backward(
            xs, w, exponent, Incoming(products, rows, means), wanted, kept
        )
    if y is None:
        grads.insert(1, None)
    gx, gy, gw = (
        x.new_empty((*x.shape[:-2], 0)) if g is None or t is None else g.reshape(t.shape).contiguous()
        for g, t in zip(grads, (x, y, weights), strict=True)
    )
    return gx, gy, gw


def _pull_of_pull(
    samples: OptionalTensors,
    incoming: OptionalTensors,
    exponent: float,
    grads: OptionalTensors,
) -> list[Tensor | None]:
    """Return the gradients of the closed form, from the definition differentiated twice."""
    given = [k for k, t in enumerate(samples) if t is not None]
    coming = [k for k, t in enumerate(incoming) if t is not None]

    def moments(*present: Tensor) -> tuple[Tensor, ...]:
        x, y, weights = _spread(dict(zip(given, present, strict=True)), 3)
        assert x is not None
        x, y, weights = (None if t is None else t.to(wide(x)) for t in (x, y, weights))
        outputs = reference.pair_moments(x, x if y is None else y, weights, exponent)
        return tuple(outputs[k] for k in coming)

    def pull(*tensors: Tensor) -> tuple[Tensor, ...]:
        _, backward = torch.func.vjp(moments, *tensors[: len(given)])
        grads: tuple[Tensor, ...] = backward(tensors[len(given) :])
        return grads

    inputs = [samples[k] for k in given] + [incoming[k] for k in coming]
    outputs, backward = torch.func.vjp(pull, *inputs)
    cotangents = tuple(
        torch.zeros_like(output) if grads[k] is None else grads[k]
        for k, output in zip(given, outputs, strict=True)
    )
    pulled = dict(zip([*given, *(3 + k for k in coming)], backward(cotangents), strict=True))
    return _spread(pulled, 8)


def _spread(found: dict[int, Tensor], size: int) -> list[Tensor | None]:
    return [found.get(k) for k in range(size)]


def _two(tensors: list[Tensor]) -> list[Tensor | None]:
    return [*tensors, None, None][:2]


_SAMPLES = "Tensor x, Tensor? y, Tensor? weights"

_moments_op = torch.library.custom_op(
    "dcorr::pair_moments",
    _moments,
    mutates_args=(),
    schema=f"({_SAMPLES}, float exponent, str method, bool variances) -> ({', '.join(['Tensor'] * 7)})",
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
        empty(kept, n, n),
        empty(kept and two, n, n),
    )


@_pull_op.register_fake
def _(x: Tensor, y: Tensor | None, weights: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    wanted = rest[-3:]
    return tuple(
        x.new_empty(t.shape if t is not None and want else (*x.shape[:-2], 0))
        for t, want in zip((x, y, weights), wanted, strict=True)
    )
