"""The regulariser between label code and residual code: by name, or a module of the user's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr import dcov2, xcov
from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_choice

__all__ = ["REGULARISERS", "Regulariser", "alone", "for_processes", "regulariser_of"]

Regulariser = Callable[[Tensor, Tensor], Tensor]
REGULARISERS: dict[str, Regulariser | None] = {"dcov2": dcov2, "xcov": xcov, "none": None}
BATCH_STATISTICS = (dcov2, xcov)


def regulariser_of(decorrelation: str | Regulariser) -> Regulariser | None:
    """The loss that a method's argument `decorrelation` names or is; None for "none".

    Raises:
        UserError: an unknown name, or a module with parameters, which no player would train.

    Example:
        >>> regulariser_of("xcov") is xcov, regulariser_of("none")
        (True, None)
    """
    if not callable(decorrelation):
        check_choice(decorrelation=(decorrelation, REGULARISERS))
        return REGULARISERS[decorrelation]
    if isinstance(decorrelation, nn.Module) and any(True for _ in decorrelation.parameters()):
        raise UserError(
            f"decorrelation {type(decorrelation).__name__} has parameters of its own, which no "
            "player would train: take one without"
        )
    return decorrelation


def for_processes(regulariser: Regulariser | None, fabric: Fabric) -> Regulariser | None:
    """A built-in regulariser of the global batch: one process's share would change the loss.

    A module is moved to the device, since no network holds it. Its buffers are not in checkpoints:
    they must not change from step to step.
    """
    if regulariser is None:
        return None
    if isinstance(regulariser, nn.Module):
        fabric.to_device(regulariser)
    if fabric.world_size == 1:
        return alone(regulariser)
    return partial(regulariser, group="world") if regulariser in BATCH_STATISTICS else regulariser


def alone(regulariser: Regulariser) -> Regulariser:
    """The same regulariser of this process alone, where it was made for a group of them."""
    if not isinstance(regulariser, nn.Module) or getattr(regulariser, "group", None) is None:
        return regulariser
    twin = copy.copy(regulariser)
    vars(twin)["group"] = None
    return twin
