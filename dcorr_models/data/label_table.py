"""A CSV file that says what is on each image: attributes, or one class."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcorr_models.errors import DataError

__all__ = ["LabelTable", "csv_rows", "read_label_table"]

SPLITS = {"train": 0, "valid": 1, "val": 1, "validation": 1, "test": 2}
_VALUES = {"0": 0.0, "0.0": 0.0, "-1": 0.0, "-1.0": 0.0, "1": 1.0, "1.0": 1.0}


@dataclass(frozen=True)
class LabelTable:
    """What a table says.

    Args:
        files: Names of the images.
        names: Of the attributes, or of the classes in alphabetical order.
        labels: float32 (N, A) of 0 and 1 for attributes, int64 (N,) for classes.
        splits: 0 train, 1 valid, 2 test for each image; None without such a column.
    """

    files: tuple[str, ...]
    names: tuple[str, ...]
    labels: npt.NDArray[np.float32] | npt.NDArray[np.int64]
    splits: npt.NDArray[np.int64] | None


def read_label_table(path: Path) -> LabelTable:
    """Read the file.

    The first column names the image files. A column `split` says train, valid or test. A column
    `class` names a class; without one all other columns are attributes, of 0 and 1 or of -1 and 1.

    Args:
        path: A CSV file with a header, separated by commas, in UTF-8.

    Returns:
        What it says.

    Raises:
        DataError: If the file is missing or not as it should be; the message names the line.
    """
    rows = csv_rows(path)
    _, header = next(rows, (1, []))
    if len(header) > 1 and set(header[1:]) <= _VALUES.keys():
        raise DataError(
            f"{path}, line 1: wanted a header with the attributes' names, got the values "
            f"{','.join(header)[:60]!r}"
        )
    labels = _label_columns(path, header)
    places = {name: position for position, name in enumerate(header)}
    files: dict[str, int] = {}
    words: list[list[str]] = []
    splits: list[int] = []
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: wanted {len(header)} columns as above, got {len(row)}"
            )
        # one file under two names would be in two splits
        name = os.path.normpath(row[0]) if row[0] else ""
        if not name or name in files:
            what = f"{row[0]} stands in line {files[name]} already" if name else "no file name"
            raise DataError(f"{path}, line {line}: {what}")
        files[name] = line
        words.append([row[places[name]] for name in labels])
        if "split" in places:
            splits.append(_split(path, line, row[places["split"]]))
    if not files:
        raise DataError(f"{path} names no image: a line for each is wanted after the header")
    part = np.array(splits, dtype=np.int64) if "split" in places else None
    if labels == ["class"]:
        classes = [row[0] for row in words]
        if "" in classes:
            line = list(files.values())[classes.index("")]
            raise DataError(f"{path}, line {line}: no class: name it, or take the line out")
        names = tuple(sorted(set(classes)))
        numbers = np.array([names.index(name) for name in classes], dtype=np.int64)
        return LabelTable(tuple(files), names, numbers, part)
    values = [
        [_value(path, line, name, word) for name, word in zip(labels, row, strict=True)]
        for line, row in zip(files.values(), words, strict=True)
    ]
    return LabelTable(tuple(files), tuple(labels), np.array(values, dtype=np.float32), part)


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, stripped, and the line that each ends on.

    Args:
        path: A file separated by commas, in UTF-8.

    Yields:
        The number of the line, and the row's words.

    Raises:
        DataError: If the file is missing or cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    yield reader.line_num, [word.strip() for word in row]
    except FileNotFoundError as error:
        raise DataError(f"there is no table of labels {path}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file in UTF-8: {error}") from error


def _label_columns(path: Path, header: list[str]) -> list[str]:
    """The columns that are labels: `["class"]`, or the attributes."""
    if len(header) < 2:
        raise DataError(
            f"{path}, line 1: wanted the header, a column of file names and at least one of "
            f"labels, separated by commas, got {','.join(header)[:60]!r}"
        )
    for position, name in enumerate(header):
        if not name or name in header[:position]:
            what = (
                f"the column {name!r} comes twice" if name else f"column {position + 1} is unnamed"
            )
            raise DataError(f"{path}, line 1: {what}")
    labels = [name for name in header[1:] if name != "split"]
    if not labels:
        raise DataError(f"{path}, line 1: there is no column of labels beside file names and split")
    if "class" in labels and len(labels) > 1:
        others = ", ".join(name for name in labels if name != "class")
        raise DataError(
            f"{path}, line 1: there is a column class, and there are attributes ({others}): "
            "keep either"
        )
    return labels


def _split(path: Path, line: int, word: str) -> int:
    if word not in SPLITS:
        raise DataError(f"{path}, line {line}: split must be train, valid or test, got {word!r}")
    return SPLITS[word]


def _value(path: Path, line: int, name: str, word: str) -> float:
    if word not in _VALUES:
        raise DataError(
            f"{path}, line {line}: {name} must be 0 or 1, or -1 or 1, got {word!r}; a column of "
            "class names is called class"
        )
    return _VALUES[word]
