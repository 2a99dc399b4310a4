"""AE-XCov: an auto-encoder that is told the label, with a decorrelated residual code.

Cheung, Livezey, Bansal and Olshausen 2014, "Discovering hidden factors of variation in deep
networks" (arXiv 1412.6583), as the authors of CDNet implemented it for their comparison (Song et
al. 2020, section IV-A2). Every departure is listed in `docs/methods/ae_xcov.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR

from dcorr_models.methods.checks import check_at_least, check_choice
from dcorr_models.methods.one_encoder import OneEncoder, class_loss
from dcorr_models.methods.regularisers import for_processes
from dcorr_models.training.optimizers import rmsprop
from dcorr_models.training.stage import Batch, Stage, frozen, weighted_sum

__all__ = ["AEXCov", "AEXCovStage"]


class AEXCov(OneEncoder):
    """AE-XCov (Cheung et al. 2014) as a baseline of CDNet, with its MNIST settings as defaults.

    The encoder minimises `class_weight · L_class + λ XCov(ŷ, z) + f · L_pix`, the decoder
    `f · L_pix`, where f is `reconstruction_factor`. In training the decoder is given the true
    discrete label; afterwards, the encoder's decision.

    Args:
        architecture: sizes of the networks: `mnist` (28x28x1) and `celeba` (64x64x3) of the
            release, `faces_small` (64x64x3) for a CPU.
        image_shape: channels, height and width of the images.
        num_labels: classes, or attributes of a multilabel problem.
        multilabel: labels are attribute vectors: sigmoid and binary cross-entropy instead of
            softmax and cross-entropy.
        latent_dim: size of the residual code z.
        dropout: rate in the dense layers of the encoder: 0.25 for MNIST, 0.5 for CelebA.
        decorrelation: the regulariser between ŷ and z: `xcov`, or instead of it `dcov2`, `none`,
            or any callable or module of (ŷ, z) with a scalar result. With several processes the
            first two are those of the global batch; a module of `dcorr` is with `group="world"`,
            anything else sees each process's share.
        decorrelation_weight: λ: 5 for MNIST, 1 for CelebA.
        class_weight: weight of the cross-entropy.
        reconstruction_factor: factor before the mean squared error: 0.5 in the released code.
        updates: `sequential` (the released code: the encoder, then the decoder after a forward pass
            of its own) or `simultaneous` (one forward pass and the same parameters for both).
        batch_size: images of an update: 100 for MNIST, 128 for CelebA.
        steps: updates: 150 epochs of MNIST's 50,000 images, 25 of CelebA's (31,800).
        lr: learning rate of RMSprop.
        lr_milestones: updates after which the learning rates are multiplied by `lr_decay`: none
            for MNIST, 10k and 20k for CelebA.
        lr_decay: factor at each milestone.
        encoder: your own encoder, images to (N, num_labels + latent_dim).
        decoder: your own decoder, called with (label code, z), giving images.
    """

    intensities = (-0.5, 6.0)

    def __init__(
        self,
        *,
        architecture: Literal["mnist", "celeba", "faces_small"] = "mnist",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        multilabel: bool = False,
        latent_dim: int = 10,
        dropout: float = 0.25,
        decorrelation: Literal["dcov2", "xcov", "none"] | nn.Module = "xcov",
        decorrelation_weight: float = 5.0,
        class_weight: float = 1.0,
        reconstruction_factor: float = 0.5,
        updates: Literal["simultaneous", "sequential"] = "sequential",
        batch_size: int = 100,
        steps: int = 75_000,
        lr: float = 1e-4,
        lr_milestones: tuple[int, ...] = (),
        lr_decay: float = 0.75,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__(
            architecture=architecture,
            image_shape=image_shape,
            num_labels=num_labels,
            multilabel=multilabel,
            latent_dim=latent_dim,
            dropout=dropout,
            decoder_input="discrete",
            decorrelation=decorrelation,
            decorrelation_weight=decorrelation_weight,
            encoder=encoder,
            decoder=decoder,
        )
        check_choice(updates=(updates, ("simultaneous", "sequential")))
        check_at_least(1, batch_size=batch_size)
        check_at_least(
            0,
            class_weight=class_weight,
            reconstruction_factor=reconstruction_factor,
            steps=steps,
            lr=lr,
            lr_decay=lr_decay,
        )
        self.step_settings = StepSettings(
            weights={
                "class": class_weight,
                "decorrelation": decorrelation_weight,
                "pixel": reconstruction_factor,
            },
            sequential=updates == "sequential",
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            lr_milestones=tuple(lr_milestones),
            lr_decay=lr_decay,
        )

    def stages(self) -> list[Stage]:
        """One: encoder and decoder, each by its own loss."""
        return [AEXCovStage(self)]


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `AEXCov`."""

    weights: dict[str, float]
    sequential: bool
    steps: int
    batch_size: int
    lr: float
    lr_milestones: Sequence[int]
    lr_decay: float


