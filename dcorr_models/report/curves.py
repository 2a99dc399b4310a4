"""The log as small line charts: inline SVG that takes its colours from the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dcorr_models.report.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    log_ticks,
    padded,
    rules,
    tick_label,
    ticks,
)
from dcorr_models.report.markup import text

__all__ = ["Curve", "chart", "curves_of", "training_seconds"]

MAX_POINTS = 400  # more than the chart has pixels
LOG_FROM = 20.0  # largest / smallest value from which a logarithmic axis shows more


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
    y_low, y_high = padded(min(values), max(values), logarithmic)
    x_low, x_high = min(0, steps[0]), max(steps[-1], 1)

    def x_at(step: float) -> float:
        return LEFT + (step - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def y_at(value: float) -> float:
        low, high = (math.log(y_low), math.log(y_high)) if logarithmic else (y_low, y_high)
        up = ((math.log(value) if logarithmic else value) - low) / (high - low)
        return HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    heights = log_ticks(y_low, y_high) if logarithmic else ticks(y_low, y_high, 5)
    parts = rules(
        [(x_at(tick), tick_label(tick)) for tick in ticks(x_low, x_high, 4)],
        [(y_at(tick), tick_label(tick)) for tick in heights],
    )
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
