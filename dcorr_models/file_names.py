"""Words as parts of file names."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["distinct_file_names", "file_name"]

_LENGTH = 100  # bytes; most file systems take 255, and a name has two such parts


def file_name(words: str) -> str:
    """Words without what a file system or a shell could take amiss, cut where they are long.

    Example:
        >>> file_name("a/b c?.png")
        'a_b_c_.png'
    """
    return re.sub(r"[^\w.-]+", "_", words).encode()[:_LENGTH].decode(errors="ignore")


def distinct_file_names(words: Sequence[str]) -> list[str]:
    """One for each of the words, no two alike, upper and lower case being the same.

    Example:
        >>> distinct_file_names(["a b", "c", "A_B"])
        ['a_b', 'c', 'A_B_2']
    """
    names: list[str] = []
    taken: set[str] = set()
    for place, one in enumerate(words):
        name = file_name(one)
        while name.lower() in taken:
            name = f"{name}_{place}"
        names.append(name)
        taken.add(name.lower())
    return names
