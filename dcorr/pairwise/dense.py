"""All pairs at once: distances are computed once and kept, and their sums are taken in float64.

The plainest backend and, for few samples, the fastest: what counts there is the number of steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr.pairwise.backend import Incoming, Moments, Pair
from dcorr.pairwise.centring import mean, powers, slopes
from dcorr.pairwise.sample import Sample, prepare, wide, work_dtype


def forward(
    samples: list[Tensor], weights: Tensor | None, exponent: float, variances: bool
) -> Moments:
    """Return the moments of one or two samples and their distances."""
    points, weights = prepare(samples, weights)
    every = slice(0, samples[0].shape[-2])
    kept = [sample.distances(every, every) for sample in points]
    w = None if weights is None else weights.to(wide(weights))
    matrices, rows = [], []
    for sample, d in zip(points, kept, strict=True):
        a = _powers(sample, d, exponent)
        rows.append(a.mean(-1) if w is None else (a @ w.unsqueeze(-1)).squeeze(-1))
        matrices.append(_centre(a, rows[-1], w))
    products = {}
    for k, m in _pairs(len(samples), variances):
        product = matrices[k] * matrices[m]
        products[k, m] = (
            product.mean((-2, -1)) if w is None else torch.einsum("bi,bij,bj->b", w, product, w)
        )
    return Moments(products, rows, kept)


def backward(
    samples: list[Tensor],
    weights: Tensor | None,
    exponent: float,
    incoming: Incoming,
    wanted: list[bool],
    kept: list[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of the samples and of the weights."""
    points, weights = prepare(samples, weights)
    every = slice(0, samples[0].shape[-2])
    w = None if weights is None else weights.to(wide(weights))
    powered = [_powers(sample, d, exponent) for sample, d in zip(points, kept, strict=True)]
    matrices = [_centre(a, rows, w) for a, rows in zip(powered, incoming.row_means, strict=True)]
    grads: list[Tensor | None] = [None] * len(wanted)
    for k, (sample, d) in enumerate(zip(points, kept, strict=True)):
        if wanted[k]:
            total = _gradient_of_powers(k, matrices, w, incoming)
            if sample.scale is not None and exponent != 1.0:
                # The slopes are in the unit of d, the powers in that of x.
                total *= sample.scale.to(total.dtype).pow(exponent - 1)
            grads[k] = grad = torch.zeros_like(sample.x)
            sample.pull(grad, total.to(d.dtype).mul_(slopes(d, exponent)), d, every, every)
    if weights is not None and wanted[-1]:
        assert w is not None
        grads[-1] = _gradient_of_weights(powered, matrices, w, incoming).to(weights.dtype)
    return grads


def _powers(sample: Sample, d: Tensor, exponent: float) -> Tensor:
    """Return the distances to the power ``exponent``, in float64 and in the unit of the points."""
    a = d.to(wide(d))
    return powers(a if sample.scale is None else a * sample.scale, exponent)


def _centre(a: Tensor, rows: Tensor, w: Tensor | None) -> Tensor:
    half = rows - mean(rows, w).unsqueeze(-1) / 2
    return (a - half.unsqueeze(-1)).sub_(half.unsqueeze(-2))


def _pairs(sides: int, variances: bool) -> list[Pair]:
    both = [(0, 1)] if sides == 2 else []
    return both + ([(k, k) for k in range(sides)] if variances else [])


def _gradient_of_powers(
    k: int, matrices: list[Tensor], w: Tensor | None, incoming: Incoming
) -> Tensor:
    """Return the gradient with respect to ``a_ij``, with both places in which each pair stands."""
    n = matrices[k].shape[-1]
    terms = [
        matrices[m if k == j else j] * (g * (4.0 if j == m else 2.0)).view(-1, 1, 1)
        for (j, m), g in incoming.products.items()
        if k in (j, m)
    ]
    if w is not None:
        terms = [term * (w.unsqueeze(-1) * w.unsqueeze(-2)) for term in terms]
    u = incoming.rows[k]
    if u is not None:
        if w is None:
            terms.append((u.unsqueeze(-1) + u.unsqueeze(-2)) * n)
        else:
            ends = u.unsqueeze(-1) * w.unsqueeze(-2)
            terms.append(ends + ends.mT)
    if not terms:
        return torch.zeros_like(matrices[k])
    total = sum(terms[1:], start=terms[0])
    return total / n**2 if w is None else total


def _gradient_of_weights(
    powered: list[Tensor], matrices: list[Tensor], w: Tensor, incoming: Incoming
) -> Tensor:
    """Return the gradient with respect to weights of sum 1, up to a constant along them."""
    grad = torch.zeros_like(w)
    for (k, m), g in incoming.products.items():
        product = matrices[k] * matrices[m]
        grad += 2 * g.unsqueeze(-1) * (product @ w.unsqueeze(-1)).squeeze(-1)
    for a, u in zip(powered, incoming.rows, strict=True):
        if u is not None:
            grad += (a @ u.unsqueeze(-1)).squeeze(-1)
    return grad


def keeps(samples: list[Tensor], exponent: float) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return the shapes and dtypes of the distances that ``forward`` keeps."""
    n = samples[0].shape[-2]
    return [((n, n), work_dtype(samples)) for _ in samples]
