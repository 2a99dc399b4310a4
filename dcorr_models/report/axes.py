"""The frame of a small chart: its size, and where the axes have ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "LEFT",
    "RIGHT",
    "TOP",
    "WIDTH",
    "log_ticks",
    "padded",
    "rules",
    "tick_label",
    "ticks",
]

WIDTH, HEIGHT = 320, 176
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 22  # margins


def rules(across: Iterable[tuple[float, str]], up: Iterable[tuple[float, str]]) -> list[str]:
    """The frame as SVG: places and words of the ticks along the bottom and up the left side."""
    parts = []
    for y, label in up:
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" class="y">{label}</text>')
    for x, label in across:
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" class="x">{label}</text>')
    return parts


def padded(low: float, high: float, logarithmic: bool) -> tuple[float, float]:
    """The axis: a little longer than the values, never of length 0."""
    if logarithmic:
        return low / 1.15, high * 1.15
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.5
    # A quantity that cannot be negative keeps 0 as its floor.
    return (0.0 if 0 <= low < 2 * room else low - room), high + room


def ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, some `about` of them."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with their triples where there are few of them."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**e for e in exponents]
    found = [t for t in decades if low <= t <= high]
    if len(found) < 3:
        found = [m * t for t in decades for m in (1, 3) if low <= m * t <= high]
    return found[:: math.ceil(len(found) / 6)]


def tick_label(value: float) -> str:
    """`50k` and `0.001`, at most five characters in the usual range."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "\u2212")
    if abs(value) >= 1e4:
        return f"{value / 1000:g}k"
    return f"{round(value, 10):g}".replace("-", "\u2212")
