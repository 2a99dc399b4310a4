"""The log as small line charts: inline SVG that takes its colours from the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dcorr_models.report.markup import text

__all__ = ["Curve", "chart", "curves_of", "training_seconds"]

MAX_POINTS = 400  # more than the chart has pixels
LOG_FROM = 20.0  # largest / smallest value from which a logarithmic axis shows more
WIDTH, HEIGHT = 320, 176
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 22  # margins


class Curve(NamedTuple):
    """One quantity of one stage."""

    name: str
    steps: list[int]
    values: list[float]

    @property
    def title(self) -> str:
        """`loss/pixel` as "pixel loss"."""
        kind, _, what = self.name.rpartition("/")
        return f"{what} {kind}".replace("_", " ").strip()

    @property
    def constant(self) -> bool:
        """Whether a line would tell no more than its value."""
        return len(self.values) > 1 and min(self.values) == max(self.values)


def curves_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Curve]]:
    """The curves of each stage, stages and names in the order of the log.

    Values that are not finite are left out; a quantity without any other is left out whole.
    """
    found: dict[str, dict[str, Curve]] = {}
    for row in rows:
        if math.isfinite(row["value"]):
            stage = found.setdefault(row["stage"], {})
            curve = stage.setdefault(row["name"], Curve(row["name"], [], []))
            curve.steps.append(row["step"])
            curve.values.append(row["value"])
    return {stage: list(curves.values()) for stage, curves in found.items()}


def training_seconds(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of training of each stage.

    The clock of the log starts again in a resumed run: where it falls, a new stretch begins, and
    the stretches' last values are added up.

    Example:
        >>> row = {"stage": "a", "step": 0, "name": "loss", "value": 1.0}
        >>> training_seconds([row | {"seconds": s} for s in (1.0, 5.0, 2.0, 3.0)])
        {'a': 8.0}
    """
    total: dict[str, float] = {}
    last: dict[str, float] = {}
    for row in rows:
        stage, now = row["stage"], row["seconds"]
        before = last.get(stage, 0.0)
        total[stage] = total.get(stage, 0.0) + (now - before if now >= before else now)
        last[stage] = now
    return total


def chart(curve: Curve) -> str:
    """One curve as an SVG element with axes, a label for screen readers and no ids."""
    steps, values = _thinned(curve.steps, curve.values)
    logarithmic = min(values) > 0 and max(values) / min(values) >= LOG_FROM
    y_low, y_high = _padded(min(values), max(values), logarithmic)
    x_low, x_high = min(0, steps[0]), max(steps[-1], 1)

    def x_at(step: float) -> float:
        return LEFT + (step - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def y_at(value: float) -> float:
        low, high = (math.log(y_low), math.log(y_high)) if logarithmic else (y_low, y_high)
        up = ((math.log(value) if logarithmic else value) - low) / (high - low)
        return HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in _log_ticks(y_low, y_high) if logarithmic else _ticks(y_low, y_high, 5):
        y = y_at(tick)
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" class="y">{_label(tick)}</text>')
    for tick in _ticks(x_low, x_high, 4):
        parts.append(f'<text x="{x_at(tick):.1f}" y="{HEIGHT - 6}" class="x">{_label(tick)}</text>')
    points = [f"{x_at(s):.1f},{y_at(v):.1f}" for s, v in zip(steps, values, strict=True)]
    if len(points) == 1:
        x, _, height = points[0].partition(",")
        parts.append(f'<circle class="dot" cx="{x}" cy="{height}" r="3"/>')
    else:
        parts.append(f'<polyline class="line" points="{" ".join(points)}"/>')
    scale = ", logarithmic axis" if logarithmic else ""
    label = (
        f"{curve.title}: {curve.values[0]:.3g} at step {curve.steps[0]}, "
        f"{curve.values[-1]:.3g} at step {curve.steps[-1]}{scale}"
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _thinned(steps: list[int], values: list[float]) -> tuple[list[float], list[float]]:
    """At most `MAX_POINTS` points, each the mean of its neighbours."""
    size = math.ceil(len(steps) / MAX_POINTS)
    buckets = [slice(i, i + size) for i in range(0, len(steps), size)]
    return [_mean(steps[b]) for b in buckets], [_mean(values[b]) for b in buckets]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _padded(low: float, high: float, logarithmic: bool) -> tuple[float, float]:
    """The axis: a little longer than the values, never of length 0."""
    if logarithmic:
        return low / 1.15, high * 1.15
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.5
    # A quantity that cannot be negative keeps 0 as its floor.
    return (0.0 if 0 <= low < 2 * room else low - room), high + room


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**e for e in exponents]
    ticks = [t for t in decades if low <= t <= high]
    if len(ticks) < 3:
        ticks = [m * t for t in decades for m in (1, 3) if low <= m * t <= high]
    return ticks[:: math.ceil(len(ticks) / 6)]


def _label(value: float) -> str:
    """`50k` and `0.001`, at most five characters in the usual range."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "\u2212")
    if abs(value) >= 1e4:
        return f"{value / 1000:g}k"
    return f"{round(value, 10):g}".replace("-", "\u2212")
