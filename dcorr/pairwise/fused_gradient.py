r"""The gradient of the fused sums over pairs, in Triton.

With incoming gradients of the mean products and ``u`` of the row means, both places in which a pair
stands taken together, the force between two points is

.. math:: \left(2 w_i w_j (g_{ab} B_{ij} + 2 g_{aa} A_{ij}) + u_i w_j + w_i u_j\right)
    \alpha |x_i - x_j|^{\alpha - 2},

and the gradient is the sum of forces times differences. Distances are computed a second time, from
what the forward pass had: no matrix is kept. Here the row means are known, so powers are shifted by
them, and what is shifted is centred.
"""

# Kernels are compiled from their source by Triton, whose types mypy does not know.
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

from dcorr.pairwise.fused_kernels import unit_of
from dcorr.pairwise.fused_tiles import add_forces, own_points, shifted, slope, store_forces


@triton.jit
def factors_of(x_scales, y_scales, gradients, b, problems, share, SCALED, HALF):
    """Return the factors of A and B in the forces, and of u, in units of the scaled points."""
    x_scale, x_unit = unit_of(x_scales, b, SCALED, HALF)
    y_scale, y_unit = unit_of(y_scales, b, SCALED, HALF)
    both = 2.0 * share * share * x_unit * y_unit * tl.load(gradients + b)
    own_x = 4.0 * share * share * x_unit * x_unit * tl.load(gradients + problems + b)
    own_y = 4.0 * share * share * y_unit * y_unit * tl.load(gradients + 2 * problems + b)
    # Divided before they are narrow.
    return both, own_x, own_y, x_scale, x_unit, y_scale, y_unit


