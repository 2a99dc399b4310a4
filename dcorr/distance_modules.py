"""Module forms of the distance statistics: settings only, one class a function.

They stand apart from their functions because two files of them share these few lines.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr._distance_statistics import Settings, check_method, check_partial_method
from dcorr._process_group import Group, HoldsGroup
from dcorr._reduction import check_reduction, reduce_batch
from dcorr.distance_covariance import dcor, dcor2, dcov, dcov2, dvar2
from dcorr.partial_distance_covariance import pdcor, pdcov2


class _DistanceLoss(HoldsGroup):
    """The settings that all modules share; no parameters, an empty ``state_dict``."""

    _check_method = staticmethod(check_method)

    def __init__(
        self,
        *,
        exponent: float = 1.0,
        metric: str = "euclidean",
        method: str = "auto",
        reduction: str = "mean",
        check_finite: bool = False,
        group: Group = None,
        num_projections: int | None = None,
    ) -> None:
        super().__init__()
        # Refuses wrong settings right here, not at the first call.
        self._check_method(method)
        Settings(False, exponent, metric, method, check_finite, group, num_projections)
        check_reduction(reduction)
        self.exponent = exponent
        self.metric = metric
        self.method = method
        self.reduction = reduction
        self.check_finite = check_finite
        self.group = group
        self.num_projections = num_projections

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        count = self.num_projections
        return (
            f"exponent={self.exponent}, metric={self.metric!r}, method={self.method!r}, "
            f"reduction={self.reduction!r}, check_finite={self.check_finite}{self._group_repr()}"
            + ("" if count is None else f", num_projections={count}")
        )


class _UnbiasedLoss(_DistanceLoss):
    """The settings of statistics that have an unbiased form."""

    def __init__(
        self,
        *,
        unbiased: bool = False,
        exponent: float = 1.0,
        metric: str = "euclidean",
        method: str = "auto",
        reduction: str = "mean",
        check_finite: bool = False,
        group: Group = None,
        num_projections: int | None = None,
    ) -> None:
        super().__init__(
            exponent=exponent,
            metric=metric,
            method=method,
            reduction=reduction,
            check_finite=check_finite,
            group=group,
            num_projections=num_projections,
        )
        Settings(unbiased, exponent, metric, method, check_finite, group, num_projections)
        self.unbiased = unbiased

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        return f"unbiased={self.unbiased}, {super().extra_repr()}"


class DCov2Loss(_UnbiasedLoss):
    """Module form of :func:`~dcorr.dcov2`: it holds the settings and has no parameters.

    Formula, shapes, range, gradient at ties and reference are those of the function.

    Args:
        unbiased: the U-statistic, which may be negative.
        exponent: of the distances, in (0, 2].
        metric: ``"euclidean"`` or ``"precomputed"``.
        method: ``"auto"`` or one by name, as in :func:`~dcorr.dcov2`.
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions, or ``"none"``. Samples are
            always averaged: without batch dimensions the three are the same scalar.
        check_finite: raise on NaN or infinity.
        group: ``None``, ``"world"`` or a ``ProcessGroup``, looked up at each call.
        num_projections: random directions of ``"sliced"``, 64 unless given.

    Raises:
        TypeError: for a setting of the wrong type.
        ValueError: for a setting out of range; inputs as :func:`~dcorr.dcov2`.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> module = DCov2Loss()
        >>> round(module(x, y).item(), 4)
        0.6852
    """

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return ``dcov2(x, y)``, reduced over the batch dimensions."""
        value = dcov2(
            x,
            y,
            unbiased=self.unbiased,
            exponent=self.exponent,
            weights=weights,
            metric=self.metric,
            method=self.method,
            check_finite=self.check_finite,
            group=self.group,
            num_projections=self.num_projections,
            generator=generator,
        )
        return reduce_batch(value, self.reduction)


