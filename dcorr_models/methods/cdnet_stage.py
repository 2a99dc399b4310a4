"""CDNet's second stage: Enc_z, decoder and discriminator around a fixed Enc_y.

`DisentangleStage` is Algorithm 1 of the paper, in which all players are updated from one forward
pass. `cdnet_sequential.SequentialStage` takes the same losses player by player, as the released
code does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR

from dcorr import linear_ramp
from dcorr_models.methods.regularisers import Regulariser, for_processes
from dcorr_models.training.gan import EquilibriumGate, GateDecision, minimax_terms
from dcorr_models.training.optimizers import rmsprop
from dcorr_models.training.stage import Batch, Stage, weighted_sum

__all__ = ["DisentangleStage", "StepSettings", "Terms", "soft_target"]


def soft_target(logits: Tensor, *, multilabel: bool) -> Tensor:
    """(N, K) probabilities ŷ: softmax over classes, or sigmoid of each attribute."""
    return logits.sigmoid() if multilabel else logits.softmax(dim=1)


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
    steps: int
    batch_size: int
    lr: float
    lr_milestones: tuple[int, ...]
    lr_decay: float


class Terms(NamedTuple):
    """The losses of one forward pass through the discriminator."""

    reconstruction: dict[str, Tensor]  # L_pix, L_feat
    real_cost: Tensor | None  # mean -log D(x), None without an adversary
    fake_cost: Tensor | None  # mean -log(1 - D(x̂))


class DisentangleStage(Stage):
    """Algorithm 1, second loop: Enc_z, decoder and discriminator learn; Enc_y is fixed.

    Args:
        settings: losses, their weights, and the schedule.
        players: `residual_encoder`, `decoder` and, with an adversary, `discriminator`.
        label_encoder: the trained Enc_y.
        multilabel: Enc_y's logits are those of attributes.
    """

    def __init__(
        self,
        settings: StepSettings,
        players: dict[str, nn.Module],
        *,
        label_encoder: nn.Module,
        multilabel: bool,
    ) -> None:
        optimizers = {name: rmsprop(module, settings.lr) for name, module in players.items()}
        super().__init__(
            "disentangle",
            networks=players,
            optimizers=optimizers,
            schedulers={
                name: MultiStepLR(optimizer, list(settings.lr_milestones), settings.lr_decay)
                for name, optimizer in optimizers.items()
            },
            fixed={"label_encoder": label_encoder},
            max_steps=settings.steps,
            batch_size=settings.batch_size,
        )
        self.settings = settings
        self.multilabel = multilabel
        self.regulariser = settings.regulariser

    def setup(self, fabric: Fabric) -> None:
        """Hands the networks to Fabric; several processes regularise their global batch."""
        super().setup(fabric)
        self.regulariser = for_processes(self.settings.regulariser, fabric)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each player, from one forward pass and at the same parameters.

        The graph is cut at z and x̂. Gradients of the losses on either side of a cut are taken
        once, then sent on to the player that owns them:

            Dis    from real_cost + fake_cost
            Dec    from dL_rec/dx̂ - λ_adv d(real_cost + fake_cost)/dx̂
            Enc_z  from (dx̂/dz)ᵀ dL_rec/dx̂ + λ(t) dL_dcorr/dz

        Each player's parameters receive exactly one backward, which is what DDP averages.
        """
        x = batch["image"]
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
        return {**self._logs(terms, decision), **logs}

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
        inputs = [*self.networks[name].parameters(), *extra]
        self.update(name, loss, inputs=inputs, **backward)

    def _soft_target(self, x: Tensor) -> Tensor:
        return soft_target(self.run_fixed("label_encoder", x), multilabel=self.multilabel)

    def _terms(self, x: Tensor, x_hat: Tensor) -> Terms:
        """All losses from one pass of the discriminator over [x̂; x]."""
        reconstruction = {"pixel": F.mse_loss(x_hat, x)}
        if "discriminator" not in self.networks:
            return Terms(reconstruction, None, None)
        logits, features = self._criticise(x, x_hat)
        fake, real = features.chunk(2)
        reconstruction["feature"] = F.mse_loss(fake, real)
        return Terms(reconstruction, *self._costs(logits))

    def _criticise(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of [x̂; x]."""
        # One batch, fakes first: the BatchNorm statistics are those of both halves together.
        logits, features = self.networks["discriminator"](torch.cat([x_hat, x]))
        return logits, features

    def _costs(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The real and the fake half of the adversarial loss."""
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
        logs = {"loss/decorrelation": value.detach(), "weight/decorrelation": self.scalar(weight)}
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

    def _logs(self, terms: Terms, decision: GateDecision) -> dict[str, Tensor]:
        logs = {f"loss/{name}": value.detach() for name, value in terms.reconstruction.items()}
        if terms.real_cost is not None and terms.fake_cost is not None:
            logs["loss/real"] = terms.real_cost.detach()
            logs["loss/fake"] = terms.fake_cost.detach()
            for player, learns in decision._asdict().items():
                logs[f"gate/{player}"] = self.scalar(learns)
        return logs
