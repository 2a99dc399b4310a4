"""The parser of the command line, which also reads the settings of a run back."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import jsonargparse
from jsonargparse import ArgumentParser

from dcorr_models.data import DataSource
from dcorr_models.errors import UserError
from dcorr_models.methods import Method

__all__ = ["BASES", "OptionError", "Parser"]

BASES: dict[str, type] = {"method": Method, "data": DataSource}


class OptionError(UserError):
    """What the parser says, over many lines."""


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Leaves out the list of known subclasses: for `nn.Module` it fills pages."""

    def _expand_help(self, action: Any) -> str:
        text: str = super()._expand_help(action)
        return re.sub(r",\s*known subclasses:[^)]*", "", text)


class Parser(ArgumentParser):
    """Errors in one line, without the usage text, with exit code 2."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """The message as it is: an inner parser's becomes part of the outer one's.

        `option_errors.explain` makes one line of the whole.
        """
        raise OptionError(message)
