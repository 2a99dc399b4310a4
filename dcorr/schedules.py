"""Schedules: pure functions of the training step, and a loss multiplied by one.

Every schedule returns a plain ``float`` and keeps no state: a resumed run needs only its step. Bind
the settings with :func:`functools.partial` to get a function of the step alone; it can be pickled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from dcorr._checks import check_integer, check_number

Schedule = Callable[[int], float]
"""A function of the step alone, such as ``partial(linear_ramp, length=50_000)``."""


def constant(step: int, *, value: float = 1.0) -> float:
    r"""Stay at one value: :math:`\lambda(t) = \lambda`.

    Args:
        step: the step :math:`t \ge 0`; checked, otherwise unused.
        value: the value at every step.

    Returns:
        ``value`` as a float.

    Raises:
        TypeError: if ``step`` is no integer or ``value`` no number.
        ValueError: if ``step`` is negative.

    Example:
        >>> constant(7, value=0.05)
        0.05
    """
    check_integer("step", step, low=0)
    _check_finite("value", value)
    return float(value)


def linear_ramp(step: int, *, length: int, start: float = 0.0, end: float = 1.0) -> float:
    r"""Go from ``start`` to ``end`` in a straight line over ``length`` steps, then stay.

    .. math:: \lambda(t) = s + (e - s)\,\min(t, S) / S

    with :math:`s` the start, :math:`e` the end and :math:`S` the length. With ``start=0`` this is
    CDNet's warm-up :math:`\lambda \min(t, S) / S`. A length of 0 means no ramp: ``end`` throughout.

    Args:
        step: the step :math:`t \ge 0`. CDNet counts from 1: its first update has weight
            :math:`\lambda / S`.
        length: the number of steps :math:`S \ge 0` of the ramp; 50,000 in CDNet.
        start: the value at step 0.
        end: the value from step ``length`` on, exactly.

    Returns:
        The value at this step, between ``start`` and ``end``.

    Raises:
        TypeError: if ``step`` or ``length`` is no integer, or ``start`` or ``end`` no number.
        ValueError: if ``step`` or ``length`` is negative.

    Reference:
        Song et al. 2020, CDNet, Section III-C, "Decorrelation loss scheduling".

    Example:
        >>> [linear_ramp(t, length=4, end=0.2) for t in (0, 1, 2, 4, 9)]
        [0.0, 0.05, 0.1, 0.2, 0.2]
    """
    fraction = _fraction_done(step, length, start, end)
    return float(end) if fraction == 1.0 else start + (end - start) * fraction


def cosine_ramp(step: int, *, length: int, start: float = 0.0, end: float = 1.0) -> float:
    r"""Go from ``start`` to ``end`` along half a cosine over ``length`` steps, then stay.

    .. math:: \lambda(t) = e + (s - e)\,\tfrac{1}{2} (1 + \cos(\pi \min(t, S) / S))

    with :math:`s` the start, :math:`e` the end and :math:`S` the length: flat at both ends and
    steepest in the middle. With ``start > end`` it is cosine annealing, as of a learning rate.

    Args:
        step: the step :math:`t \ge 0`.
        length: the number of steps :math:`S \ge 0`; 0 gives ``end`` throughout.
        start: the value at step 0.
        end: the value from step ``length`` on, exactly.

    Returns:
        The value at this step, between ``start`` and ``end``.

    Raises:
        TypeError: if ``step`` or ``length`` is no integer, or ``start`` or ``end`` no number.
        ValueError: if ``step`` or ``length`` is negative.

    Reference:
        Loshchilov and Hutter 2017, "SGDR", Eq. (5), without restarts.

    Example:
        >>> [round(cosine_ramp(t, length=4), 4) for t in (0, 1, 2, 3, 4)]
        [0.0, 0.1464, 0.5, 0.8536, 1.0]
    """
    fraction = _fraction_done(step, length, start, end)
    if fraction == 1.0:
        return float(end)
    return start + (end - start) * 0.5 * (1.0 - math.cos(math.pi * fraction))


def piecewise_constant(step: int, *, milestones: Sequence[int], values: Sequence[float]) -> float:
    r"""Take ``values[k]`` after ``k`` of the milestones have been reached.

    .. math:: \lambda(t) = v_k, \quad k = \#\{ i : m_i \le t \}

    Args:
        step: the step :math:`t \ge 0`.
        milestones: strictly increasing steps :math:`m_i \ge 0` at which the value changes; the new
            value holds at the milestone itself.
        values: one value more than there are milestones.

    Returns:
        The value at this step, as a float.

    Raises:
        TypeError: if ``step`` or a milestone is no integer, or a value no number.
        ValueError: if ``step`` is negative, the milestones do not increase, or there are too few or
            too many values.

    Example:
        >>> [piecewise_constant(t, milestones=[10, 20], values=[1, 5, 2]) for t in (9, 10, 20)]
        [1.0, 5.0, 2.0]
    """
    passed = _milestones_passed(step, milestones)
    if len(values) != len(milestones) + 1:
        raise ValueError(
            f"values must be one more than the {len(milestones)} milestones, got {len(values)}"
        )
    for i, value in enumerate(values):
        _check_finite(f"values[{i}]", value)
    return float(values[passed])


def step_decay(step: int, *, milestones: Sequence[int], factor: float, start: float = 1.0) -> float:
    r"""Multiply by ``factor`` at each milestone.

    .. math:: \lambda(t) = s \, f^{\,k}, \quad k = \#\{ i : m_i \le t \}

    Args:
        step: the step :math:`t \ge 0`.
        milestones: strictly increasing steps :math:`m_i \ge 0`; the new value holds at the
            milestone itself.
        factor: :math:`f \ge 0`; 0.75 in the published code of CDNet.
        start: the value :math:`s` before the first milestone.

    Returns:
        The value at this step, as a float.

    Raises:
        TypeError: if ``step`` or a milestone is no integer, or ``factor`` or ``start`` no number.
        ValueError: if ``step`` or ``factor`` is negative, or the milestones do not increase.

    Example:
        >>> [step_decay(t, milestones=[10, 20], factor=0.5) for t in (0, 10, 25)]
        [1.0, 0.5, 0.25]
    """
    check_number("factor", factor, low=0.0, open_high=True)
    _check_finite("start", start)
    return float(start * factor ** _milestones_passed(step, milestones))


class Scheduled(nn.Module):
    r"""Any loss, multiplied by a schedule: :math:`\lambda(t) \, L(\cdot)`.

    The step is an argument of the call and not a counter inside, so that the term has no state to
    save and several of them cannot run apart.

    Args:
        loss: a function or module that returns a tensor. A module becomes a submodule.
        schedule: a function of the step that returns a number; a number is read as a constant.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from dcorr import xcov
        >>> term = Scheduled(xcov, partial(linear_ramp, length=10))
        >>> x = torch.tensor([1.0, 2.0, 3.0])
        >>> [round(term(x, 2 * x, step=t).item(), 4) for t in (0, 5, 10)]
        [0.0, 0.4444, 0.8889]
    """

    def __init__(self, loss: Callable[..., Tensor], schedule: Schedule | float) -> None:
        super().__init__()
        if not callable(loss):
            raise TypeError(f"loss must be callable, got {type(loss).__name__}")
        if not callable(schedule):
            _check_finite("schedule", schedule)
        self.loss = loss
        self.schedule = schedule

    def weight(self, step: int) -> float:
        """Return the factor at this step."""
        return float(self.schedule(step) if callable(self.schedule) else self.schedule)

    def forward(self, *args: object, step: int, **kwargs: object) -> Tensor:
        """Return the loss of all other arguments, times the schedule at ``step``."""
        return self.weight(step) * self.loss(*args, **kwargs)

    def extra_repr(self) -> str:
        """Show the schedule, and the loss where it is a plain function."""
        loss = "" if isinstance(self.loss, nn.Module) else f"loss={_described(self.loss)}, "
        return f"{loss}schedule={_described(self.schedule)}"


def _fraction_done(step: int, length: int, start: float, end: float) -> float:
    """Check the arguments of a ramp and return min(t, S) / S."""
    check_integer("step", step, low=0)
    check_integer("length", length, low=0)
    _check_finite("start", start)
    _check_finite("end", end)
    return 1.0 if step >= length else step / length


def _check_finite(name: str, value: object) -> None:
    check_number(name, value, open_low=True, open_high=True)


def _milestones_passed(step: int, milestones: Sequence[int]) -> int:
    """Check ``step`` and ``milestones`` and count the milestones reached."""
    check_integer("step", step, low=0)
    for i, milestone in enumerate(milestones):
        check_integer(f"milestones[{i}]", milestone, low=0)
        if i and milestone <= milestones[i - 1]:
            raise ValueError(f"milestones must increase, got {list(milestones)}")
    return sum(1 for milestone in milestones if milestone <= step)


def _described(thing: object) -> str:
    """Name a function or ``partial`` by its own name, without its address in memory."""
    function = getattr(thing, "func", None)
    if function is None:
        return str(getattr(thing, "__name__", repr(thing)))
    settings = ", ".join(
        f"{key}={value!r}" for key, value in getattr(thing, "keywords", {}).items()
    )
    return f"{_described(function)}({settings})"
