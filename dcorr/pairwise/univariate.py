r"""One-dimensional samples in O(n log n): exact, with ties, without a matrix.

In one dimension :math:`|x_i - x_j| = s_{ij} (x_i - x_j)` with a sign ``s`` that the order of the
sample tells, 0 for ties. So sums over a sample's distances are differences of running sums along
its order, and what mixes two samples,

.. math:: T^x_i = \sum_j w_j s^x_{ij} |y_i - y_j|

and likewise :math:`T^y`, is made of such sums and of the sums over dominated points in
:mod:`dcorr.pairwise.univariate_sums`. :math:`2 w_i T^x_i` is the derivative of
:math:`S = \sum_{ij} w_i w_j |x_i - x_j| |y_i - y_j|` with respect to :math:`x_i`, and S is
homogeneous in x, which makes it :math:`2 \sum_i w_i x_i T^x_i`: the value comes with the gradient.

The method is due to Huo and Székely 2016, "Fast computing for distance covariance", and Chaudhuri
and Hu 2019, "A fast algorithm for computing distance correlation".
"""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr.pairwise import univariate_sums as order_sums
from dcorr.pairwise.backend import Incoming, Moments
from dcorr.pairwise.sample import wide
from dcorr.pairwise.univariate_line import Line, Plane


def forward(
    samples: list[Tensor], weights: Tensor | None, exponent: float, variances: bool
) -> Moments:
    """Return the moments; the orders are kept, and the sums ``T`` of which gradients are made."""
    keys = [order_sums.sortable(x[..., 0]) for x in samples]
    joint = order_sums.joint_order(*keys) if len(keys) == 2 else None
    orders = [order_sums.argsort(keys[0])] if joint is None else [joint.by_x, joint.by_y]
    lines = [Line(x, order, weights) for x, order in zip(samples, orders, strict=True)]
    parts = [line.row_means() for line in lines]
    rows = [below + above for below, above in parts]
    products = {}
    kept = [torch.stack(orders, -2)]
    if joint is not None:
        mixed = Plane(lines[0], lines[1], joint).mixed(rows)
        products[0, 1] = _covariance(lines, rows, mixed[0])
        kept.append(torch.stack(mixed, -2))
    if variances:
        products |= {(k, k): _variance(line, *parts[k]) for k, line in enumerate(lines)}
    in_place = [line.put_back(r) for line, r in zip(lines, rows, strict=True)]
    return Moments(products, in_place, kept)