class DCovLoss(_DistanceLoss):
    """Module form of :func:`~dcorr.dcov`: it holds the settings and has no parameters.

    Formula, shapes, range, gradient at ties and reference are those of the function.

    Args:
        exponent: of the distances, in (0, 2].
        metric: ``"euclidean"`` or ``"precomputed"``.
        method: ``"auto"`` or one by name, as in :func:`~dcorr.dcov2`.
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions, or ``"none"``. Samples are
            always averaged: without batch dimensions the three are the same scalar.
        check_finite: raise on NaN or infinity.
        group: ``None``, ``"world"`` or a ``ProcessGroup``, looked up at each call.
        num_projections: random directions of ``"sliced"``, 64 unless given.

    Raises:
        TypeError: for a setting of the wrong type.
        ValueError: for a setting out of range; inputs as :func:`~dcorr.dcov`.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> module = DCovLoss()
        >>> round(module(x, y).item(), 4)
        0.8278
    """

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return ``dcov(x, y)``, reduced over the batch dimensions."""
        value = dcov(
            x,
            y,
            exponent=self.exponent,
            weights=weights,
            metric=self.metric,
            method=self.method,
            check_finite=self.check_finite,
            group=self.group,
            num_projections=self.num_projections,
            generator=generator,
        )
        return reduce_batch(value, self.reduction)


class DVar2Loss(_UnbiasedLoss):
    """Module form of :func:`~dcorr.dvar2`: it holds the settings and has no parameters.

    Formula, shapes, range, gradient at ties and reference are those of the function.

    Args:
        unbiased: the U-statistic, which may be negative.
        exponent: of the distances, in (0, 2].
        metric: ``"euclidean"`` or ``"precomputed"``.
        method: ``"auto"`` or one by name, as in :func:`~dcorr.dcov2`.
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions, or ``"none"``. Samples are
            always averaged: without batch dimensions the three are the same scalar.
        check_finite: raise on NaN or infinity.
        group: ``None``, ``"world"`` or a ``ProcessGroup``, looked up at each call.
        num_projections: random directions of ``"sliced"``, 64 unless given.

    Raises:
        TypeError: for a setting of the wrong type.
        ValueError: for a setting out of range; inputs as :func:`~dcorr.dvar2`.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> module = DVar2Loss()
        >>> round(module(x).item(), 4)
        1.7068
    """

    def forward(
        self,
        x: Tensor,
        *,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return ``dvar2(x)``, reduced over the batch dimensions."""
        value = dvar2(
            x,
            unbiased=self.unbiased,
            exponent=self.exponent,
            weights=weights,
            metric=self.metric,
            method=self.method,
            check_finite=self.check_finite,
            group=self.group,
            num_projections=self.num_projections,
            generator=generator,
        )
        return reduce_batch(value, self.reduction)


class DCor2Loss(_UnbiasedLoss):
    """Module form of :func:`~dcorr.dcor2`: it holds the settings and has no parameters.

    Formula, shapes, range, gradient at ties and reference are those of the function.

    Args:
        unbiased: the U-statistic, which may be negative.
        exponent: of the distances, in (0, 2].
        metric: ``"euclidean"`` or ``"precomputed"``.
        method: ``"auto"`` or one by name, as in :func:`~dcorr.dcov2`.
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions, or ``"none"``. Samples are
            always averaged: without batch dimensions the three are the same scalar.
        check_finite: raise on NaN or infinity.
        group: ``None``, ``"world"`` or a ``ProcessGroup``, looked up at each call.
        num_projections: random directions of ``"sliced"``, 64 unless given.

    Raises:
        TypeError: for a setting of the wrong type.
        ValueError: for a setting out of range; inputs as :func:`~dcorr.dcor2`.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> module = DCor2Loss()
        >>> round(module(x, y).item(), 4)
        0.3066
    """

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return ``dcor2(x, y)``, reduced over the batch dimensions."""
        value = dcor2(
            x,
            y,
            unbiased=self.unbiased,
            exponent=self.exponent,
            weights=weights,
            metric=self.metric,
            method=self.method,
            check_finite=self.check_finite,
            group=self.group,
            num_projections=self.num_projections,
            generator=generator,
        )
        return reduce_batch(value, self.reduction)


class DCorLoss(_DistanceLoss):
    """Module form of :func:`~dcorr.dcor`: it holds the settings and has no parameters.

    Formula, shapes, range, gradient at ties and reference are those of the function.

    Args:
        exponent: of the distances, in (0, 2].
        metric: ``"euclidean"`` or ``"precomputed"``.
        method: ``"auto"`` or one by name, as in :func:`~dcorr.dcov2`.
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions, or ``"none"``. Samples are
            always averaged: without batch dimensions the three are the same scalar.
        check_finite: raise on NaN or infinity.
        group: ``None``, ``"world"`` or a ``ProcessGroup``, looked up at each call.
        num_projections: random directions of ``"sliced"``, 64 unless given.

    Raises:
        TypeError: for a setting of the wrong type.
        ValueError: for a setting out of range; inputs as :func:`~dcorr.dcor`.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> module = DCorLoss()
        >>> round(module(x, y).item(), 4)
        0.5537
    """

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return ``dcor(x, y)``, reduced over the batch dimensions."""
        value = dcor(
            x,
            y,
            exponent=self.exponent,
            weights=weights,
            metric=self.metric,
            method=self.method,
            check_finite=self.check_finite,
            group=self.group,
            num_projections=self.num_projections,
            generator=generator,
        )
        return reduce_batch(value, self.reduction)


