"""Distance covariance and distance correlation: dependence of any kind, in any dimensions.

A trailing 2 means squared, always: ``dcov2`` is dCov², ``dcor2`` is R², ``dcor`` is R. Partial
versions are in :mod:`dcorr.partial_distance_covariance`, the modules in
:mod:`dcorr.distance_modules`, the names that the package dcor uses in :mod:`dcorr.dcor_names`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr._distance_statistics import Settings, prepare, root
from dcorr._process_group import Group, together


def dcov2(
    x: Tensor,
    y: Tensor,
    *,
    unbiased: bool = False,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    metric: str = "euclidean",
    method: str = "auto",
    check_finite: bool = False,
    group: Group = None,
    num_projections: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Squared distance covariance: 0 in the population exactly for independent vectors.

    .. math::
        \mathrm{dCov}^2 = \frac{1}{n^2} \sum_{i,j=1}^{n} A_{ij} B_{ij}, \qquad
        A_{ij} = a_{ij} - \bar a_{i\cdot} - \bar a_{\cdot j} + \bar a_{\cdot\cdot}, \qquad
        a_{ij} = |x_i - x_j|^\alpha

    and B likewise from y. It is the squared quantity, and its distances are not squared. With
    ``weights`` every mean is weighted. The unbiased form is the U-statistic

    .. math::
        \frac{1}{n(n-3)} \sum_{i \ne j} a_{ij} b_{ij}
        - \frac{2}{n(n-2)(n-3)} \sum_i a_{i\cdot} b_{i\cdot}
        + \frac{a_{\cdot\cdot} b_{\cdot\cdot}}{n(n-1)(n-2)(n-3)}

    with sums (not means) over the dotted indices.

    Args:
        x: ``(*batch, n, p)``, or ``(n,)`` read as ``(n, 1)``; n >= 2 (4 if unbiased), p >= 1, a
            floating-point dtype. Half precision is computed in float32.
        y: ``(*batch, n, q)`` or ``(n,)``; same n, device and dtype as ``x`` (under autocast the
            dtypes may differ), batch dimensions that broadcast with those of ``x``.
        unbiased: the U-statistic, whose mean is the population value at any n >= 4.
        exponent: :math:`\alpha` in (0, 2]. Only below 2 does 0 mean independence: at 2 the value is
            4 times the squared norm of the cross-covariance matrix.
        weights: ``(n,)`` or ``(*batch, n)``, non-negative and not all zero; divided by their
            sum. Whole numbers stand for repeated samples. Not with ``unbiased``.
        metric: ``"euclidean"``, or ``"precomputed"``: x and y are then ``(*batch, n, n)``
            matrices of distances, symmetric with a zero diagonal (which is not checked). It is
            never guessed.
        method: ``"auto"``; or ``"dense"``, which keeps the n by n distances, as they are and
            centred, or ``"tiled"``, which computes them twice and needs memory for n rows only, or
            ``"fused"``, which does so in Triton kernels on a CUDA device; or ``"univariate"``,
            which orders samples of one feature (exponent 1) in O(n log n). The values are the same
            but for rounding. ``"sliced"`` (exponent 1) is an unbiased estimate, the value of
            :func:`sliced_dcov2`; ``"auto"`` never takes it.
        check_finite: raise on NaN or infinity. Off by default, since looking at values makes a GPU
            wait; NaN in then gives NaN out.
        group: ``None`` for the samples of this process alone; a ``ProcessGroup``, or ``"world"``
            for all processes: x, y and weights are then this process's share, of any size (even
            0), and the value, the same on each, is that of all of them together. Every process has
            to call the function, and ``backward``; the gradient is that of the sum of the
            processes' losses, which DDP's mean turns into that of a single process. The method
            ``"tiled"`` deals its blocks out to the processes; by any other each of them computes
            the whole. Not with ``"fused"``, ``"sliced"`` or distances. Beware:
            ``torch.distributed.group.WORLD`` is ``None`` until there is one; ``"world"`` raises.
        num_projections: random directions of ``"sliced"``, 64 unless given; with it alone.
        generator: draws them, on the device of the samples; ``None`` is torch's own. With
            ``"sliced"`` alone.

    Returns:
        Tensor of shape ``batch`` (a scalar for two-dimensional samples), in (unit of x · unit of y)
        to the power ``exponent``, in the dtype of the inputs (float32 for half precision under
        autocast). The biased form is >= 0, the unbiased one may be negative.

    Raises:
        TypeError: if an argument is no dense floating-point tensor, the dtypes differ, or an option
            has the wrong type.
        ValueError: if shapes or devices do not fit, there are too few samples or no features, an
            option is out of its range, or ``check_finite`` finds a NaN or infinity.

    Gradient:
        In closed form, to x, y and weights; it can be differentiated again. Coincident points have
        distance exactly 0, and their pair contributes a zero gradient (for exponents up to 1 the
        middle of the subgradients, above 1 the gradient itself). A constant sample gives 0 and a
        zero gradient. There is no NaN.

    Reference:
        Székely, Rizzo and Bakirov 2007, "Measuring and testing dependence by correlation of
        distances", Eq. (2.8); as a loss Song et al. 2020, CDNet, Eq. (1). Unbiased: Székely and
        Rizzo 2014, "Partial distance correlation with methods for dissimilarities", Proposition 1.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> round(dcov2(x, y).item(), 4)  # 37/54
        0.6852
        >>> round(dcov2(x, y, unbiased=True).item(), 4)  # -8/9
        -0.8889
    """
    with together(group, "dcov2") as team:
        settings = Settings(
            unbiased, exponent, metric, method, check_finite, group, num_projections, generator
        )
        samples = prepare({"x": x, "y": y}, weights, settings, team)
    return samples.result(samples.covariance(samples.moments("x", "y", variances=False)))


