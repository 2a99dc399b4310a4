"""Mistakes of the caller: the command line prints them as one line and leaves with exit code 2."""

from __future__ import annotations

__all__ = ["CheckpointError", "DataError", "RunError", "UserError"]


class UserError(ValueError):
    """Something the caller can put right; the message names the thing and the way out."""


class DataError(UserError):
    """A data set that is missing, broken, or not what its files claim to be."""


class RunError(UserError):
    """A run folder that cannot be used as asked."""


class CheckpointError(UserError):
    """A checkpoint or weights file that is broken or belongs to something else."""
