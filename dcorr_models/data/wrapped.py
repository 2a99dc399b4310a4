"""A data set around another one: what it hands on as it is."""

from __future__ import annotations

from collections.abc import Callable

from dcorr_models.data.base import DataSource

__all__ = ["WrappedSource"]


class WrappedSource(DataSource):
    """What another data set says of itself, where a subclass says nothing else."""

    data: DataSource
    """The data set inside."""

    def __init__(self, data: DataSource) -> None:
        self.data = data
        self.image_shape, self.value_range = data.image_shape, data.value_range
        self.multilabel = data.multilabel

    # These are properties, not copies: some data sets know them from their files alone, and
    # constructing reads nothing.

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]  # follows the data set inside
        """The data set's."""
        return self.data.label_names

    @property
    def factor_names(self) -> tuple[str, ...]:  # type: ignore[override]  # follows the data set inside
        """The data set's."""
        return self.data.factor_names

    @property
    def factor_sizes(self) -> tuple[int, ...]:  # type: ignore[override]  # follows the data set inside
        """The data set's."""
        return self.data.factor_sizes

    @property
    def target_names(self) -> tuple[str, ...]:
        """The data set's, where it names its targets."""
        return tuple(getattr(self.data, "target_names", ()))

    def prepare(self, *, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        """As the data set itself."""
        self.data.prepare(mirror=mirror, say=say)

    def check_files(self, *, say: Callable[[str], None] = print) -> None:
        """As the data set itself."""
        self.data.check_files(say=say)
