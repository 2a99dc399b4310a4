"""Objects that remember their constructor's arguments: the configuration of a run."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from typing import Any

from torch import nn

__all__ = ["Configurable"]


class Configurable:
    """Base class whose instances can say how they were made.

    `settings()` gives `{"class_path": ..., "init_args": {...}}`, the form in which the command line
    and YAML files name a class, whether the object was made there or in Python.

    Example:
        >>> class Blur(Configurable):
        ...     def __init__(self, *, width: int = 3) -> None: ...
        >>> Blur(width=5).settings()["init_args"]
        {'width': 5}
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Takes note of the arguments; `__init__` keeps its own signature and docstring."""
        self = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        del arguments["self"]
        # nn.Module's own __setattr__ refuses anything before its __init__ has run.
        object.__setattr__(self, "_init_args", arguments)
        return self

    def settings(self) -> dict[str, Any]:
        """The class and its arguments, defaults filled in, as plain YAML values.

        An `nn.Module` argument is written as its class path alone when it was not made from a
        configuration: such a run can be read back only by code that passes the module again.
        """
        arguments: dict[str, Any] = self._init_args  # type: ignore[attr-defined]
        return {
            "class_path": class_path(type(self)),
            "init_args": {k: _plain(v) for k, v in arguments.items()},
        }


def class_path(cls: type) -> str:
    """`package.module.Name`, shortened to the public package where that exports the name."""
    module, name = cls.__module__, cls.__qualname__
    for public in ("dcorr", "dcorr_models.methods", "dcorr_models.data"):
        if module == public or module.startswith(public + "."):
            package = __import__(public, fromlist=[name])
            if getattr(package, name, None) is cls:
                return f"{public}.{name}"
    return f"{module}.{name}"


def _plain(value: Any) -> Any:
    if isinstance(value, Configurable):
        return value.settings()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, nn.Module) or callable(value):
        return {"class_path": class_path(value if isinstance(value, type) else type(value))}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