class PDCov2Loss(_DistanceLoss):
    """Module form of :func:`~dcorr.pdcov2`: it holds the settings and has no parameters.

    Formula, shapes, range, gradient at ties and reference are those of the function.

    Args:
        exponent: of the distances, in (0, 2].
        metric: ``"euclidean"`` or ``"precomputed"``.
        method: ``"auto"`` or one by name, but ``"sliced"``, as in :func:`~dcorr.dcov2`.
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions, or ``"none"``. Samples are
            always averaged: without batch dimensions the three are the same scalar.
        check_finite: raise on NaN or infinity.
        group: ``None``, ``"world"`` or a ``ProcessGroup``, looked up at each call.
        num_projections: ``None``, since partial statistics have no sliced form.

    Raises:
        TypeError: for a setting of the wrong type.
        ValueError: for a setting out of range; inputs as :func:`~dcorr.pdcov2`.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> z = torch.tensor([2.0, 0.0, 1.0, 4.0, 3.0, 1.0])
        >>> module = PDCov2Loss()
        >>> round(module(x, y, z).item(), 4)
        -0.9233
    """

    _check_method = staticmethod(check_partial_method)

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return ``pdcov2(x, y, z)``, reduced over the batch dimensions."""
        value = pdcov2(
            x,
            y,
            z,
            exponent=self.exponent,
            metric=self.metric,
            method=self.method,
            check_finite=self.check_finite,
            group=self.group,
        )
        return reduce_batch(value, self.reduction)


class PDCorLoss(_DistanceLoss):
    """Module form of :func:`~dcorr.pdcor`: it holds the settings and has no parameters.

    Formula, shapes, range, gradient at ties and reference are those of the function.

    Args:
        exponent: of the distances, in (0, 2].
        metric: ``"euclidean"`` or ``"precomputed"``.
        method: ``"auto"`` or one by name, but ``"sliced"``, as in :func:`~dcorr.dcov2`.
        reduction: ``"mean"`` or ``"sum"`` over the batch dimensions, or ``"none"``. Samples are
            always averaged: without batch dimensions the three are the same scalar.
        check_finite: raise on NaN or infinity.
        group: ``None``, ``"world"`` or a ``ProcessGroup``, looked up at each call.
        num_projections: ``None``, since partial statistics have no sliced form.

    Raises:
        TypeError: for a setting of the wrong type.
        ValueError: for a setting out of range; inputs as :func:`~dcorr.pdcor`.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> z = torch.tensor([2.0, 0.0, 1.0, 4.0, 3.0, 1.0])
        >>> module = PDCorLoss()
        >>> round(module(x, y, z).item(), 4)
        -0.4408
    """

    _check_method = staticmethod(check_partial_method)

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return ``pdcor(x, y, z)``, reduced over the batch dimensions."""
        value = pdcor(
            x,
            y,
            z,
            exponent=self.exponent,
            metric=self.metric,
            method=self.method,
            check_finite=self.check_finite,
            group=self.group,
        )
        return reduce_batch(value, self.reduction)
