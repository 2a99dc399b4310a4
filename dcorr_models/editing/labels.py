"""Classes and attributes by their names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from numbers import Integral

from dcorr_models.errors import UserError
from dcorr_models.methods.base import Method

__all__ = ["attribute_column", "check_attributes", "check_classes", "label_index"]

LISTED = 12  # names in a message, at most


def label_index(name: str, names: Sequence[str], *, kind: str) -> int:
    """The place of a name among the names of the classes or attributes.

    Args:
        name: as the data spell it.
        names: all of them.
        kind: what messages call it: "class" or "attribute".

    Raises:
        UserError: no such name; the nearest one is offered.

    Example:
        >>> label_index("dog", ["cat", "dog"], kind="class")
        1
    """
    if name in names:
        return list(names).index(name)
    # Case and the sign between words are not what a person remembers.
    plain = {_plain(known): known for known in reversed(names)}
    close = difflib.get_close_matches(_plain(name), plain, n=1)
    if close:
        hint = f"did you mean {plain[close[0]]!r}?"
    else:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        plural = "classes" if kind == "class" else f"{kind}s"
        hint = f"the {plural} are {', '.join(names[:LISTED])}{more}"
    raise UserError(f"no {kind} {name!r}: {hint}")


def attribute_column(method: Method, attribute: str | int) -> int:
    """The column of the label code that belongs to an attribute.

    Args:
        method: a method of attributes.
        attribute: its name, as the data spell it, or the number of its column; a number in digits
            is a column too, unless an attribute is called so.

    Raises:
        UserError: an unknown name (the nearest one is offered), a number outside the label code,
            a name where the method knows no names.
    """
    names = method.label_names or ()
    # A bool is an int to Python, and never meant as a column; NumPy's integers are Integral.
    if isinstance(attribute, bool) or not isinstance(attribute, (str, Integral)):
        raise UserError(
            f"an attribute is a name or the number of a column, got {attribute!r} "
            f"({type(attribute).__name__})"
        )
    if isinstance(attribute, str) and (attribute in names or not attribute.isdecimal()):
        if not names:
            raise UserError(
                f"this {type(method).__name__} does not know the names of its attributes: "
                f"give the number of a column in place of {attribute!r}, or load it with "
                "dcorr_models.experiment.load_run"
            )
        return label_index(attribute, names, kind="attribute")
    attribute = int(attribute)
    if not 0 <= attribute < method.num_labels:
        raise UserError(
            f"no attribute {attribute}: the columns are numbered from 0 to {method.num_labels - 1}"
        )
    return attribute


def check_attributes(method: Method) -> None:
    """Refuses methods without attributes to edit."""
    _check_label_code(method)
    if not method.multilabel:
        raise UserError(
            f"this {type(method).__name__} was trained on exclusive classes: it has no attributes, "
            "only another class to edit to (editing.edit_class and style_transfer; on the command "
            "line --target)"
        )


def check_classes(method: Method) -> None:
    """Refuses methods without exclusive classes to edit."""
    _check_label_code(method)
    if method.multilabel:
        raise UserError(
            f"this {type(method).__name__} was trained on attributes, which are not exclusive: "
            "give them values (editing.edit_attributes and sweep; on the command line --set or "
            "--attribute)"
        )


def _check_label_code(method: Method) -> None:
    if not method.has_label_code:
        raise UserError(
            f"this {type(method).__name__} has no label code: it reconstructs images, and there is "
            "nothing to edit"
        )
    if method.has_class_vectors:
        raise UserError(
            f"this {type(method).__name__} describes a class by a vector, which has no entries to "
            "write into: swap classes between images (editing.swap, transfer and translate; on "
            "the command line --class_of and --content_of)"
        )


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")