@triton.jit
def force_of(
    a, e, own, other, u_own, u, w_own, w, squared, pair,
    HALF: tl.constexpr, TWO: tl.constexpr, WEIGHTED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Return the forces of a tile, 0 where there is no pair."""
    total = a * own
    if TWO:
        total += e * other
    if WEIGHTED:
        total *= w_own[:, None] * w[None, :]
    if ROWS:
        if WEIGHTED:
            total += u_own[:, None] * w[None, :] + w_own[:, None] * u[None, :]
        else:
            total += u_own[:, None] + u[None, :]
    return tl.where(pair, total * slope(squared, HALF), 0.0)


@triton.jit
def gradient_kernel(
    x, x_hi, x_lo, x_norms, x_scales, p, y, y_hi, y_lo, y_norms, y_scales, q,
    shifts, weights, gradients, u, v, x_grad, y_grad, w_grad,
    problems, n, row_blocks, splits, share,
    X_FORM: tl.constexpr, X_WIDTH: tl.constexpr, Y_FORM: tl.constexpr, Y_WIDTH: tl.constexpr,
    HALF: tl.constexpr, TWO: tl.constexpr, WEIGHTED: tl.constexpr, X_ROWS: tl.constexpr,
    Y_ROWS: tl.constexpr, SCALED: tl.constexpr, X_WANTED: tl.constexpr, Y_WANTED: tl.constexpr,
    W_WANTED: tl.constexpr, X_FEATURES: tl.constexpr, Y_FEATURES: tl.constexpr, C: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write the gradients ``(splits, B, N, P)`` of the samples and ``(splits, B, N)`` of weights.

    ``gradients`` is ``(3, B)``: of the products of both sides, and of each with itself. The
    gradient of the weights lacks the diagonal and the shifts.
    """
    program = tl.program_id(0)
    part = program % splits
    b = program // splits // row_blocks
    rows = (program // splits % row_blocks) * BM + tl.arange(0, BM)
    here = rows < n
    at = b.to(tl.int64) * n
    second = n.to(tl.int64) * problems
    x += at * p
    x_hi += at * tl.cdiv(p, X_WIDTH) * X_WIDTH
    x_lo += at * tl.cdiv(p, X_WIDTH) * X_WIDTH
    x_norms += at
    shifts += at
    weights += at
    u += at
    x_grad += (part * second + at) * p
    mean = tl.full([], 1.0, tl.float64) if WEIGHTED else 1.0 / n.to(tl.float64)
    both, own_x, own_y, x_scale, x_unit, y_scale, y_unit = factors_of(
        x_scales, y_scales, gradients, b, problems, mean, SCALED, HALF
    )
    x_inverse = tl.load(x_scales + problems + b) if SCALED else 1.0
    x_own_hi, x_own_lo, x_own_norms = own_points(
        x_hi, x_lo, x_norms, rows, here, p, X_FORM, X_WIDTH
    )
    a_own = tl.load(shifts + rows, mask=here, other=0.0)
    w_own = tl.load(weights + rows, mask=here, other=0.0).to(C) if WEIGHTED else a_own
    u_factor = mean * x_unit / x_scale
    u_own = (tl.load(u + rows, mask=here, other=0.0) * u_factor).to(C) if X_ROWS else a_own
    x_total = tl.zeros([BM, X_FEATURES], C)
    x_mass = tl.zeros([BM], tl.float64)
    if TWO:
        y += at * q
        y_hi += at * tl.cdiv(q, Y_WIDTH) * Y_WIDTH
        y_lo += at * tl.cdiv(q, Y_WIDTH) * Y_WIDTH
        y_norms += at
        v += at
        y_grad += (part * second + at) * q
        y_inverse = tl.load(y_scales + problems + b) if SCALED else 1.0
        y_own_hi, y_own_lo, y_own_norms = own_points(
            y_hi, y_lo, y_norms, rows, here, q, Y_FORM, Y_WIDTH
        )
        b_own = tl.load(shifts + second + rows, mask=here, other=0.0)
        v_factor = mean * y_unit / y_scale
        v_own = (tl.load(v + rows, mask=here, other=0.0) * v_factor).to(C) if Y_ROWS else b_own
        y_total = tl.zeros([BM, Y_FEATURES], C)
        y_mass = tl.zeros([BM], tl.float64)
    w_total = tl.zeros([BM], tl.float64)
    first = part * share
    for start in range(first, tl.minimum(first + share, n), BN):
        columns = start + tl.arange(0, BN)
        there = columns < n
        pair = (rows[:, None] != columns[None, :]) & there[None, :]
        started = start > first
        w = tl.load(weights + columns, mask=there, other=0.0).to(C) if WEIGHTED else a_own
        a, x_squared, x_near, x_right_hi, x_right_lo = shifted(
            x, x_hi, x_lo, x_norms, x_inverse, shifts, x_own_hi, x_own_lo, x_own_norms, a_own,
            rows, columns, here, there, pair, p, X_FORM, X_WIDTH, HALF, True, SCALED, C,
        )  # fmt: skip
        e = a
        if TWO:
            e, y_squared, y_near, y_right_hi, y_right_lo = shifted(
                y, y_hi, y_lo, y_norms, y_inverse, shifts + second, y_own_hi, y_own_lo,
                y_own_norms, b_own, rows, columns, here, there, pair, q,
                Y_FORM, Y_WIDTH, HALF, True, SCALED, C,
            )  # fmt: skip
        if X_WANTED:
            uj = u_own
            if X_ROWS:
                uj = (tl.load(u + columns, mask=there, other=0.0) * u_factor).to(C)
            force = force_of(
                a, e, (own_x / x_scale).to(C), (both / x_scale).to(C), u_own, uj, w_own, w,
                x_squared, pair, HALF, TWO, WEIGHTED, X_ROWS,
            )  # fmt: skip
            x_total, x_mass = add_forces(
                x_total, x_mass, x_grad, force, x_near, x_right_hi, x_right_lo, started,
                x, x_hi, x_lo, rows, columns, here, there, p, x_inverse,
                X_FORM, X_WIDTH, SCALED, C,
            )  # fmt: skip
        if Y_WANTED:
            vj = v_own
            if Y_ROWS:
                vj = (tl.load(v + columns, mask=there, other=0.0) * v_factor).to(C)
            force = force_of(
                e, a, (own_y / y_scale).to(C), (both / y_scale).to(C), v_own, vj, w_own, w,
                y_squared, pair, HALF, TWO, WEIGHTED, Y_ROWS,
            )  # fmt: skip
            y_total, y_mass = add_forces(
                y_total, y_mass, y_grad, force, y_near, y_right_hi, y_right_lo, started,
                y, y_hi, y_lo, rows, columns, here, there, q, y_inverse,
                Y_FORM, Y_WIDTH, SCALED, C,
            )  # fmt: skip
        if W_WANTED:
            terms = a * a * (own_x / 2).to(C)
            if TWO:
                terms += a * e * both.to(C) + e * e * (own_y / 2).to(C)
            terms *= w[None, :]
            if X_ROWS:
                uj = (tl.load(u + columns, mask=there, other=0.0) * x_unit).to(C)
                terms += a * uj[None, :]
            if Y_ROWS:
                vj = (tl.load(v + columns, mask=there, other=0.0) * y_unit).to(C)
                terms += e * vj[None, :]
            w_total += tl.sum(terms, 1).to(tl.float64)
    if X_WANTED:
        store_forces(
            x_total, x_mass, x_grad, x_own_hi, x_own_lo, x_hi, x_lo, rows, here, p, X_FORM, X_WIDTH
        )
    if Y_WANTED:
        store_forces(
            y_total, y_mass, y_grad, y_own_hi, y_own_lo, y_hi, y_lo, rows, here, q, Y_FORM, Y_WIDTH
        )
    if W_WANTED:
        tl.store(w_grad + part * second + at + rows, w_total, mask=here)