def backward(
    samples: list[Tensor],
    weights: Tensor | None,
    exponent: float,
    incoming: Incoming,
    wanted: list[bool],
    kept: list[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of the samples and of the weights."""
    orders = kept[0].unbind(-2)
    lines = [Line(x, order, weights) for x, order in zip(samples, orders, strict=True)]
    grads: list[Tensor | None] = [None] * len(wanted)
    for k in range(len(lines)):
        if wanted[k]:
            mixed = kept[1][:, k] if len(kept) > 1 else None
            grads[k] = _gradient_of_points(k, lines, mixed, incoming)
    if weights is not None and wanted[-1]:
        grads[-1] = _gradient_of_weights(lines, incoming)
    return grads


def keeps(samples: list[Tensor], exponent: float) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return the shapes and dtypes of what ``forward`` keeps: orders, and sums of two samples."""
    sides, n = len(samples), samples[0].shape[-2]
    orders = ((sides, n), torch.int64)
    return [orders, ((2, n), wide(samples[0]))] if sides == 2 else [orders]


def _covariance(lines: list[Line], rows: list[Tensor], mixed: Tensor) -> Tensor:
    """Return the mean product of centred distances, from T of the first sample."""
    a, b = lines
    means = [line.mean(r) for line, r in zip(lines, rows, strict=True)]
    first = a.put_back(a.weigh(rows[0] - means[0]))
    second = b.put_back(rows[1] - means[1])
    excess = 2 * (first * second).mean(-1, keepdim=True) + means[0] * means[1]
    value = 2 * a.mean(a.points * mixed) - excess
    return value.squeeze(-1)


def _variance(line: Line, below: Tensor, above: Tensor) -> Tensor:
    r"""Return the mean square of centred distances, from the two parts of their row means.

    With the parts :math:`q_i, p_i \ge 0` the row means are q + p and the centred points q - p. So
    the mean of :math:`a_{ij}^2` is twice that of :math:`(q_i - p_i)^2`, and all that is left of
    them less the squares of the row means is :math:`m^2 - 8 \sum_i w_i p_i q_i`.
    """
    value = line.mean(below + above).square() - 8 * line.mean(below * above)
    return value.squeeze(-1)


def _gradient_of_points(
    k: int, lines: list[Line], mixed: Tensor | None, incoming: Incoming
) -> Tensor:
    r"""Return the gradient of a sample, ``(B, N, 1)``.

    With :math:`h = 2 g_{ab} r^b + 4 g_{aa} r^a` and its mean c it is
    :math:`w_i (2 g_{ab} T_i + 4 g_{aa} x_i) + v_i \sum_j s_{ij} w_j + w_i \sum_j s_{ij} v_j`
    with :math:`v = u - w (h - c / 2)`, for weights of sum 1.
    """
    line, rows = lines[k], incoming.row_means
    force, centre = (torch.zeros_like(line.points) for _ in range(2))
    own = line.points - line.mean(line.points)
    for pair, g in incoming.products.items():
        if k in pair:
            other = pair[0] + pair[1] - k
            factor = (4 if other == k else 2) * g.unsqueeze(-1)
            force += factor * (own if mixed is None or other == k else mixed)
            centre += factor * rows[other]
    centre = line.take(centre)
    n = centre.shape[-1]
    v = line.weigh(line.mean(centre) / 2 - centre) / n
    u = incoming.rows[k]
    if u is not None:
        v = v + line.take(u)
    grad = line.weigh(force + line.signed(v)) / n + v * (line.signed(line.weights) / n)
    # The terms of a constant sample cancel but for rounding.
    return line.put_back(grad.masked_fill(line.constant, 0.0)).unsqueeze(-1)


def _gradient_of_weights(lines: list[Line], incoming: Incoming) -> Tensor:
    r"""Return the gradient with respect to weights of sum 1, up to a constant along them.

    It is made of :math:`2 g_{ab} \sum_j w_j A_{ij} B_{ij} + \sum_j a_{ij} u_j`, the first sum
    multiplied out.
    """
    rows = incoming.row_means
    grad = torch.zeros_like(rows[0])
    means = [line.mean(line.take(r)) for line, r in zip(lines, rows, strict=True)]
    for (k, m), g in incoming.products.items():
        a, b = lines[k], lines[m]
        total = a.put_back(_products(a, b, k == m))
        total -= rows[k] * rows[m] - means[k] * rows[m] - means[m] * rows[k]
        for line, r in ((a, rows[m]), (b, rows[k])):
            total -= line.put_back(line.distances(line.weigh(line.take(r)))) / r.shape[-1]
        grad += 2 * g.unsqueeze(-1) * total
    for line, u in zip(lines, incoming.rows, strict=True):
        if u is not None:
            grad += line.put_back(line.distances(line.take(u)))
    return grad


def _products(a: Line, b: Line, same: bool) -> Tensor:
    """Return the row means of products of distances, in the order of the first sample."""
    if same:
        x = a.points
        return x.square() + a.mean(x.square()) - 2 * x * a.mean(x)
    ranks, heights = (order_sums.inverse(t) for t in (a.order, b.order))
    ranks, heights = ranks.gather(-1, b.order), heights.gather(-1, a.order)
    return Plane(a, b, order_sums.JointOrder(a.order, b.order, ranks, heights)).products()
