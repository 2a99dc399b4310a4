"""All pairs at once: distances are computed once and kept, and their sums are taken in float64.

The plainest backend and, for few samples, the fastest. What counts there is the number of steps,
so both passes take as few as they can.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr.pairwise.backend import PAIRS, Incoming, Moments
from dcorr.pairwise.centring import powers
from dcorr.pairwise.preparation import normalised, prepare, work_dtype
from dcorr.pairwise.sample import Sample, slopes, wide


def forward(
    samples: list[Tensor], weights: Tensor | None, exponent: float, variances: bool
) -> Moments:
    """Return the moments of one or two samples; distances are kept, as they are and centred."""
    points, _ = prepare(samples, None)
    w = None if weights is None else normalised(weights)
    units = [_unit(sample, exponent) for sample in points]
    distances, rows, matrices = [], [], []
    for sample, unit in zip(points, units, strict=True):
        d = sample.all_distances()
        a = powers(d.to(wide(d)), exponent)
        r = a.mean(-1, keepdim=True) if w is None else a @ w.unsqueeze(-1)  # (B, N, 1)
        # Without weights half the sum over n: to take the mean is a step more.
        total = r.sum(-2, keepdim=True) if w is None else w.unsqueeze(-2) @ r
        share = 0.5 / r.shape[-2] if w is None else 0.5
        half = torch.sub(r, total, alpha=share)
        distances.append(d)
        rows.append(r.squeeze(-1) if unit is None else r.squeeze(-1) * unit)
        matrices.append((a - half).sub_(half.mT))
    products = {}
    for k, m in PAIRS:
        if m < len(points) and (variances or k != m):
            product = _mean_product(matrices[k], matrices[m], w)
            for unit in (units[k], units[m]):
                product = product if unit is None else product * unit[:, 0]
            products[k, m] = product
    centred = [a.to(d.dtype) for a, d in zip(matrices, distances, strict=True)]
    return Moments(products, rows, distances + centred)


def backward(
    samples: list[Tensor],
    weights: Tensor | None,
    exponent: float,
    incoming: Incoming,
    wanted: list[bool],
    kept: list[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of the samples and of the weights."""
    points, _ = prepare(samples, None)
    pull = _Pull(points, weights, exponent, incoming, kept)
    grads = [pull.of_sample(k) if wanted[k] else None for k in range(len(points))]
    return [*grads, pull.of_weights() if wanted[-1] else None]


def keeps(samples: list[Tensor], exponent: float) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return the shapes and dtypes of the matrices that ``forward`` keeps."""
    n = samples[0].shape[-2]
    return [((n, n), work_dtype(samples))] * (2 * len(samples))


class _Pull:
    """The gradient of the moments; see ``pull.py`` for the formula."""

    def __init__(
        self,
        points: list[Sample],
        weights: Tensor | None,
        exponent: float,
        incoming: Incoming,
        kept: list[Tensor],
    ) -> None:
        self.points = points
        self.exponent = exponent
        self.incoming = incoming
        self.distances, self.matrices = kept[: len(points)], kept[len(points) :]
        self.dtype = kept[0].dtype
        self.weights = None if weights is None else normalised(weights)
        self.units = [_unit(sample, exponent) for sample in points]

    def of_sample(self, k: int) -> Tensor:
        """Return the gradient of a sample."""
        d = self.distances[k]
        inverse = slopes(d, 1.0)
        slope = inverse if self.exponent == 1.0 else slopes(d, self.exponent)
        terms = [
            (self.matrices[j if i == k else i], self._factor(i, j, g, k))
            for (i, j), g in self.incoming.products.items()
            if k in (i, j)
        ]
        if self.weights is None and self.incoming.rows[k] is None and len(terms) == 1:
            ((matrix, factor),) = terms
            forces = matrix * slope
            if isinstance(factor, float):  # cheaper to apply to the sum of the pulls
                return self.points[k].pull_all(forces, d, inverse, factor)
            forces *= factor
        else:
            forces = self._gradient_of_powers(k, terms).mul_(slope)
        return self.points[k].pull_all(forces, d, inverse)

    def of_weights(self) -> Tensor:
        """Return the gradient of weights of sum 1, up to a constant along them."""
        assert self.weights is not None
        w = self.weights
        grad = torch.zeros_like(w)
        for (i, j), g in self.incoming.products.items():
            product = self.matrices[i].to(w.dtype) * self.matrices[j]
            rows = (product @ w.unsqueeze(-1)).squeeze(-1)
            for unit in (self.units[i], self.units[j]):
                rows = rows if unit is None else rows * unit
            grad += 2 * g.unsqueeze(-1) * rows
        sides = zip(self.distances, self.units, self.incoming.rows, strict=True)
        for d, unit, u in sides:
            if u is not None:
                a = powers(d.to(w.dtype), self.exponent)
                grad += (a @ (u if unit is None else u * unit).unsqueeze(-1)).squeeze(-1)
        return grad

    def _factor(self, i: int, j: int, g: Tensor, k: int) -> Tensor | float:
        """Return what one matrix of a product is multiplied by in the gradient of side k."""
        share = 1.0 if self.weights is not None else 1.0 / self.distances[0].shape[-1] ** 2
        number = (4.0 if i == j else 2.0) * share
        if len(g) == 1 and g.device.type == "cpu" and self.units[i] is self.units[j] is None:
            return number * g.item()
        factor = g.view(-1, 1) * number
        for scale in (self.units[i], self.units[j]):
            factor = factor if scale is None else factor * scale
        return self._narrow(factor, k).unsqueeze(-1)

    def _narrow(self, factor: Tensor, k: int) -> Tensor:
        """Bring a factor to the dtype and, by the slopes, to the unit of the points."""
        scale = self.points[k].scale
        factor = factor if scale is None else factor / scale[..., 0]
        return factor.to(self.dtype)  # torch multiplies two dtypes many times slower than one

    def _gradient_of_powers(self, k: int, terms: list[tuple[Tensor, Tensor | float]]) -> Tensor:
        """Return the gradient with respect to ``a_ij``, both places of each pair together."""
        n = self.matrices[k].shape[-1]
        total = torch.zeros_like(self.matrices[k])
        for matrix, factor in terms:
            total += matrix * factor
        w = None if self.weights is None else self.weights.to(self.dtype)
        if w is not None:
            total *= w.unsqueeze(-1) * w.unsqueeze(-2)
        u = self.incoming.rows[k]
        if u is not None:
            unit = self.units[k]
            u = self._narrow(u if unit is None else u * unit, k).unsqueeze(-1)
            ends = (u / n).expand_as(total) if w is None else u * w.unsqueeze(-2)
            total += ends
            total += ends.mT
        return total


def _unit(sample: Sample, exponent: float) -> Tensor | None:
    """Return what the powers of a sample's distances are measured in, ``(B, 1)``."""
    scale = sample.scale
    return None if scale is None else scale[..., 0].to(wide(scale)).pow(exponent)


def _mean_product(a: Tensor, b: Tensor, w: Tensor | None) -> Tensor:
    """Return the mean product over all pairs."""
    if w is not None:
        return torch.einsum("bi,bij,bj->b", w, a * b, w)
    n = a.shape[-1]
    return torch.bmm(a.view(-1, 1, n * n), b.view(-1, n * n, 1)).view(-1) / n**2
