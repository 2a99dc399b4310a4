"""What is known of the contents of image files: from a CSV file, or from the files' names."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcorr_models.data.image_files import a_few
from dcorr_models.data.label_table import csv_rows
from dcorr_models.errors import DataError

__all__ = ["Contents", "contents_from_names", "read_contents"]


@dataclass(frozen=True)
class Contents:
    """What is known.

    Args:
        names: Of the contents, in alphabetical order.
        content: Number of each image's content, int64 of shape (N,); None if not known.
        target_names: Of the targets.
        targets: float32 of shape (N, T); None if not known.
    """

    names: tuple[str, ...] = ()
    content: npt.NDArray[np.int64] | None = None
    target_names: tuple[str, ...] = ()
    targets: npt.NDArray[np.float32] | None = None


def contents_from_names(files: Sequence[str], pattern: re.Pattern[str]) -> Contents:
    """Contents that the files' names say.

    Args:
        files: Names with `/` between folders.
        pattern: What is looked for anywhere in a name; its groups together are the content, or
            all that it matches if it has none.

    Returns:
        A content for each file.

    Raises:
        DataError: If the pattern is not in some names: how many, and the first of them.

    Example:
        >>> found = contents_from_names(["a/x1_light.png", "b/x0.png"], re.compile("x([0-9])"))
        >>> found.names, found.content.tolist()
        (('0', '1'), [1, 0])
    """
    matches = [pattern.search(file) for file in files]
    without = [file for file, match in zip(files, matches, strict=True) if match is None]
    if without:
        raise DataError(
            f"content_pattern {pattern.pattern!r} is not in {len(without)} of {len(files)} names "
            f"({a_few(without)})"
        )
    words = [
        " ".join(word or "" for word in match.groups()) if match.re.groups else match.group()
        for match in matches
        if match is not None
    ]
    return _numbered(words)


def read_contents(path: Path, files: Sequence[str]) -> Contents:
    """A table of contents and targets.

    The first column names the files. A column `content` says which content an image shows, by any
    word; all other columns are targets, numbers such as the places of landmarks.

    Args:
        path: A CSV file with a header, separated by commas, in UTF-8.
        files: The images, each of which must have a line; other lines are not looked at.

    Returns:
        What it says of the files, in their order.

    Raises:
        DataError: If the file is missing or not as it should be, the message names the line, or
            images have none.
    """
    rows = csv_rows(path)
    _, header = next(rows, (1, []))
    columns = header[1:]
    if not columns or "" in columns or len(set(columns)) < len(columns):
        raise DataError(
            f"{path}, line 1: wanted a header, file names, then content or targets or both under "
            f"different names, got {','.join(header)[:60]!r}"
        )
    wanted = {os.path.normpath(file): position for position, file in enumerate(files)}
    found: dict[int, list[str]] = {}
    lines: dict[int, int] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: wanted {len(header)} columns as above, got {len(row)}"
            )
        position = wanted.get(os.path.normpath(row[0]))
        if position is None:
            continue
        if position in found:
            raise DataError(
                f"{path}, line {line}: {row[0]} stands in line {lines[position]} already"
            )
        found[position], lines[position] = row[1:], line
    missing = [file for position, file in enumerate(files) if position not in found]
    if missing:
        raise DataError(
            f"{path} has no line for {len(missing)} of {len(files)} images ({a_few(missing)})"
        )
    table = [found[position] for position in range(len(files))]
    numbered = Contents()
    if "content" in columns:
        at = columns.index("content")
        words = [row[at] for row in table]
        if "" in words:
            raise DataError(f"{path}, line {lines[words.index('')]}: no content")
        numbered = _numbered(words)
    names = tuple(name for name in columns if name != "content")
    if not names:
        return numbered
    places = [columns.index(name) for name in names]
    targets = [
        [_number(path, lines[position], columns[at], row[at]) for at in places]
        for position, row in enumerate(table)
    ]
    return Contents(numbered.names, numbered.content, names, np.array(targets, dtype=np.float32))


def _numbered(words: Sequence[str]) -> Contents:
    names = sorted(set(words))
    numbers = {name: number for number, name in enumerate(names)}
    return Contents(tuple(names), np.array([numbers[word] for word in words], dtype=np.int64))


def _number(path: Path, line: int, name: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}, line {line}: {name} must be a number, got {word!r}")
    return value
