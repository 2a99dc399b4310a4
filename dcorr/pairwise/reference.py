"""The dense definition in plain torch operations: what every backend must reproduce.

Nothing here is fast: all differences are laid out, ``n * n * p`` numbers. It is differentiable any
number of times, which makes it the backward of the backward of every backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcorr.pairwise.sample import wide


def distances(x: Tensor, exponent: float) -> Tensor:
    r"""Return :math:`|x_i - x_j|^\alpha`, ``(*batch, n, n)``, with derivative 0 where it is 0."""
    squared = (x.unsqueeze(-2) - x.unsqueeze(-3)).square().sum(-1)  # (*batch, N, N)
    if exponent == 2.0:
        return squared
    coincident = squared == 0  # False for NaN, which must stay NaN
    # Both branches of a `where` are differentiated, so the root must not see the zeros at all.
    powered = torch.where(coincident, 1.0, squared).pow(exponent / 2)
    return torch.where(coincident, 0.0, powered)


def moments_of_distances(
    a: Tensor, b: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    r"""Return the pair moments of two ``(*batch, n, n)`` matrices of distances.

    With weights :math:`w` of sum 1 (:math:`1/n` where there are none), row means :math:`r = a w`
    and :math:`A_{ij} = a_{ij} - r_i - r_j + w \cdot r` they are :math:`w^T (A \circ B) w`,
    :math:`w^T (A \circ A) w`, :math:`w^T (B \circ B) w`, each of shape ``batch``, and the row
    means of ``a`` and of ``b``, each ``(*batch, n)``.
    """
    if weights is None:
        weights = a.new_full(a.shape[-1:], 1.0 / a.shape[-1])
    a_rows = (a * weights.unsqueeze(-2)).sum(-1)
    b_rows = (b * weights.unsqueeze(-2)).sum(-1)
    a, b = (_centre(m, rows, weights) for m, rows in ((a, a_rows), (b, b_rows)))
    pairs = weights.unsqueeze(-1) * weights.unsqueeze(-2)  # (*batch, N, N)
    ab, aa, bb = ((pairs * m).sum((-2, -1)) for m in (a * b, a * a, b * b))
    return ab, aa, bb, a_rows, b_rows


def _centre(a: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    mean = (rows * weights).sum(-1)[..., None, None]
    return a - rows.unsqueeze(-1) - rows.unsqueeze(-2) + mean


def pair_moments(
    x: Tensor, y: Tensor, weights: Tensor | None, exponent: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the pair moments of two samples ``(*batch, n, p)`` and ``(*batch, n, q)``."""
    return moments_of_distances(distances(x, exponent), distances(y, exponent), weights)


def pull_of_pull(
    samples: Sequence[Tensor | None],
    incoming: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    exponent: float,
) -> list[Tensor | None]:
    """Differentiate the gradient of the definition once more.

    Args:
        samples: x, y (``None`` for x again) and weights.
        incoming: the gradients with respect to the five moments from which the gradient was made.
        grads: the gradients that come in for the gradients of ``samples``.
        exponent: of the distances.

    Returns:
        The gradients of the three ``samples`` and of the five ``incoming``.
    """
    given = [k for k, t in enumerate(samples) if t is not None]
    coming = [k for k, t in enumerate(incoming) if t is not None]
    tensors = [t for t in (*samples, *incoming) if t is not None]

    def moments(*present: Tensor) -> tuple[Tensor, ...]:
        found = {k: t.to(wide(t)) for k, t in zip(given, present, strict=True)}
        outputs = pair_moments(found[0], found.get(1, found[0]), found.get(2), exponent)
        return tuple(outputs[k] for k in coming)

    def pull(*present: Tensor) -> Any:
        return _vjp(moments, *present[: len(given)])[1](present[len(given) :])

    gradients, backward = _vjp(pull, *tensors)
    cotangents = (grads[k] for k in given)
    pulled = backward(
        tuple(
            torch.zeros_like(gradient) if cotangent is None else cotangent
            for gradient, cotangent in zip(gradients, cotangents, strict=True)
        )
    )
    found = dict(zip([*given, *(3 + k for k in coming)], pulled, strict=True))
    return [found.get(k) for k in range(8)]


def _vjp(function: Any, *inputs: Tensor) -> tuple[Any, Any]:
    outputs, pull, *_ = torch.func.vjp(function, *inputs)
    return outputs, pull
