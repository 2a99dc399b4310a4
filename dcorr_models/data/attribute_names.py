"""Attributes by name, with the nearest one offered for a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from dcorr_models.errors import DataError

__all__ = ["chosen_attributes", "nearest"]

_ALL_LISTED = 40  # CelebA's attributes; of thousands of classes a message lists none


def chosen_attributes(
    chosen: Sequence[str] | None, available: Sequence[str], data_name: str
) -> tuple[str, ...]:
    """The attributes that someone asked for, in that order.

    Args:
        chosen: Names, each once; None for all.
        available: Names of all attributes.
        data_name: What messages call the data set.

    Returns:
        The chosen names.

    Raises:
        DataError: If a name does not exist or comes twice, or none is chosen.
    """
    if chosen is None:
        return tuple(available)
    if not chosen:
        raise DataError(f"no attribute of {data_name} is chosen: name one, or leave them out")
    for position, name in enumerate(chosen):
        if name not in available:
            raise DataError(f"{data_name} has no attribute {name!r}{nearest(name, available)}")
        if name in chosen[:position]:
            raise DataError(f"the attribute {name!r} of {data_name} is chosen twice")
    return tuple(chosen)


def nearest(name: str, available: Sequence[str]) -> str:
    """The end of a message about a name that does not exist.

    Example:
        >>> nearest("eyeglases", ["Smiling", "Eyeglasses"])
        '; did you mean Eyeglasses?'
        >>> nearest("Tail", ["Smiling", "Eyeglasses"])
        '; there are Smiling, Eyeglasses'
    """
    lower = {other.lower(): other for other in available}
    found = difflib.get_close_matches(name.lower(), lower, n=1)
    if found:
        return f"; did you mean {lower[found[0]]}?"
    listed = available if len(available) <= _ALL_LISTED else [*available[:3], "..."]
    return f"; there are {', '.join(listed)}"
