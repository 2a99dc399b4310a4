"""Parts of the fused kernels: what is done with one tile of pairs, in Triton.

Points come in one of four forms. Differences of features are exact and cost two instructions a
feature and pair: they are taken for few features (``FEW``) and wherever float64 is computed in
(``MANY``). All else is a product on the tensor cores, of points split into two halves of float16
(``HALVES``, or ``CHUNKS`` where the features do not fit into one tile).

The halves: a point, centred and in a unit that brings the largest number into [2^13, 2^15], is
``hi + lo`` with 11 bits each, and ``hi·hi + hi·lo + lo·hi`` is its product to 22 bits. That is what
three passes of TF32 give too, but float16 runs at twice their rate, and its tiles may be multiplied
from either side, so that one tile in shared memory serves distances and forces.
"""

# Kernels are compiled from their source by Triton, whose types mypy does not know.
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

# In this order: what is below HALVES goes by differences.
FEW = tl.constexpr(0)
MANY = tl.constexpr(1)
HALVES = tl.constexpr(2)
CHUNKS = tl.constexpr(3)

# Halves are of points in units of scale / UNIT, so that small numbers too have 22 bits: float16
# ends at 2^-24.
UNIT = tl.constexpr(2.0**14)
PER_SQUARED_UNIT = tl.constexpr(2.0**-28)

# A product keeps few digits of small distances: it is off by about 2^-22 (|x|² + |y|²). Pairs whose
# squared distance is below this share of |x|² + |y|² are computed again from differences. At the
# border a distance has lost 1e-4 of itself, which is 4e-6 of a typical distance.
NEAR = tl.constexpr(1e-3)


@triton.jit
def feature(x, points, there, p, k, inverse, SCALED: tl.constexpr, C: tl.constexpr):
    """Return feature ``k`` of some points, in units of the sample's scale."""
    values = tl.load(x + points.to(tl.int64) * p + k, mask=there, other=0.0).to(C)
    # A power of two: exact, so coincident points stay coincident.
    return values * inverse if SCALED else values


@triton.jit
def halves(hi, lo, points, there, p, first, FORM: tl.constexpr, WIDTH: tl.constexpr):
    """Return the halves of some points, from feature ``first`` on."""
    # Features are padded with zeros to whole tiles; this way Triton knows that rows are aligned.
    stride = WIDTH if FORM == HALVES else tl.cdiv(p, WIDTH) * WIDTH
    offsets = points.to(tl.int64)[:, None] * stride + first + tl.arange(0, WIDTH)[None, :]
    mask = there[:, None]
    return tl.load(hi + offsets, mask=mask, other=0.0), tl.load(lo + offsets, mask=mask, other=0.0)


@triton.jit
def split(values):
    """Return the halves of numbers below 2^16."""
    hi = values.to(tl.float16)
    return hi, (values - hi.to(tl.float32)).to(tl.float16)


@triton.jit
def product(left_hi, left_lo, right_hi, right_lo):
    """Return the matrix product of two split matrices."""
    # Tensor cores cut off what does not fit where they add. The small products first: cut off are
    # digits of small numbers then.
    small = tl.dot(left_hi, right_lo)
    small = tl.dot(left_lo, right_hi, small)
    return tl.dot(left_hi, right_hi, small)


