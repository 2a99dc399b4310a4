"""The methods whose steps are timed, and the sizes they are timed at."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from players_afresh import AfreshStage
from torch import Tensor

from dcorr_models.methods import (
    IDGAN,
    VAEGAN,
    AEXCov,
    BetaVAE,
    CDNet,
    GanSettings,
    IcGAN,
    LrLiVAE,
    MddAE,
    Method,
)
from dcorr_models.training.execution import Execution
from dcorr_models.training.stage import Stage


class Timed(NamedTuple):
    """A method, and which of its stages is timed."""

    kind: type[Method]
    stage: int = 0
    same_gradients: bool = True
    """Without dropout both forms have the same gradients: no other noise is drawn in a step."""
    afresh: Callable[..., Stage] | None = None
    """The joint step with a forward pass for each player, where no argument of the method is it."""


# A new method is a line here.
METHODS = {
    "CDNet": Timed(CDNet, stage=1),
    "MddAE": Timed(MddAE),
    "AEXCov": Timed(AEXCov),
    "IcGAN": Timed(IcGAN, same_gradients=False),
    "VAEGAN": Timed(VAEGAN, same_gradients=False),
    "LrLiVAE": Timed(LrLiVAE, same_gradients=False, afresh=AfreshStage),
    "BetaVAE": Timed(BetaVAE),
    "IDGAN": Timed(IDGAN, stage=1),
}
SIZES: dict[str, dict[str, Any]] = {
    "mnist": {"architecture": "mnist", "batch_size": 100},
    "celeba": {
        "architecture": "celeba", "image_shape": (3, 64, 64), "num_labels": 40,
        "multilabel": True, "latent_dim": 1000, "batch_size": 128,
    },
    "faces_small": {
        "architecture": "faces_small", "image_shape": (3, 64, 64), "num_labels": 16,
        "multilabel": True, "latent_dim": 32, "batch_size": 64,
    },
    "mnist_small": {"architecture": "mnist_small", "batch_size": 64},
    "cifar10": {
        "architecture": "cifar10", "image_shape": (3, 32, 32), "class_dim": 100,
        "content_dim": 200, "batch_size": 96,
    },
    "facescrub64": {
        "architecture": "facescrub64", "image_shape": (3, 64, 64), "num_labels": 530,
        "class_dim": 512, "content_dim": 512, "batch_size": 96,
    },
    "sprites32": {"image_shape": (1, 32, 32)},
    "sprites64": {"image_shape": (1, 64, 64)},
    "celeba64": {
        "image_shape": (3, 64, 64), "latent_dim": 20, "nuisance_dim": 256,
        "gan": GanSettings(architecture="resnet", generator_lr=1e-4),
    },
}  # fmt: skip
FORMS = ("simultaneous", "sequential")


def has_forms(method: str) -> bool:
    """Whether the method's players can be updated at once and one after the other."""
    return "updates" in inspect.signature(METHODS[method].kind).parameters


def make_stage(
    method: str, size: str, fabric: Fabric, execution: Execution | None = None, **options: Any
) -> tuple[Method, Stage]:
    """A method with new weights and its timed stage, ready for steps."""
    kind, number, *_ = METHODS[method]
    if "decorrelation_ramp" in inspect.signature(kind).parameters:
        options["decorrelation_ramp"] = 0  # the regulariser at its full weight from the first step
    torch.manual_seed(0)
    model = kind(**SIZES[size], **options)
    stage = model.stages()[number]
    stage.execution = execution or Execution()
    stage.setup(fabric)
    return model, stage


def make_joint_stages(method: str, size: str, fabric: Fabric, **options: Any) -> list[Stage]:
    """The joint step alone, twice with the same weights: as the method shares it, and afresh."""
    kind, _, _, afresh = METHODS[method]
    assert afresh is not None
    stages = []
    for make in (None, afresh):
        torch.manual_seed(0)
        model = kind(**SIZES[size], n_gm=0, joint_batch="last", **options)
        stage = model.stages()[0] if make is None else make(model, name="afresh", steps=1)
        stage.setup(fabric)
        stages.append(stage)
    return stages


def made_up_batch(model: Method, size: int, device: torch.device) -> dict[str, Tensor]:
    """Random images and labels: the time of a step does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    low, high = model.value_range or (0.0, 1.0)
    images = torch.rand(size, *model.image_shape, generator=generator) * (high - low) + low
    if model.multilabel:
        labels = torch.randint(0, 2, (size, model.num_labels), generator=generator).float()
    else:
        # at least one class: some methods know of none, and read none
        labels = torch.randint(0, max(1, model.num_labels), (size,), generator=generator)
    return {"image": images.to(device), "label": labels.to(device)}
