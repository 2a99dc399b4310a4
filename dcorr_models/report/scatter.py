"""A dot for each of many numbers, in one small chart."""

from __future__ import annotations

from collections.abc import Sequence

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
from dcorr_models.report.markup import text

__all__ = ["scatter_chart"]


def scatter_chart(
    places: Sequence[float], values: Sequence[float], *, reference: float, title: str
) -> str:
    """Values against their places as an SVG element without ids.

    Args:
        places: at least one.
        values: one a place.
        reference: a value that a line is drawn at.
        title: for screen readers, who also get the least and the greatest value.
    """
    low, high = padded(min(*values, reference), max(*values, reference), logarithmic=False)
    first, last = min(places) - 0.5, max(places) + 0.5

    def x_at(place: float) -> float:
        return LEFT + (place - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y_at(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    across = [tick for tick in ticks(first, last, 5) if tick == round(tick)]
    parts = rules(
        [(x_at(tick), tick_label(tick)) for tick in across],
        [(y_at(tick), tick_label(tick)) for tick in ticks(low, high, 5)],
    )
    parts.append(f'<path class="line" d="M{LEFT} {y_at(reference):.1f}H{WIDTH - RIGHT}"/>')
    for place, value in zip(places, values, strict=True):
        parts.append(f'<circle class="dot" cx="{x_at(place):.1f}" cy="{y_at(value):.1f}" r="2"/>')
    label = f"{title}: {len(values)} values from {min(values):.3g} to {max(values):.3g}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">'
        f"{''.join(parts)}</svg>"
    )