@triton.jit
def squared_differences(
    total, x, rows, columns, row_there, column_there, p, inverse,
    FORM: tl.constexpr, WIDTH: tl.constexpr, SCALED: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Add the squared distances of a tile of pairs, from differences, to ``total``."""
    if FORM == FEW:
        for k in tl.static_range(WIDTH):
            left = feature(x, rows, row_there, p, k, inverse, SCALED, C)
            right = feature(x, columns, column_there, p, k, inverse, SCALED, C)
            d = left[:, None] - right[None, :]
            total += d * d
    else:
        for k in tl.range(0, p, num_stages=1):
            left = feature(x, rows, row_there, p, k, inverse, SCALED, C)
            right = feature(x, columns, column_there, p, k, inverse, SCALED, C)
            d = left[:, None] - right[None, :]
            total += d * d
    return total


@triton.jit
def squares(
    x, hi, lo, norms, inverse, left_hi, left_lo, left_norms,
    rows, columns, row_there, column_there, pair, p,
    FORM: tl.constexpr, WIDTH: tl.constexpr, SCALED: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Return squared distances, which pairs are near, and the halves of the columns' points."""
    near = pair
    right_hi, right_lo = left_hi, left_lo
    if FORM < HALVES:
        d = squared_differences(
            tl.zeros([rows.shape[0], columns.shape[0]], C),
            x, rows, columns, row_there, column_there, p, inverse, FORM, WIDTH, SCALED, C,
        )  # fmt: skip
    else:
        d = left_norms[:, None] + tl.load(norms + columns, mask=column_there, other=0.0)[None, :]
        border = d * NEAR
        # |x|² + |y|² - 2 x·y
        if FORM == HALVES:
            right_hi, right_lo = halves(hi, lo, columns, column_there, p, 0, FORM, WIDTH)
            inner = product(left_hi, left_lo, tl.trans(right_hi), tl.trans(right_lo))
            d -= inner * (2.0 * PER_SQUARED_UNIT)
        else:
            for k in range(0, p, WIDTH):
                a_hi, a_lo = halves(hi, lo, rows, row_there, p, k, FORM, WIDTH)
                b_hi, b_lo = halves(hi, lo, columns, column_there, p, k, FORM, WIDTH)
                # Chunks are added outside of the tensor cores, with rounding.
                inner = product(a_hi, a_lo, tl.trans(b_hi), tl.trans(b_lo))
                d -= inner * (2.0 * PER_SQUARED_UNIT)
        near = pair & (d < border)
        if tl.max(near.to(tl.int32)) > 0:
            # These zeros lie in the registers as the product does; others would be moved there.
            again = squared_differences(
                d * 0.0,
                x, rows, columns, row_there, column_there, p, inverse, MANY, WIDTH, SCALED, C,
            )  # fmt: skip
            d = tl.where(near, again, d)
    return d, near, right_hi, right_lo


@triton.jit
def power(squared, HALF: tl.constexpr):
    """Return the distances to the power ``2 HALF``."""
    if HALF == 1.0:
        powered = squared
    elif HALF == 0.5:
        powered = tl.sqrt(squared)
    else:
        zero = squared == 0.0  # False for NaN, which must stay NaN
        logarithm = tl.log2(tl.where(zero, 1.0, squared))
        powered = tl.where(zero, 0.0, tl.exp2(logarithm * HALF))
    return powered


@triton.jit
def slope(squared, HALF: tl.constexpr):
    """Return what makes a difference the gradient of a power: its slope over d; 0 at 0."""
    # Of float32 below the normal ones a device takes the root for 0, its inverse for infinity.
    least = 1e-37 if squared.dtype == tl.float32 else 0.0
    zero = squared <= least  # False for NaN
    apart = tl.where(zero, 1.0, squared)
    if HALF == 1.0:
        slopes = squared * 0.0 + 2.0  # not 0 at 0, where the difference is
    elif HALF == 0.5:
        slopes = tl.where(zero, 0.0, tl.rsqrt(apart))
    else:
        steep = tl.exp2(tl.log2(apart) * (HALF - 1.0))
        slopes = tl.where(zero, 0.0, steep * (2.0 * HALF))
    return slopes


@triton.jit
def own_points(
    hi, lo, norms, rows, here, p, FORM: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """Return what a program needs of its rows' points all the time; in other forms nothing."""
    own_hi, own_lo, own_norms = rows, rows, rows
    if FORM >= HALVES:
        own_norms = tl.load(norms + rows, mask=here, other=0.0)
    if FORM == HALVES:
        own_hi, own_lo = halves(hi, lo, rows, here, p, 0, FORM, WIDTH)
    return own_hi, own_lo, own_norms


@triton.jit
def shifted(
    x, hi, lo, norms, inverse, shifts, own_hi, own_lo, own_norms, own_shifts,
    rows, columns, here, there, pair, p,
    FORM: tl.constexpr, WIDTH: tl.constexpr, HALF: tl.constexpr,
    SHIFTED: tl.constexpr, SCALED: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Return the shifted powers of a tile, 0 where there is no pair, and what ``squares`` does."""
    squared, near, right_hi, right_lo = squares(
        x, hi, lo, norms, inverse, own_hi, own_lo, own_norms,
        rows, columns, here, there, pair, p, FORM, WIDTH, SCALED, C,
    )  # fmt: skip
    a = power(squared, HALF)
    if SHIFTED:
        a -= own_shifts[:, None] + tl.load(shifts + columns, mask=there, other=0.0)[None, :]
    return tl.where(pair, a, 0.0), squared, near, right_hi, right_lo


@triton.jit
def add_differences(
    total, grad, force, started, x, rows, columns, row_there, column_there, p, inverse,
    factor: tl.constexpr,
    FORM: tl.constexpr, WIDTH: tl.constexpr, SCALED: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Add the sums over columns of force times difference, to ``total`` or in memory."""
    if FORM == FEW:
        features = tl.arange(0, total.shape[1])
        for k in tl.static_range(WIDTH):
            left = feature(x, rows, row_there, p, k, inverse, SCALED, C)
            right = feature(x, columns, column_there, p, k, inverse, SCALED, C)
            pull = tl.sum(force * (left[:, None] - right[None, :]), 1)
            total += tl.where(features[None, :] == k, pull[:, None], 0.0)
    elif FORM == HALVES:
        features = tl.arange(0, total.shape[1])
        for k in tl.range(0, p, num_stages=1):
            left = feature(x, rows, row_there, p, k, inverse, SCALED, C)
            right = feature(x, columns, column_there, p, k, inverse, SCALED, C)
            pull = tl.sum(force * (left[:, None] - right[None, :]), 1) * factor
            total += tl.where(features[None, :] == k, pull[:, None], 0.0)
    else:
        for k in tl.range(0, p, num_stages=1):
            left = feature(x, rows, row_there, p, k, inverse, SCALED, C)
            right = feature(x, columns, column_there, p, k, inverse, SCALED, C)
            pull = tl.sum(force * (left[:, None] - right[None, :]), 1) * factor
            place = grad + rows.to(tl.int64) * p + k
            before = tl.load(place, mask=row_there & started, other=0.0)
            tl.store(place, before + pull, mask=row_there)
        # Other threads may hold these numbers in the next tile.
        tl.debug_barrier()
    return total


@triton.jit
def unit_rows(force):
    """Return factors that bring the largest number of each row to [2^14, 2^15), and back."""
    peak = tl.max(tl.abs(force), 1).to(tl.int32, bitcast=True) >> 23
    peak = tl.minimum(tl.maximum(peak, 15), 254)
    up = ((268 - peak) << 23).to(tl.float32, bitcast=True)
    return up, ((peak - 14) << 23).to(tl.float32, bitcast=True)


@triton.jit
def add_forces(
    total, mass, grad, force, near, right_hi, right_lo, started,
    x, hi, lo, rows, columns, row_there, column_there, p, inverse,
    FORM: tl.constexpr, WIDTH: tl.constexpr, SCALED: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    r"""Add the forces of a tile: :math:`\sum_j W_{ij} (x_i - x_j)`.

    By product it is ``mass x - W x``, and ``mass`` gathers the sums of W. The product would cancel
    for near points, whose forces may be huge: they are taken from differences.
    """
    if FORM < HALVES:
        total = add_differences(
            total, grad, force, started, x, rows, columns, row_there, column_there, p, inverse, 1.0,
            FORM, WIDTH, SCALED, C,
        )  # fmt: skip
    else:
        far = tl.where(near, 0.0, force)
        mass += tl.sum(far, 1).to(tl.float64)
        up, down = unit_rows(far)
        far_hi, far_lo = split(far * up[:, None])
        if FORM == HALVES:
            # Added outside of the tensor cores, with rounding: there may be thousands of tiles.
            total -= product(far_hi, far_lo, right_hi, right_lo) * down[:, None]
        else:
            for k in range(0, p, WIDTH):
                b_hi, b_lo = halves(hi, lo, columns, column_there, p, k, FORM, WIDTH)
                features = k + tl.arange(0, WIDTH)
                place = grad + rows.to(tl.int64)[:, None] * p + features[None, :]
                mask = row_there[:, None] & (features < p)[None, :]
                before = tl.load(place, mask=mask & started, other=0.0)
                pull = product(far_hi, far_lo, b_hi, b_lo) * down[:, None]
                tl.store(place, before - pull, mask=mask)
            tl.debug_barrier()
        if tl.max(near.to(tl.int32)) > 0:
            total = add_differences(
                total, grad, tl.where(near, force, 0.0), True, x, rows, columns, row_there,
                column_there, p, inverse, UNIT, FORM, WIDTH, SCALED, C,
            )  # fmt: skip
    return total, mass


@triton.jit
def store_forces(
    total, mass, grad, left_hi, left_lo, hi, lo, rows, row_there, p,
    FORM: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write what ``add_forces`` has gathered."""
    own = mass.to(tl.float32)[:, None]
    if FORM != MANY and FORM != CHUNKS:
        features = tl.arange(0, total.shape[1])
        if FORM == HALVES:
            points = left_hi.to(tl.float32) + left_lo.to(tl.float32)
            total = (total + own * points) * (1.0 / UNIT)
        place = grad + rows.to(tl.int64)[:, None] * p + features[None, :]
        tl.store(place, total, mask=row_there[:, None] & (features < p)[None, :])
    if FORM == CHUNKS:
        for k in range(0, p, WIDTH):
            a_hi, a_lo = halves(hi, lo, rows, row_there, p, k, FORM, WIDTH)
            features = k + tl.arange(0, WIDTH)
            place = grad + rows.to(tl.int64)[:, None] * p + features[None, :]
            mask = row_there[:, None] & (features < p)[None, :]
            points = a_hi.to(tl.float32) + a_lo.to(tl.float32)
            gathered = tl.load(place, mask=mask, other=0.0)
            tl.store(place, (gathered + own * points) * (1.0 / UNIT), mask=mask)
