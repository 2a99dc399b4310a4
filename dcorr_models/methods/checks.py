"""Checks of a method's settings: one line that names the argument and what it may be."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from dcorr_models.errors import UserError

__all__ = ["check_at_least", "check_betas", "check_choice", "check_groups", "check_separate"]


def check_at_least(least: float, **values: float) -> None:
    """Refuses a value below `least`, NaN or infinity, by its name.

    Example:
        >>> check_at_least(1, batch_size=0)
        Traceback (most recent call last):
        dcorr_models.errors.UserError: batch_size must be 1 or more, got 0
    """
    for name, value in values.items():
        if not value >= least:  # also refuses NaN
            raise UserError(f"{name} must be {least} or more, got {value}")
        if value == float("inf"):
            raise UserError(f"{name} must be a finite number, got {value}")


def check_choice(**choices: tuple[object, Collection[str]]) -> None:
    """Refuses a word that is none of the known ones: `check_choice(name=(value, known))`.

    Example:
        >>> check_choice(updates=("both", ("simultaneous", "sequential")))
        Traceback (most recent call last):
        dcorr_models.errors.UserError: updates must be one of simultaneous, sequential, got 'both'
    """
    for name, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def check_betas(betas: Sequence[float]) -> None:
    """Refuses what Adam would: anything but two rates in [0, 1).

    Example:
        >>> check_betas((0.9, 1.0))
        Traceback (most recent call last):
        dcorr_models.errors.UserError: betas must be two numbers in [0, 1), got (0.9, 1.0)
    """
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"betas must be two numbers in [0, 1), got {tuple(betas)}")


def check_groups(batch_size: int, images_per_class: int, *, least: int = 1) -> None:
    """Refuses batches that are not made of whole groups of at least `least` images.

    Example:
        >>> check_groups(10, 4)
        Traceback (most recent call last):
        dcorr_models.errors.UserError: batch_size must be a multiple of images_per_class (4), got 10
    """
    check_at_least(least, images_per_class=images_per_class)
    check_at_least(1, batch_size=batch_size)
    if batch_size % images_per_class:
        raise UserError(
            f"batch_size must be a multiple of images_per_class ({images_per_class}), "
            f"got {batch_size}"
        )


def check_separate(*networks: nn.Module) -> None:
    """Refuses networks that share parameters: each player has an optimizer of its own.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> check_separate(net, nn.Sequential(net))
        Traceback (most recent call last):
        dcorr_models.errors.UserError: two of your networks share parameters (Sequential): each \
player needs parameters of its own, copy.deepcopy makes them
    """
    owners: dict[nn.Parameter, int] = {}
    for place, network in enumerate(networks):
        for parameter in network.parameters():
            if owners.setdefault(parameter, place) != place:
                raise UserError(
                    f"two of your networks share parameters ({type(network).__name__}): each "
                    "player needs parameters of its own, copy.deepcopy makes them"
                )
