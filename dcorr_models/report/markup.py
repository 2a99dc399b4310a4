"""Small pieces of HTML. Everything that is not made here goes through `text`."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["details", "duration", "number", "share", "table", "text"]


def text(value: object) -> str:
    """A value as HTML text, also safe inside an attribute in double quotes."""
    return html.escape(str(value), quote=True)


def number(value: Any) -> str:
    """A plain value for people: four significant digits for fractions, words for the rest.

    Example:
        >>> number(0.123456), number(12345), number(None), number([0.5, 2])
        ('0.1235', '12,345', 'none', '0.5, 2')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(number(v) for v in value)
    return str(value)


def share(value: float) -> str:
    r"""A fraction of 1 in per cent.

    Example:
        >>> share(0.1234), share(1.0)
        ('12.3\xa0%', '100\xa0%')
    """
    percent = f"{100 * value:.1f}".removesuffix(".0")
    return f"{percent}\u00a0%"


def duration(seconds: float) -> str:
    r"""A time in the two largest units that matter.

    Example:
        >>> [duration(s) for s in (3.21, 151, 4830)]
        ['3.2\xa0s', '2\xa0min 31\xa0s', '1\xa0h 20\xa0min']
    """
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 10:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest}\u00a0s"
    hours, left = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes}\u00a0min {rest}\u00a0s"
    return f"{hours:,}\u00a0h {left}\u00a0min"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """A table of cells that are HTML already; the first cell of a row is its heading."""
    top = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return f'<table class="{text(kind)}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def details(summary: str, body: str, *, opened: bool = False) -> str:
    """A part that folds away without a script."""
    return f"<details{' open' if opened else ''}><summary>{text(summary)}</summary>{body}</details>"
