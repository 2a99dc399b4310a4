"""CDNet: auto-encoder and GAN around a soft target and a residual code independent of it.

Song, Koyejo and Zhang 2020, "Toward a controllable disentanglement network" (arXiv 2001.08572).
`LabelStage` is the first loop of Algorithm 1, `DisentangleStage` the second. Every departure from
the paper or from its released code is listed in `docs/methods/cdnet.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR

from dcorr import linear_ramp
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.checks import check_at_least, check_choice, check_separate
from dcorr_models.methods.regularisers import (
    Regulariser,
    alone,
    for_processes,
    regulariser_of,
)
from dcorr_models.nets.cdnet import ARCHITECTURES, ConvEncoder, Critic, LabelDecoder
from dcorr_models.training.gan import EquilibriumGate, GateDecision, minimax_terms
from dcorr_models.training.optimizers import rmsprop
from dcorr_models.training.stage import Batch, Stage, frozen, weighted_sum

__all__ = ["CDNet", "DisentangleStage", "LabelStage"]


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
            sequential=updates == "sequential",
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            lr_milestones=tuple(lr_milestones),
            lr_decay=lr_decay,
        )

    def stages(self) -> list[Stage]:
        """Enc_y alone; then, with Enc_y fixed, Enc_z, decoder and discriminator."""
        return [LabelStage(self), DisentangleStage(self)]

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
        logits: Tensor = self.label_encoder(images)
        return logits.sigmoid() if self.multilabel else logits.softmax(dim=1)

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


class StepSettings(NamedTuple):
    """What one update of the second stage needs to know; see the arguments of `CDNet`."""

    regulariser: Regulariser | None
    decorrelation_weight: float
    decorrelation_ramp: int
    reconstruction: dict[str, float]
    adversarial_weight: float
    log_epsilon: float
    gate: EquilibriumGate | None
    generator_sees_real: bool
    sequential: bool
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


class Terms(NamedTuple):
    """The losses of one forward pass through the discriminator."""

    reconstruction: dict[str, Tensor]  # L_pix, L_feat
    real_cost: Tensor | None  # mean -log D(x), None without an adversary
    fake_cost: Tensor | None  # mean -log(1 - D(x̂))


class DisentangleStage(Stage):
    """Algorithm 1, second loop: Enc_z, decoder and discriminator learn; Enc_y is fixed."""

    def __init__(self, model: CDNet) -> None:
        settings = model.step_settings
        players = {"residual_encoder": model.residual_encoder, "decoder": model.decoder}
        if model.discriminator is not None:
            players["discriminator"] = model.discriminator
        optimizers = {name: rmsprop(module, settings.lr) for name, module in players.items()}
        super().__init__(
            "disentangle",
            networks=players,
            optimizers=optimizers,
            schedulers={
                name: MultiStepLR(optimizer, list(settings.lr_milestones), settings.lr_decay)
                for name, optimizer in optimizers.items()
            },
            fixed={"label_encoder": model.label_encoder},
            max_steps=settings.steps,
            batch_size=settings.batch_size,
        )
        self.model = model
        self.settings = settings
        self.regulariser = settings.regulariser

    def setup(self, fabric: Fabric) -> None:
        """Hands the networks to Fabric; several processes regularise their global batch."""
        super().setup(fabric)
        self.regulariser = for_processes(self.settings.regulariser, fabric.world_size)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each player."""
        if self.settings.sequential:
            return self._sequential(batch["image"])
        return self._simultaneous(batch["image"])

    def _simultaneous(self, x: Tensor) -> dict[str, Tensor]:
        """All players from one forward pass, at the same parameters.

        The graph is cut at z and x̂. Gradients of the losses on either side of a cut are taken
        once, then sent on to the player that owns them:

            Dis    from real_cost + fake_cost
            Dec    from dL_rec/dx̂ - λ_adv d(real_cost + fake_cost)/dx̂
            Enc_z  from (dx̂/dz)ᵀ dL_rec/dx̂ + λ(t) dL_dcorr/dz

        Each player's parameters receive exactly one backward, which is what DDP averages.
        """
        y = self._soft_target(x)
        z_graph = self.networks["residual_encoder"](x)
        z = z_graph.detach().requires_grad_()
        x_hat_graph = self.networks["decoder"](y, z)
        x_hat = x_hat_graph.detach().requires_grad_()

        terms = self._terms(x, x_hat)
        reconstruction = weighted_sum(terms.reconstruction, self.settings.reconstruction)
        to_image = self.gradient(reconstruction, x_hat, retain_graph=True)
        decision = self._decide(terms)
        adversarial = self._update_discriminator(terms, x_hat, decision)

        to_residual = self.gradient(
            x_hat_graph, z, gradient=to_image, retain_graph=decision.generator
        )
        if decision.generator:
            total = to_image if adversarial is None else to_image - adversarial
            self._update_inputs("decoder", x_hat_graph, gradient=total)

        logs, decorrelation = self._decorrelation(y, z)
        if decorrelation is not None:
            to_residual = to_residual + self.gradient(decorrelation, z)
        self.update("residual_encoder", z_graph, gradient=to_residual)
        return {**_log(terms, decision), **logs}

    def _update_discriminator(
        self, terms: Terms, x_hat: Tensor, decision: GateDecision
    ) -> Tensor | None:
        """Updates Dis; returns λ_adv times the gradient of its cost in x̂, for the decoder."""
        if terms.real_cost is None or terms.fake_cost is None:
            return None
        cost = terms.real_cost + terms.fake_cost
        to_image: Tensor | None = None
        if not self.settings.generator_sees_real:
            to_image = self.gradient(terms.fake_cost, x_hat, retain_graph=True)
        if decision.discriminator:
            # One backward gives both: the discriminator's own gradient and that of its input.
            self._update_inputs("discriminator", cost, x_hat)
            whole = x_hat.grad
        else:
            whole = self.gradient(cost, x_hat)
        assert whole is not None
        return self.settings.adversarial_weight * (whole if to_image is None else to_image)

    def _update_inputs(self, name: str, loss: Tensor, *extra: Tensor, **backward: Any) -> None:
        learning = [p for p in self.networks[name].parameters() if p.requires_grad]
        self.update(name, loss, inputs=[*learning, *extra], **backward)

    def _sequential(self, x: Tensor) -> dict[str, Tensor]:
        """Dis, then Dec, then Enc_z, each after a forward pass of its own, as the release does."""
        networks = self.networks
        adversary = "discriminator" in networks
        decision = GateDecision(generator=True, discriminator=adversary)
        if adversary:
            with torch.no_grad():
                x_hat = networks["decoder"](self._soft_target(x), networks["residual_encoder"](x))
            real, fake = self._adversarial(x, x_hat)
            decision = self._gate(real, fake)
            if decision.discriminator:
                self.update("discriminator", real + fake)

        # The release decides again, with the discriminator just updated.
        terms, generator = self._sequential_decoder(x)
        decision = GateDecision(generator, decision.discriminator)

        y = self._soft_target(x)
        z = networks["residual_encoder"](x)
        with frozen(*(m for name, m in networks.items() if name != "residual_encoder")):
            reconstruction = weighted_sum(
                self._reconstruction(x, networks["decoder"](y, z)), self.settings.reconstruction
            )
            logs, decorrelation = self._decorrelation(y, z)
            loss = reconstruction if decorrelation is None else reconstruction + decorrelation
            self.update("residual_encoder", loss)
        return {**_log(terms, decision), **logs}

    def _sequential_decoder(self, x: Tensor) -> tuple[Terms, bool]:
        networks, settings = self.networks, self.settings
        with torch.no_grad():
            z = networks["residual_encoder"](x)
        x_hat = networks["decoder"](self._soft_target(x), z)
        others = [networks["discriminator"]] if "discriminator" in networks else []
        with frozen(*others):
            reconstruction = self._reconstruction(x, x_hat)
            loss = weighted_sum(reconstruction, settings.reconstruction)
            if not others:
                self.update("decoder", loss)
                return Terms(reconstruction, None, None), True
            real, fake = self._adversarial(x, x_hat)
            generator = self._gate(real, fake).generator
            cost = real + fake if settings.generator_sees_real else fake
            if generator:
                self.update("decoder", loss - settings.adversarial_weight * cost)
        return Terms(reconstruction, real, fake), generator

    def _soft_target(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.soft_target(x)

    def _terms(self, x: Tensor, x_hat: Tensor) -> Terms:
        """All losses from one pass of the discriminator over [x̂; x]."""
        reconstruction = {"pixel": F.mse_loss(x_hat, x)}
        if "discriminator" not in self.networks:
            return Terms(reconstruction, None, None)
        # One batch, fakes first: the BatchNorm statistics are those of both halves together.
        logits, features = self.networks["discriminator"](torch.cat([x_hat, x]))
        fake, real = logits.chunk(2)
        reconstruction["feature"] = F.mse_loss(*features.chunk(2))
        return Terms(reconstruction, *minimax_terms(real, fake, epsilon=self.settings.log_epsilon))

    def _reconstruction(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        terms = {"pixel": F.mse_loss(x_hat, x)}
        if "discriminator" in self.networks:
            _, features = self.networks["discriminator"](torch.cat([x_hat, x]))
            terms["feature"] = F.mse_loss(*features.chunk(2))
        return terms

    def _adversarial(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        logits, _ = self.networks["discriminator"](torch.cat([x_hat, x]))
        fake, real = logits.chunk(2)
        return minimax_terms(real, fake, epsilon=self.settings.log_epsilon)

    def _decorrelation(self, y: Tensor, z: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        settings = self.settings
        if self.regulariser is None:
            return {}, None
        value = self.regulariser(y, z)
        # The release counts updates from 1: the first has weight λ/ramp, not 0.
        weight = linear_ramp(
            self.step_index + 1,
            length=settings.decorrelation_ramp,
            end=settings.decorrelation_weight,
        )
        logs = {
            "loss/decorrelation": value.detach(),
            "weight/decorrelation": torch.tensor(weight, device=value.device),
        }
        return logs, weight * value

    def _decide(self, terms: Terms) -> GateDecision:
        if terms.real_cost is None or terms.fake_cost is None:
            return GateDecision(generator=True, discriminator=False)
        return self._gate(terms.real_cost, terms.fake_cost)

    def _gate(self, real_cost: Tensor, fake_cost: Tensor) -> GateDecision:
        if self.settings.gate is None:
            return GateDecision(generator=True, discriminator=True)
        # The mean over the processes: with a gate on local values the ranks would part.
        costs = self.mean_over_ranks(torch.stack([real_cost.detach(), fake_cost.detach()]))
        return self.settings.gate(*costs.tolist())


def _pair(output: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(output, tuple) or len(output) != 2:
        raise UserError(
            f"discriminator must return a pair (logits, features), got {type(output).__name__}"
        )
    return output


def _log(terms: Terms, decision: GateDecision) -> dict[str, Tensor]:
    logs = {f"loss/{name}": value.detach() for name, value in terms.reconstruction.items()}
    if terms.real_cost is not None and terms.fake_cost is not None:
        logs["loss/real"] = terms.real_cost.detach()
        logs["loss/fake"] = terms.fake_cost.detach()
        for player, learns in decision._asdict().items():
            logs[f"gate/{player}"] = torch.tensor(float(learns), device=logs["loss/real"].device)
    return logs
