"""Several lines in one small chart, with bands around them: error against intensity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dcorr_models.report.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    rules,
    tick_label,
    ticks,
)
from dcorr_models.report.markup import share, text

__all__ = ["STYLES", "Line", "legend", "line_chart", "style_sheet", "svg_file"]

STYLES = 8
"""Lines that differ in colour and in dashes; from then on colours come again."""

# Chosen apart in hue and in lightness; the first is the page's accent.
LIGHT = ("#1c5fa8", "#c4541c", "#2a7d4f", "#8b3fa0", "#a07800", "#b5285a", "#007a87", "#5b6068")
DARK = ("#82b5f2", "#f0935e", "#6fcf97", "#cf94e2", "#dfb63c", "#f27ca6", "#4fc4d2", "#a2a5a9")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "", "6 3", "2 3", "8 3 2 3")


class Line(NamedTuple):
    """One line: a value at each place, and how far the values spread there."""

    name: str
    places: Sequence[float]
    values: Sequence[float]
    spreads: Sequence[float] = ()
    style: int = 0  # colour and dashes; `legend` counts from 0


def line_chart(lines: Sequence[Line], *, title: str) -> str:
    """Shares from 0 to 1 against a quantity, as an SVG element without ids.

    Args:
        lines: at least one, each with at least one place; they may differ in their places.
        title: for screen readers, who also get the ends of each line.
    """
    places = [place for line in lines for place in line.places]
    low, high = min(places), max(places)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def x_at(place: float) -> float:
        return LEFT + (place - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y_at(value: float) -> float:
        return HEIGHT - BOTTOM - min(max(value, 0.0), 1.0) * (HEIGHT - TOP - BOTTOM)

    parts = rules(
        [(x_at(tick), tick_label(tick)) for tick in ticks(low, high, 5)],
        [(y_at(tick / 4), share(tick / 4)) for tick in range(5)],
    )
    for line in lines:
        # The points first, in one form for the line and the two edges of its band.
        points = [(x_at(p), v) for p, v in zip(line.places, line.values, strict=True)]
        style = f"series s{line.style % STYLES}"
        if any(line.spreads):
            upper = [(x, v + s) for (x, v), s in zip(points, line.spreads, strict=True)]
            lower = [(x, v - s) for (x, v), s in zip(points, line.spreads, strict=True)]
            band = " ".join(f"{x:.1f},{y_at(v):.1f}" for x, v in upper + lower[::-1])
            parts.append(f'<polygon class="{style} band" points="{band}"/>')
        drawn = " ".join(f"{x:.1f},{y_at(v):.1f}" for x, v in points)
        parts.append(f'<polyline class="{style}" points="{drawn}"/>')
        for x, v in points:
            parts.append(f'<circle class="{style}" cx="{x:.1f}" cy="{y_at(v):.1f}" r="2.2"/>')
    ends = "; ".join(
        f"{line.name} from {share(line.values[0])} at {line.places[0]:g} "
        f"to {share(line.values[-1])} at {line.places[-1]:g}"
        for line in lines
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(f"{title}: {ends}")}">'
        f"{''.join(parts)}</svg>"
    )


def legend(names: Sequence[str]) -> str:
    """The names beside pieces of their lines, in HTML."""
    entries = "".join(
        f'<li><svg viewBox="0 0 28 10" aria-hidden="true">'
        f'<polyline class="series s{number % STYLES}" points="0,5 28,5"/></svg>{text(name)}</li>'
        for number, name in enumerate(names)
    )
    return f'<ul class="legend">{entries}</ul>'


def style_sheet() -> str:
    """How lines look on a page, light and dark."""
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}"
    return "\n".join([f":root {{ {_variables(LIGHT)} }}", dark, *_rules()])


def svg_file(charts: Sequence[tuple[str, str]], names: Sequence[str], *, columns: int = 4) -> str:
    """Charts with their titles and one legend as a whole SVG file, on white.

    Args:
        charts: title and SVG element of each, as `line_chart` makes them.
        names: of the lines; left out where there is one.
        columns: charts beside each other.
    """
    named = list(names) if len(names) > 1 else []
    down, across = HEIGHT + 34, WIDTH + 16
    columns = min(columns, len(charts))
    top = 20 * len(named) + 8
    size = (columns * across, top + -(-len(charts) // columns) * down)
    parts = []
    for number, name in enumerate(named):
        y = 14 + 20 * number
        parts.append(f'<polyline class="series s{number % STYLES}" points="12,{y} 40,{y}"/>')
        parts.append(f'<text x="48" y="{y + 4}" class="name">{text(name)}</text>')
    for number, (title, chart) in enumerate(charts):
        x, y = number % columns * across, top + number // columns * down
        inner = chart[chart.index(">") + 1 : chart.rindex("</svg>")]
        parts.append(f'<g transform="translate({x} {y})"><text x="{LEFT}" y="14" class="name">')
        parts.append(f'{text(title)}</text><g transform="translate(0 18)">{inner}</g></g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
        f'width="{size[0]}" height="{size[1]}" font-family="sans-serif">'
        f"<style>:root {{ {_variables(LIGHT)} }}\n{chr(10).join(_rules())}\n"
        "text { font-size: 11px; fill: #5b6068; } .name { font-size: 13px; fill: #1d1f23; } "
        ".x { text-anchor: middle; } .y { text-anchor: end; } "
        ".rule { stroke: #dddbd4; fill: none; }</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _variables(colours: Sequence[str]) -> str:
    return " ".join(f"--line-{number}: {colour};" for number, colour in enumerate(colours))


def _rules() -> list[str]:
    result = [
        ".series { fill: none; stroke-width: 1.6; stroke-linejoin: round; }",
        "circle.series { stroke: none; }",
        ".band { stroke: none; fill-opacity: .16; }",
    ]
    for number, dash in enumerate(DASHES):
        kind, colour = f".s{number}", f"var(--line-{number})"
        dashes = f" stroke-dasharray: {dash};" if dash else ""
        result.append(f"polyline{kind} {{ stroke: {colour};{dashes} }}")
        result.append(f"circle{kind}, polygon{kind} {{ fill: {colour}; }}")
    return result
