"""Points of a plane, a colour a class, in one chart: where images are coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dcorr_models.report.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    padded,
    rules,
    tick_label,
    ticks,
)
from dcorr_models.report.lines import STYLES
from dcorr_models.report.markup import text

__all__ = ["point_chart"]


def point_chart(clouds: Sequence[Tensor], *, bounds_of: Sequence[Tensor], title: str) -> str:
    """Clouds of points as an SVG element without ids, each in the colour of its number.

    Args:
        clouds: float (N, 2) each.
        bounds_of: clouds that the frame is made for, such as the real points: charts of the same
            frame compare. Points outside are left out, and counted in the title.
        title: for screen readers.
    """
    frame = torch.cat(list(bounds_of)).double()
    (left, right), (low, high) = (
        padded(float(axis.min()), float(axis.max()), logarithmic=False) for axis in frame.T
    )
    room = 0.15 * (right - left), 0.15 * (high - low)
    left, right, low, high = left - room[0], right + room[0], low - room[1], high + room[1]

    def x_at(x: float) -> float:
        return LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def y_at(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = rules(
        [(x_at(tick), tick_label(tick)) for tick in ticks(left, right, 6)],
        [(y_at(tick), tick_label(tick)) for tick in ticks(low, high, 5)],
    )
    outside = 0
    for number, cloud in enumerate(clouds):
        for x, y in cloud.tolist():
            # also of a point that is NaN
            if not (left <= x <= right and low <= y <= high):
                outside += 1
                continue
            place = f'cx="{x_at(x):.1f}" cy="{y_at(y):.1f}"'
            parts.append(f'<circle class="series s{number % STYLES}" {place} r="1.2"/>')
    label = f"{title}: {sum(map(len, clouds))}, {outside} of them outside the frame"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">'
        f"{''.join(parts)}</svg>"
    )
