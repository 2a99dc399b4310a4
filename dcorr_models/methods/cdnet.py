"""CDNet: auto-encoder and GAN around a soft target and a residual code independent of it.

Song, Koyejo and Zhang 2020, "Toward a controllable disentanglement network" (arXiv 2001.08572).
`LabelStage` is the first loop of Algorithm 1; the second is `DisentangleStage` in `cdnet_stage`.
Every departure from the paper or from its released code is listed in `docs/methods/cdnet.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR

from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.cdnet_sequential import SequentialStage
from dcorr_models.methods.cdnet_stage import DisentangleStage, StepSettings, soft_target
from dcorr_models.methods.checks import check_at_least, check_choice, check_separate
from dcorr_models.methods.regularisers import alone, regulariser_of
from dcorr_models.nets.cdnet import ARCHITECTURES, ConvEncoder, Critic, LabelDecoder
from dcorr_models.training.gan import EquilibriumGate
from dcorr_models.training.optimizers import rmsprop
from dcorr_models.training.stage import Batch, Stage

__all__ = ["CDNet", "LabelStage"]


class CDNet(Method):
    """CDNet (Song et al. 2020), with the settings of its MNIST experiment as defaults.

    CDNet-XCov is `decorrelation="xcov"`. The ablations: M1 (pixel loss only) is
    `feature_weight=0, adversarial_weight=0, decorrelation="none"`; M2 (feature loss and GAN) is
    `pixel_weight=0, decorrelation="none"`; M3 (both) is `decorrelation="none"`.

    Args:
        architecture: sizes of the four networks: `mnist` (28x28x1) and `celeba` (64x64x3) of the
            release, `faces_small` (64x64x3) for a CPU.
        image_shape: channels, height and width of the images.
        num_labels: classes, or attributes of a multilabel problem.
        multilabel: labels are attribute vectors: sigmoid and binary cross-entropy instead of
            softmax and cross-entropy.
        latent_dim: size of the residual code z.
        dropout: rate in the dense layers of encoders and discriminator.
        decorrelation: the regulariser between soft target and z: `dcov2` (Eq. 1), `xcov` (Eq. 2),
            `none`, or any callable or module of (soft target, z) with a scalar result. With several
            processes the first two are those of the global batch; a module of `dcorr` is with
            `group="world"`, anything else sees each process's share.
        decorrelation_weight: λ_dcorr, reached at the end of the ramp.
        decorrelation_ramp: updates over which the weight grows from 0; 0 for none.
        pixel_weight: weight of the pixel error (Eq. 4).
        feature_weight: λ_rec, weight of the feature error (Eq. 5).
        adversarial_weight: λ_adv, weight of the adversarial loss for the decoder.
        reconstruction_factor: factor before both mean squared errors: 1 in the paper, 0.5 in the
            released code.
        log_epsilon: added inside the logarithms of the adversarial loss: 0 in the paper, 1e-3 in
            the released code.
        gate: rest the player that is ahead, as the released code does; the paper has no gate.
        generator_sees_real: keep the real term of the adversarial loss in the decoder's loss, as
            Algorithm 1 and the released code do (it reaches the decoder through the BatchNorm
            statistics of the joint batch); false drops it.
        updates: `simultaneous` (Algorithm 1: one forward pass and the same parameters for all
            players) or `sequential` (the released code: discriminator, then decoder, then encoder,
            each with a forward pass of its own).
        batch_size: images of an update.
        label_steps: updates of the first stage.
        label_lr: learning rate of the first stage.
        steps: updates of the second stage.
        lr: learning rate of the second stage.
        lr_milestones: updates of the second stage after which its learning rates are multiplied by
            `lr_decay`; empty in the paper, 10k, 20k, 30k, 50k, 70k, 100k in the released code.
        label_lr_milestones: the same for the first stage; 10k and 20k in the released code.
        lr_decay: factor at each milestone.
        label_encoder: your own Enc_y, images to (N, num_labels) logits.
        residual_encoder: your own Enc_z, images to (N, latent_dim).
        decoder: your own decoder, called with (soft target, z), giving images.
        discriminator: your own discriminator, giving a pair (logits, features).
    """

    def __init__(
        self,
        *,
        architecture: Literal["mnist", "celeba", "faces_small"] = "mnist",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        multilabel: bool = False,
        latent_dim: int = 10,
        dropout: float = 0.5,
        decorrelation: Literal["dcov2", "xcov", "none"] | nn.Module = "dcov2",
        decorrelation_weight: float = 1.0,
        decorrelation_ramp: int = 50_000,
        pixel_weight: float = 1.0,
        feature_weight: float = 1.0,
        adversarial_weight: float = 0.01,
        reconstruction_factor: float = 1.0,
        log_epsilon: float = 0.0,
        gate: bool = False,
        generator_sees_real: bool = True,
        updates: Literal["simultaneous", "sequential"] = "simultaneous",
        batch_size: int = 100,
        label_steps: int = 25_000,
        label_lr: float = 1e-4,
        steps: int = 125_000,
        lr: float = 1e-4,
        lr_milestones: tuple[int, ...] = (),
        label_lr_milestones: tuple[int, ...] = (),
        lr_decay: float = 0.75,
        label_encoder: nn.Module | None = None,
        residual_encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(architecture=(architecture, ARCHITECTURES))
        check_choice(updates=(updates, ("simultaneous", "sequential")))
        regulariser = regulariser_of(decorrelation)
        sizes = ARCHITECTURES[architecture]
        modules = (label_encoder, residual_encoder, decoder, discriminator)
        if None in modules and any(side % sizes.image_multiple for side in image_shape[1:]):
            raise UserError(
                f"image_shape {tuple(image_shape)} does not fit architecture {architecture!r}: "
                f"height and width must be multiples of {sizes.image_multiple}"
            )
        check_at_least(1, latent_dim=latent_dim, num_labels=num_labels, batch_size=batch_size)
        check_at_least(
            0,
            steps=steps,
            label_steps=label_steps,
            decorrelation_ramp=decorrelation_ramp,
            pixel_weight=pixel_weight,
            feature_weight=feature_weight,
            adversarial_weight=adversarial_weight,
            reconstruction_factor=reconstruction_factor,
            log_epsilon=log_epsilon,
            lr=lr,
            label_lr=label_lr,
            lr_decay=lr_decay,
        )
        if not 0 <= dropout < 1:
            raise UserError(f"dropout must lie in [0, 1), got {dropout}")
        self.image_shape, self.num_labels = image_shape, num_labels
        self.multilabel, self.latent_dim = multilabel, latent_dim
        check_separate(*(module for module in modules if module is not None))
        # A decoder of the user's own may give any range.
        ranges = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
        self.value_range = ranges[sizes.output] if decoder is None else None
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if label_encoder is None:
            label_encoder = ConvEncoder(image_shape, sizes, num_labels, dropout=dropout)
        if residual_encoder is None:
            residual_encoder = ConvEncoder(image_shape, sizes, latent_dim, dropout=dropout)
        if decoder is None:
            decoder = LabelDecoder(image_shape, sizes, num_labels=num_labels, latent_dim=latent_dim)
        self.label_encoder, self.residual_encoder = label_encoder, residual_encoder
        self.decoder = decoder
        self.discriminator: nn.Module | None = None
        if feature_weight or adversarial_weight:
            if discriminator is None:
                discriminator = Critic(image_shape, sizes, dropout=dropout)
            self.discriminator = discriminator
        self.label_settings = LabelSettings(
            label_steps, batch_size, label_lr, tuple(label_lr_milestones), lr_decay
        )
        self.second_stage = SequentialStage if updates == "sequential" else DisentangleStage
        # A module stays out of this module's parameters: it is a loss, not part of the model.
        self.step_settings = StepSettings(
            regulariser=regulariser,
            decorrelation_weight=decorrelation_weight,
            decorrelation_ramp=decorrelation_ramp,
            reconstruction={
                "pixel": reconstruction_factor * pixel_weight,
                "feature": reconstruction_factor * feature_weight,
            },
            adversarial_weight=adversarial_weight,
            log_epsilon=log_epsilon,
            gate=EquilibriumGate() if gate else None,
            generator_sees_real=generator_sees_real,
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            lr_milestones=tuple(lr_milestones),
            lr_decay=lr_decay,
        )

    def stages(self) -> list[Stage]:
        """Enc_y alone; then, with Enc_y fixed, Enc_z, decoder and discriminator."""
        players = {"residual_encoder": self.residual_encoder, "decoder": self.decoder}
        if self.discriminator is not None:
            players["discriminator"] = self.discriminator
        second = self.second_stage(
            self.step_settings,
            players,
            label_encoder=self.label_encoder,
            multilabel=self.multilabel,
        )
        return [LabelStage(self), second]

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """Each network and the regulariser, by the names of the arguments."""
        n, shape = len(images), tuple(images.shape)
        yield "label_encoder", lambda: self.label_encoder(images), (n, self.num_labels)
        yield "residual_encoder", lambda: self.residual_encoder(images), (n, self.latent_dim)
        codes = self.encode(images)
        yield "decoder", lambda: self.decode(codes), shape
        if self.discriminator is not None:
            critic = self.discriminator
            yield "discriminator (logits)", lambda: _pair(critic(images))[0], (n, 1)
            features = _pair(critic(images))[1]
            yield "discriminator (features)", lambda: features, (n, *features.shape[1:])
        regulariser = self.step_settings.regulariser
        if regulariser is not None:
            # Before a run begins there are no other processes yet.
            single = alone(regulariser)
            yield "decorrelation", lambda: single(*codes), ()

    def soft_target(self, images: Tensor) -> Tensor:
        """(N, num_labels) probabilities ŷ: softmax of the logits, or sigmoid if multilabel."""
        return soft_target(self.label_encoder(images), multilabel=self.multilabel)

    def encode(self, images: Tensor) -> Codes:
        """Images to the soft target ŷ and the residual code z (Eq. 3)."""
        return Codes(self.soft_target(images), self.residual_encoder(images))

    def decode(self, codes: Codes) -> Tensor:
        """(ŷ, z) to images; ŷ may hold any real values."""
        images: Tensor = self.decoder(codes.label, codes.residual)
        return images


class LabelSettings(NamedTuple):
    """How Enc_y is trained."""

    steps: int
    batch_size: int
    lr: float
    lr_milestones: tuple[int, ...]
    lr_decay: float


class LabelStage(Stage):
    """Algorithm 1, first loop: Enc_y learns to classify."""

    def __init__(self, model: CDNet) -> None:
        settings = model.label_settings
        optimizer = rmsprop(model.label_encoder, settings.lr)
        super().__init__(
            "label_encoder",
            networks={"label_encoder": model.label_encoder},
            optimizers={"label_encoder": optimizer},
            schedulers={
                "label_encoder": MultiStepLR(
                    optimizer, list(settings.lr_milestones), settings.lr_decay
                )
            },
            max_steps=settings.steps,
            batch_size=settings.batch_size,
        )
        self.multilabel = model.multilabel

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of Enc_y on L_class."""
        logits, labels = self.networks["label_encoder"](batch["image"]), batch["label"]
        if self.multilabel:
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
            correct = (logits.detach() > 0) == (labels > 0.5)
        else:
            loss = F.cross_entropy(logits, labels)
            correct = logits.detach().argmax(dim=1) == labels
        self.update("label_encoder", loss)
        return {"loss/class": loss.detach(), "accuracy": correct.float().mean()}


def _pair(output: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(output, tuple) or len(output) != 2:
        raise UserError(
            f"discriminator must return a pair (logits, features), got {type(output).__name__}"
        )
    return output
