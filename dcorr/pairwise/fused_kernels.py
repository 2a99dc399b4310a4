"""The fused kernels: sums over all pairs and their gradient, in Triton.

A program owns a block of rows and walks over all columns, or over its share of them where there are
few rows. Symmetry would halve the pairs, but each tile would then add to rows that other programs
own: atomics, and sums in another order every time. Here all sums are made in registers in one
order, results are the same bit by bit, and a gradient needs no second buffer.

Arguments: each side has its points ``x`` ``(B, N, P)`` and, in forms of halves, ``hi``, ``lo`` and
``norms``; ``scales`` is ``(sides, 2, B)``, a scale and its inverse. ``C`` is the dtype to compute
in. Sums over many tiles are in float64.
"""

# Kernels are compiled from their source by Triton, whose types mypy does not know.
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

from dcorr.pairwise.fused_tiles import (
    PER_SQUARED_UNIT,
    UNIT,
    own_points,
    shifted,
    split,
)


@triton.jit
def scales_kernel(
    low, high, scales, problems, p, WIDE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Write a power of two near the range of each problem's points, and its inverse.

    Dividing by it is exact, and squares neither overflow nor vanish.
    """
    b = tl.program_id(0)
    C = tl.float64 if WIDE else tl.float32
    size = tl.zeros([BLOCK], C)
    for first in range(0, p, BLOCK):
        features = first + tl.arange(0, BLOCK)
        place = b.to(tl.int64) * p + features
        top = tl.load(high + place, mask=features < p, other=0.0).to(C)
        bottom = tl.load(low + place, mask=features < p, other=0.0).to(C)
        size = tl.maximum(size, top - bottom)
    # The bits of the exponent. Scale and inverse must both be normal numbers; a constant sample
    # has no size, and any unit will do in which it fits.
    if WIDE:
        bits = tl.max(size, 0).to(tl.int64, bitcast=True) >> 52
        bits = tl.minimum(tl.where(bits == 0, 1023, bits), 2045)
        tl.store(scales + b, (bits << 52).to(tl.float64, bitcast=True))
        tl.store(scales + problems + b, ((2046 - bits) << 52).to(tl.float64, bitcast=True))
    else:
        bits = tl.max(size, 0).to(tl.int32, bitcast=True) >> 23
        bits = tl.minimum(tl.where(bits == 0, 127, bits), 253)
        tl.store(scales + b, (bits << 23).to(tl.float32, bitcast=True))
        tl.store(scales + problems + b, ((254 - bits) << 23).to(tl.float32, bitcast=True))


@triton.jit
def halves_kernel(
    x, middle, scales, hi, lo, norms, problems, n, p, row_blocks,
    WIDTH: tl.constexpr, BM: tl.constexpr,
):  # fmt: skip
    """Write the halves of the points, centred and scaled, and their squared norms."""
    b = tl.program_id(0) // row_blocks
    at = b.to(tl.int64) * n
    rows = (tl.program_id(0) % row_blocks) * BM + tl.arange(0, BM)
    there = rows < n
    factor = tl.load(scales + problems + b) * UNIT
    padded = tl.cdiv(p, WIDTH) * WIDTH
    total = tl.zeros([BM], tl.float64)
    for first in range(0, p, WIDTH):
        features = first + tl.arange(0, WIDTH)
        mask = there[:, None] & (features < p)[None, :]
        place = (at + rows)[:, None] * p + features[None, :]
        centre = tl.load(middle + b.to(tl.int64) * p + features, mask=features < p, other=0.0)
        points = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
        points = tl.where(mask, (points - centre.to(tl.float32)[None, :]) * factor, 0.0)
        point_hi, point_lo = split(points)
        place = (at + rows)[:, None] * padded + features[None, :]
        tl.store(hi + place, point_hi, mask=there[:, None])
        tl.store(lo + place, point_lo, mask=there[:, None])
        points = point_hi.to(tl.float32) + point_lo.to(tl.float32)
        total += tl.sum(points * points * PER_SQUARED_UNIT, 1).to(tl.float64)
    tl.store(norms + at + rows, total.to(tl.float32), mask=there)


@triton.jit
def unit_of(scales, b, SCALED: tl.constexpr, HALF: tl.constexpr):
    """Return the scale of a problem and the unit of the powers of its distances, in float64."""
    scale = tl.full([], 1.0, tl.float64)
    if SCALED:
        scale = tl.load(scales + b).to(tl.float64)
    return scale, tl.exp2(tl.log2(scale) * (2.0 * HALF))


@triton.jit
def mean_of(values, weights, n, WEIGHTED: tl.constexpr, BLOCK: tl.constexpr):
    """Return the (weighted) mean of ``n`` numbers in memory."""
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, n, BLOCK):
        i = first + tl.arange(0, BLOCK)
        value = tl.load(values + i, mask=i < n, other=0.0).to(tl.float64)
        if WEIGHTED:
            value *= tl.load(weights + i, mask=i < n, other=0.0).to(tl.float64)
        total += value
    mean = tl.sum(total, 0)
    if not WEIGHTED:
        mean /= n.to(tl.float64)
    return mean


@triton.jit
def shift_kernel(
    x_rows, y_rows, shifts, x_scales, y_scales, weights, problems, n, per_row,
    SCALED: tl.constexpr, HALF: tl.constexpr, WEIGHTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write what to subtract from a power for its row and its column: row mean - half the mean.

    Rows are means, or sums over ``per_row`` columns; in units of the scale they are estimates.
    """
    b = tl.program_id(0) % problems
    side = tl.program_id(0) // problems
    rows, scales = x_rows, x_scales
    if side == 1:
        rows, scales = y_rows, y_scales
    rows += b.to(tl.int64) * n
    weights += b.to(tl.int64) * n
    _, unit = unit_of(scales, b, SCALED, HALF)
    half = mean_of(rows, weights, n, WEIGHTED, BLOCK) / 2
    shifts += tl.program_id(0).to(tl.int64) * n
    for first in range(0, n, BLOCK):
        i = first + tl.arange(0, BLOCK)
        value = tl.load(rows + i, mask=i < n, other=0.0)
        tl.store(shifts + i, (value - half) / (unit * per_row), mask=i < n)


@triton.jit
def moments_kernel(
    x, x_hi, x_lo, x_norms, x_scales, p, y, y_hi, y_lo, y_norms, y_scales, q,
    shifts, weights, row_sums, sums, problems, n, row_blocks, splits, share, count, step,
    X_FORM: tl.constexpr, X_WIDTH: tl.constexpr, Y_FORM: tl.constexpr, Y_WIDTH: tl.constexpr,
    HALF: tl.constexpr, TWO: tl.constexpr, WEIGHTED: tl.constexpr, SHIFTED: tl.constexpr,
    SCALED: tl.constexpr, PRODUCTS: tl.constexpr, VARIANCES: tl.constexpr, C: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Sum the shifted powers over columns, and their products over rows too, off the diagonal.

    Columns are every ``step``-th of the samples, ``count`` in all; a program takes ``share`` of
    them. Written are ``row_sums`` ``(splits, sides, B, N)`` and ``sums`` ``(programs, 3)``.
    """
    program = tl.program_id(0)
    part = program % splits
    b = program // splits // row_blocks
    rows = (program // splits % row_blocks) * BM + tl.arange(0, BM)
    here = rows < n
    at = b.to(tl.int64) * n
    second = n.to(tl.int64) * problems  # from the numbers of one side to those of the other
    x += at * p
    x_hi += at * tl.cdiv(p, X_WIDTH) * X_WIDTH
    x_lo += at * tl.cdiv(p, X_WIDTH) * X_WIDTH
    x_norms += at
    shifts += at
    weights += at
    x_inverse = tl.load(x_scales + problems + b) if SCALED else 1.0
    x_own_hi, x_own_lo, x_own_norms = own_points(
        x_hi, x_lo, x_norms, rows, here, p, X_FORM, X_WIDTH
    )
    a_own = tl.load(shifts + rows, mask=here, other=0.0) if SHIFTED else rows
    if TWO:
        y += at * q
        y_hi += at * tl.cdiv(q, Y_WIDTH) * Y_WIDTH
        y_lo += at * tl.cdiv(q, Y_WIDTH) * Y_WIDTH
        y_norms += at
        y_inverse = tl.load(y_scales + problems + b) if SCALED else 1.0
        y_own_hi, y_own_lo, y_own_norms = own_points(
            y_hi, y_lo, y_norms, rows, here, q, Y_FORM, Y_WIDTH
        )
        b_own = tl.load(shifts + second + rows, mask=here, other=0.0) if SHIFTED else rows
    a_rows = tl.zeros([BM], tl.float64)
    b_rows = tl.zeros([BM], tl.float64)
    ab = tl.zeros([BM], tl.float64)
    aa = tl.zeros([BM], tl.float64)
    bb = tl.zeros([BM], tl.float64)
    first = part * share
    for start in range(first, tl.minimum(first + share, count), BN):
        there = start + tl.arange(0, BN) < count
        columns = (start + tl.arange(0, BN)) * step
        pair = (rows[:, None] != columns[None, :]) & there[None, :]
        a, _, _, _, _ = shifted(
            x, x_hi, x_lo, x_norms, x_inverse, shifts, x_own_hi, x_own_lo, x_own_norms, a_own,
            rows, columns, here, there, pair, p, X_FORM, X_WIDTH, HALF, SHIFTED, SCALED, C,
        )  # fmt: skip
        weighted = a
        if WEIGHTED:
            w = tl.load(weights + columns, mask=there, other=0.0).to(C)
            weighted = a * w[None, :]
        a_rows += tl.sum(weighted, 1).to(tl.float64)
        if VARIANCES:
            aa += tl.sum(weighted * a, 1).to(tl.float64)
        if TWO:
            e, _, _, _, _ = shifted(
                y, y_hi, y_lo, y_norms, y_inverse, shifts + second, y_own_hi, y_own_lo,
                y_own_norms, b_own, rows, columns, here, there, pair, q,
                Y_FORM, Y_WIDTH, HALF, SHIFTED, SCALED, C,
            )  # fmt: skip
            if PRODUCTS:
                ab += tl.sum(weighted * e, 1).to(tl.float64)
            weighted = e
            if WEIGHTED:
                weighted = e * w[None, :]
            b_rows += tl.sum(weighted, 1).to(tl.float64)
            if VARIANCES:
                bb += tl.sum(weighted * e, 1).to(tl.float64)
    row_sums += at + part * second * (2 if TWO else 1)
    tl.store(row_sums + rows, a_rows, mask=here)
    if TWO:
        tl.store(row_sums + second + rows, b_rows, mask=here)
    if PRODUCTS or VARIANCES:
        own = tl.where(here, 1.0, 0.0).to(tl.float64)
        if WEIGHTED:
            own = tl.load(weights + rows, mask=here, other=0.0).to(tl.float64)
        tl.store(sums + program * 3, tl.sum(tl.where(here, ab * own, 0.0), 0))
        tl.store(sums + program * 3 + 1, tl.sum(tl.where(here, aa * own, 0.0), 0))
        tl.store(sums + program * 3 + 2, tl.sum(tl.where(here, bb * own, 0.0), 0))


@triton.jit
def finish_kernel(
    row_sums, sums, shifts, x_scales, y_scales, weights, ab_out, aa_out, bb_out, x_rows, y_rows,
    problems, n, row_blocks, splits,
    HALF: tl.constexpr, TWO: tl.constexpr, WEIGHTED: tl.constexpr, SHIFTED: tl.constexpr,
    SCALED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    r"""Write the three moments ``(B,)`` and both row means ``(B, N)`` of one problem.

    With :math:`l` the means of the shifted rows, a diagonal of :math:`-2 s` included, the mean
    product of centred distances is that of the shifted ones, plus :math:`\bar l \bar m -
    2 \overline{l m}`; what the tiles leave out on the diagonal is :math:`4 s t`.
    """
    b = tl.program_id(0)
    at = b.to(tl.int64) * n
    second = n.to(tl.int64) * problems
    size = n.to(tl.float64)
    weights += at
    x_rows += at
    y_rows += at
    # Sums over samples: of both sides' shifts s, t and row means l, m, and of their products.
    s = tl.zeros([BLOCK], tl.float64)
    t = tl.zeros([BLOCK], tl.float64)
    left = tl.zeros([BLOCK], tl.float64)
    right = tl.zeros([BLOCK], tl.float64)
    ab = tl.zeros([BLOCK], tl.float64)
    aa = tl.zeros([BLOCK], tl.float64)
    bb = tl.zeros([BLOCK], tl.float64)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        w, share = sample_weights(weights, i, n, WEIGHTED)
        own, mean = rest_of_rows(row_sums + at, shifts + at, i, n, share, splits, second,
                                 TWO, WEIGHTED, SHIFTED)  # fmt: skip
        s += w * own
        left += w * mean
        aa += w * (4.0 * share * own * own - 2.0 * mean * mean)
        if TWO:
            own_y, mean_y = rest_of_rows(row_sums + at + second, shifts + at + second, i, n, share,
                                         splits, second, TWO, WEIGHTED, SHIFTED)  # fmt: skip
            t += w * own_y
            right += w * mean_y
            ab += w * (4.0 * share * own * own_y - 2.0 * mean * mean_y)
            bb += w * (4.0 * share * own_y * own_y - 2.0 * mean_y * mean_y)
        tl.store(x_rows + i, mean + own, mask=i < n)
        if TWO:
            tl.store(y_rows + i, mean_y + own_y, mask=i < n)
    s_mean, t_mean = tl.sum(s, 0), tl.sum(t, 0)
    l_mean, m_mean = tl.sum(left, 0), tl.sum(right, 0)
    total_ab, total_aa, total_bb = tl.sum(ab, 0), tl.sum(aa, 0), tl.sum(bb, 0)
    pairs = 1.0 / (size * size)
    if WEIGHTED:
        pairs = pairs * 0.0 + 1.0
    programs = row_blocks * splits
    sums += b.to(tl.int64) * programs * 3
    total_ab += total_of(sums, programs, BLOCK) * pairs + l_mean * m_mean
    total_aa += total_of(sums + 1, programs, BLOCK) * pairs + l_mean * l_mean
    total_bb += total_of(sums + 2, programs, BLOCK) * pairs + m_mean * m_mean
    _, x_unit = unit_of(x_scales, b, SCALED, HALF)
    _, y_unit = unit_of(y_scales, b, SCALED, HALF)
    tl.store(ab_out + b, total_ab * x_unit * y_unit)
    tl.store(aa_out + b, total_aa * x_unit * x_unit)
    tl.store(bb_out + b, total_bb * y_unit * y_unit)
    # What one thread wrote another may read.
    tl.debug_barrier()
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        mean = tl.load(x_rows + i, mask=i < n, other=0.0)
        tl.store(x_rows + i, (mean + s_mean) * x_unit, mask=i < n)
        if TWO:
            mean = tl.load(y_rows + i, mask=i < n, other=0.0)
            tl.store(y_rows + i, (mean + t_mean) * y_unit, mask=i < n)


@triton.jit
def sample_weights(weights, i, n, WEIGHTED: tl.constexpr):
    """Return the weights of samples, which mean over them, and the share of one in a row mean."""
    size = n.to(tl.float64)
    w = tl.where(i < n, 1.0 / size, 0.0)
    if WEIGHTED:
        w = tl.load(weights + i, mask=i < n, other=0.0).to(tl.float64)
    return w, w


@triton.jit
def rest_of_rows(
    row_sums, shifts, i, n, share, splits, second,
    TWO: tl.constexpr, WEIGHTED: tl.constexpr, SHIFTED: tl.constexpr,
):  # fmt: skip
    """Return shifts and, diagonal included, the means of shifted rows."""
    total = i.to(tl.float64) * 0.0
    for part in range(0, splits):
        place = row_sums + part * second * (2 if TWO else 1) + i
        total += tl.load(place, mask=i < n, other=0.0)
    own = total * 0.0
    if SHIFTED:
        own = tl.load(shifts + i, mask=i < n, other=0.0).to(tl.float64)
    if not WEIGHTED:
        total = total / n.to(tl.float64)
    return own, total - 2.0 * share * own


@triton.jit
def total_of(sums, programs, BLOCK: tl.constexpr):
    """Return the total of every third number."""
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, programs, BLOCK):
        k = first + tl.arange(0, BLOCK)
        total += tl.load(sums + k.to(tl.int64) * 3, mask=k < programs, other=0.0)
    return tl.sum(total, 0)
