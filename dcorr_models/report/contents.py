"""The files of a run as reports need them: settings by dotted names, tables of JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcorr_models.errors import RunError

__all__ = ["flat", "plain", "read_json"]


def read_json(path: Path) -> Mapping[str, Any]:
    """A table of names and values.

    Raises:
        RunError: a file that cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} cannot be read: it holds no table of names and values")
    return content


def flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted names without jsonargparse's `init_args`, as on the command line."""
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [
        pair
        for key, inner in value.items()
        for pair in flat(
            inner, prefix if key == "init_args" else f"{prefix}.{key}" if prefix else str(key)
        )
    ]


def plain(value: Any) -> str:
    """A setting as it stands in YAML, more or less."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(plain, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
