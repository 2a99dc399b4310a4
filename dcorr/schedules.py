"""Schedules: pure functions of the training step, and a loss multiplied by one.

Every schedule returns a plain ``float`` and keeps no state, so that a resumed run needs only its step.
"""

from __future__ import annotations


def linear_ramp(step: int, *, length: int, start: float = 0.0, end: float = 1.0) -> float:
    r"""Go from ``start`` to ``end`` in a straight line over ``length`` steps, then stay.

    .. math:: \lambda(t) = s + (e - s)\,\min(t, S) / S

    with ``start`` :math:`s`, ``end`` :math:`e` and ``length`` :math:`S`. With ``start=0`` this is the
    warm-up :math:`\lambda(t) = \lambda \min(t, S) / S` of CDNet. A length of 0 means no ramp: the
    value is ``end`` at every step.

    Args:
        step: the step :math:`t >= 0`. CDNet counts from 1, so that its first update has weight 1/S.
        length: number of steps :math:`S >= 0` of the ramp.
        start: value at step 0.
        end: value from step ``length`` on; exact, without rounding.

    Returns:
        The value at this step, between ``start`` and ``end``.

    Raises:
        ValueError: if ``step`` or ``length`` is negative.

    Reference:
        Song et al. 2020, CDNet, Algorithm 1 and Section IV-A (warm-up of the decorrelation weight).

    Example:
        >>> [linear_ramp(t, length=4, end=0.2) for t in (0, 1, 2, 4, 9)]
        [0.0, 0.05, 0.1, 0.2, 0.2]
    """
    if step < 0:
        raise ValueError(f"step must be 0 or more, got {step}")
    if length < 0:
        raise ValueError(f"length must be 0 or more, got {length}")
    if step >= length:
        return float(end)
    return start + (end - start) * (step / length)
