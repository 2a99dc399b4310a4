"""Checks of arguments, made once at the door of every public function.

They look at types, shapes, dtypes and devices, never at values: reading a value from a GPU stops
its pipeline. The one exception is :func:`check_finite_values`, which runs only on request.
Every message names the argument, what was wanted, and what came. A thing of the wrong kind (not a
tensor, an integer dtype, two dtypes) is a ``TypeError``, one of the wrong size a ``ValueError``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from numbers import Real

import torch
from torch import Tensor


def check_tensor(name: str, value: object) -> None:
    """Refuse what is not a dense tensor of real floating-point numbers."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense (strided) tensor, got layout {value.layout}")
    if not value.dtype.is_floating_point:
        raise TypeError(f"{name} must have a floating-point dtype, got {value.dtype}")
    if value.dtype.itemsize < 2:
        # The float8 types are storage formats: torch itself defines no arithmetic on them.
        raise TypeError(f"{name} must have a dtype of at least 16 bits, got {value.dtype}")


def check_same_kind(**tensors: Tensor | None) -> None:
    """Refuse tensors on different devices or with different dtypes; ``None`` is passed over.

    Under autocast the dtypes may differ, as for torch's own losses: all is cast to float32 there.
    """
    given = [(name, t) for name, t in tensors.items() if t is not None]
    first_name, first = given[0]
    for name, t in given[1:]:
        if t.device != first.device:
            raise ValueError(
                f"{first_name} and {name} must be on the same device, "
                f"got {first.device} and {t.device}"
            )
        if t.dtype != first.dtype and not autocasts(first):
            raise TypeError(
                f"{first_name} and {name} must have the same dtype, got {first.dtype} and {t.dtype}"
            )


def as_samples(name: str, value: Tensor, *, min_samples: int = 1) -> Tensor:
    """Return ``value`` as ``(*batch, n, p)``; a vector ``(n,)`` is read as ``(n, 1)``."""
    check_tensor(name, value)
    if value.ndim == 0:
        raise ValueError(f"{name} must have shape (n,) or (*batch, n, p), got a scalar")
    if value.ndim == 1:
        value = value.unsqueeze(-1)
    if value.shape[-1] == 0:
        raise ValueError(f"{name} must have at least one feature, got shape {tuple(value.shape)}")
    check_enough_samples(name, value.shape[-2], min_samples)
    return value


def check_enough_samples(name: str, n: int, min_samples: int) -> None:
    """Refuse fewer samples than the statistic is defined for."""
    if n < min_samples:
        raise ValueError(f"{name} must have at least {min_samples} samples, got {n}")


def check_same_samples(**tensors: Tensor) -> None:
    """Refuse ``(*batch, n, p)`` tensors whose numbers of samples ``n`` differ."""
    (first_name, first), *rest = tensors.items()
    for name, t in rest:
        if t.shape[-2] != first.shape[-2]:
            raise ValueError(
                f"{first_name} and {name} need the same number of samples, "
                f"got {first.shape[-2]} and {t.shape[-2]}"
            )


def broadcast_batch(**shapes: Iterable[int]) -> torch.Size:
    """Return the common batch shape of the named batch shapes, by torch's broadcasting rules."""
    if len({tuple(shape) for shape in shapes.values()}) == 1:
        return torch.Size(next(iter(shapes.values())))
    try:
        common = torch.broadcast_shapes(*map(tuple, shapes.values()))  # type: ignore[no-untyped-call]
    except RuntimeError:
        names = " and ".join(shapes)
        got = " and ".join(str(tuple(shape)) for shape in shapes.values())
        raise ValueError(
            f"{names} need batch dimensions that broadcast together, got {got}"
        ) from None
    return torch.Size(common)


def check_weights(weights: object, batch: Iterable[int], n: int) -> None:
    """Refuse per-sample weights that are not ``(n,)`` or ``(*batch, n)`` broadcast to ``batch``."""
    check_tensor("weights", weights)
    assert isinstance(weights, Tensor)
    if weights.ndim == 0 or weights.shape[-1] != n:
        raise ValueError(
            f"weights must have shape (n,) or (*batch, n) with n = {n}, got {tuple(weights.shape)}"
        )
    broadcast_batch(samples=batch, weights=weights.shape[:-1])


def check_number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Refuse what is not a Python number in the interval from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    number = float(value)
    above = low < number if open_low else low <= number
    below = number < high if open_high else number <= high
    if not (above and below):  # written so that NaN is refused
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        raise ValueError(f"{name} must be in {left}{low:g}, {high:g}{right}, got {value}")


def check_integer(name: str, value: object, *, low: int) -> None:
    """Refuse what is not a Python integer of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is not ``True`` or ``False``."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a name that is not one of ``choices``."""
    known = tuple(choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")
    if value not in known:
        listed = ", ".join(repr(choice) for choice in known)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}")


def check_finite_values(**tensors: Tensor | None) -> None:
    """Refuse NaN and infinity. This looks at values, so callers run it on request only."""
    for name, t in tensors.items():
        if t is not None and not bool(torch.isfinite(t).all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity")


def autocasts(t: Tensor) -> bool:
    """Tell whether autocast is on for the device of ``t``."""
    kind = t.device.type  # the meta device has no autocast, and asking for it is an error
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def without_autocast(t: Tensor) -> AbstractContextManager[object]:
    """Return a context in which products on the device of ``t`` keep their dtype."""
    return torch.autocast(t.device.type, enabled=False) if autocasts(t) else nullcontext()


def compute_dtype(t: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float64 stays, everything narrower is computed in float32."""
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def result_dtype(t: Tensor) -> torch.dtype:
    """Return the dtype of a result: the caller's, but never half precision under autocast."""
    return compute_dtype(t) if autocasts(t) else t.dtype


def check_generator(generator: object, device: torch.device | None = None) -> None:
    """Refuse what is no generator, or cannot draw on ``device``; ``None`` is torch's own."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if device is not None and generator.device.type != device.type:
        raise ValueError(
            f"generator must be on the device of the samples, {device}, got {generator.device}"
        )