class AEXCovStage(Stage):
    """Two players: the encoder, and the decoder, which sees the reconstruction alone.

    At the same parameters both can be served by one backward of the encoder's loss, since none of
    its other terms depends on the decoder; RMSprop works number by number, so that one optimizer
    for both is the same as two. That is the simultaneous form.
    """

    def __init__(self, model: AEXCov) -> None:
        settings = model.step_settings
        players: dict[str, nn.Module] = {"encoder": model.encoder, "decoder": model.decoder}
        learning = players
        if not settings.sequential:
            learning = {"autoencoder": nn.ModuleList(players.values())}
        optimizers = {name: rmsprop(module, settings.lr) for name, module in learning.items()}
        super().__init__(
            "autoencoder",
            networks=players,
            optimizers=optimizers,
            schedulers={
                name: MultiStepLR(optimizer, list(settings.lr_milestones), settings.lr_decay)
                for name, optimizer in optimizers.items()
            },
            max_steps=settings.steps,
            batch_size=settings.batch_size,
        )
        self.model = model
        self.settings = settings
        self.regulariser = model.decorrelation.loss

    def setup(self, fabric: Fabric) -> None:
        """Hands the networks to Fabric; several processes regularise their global batch."""
        super().setup(fabric)
        self.regulariser = for_processes(self.model.decorrelation.loss, fabric)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of encoder and decoder."""
        if not self.settings.sequential:
            terms, accuracy = self._terms(batch)
            self.update("autoencoder", weighted_sum(terms, self.settings.weights))
            return _log(terms, accuracy)
        with frozen(self.networks["decoder"]):
            terms, accuracy = self._terms(batch)
            self.update("encoder", weighted_sum(terms, self.settings.weights))
        with torch.no_grad():
            _, z = self.model.split(self.networks["encoder"](batch["image"]))
        pixel = {"pixel": self._pixel(batch, z)}
        self.update("decoder", weighted_sum(pixel, self.settings.weights))
        return _log(terms, accuracy)

    def _terms(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The encoder's losses from one forward pass, and the accuracy of ŷ."""
        model = self.model
        logits, z = model.split(self.networks["encoder"](batch["image"]))
        value, accuracy = class_loss(logits, batch["label"], multilabel=model.multilabel)
        terms = {"class": value, "pixel": self._pixel(batch, z)}
        if self.regulariser is not None:
            terms["decorrelation"] = self.regulariser(model.soft_target(logits), z)
        return terms, accuracy

    def _pixel(self, batch: Batch, z: Tensor) -> Tensor:
        label = self.model.as_code(batch["label"], z.dtype)
        return F.mse_loss(self.networks["decoder"](label, z), batch["image"])


def _log(terms: dict[str, Tensor], accuracy: Tensor) -> dict[str, Tensor]:
    return {**{f"loss/{name}": term.detach() for name, term in terms.items()}, "accuracy": accuracy}