def dcov(
    x: Tensor,
    y: Tensor,
    *,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    metric: str = "euclidean",
    method: str = "auto",
    check_finite: bool = False,
    group: Group = None,
    num_projections: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Distance covariance, the root of the biased :func:`dcov2`.

    .. math:: \mathrm{dCov} = \sqrt{\frac{1}{n^2} \sum_{i,j} A_{ij} B_{ij}}

    There is no unbiased form: the U-statistic may be negative. Sliced, it is the root of the
    estimate of dCov².

    Args:
        x: ``(*batch, n, p)`` or ``(n,)``, as in :func:`dcov2`.
        y: ``(*batch, n, q)`` or ``(n,)``, as in :func:`dcov2`.
        exponent: of the distances, in (0, 2].
        weights: ``(n,)`` or ``(*batch, n)``, as in :func:`dcov2`.
        metric: ``"euclidean"`` or ``"precomputed"``, as in :func:`dcov2`.
        method: ``"auto"`` or one by name, as in :func:`dcov2`.
        check_finite: raise on NaN or infinity.
        group: several processes' samples together, as in :func:`dcov2`.
        num_projections: random directions of ``"sliced"``, as in :func:`dcov2`.
        generator: draws them, as in :func:`dcov2`.

    Returns:
        Tensor of shape ``batch``, >= 0, in the root of (unit of x · unit of y) to the power
        ``exponent``.

    Raises:
        TypeError: as :func:`dcov2`.
        ValueError: as :func:`dcov2`.

    Gradient:
        As :func:`dcov2`, divided by twice the value. Where the value is 0 the function has the tip
        of a cone and no gradient; it is given as 0, never NaN or infinity. Just above 0 it is
        large: to drive dependence to 0, use :func:`dcov2`.

    Reference:
        Székely, Rizzo and Bakirov 2007, Eq. (2.8).

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> round(dcov(x, y).item(), 4)
        0.8278
    """
    with together(group, "dcov") as team:
        settings = Settings(
            False, exponent, metric, method, check_finite, group, num_projections, generator
        )
        samples = prepare({"x": x, "y": y}, weights, settings, team)
    return samples.result(root(samples.covariance(samples.moments("x", "y", variances=False))))


def dvar2(
    x: Tensor,
    *,
    unbiased: bool = False,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    metric: str = "euclidean",
    method: str = "auto",
    check_finite: bool = False,
    group: Group = None,
    num_projections: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Squared distance variance: :func:`dcov2` of a sample with itself.

    .. math:: \mathrm{dVar}^2 = \frac{1}{n^2} \sum_{i,j} A_{ij}^2

    The unbiased form is the U-statistic of :func:`dcov2` with b = a. Sliced, it is estimated from
    projections on two independent directions each, and unbiased over them.

    Args:
        x: ``(*batch, n, p)`` or ``(n,)``, as in :func:`dcov2`.
        unbiased: the U-statistic; n >= 4.
        exponent: of the distances, in (0, 2].
        weights: ``(n,)`` or ``(*batch, n)``, as in :func:`dcov2`.
        metric: ``"euclidean"`` or ``"precomputed"``, as in :func:`dcov2`.
        method: ``"auto"`` or one by name, as in :func:`dcov2`.
        check_finite: raise on NaN or infinity.
        group: several processes' samples together, as in :func:`dcov2`.
        num_projections: random directions of ``"sliced"``, as in :func:`dcov2`.
        generator: draws them, as in :func:`dcov2`.

    Returns:
        Tensor of shape ``batch``, >= 0, in the unit of x to the power 2 · ``exponent``. It is 0 for
        constant samples; the unbiased form also where all points but one coincide.

    Raises:
        TypeError: as :func:`dcov2`.
        ValueError: as :func:`dcov2`.

    Gradient:
        As :func:`dcov2`: 0 from pairs of coincident points, 0 for a constant sample.

    Reference:
        Székely, Rizzo and Bakirov 2007, Eq. (2.9).

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> round(dvar2(x).item(), 4)  # 553/324
        1.7068
    """
    with together(group, "dvar2") as team:
        settings = Settings(
            unbiased, exponent, metric, method, check_finite, group, num_projections, generator
        )
        samples = prepare({"x": x}, weights, settings, team)
    return samples.result(samples.variances(samples.moments("x", variances=True))[0])


def dcor2(
    x: Tensor,
    y: Tensor,
    *,
    unbiased: bool = False,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    metric: str = "euclidean",
    method: str = "auto",
    check_finite: bool = False,
    group: Group = None,
    num_projections: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Squared distance correlation: :func:`dcov2` without units.

    .. math:: R^2 = \frac{\mathrm{dCov}^2(x, y)}{\sqrt{\mathrm{dVar}^2(x)\, \mathrm{dVar}^2(y)}}

    The unbiased form puts the three U-statistics in the same formula: the bias-corrected R².
    Sliced, the three are estimates; their ratio is consistent, but not unbiased, over directions.

    Args:
        x: ``(*batch, n, p)`` or ``(n,)``, as in :func:`dcov2`.
        y: ``(*batch, n, q)`` or ``(n,)``, as in :func:`dcov2`.
        unbiased: the bias-corrected form; n >= 4. In high dimensions the biased one is near 1 even
            for independent samples.
        exponent: of the distances, in (0, 2].
        weights: ``(n,)`` or ``(*batch, n)``, as in :func:`dcov2`.
        metric: ``"euclidean"`` or ``"precomputed"``, as in :func:`dcov2`.
        method: ``"auto"`` or one by name, as in :func:`dcov2`.
        check_finite: raise on NaN or infinity.
        group: several processes' samples together, as in :func:`dcov2`.
        num_projections: random directions of ``"sliced"``, as in :func:`dcov2`.
        generator: draws them, as in :func:`dcov2`.

    Returns:
        Tensor of shape ``batch``, without unit: in [0, 1], the bias-corrected form in [-1, 1]. 1
        means that y is x up to shift, rotation and scale; 0 also stands for a sample of zero
        distance variance.

    Raises:
        TypeError: as :func:`dcov2`.
        ValueError: as :func:`dcov2`.

    Gradient:
        By the quotient rule from those of :func:`dcov2` and :func:`dvar2`: 0 from pairs of
        coincident points, and 0 to both samples where one has zero distance variance.

    Reference:
        Székely, Rizzo and Bakirov 2007, Eq. (2.10), squared. Bias-corrected: Székely and Rizzo
        2014, "Partial distance correlation with methods for dissimilarities", Proposition 1.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> y = torch.tensor([1.0, 7.0, 5.0, 5.0, 6.0, 2.0])
        >>> round(dcor2(x, y).item(), 4)
        0.3066
        >>> round(dcor2(x, y, unbiased=True).item(), 4)
        -0.4161
    """
    with together(group, "dcor2") as team:
        settings = Settings(
            unbiased, exponent, metric, method, check_finite, group, num_projections, generator
        )
        samples = prepare({"x": x, "y": y}, weights, settings, team)
    return samples.result(samples.correlation(samples.moments("x", "y", variances=True)))


def dcor(
    x: Tensor,
    y: Tensor,
    *,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    metric: str = "euclidean",
    method: str = "auto",
    check_finite: bool = False,
    group: Group = None,
    num_projections: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Distance correlation, the root of the biased :func:`dcor2`.

    .. math::
        R = \sqrt{\frac{\mathrm{dCov}^2(x, y)}
        {\sqrt{\mathrm{dVar}^2(x)\, \mathrm{dVar}^2(y)}}}

    There is no bias-corrected form: it may be negative.

    Args:
        x: ``(*batch, n, p)`` or ``(n,)``, as in :func:`dcov2`.
        y: ``(*batch, n, q)`` or ``(n,)``, as in :func:`dcov2`.
        exponent: of the distances, in (0, 2].
        weights: ``(n,)`` or ``(*batch, n)``, as in :func:`dcov2`.
        metric: ``"euclidean"`` or ``"precomputed"``, as in :func:`dcov2`.
        method: ``"auto"`` or one by name, as in :func:`dcov2`.
        check_finite: raise on NaN or infinity.
        group: several processes' samples together, as in :func:`dcov2`.
        num_projections: random directions of ``"sliced"``, as in :func:`dcov2`.
        generator: draws them, as in :func:`dcov2`.

    Returns:
        Tensor of shape ``batch``, without unit, in [0, 1]; 0 also for a constant sample.

    Raises:
        TypeError: as :func:`dcov2`.
        ValueError: as :func:`dcov2`.

    Gradient:
        That of :func:`dcor2` divided by twice the value; where the value is 0, at the tip of a
        cone, it is given as 0, never NaN or infinity.

    Reference:
        Székely, Rizzo and Bakirov 2007, Eq. (2.10).

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
        >>> y = torch.tensor([1.0, 2.0, 9.0, 4.0, 4.0])
        >>> round(dcor(x, y).item(), 4)
        0.7627
    """
    with together(group, "dcor") as team:
        settings = Settings(
            False, exponent, metric, method, check_finite, group, num_projections, generator
        )
        samples = prepare({"x": x, "y": y}, weights, settings, team)
    return samples.result(root(samples.correlation(samples.moments("x", "y", variances=True))))
