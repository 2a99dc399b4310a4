"""How VAE/GAN is trained: encoder, decoder and discriminator from one pass through all three."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from dcorr_models.training.gan import EquilibriumGate, GateDecision, minimax_terms
from dcorr_models.training.optimizers import rmsprop
from dcorr_models.training.passes import Passes
from dcorr_models.training.stage import Batch, Stage

__all__ = ["Schedule", "StepSettings", "VaeGanStage", "gaussian_kl"]


class Schedule(NamedTuple):
    """How long and how fast the three networks learn; see the arguments of `VAEGAN`."""

    steps: int
    batch_size: int
    lr: float
    lr_milestones: tuple[int, ...]
    lr_decay: float
    lr_end: float | None
    lr_power: float
    weight_decay: float

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by after `step` updates."""
        decayed = self.lr_decay ** bisect_right(self.lr_milestones, step)
        if self.lr_end is None or self.steps == 0 or self.lr == 0:
            return float(decayed)
        way = min(1.0, step / self.steps) ** self.lr_power
        return float(decayed * (1 - way * (1 - self.lr_end / self.lr)))


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `VAEGAN`."""

    kl_weight: float
    feature_weight: float
    adversarial_weight: float
    sums: bool
    judge_reconstructions: bool
    log_epsilon: float
    gate: EquilibriumGate | None
    generator_sees_real: bool


class Model(Protocol):
    """What the stage needs of `VAEGAN`."""

    encoder: nn.Module
    decoder: nn.Module
    discriminator: nn.Module
    step_settings: StepSettings


class Terms(NamedTuple):
    """The losses of one pass through the discriminator; costs are means over the images."""

    feature: Tensor
    real_cost: Tensor
    fake_cost: Tensor
    adversarial: Tensor  # real and fake cost together, as the players weigh them
    adversarial_fake: Tensor


class VaeGanStage(Stage):
    """Algorithm 1 of Larsen et al.: three gradients of one graph, then three updates.

    The graph is cut at z and at the decoder's images; a gradient is taken up to a cut once and sent
    on to the network behind it:

        Dis   from L_dis
        Dec   from w_feature dL_feature/dx̃ and -w_adversarial dL_dis/dx_p
        Enc   from L_KL + (dx̃/dz)ᵀ dL_feature/dx̃
    """

    def __init__(self, model: Model, schedule: Schedule) -> None:
        players = {
            "encoder": model.encoder,
            "decoder": model.decoder,
            "discriminator": model.discriminator,
        }
        optimizers = {
            name: rmsprop(network, schedule.lr, weight_decay=schedule.weight_decay)
            for name, network in players.items()
        }
        super().__init__(
            "vae_gan",
            networks={
                "encoder": model.encoder,
                "decoder": Passes(model.decoder),
                "discriminator": Passes(model.discriminator),
            },
            optimizers=optimizers,
            schedulers={name: LambdaLR(o, schedule.factor) for name, o in optimizers.items()},
            max_steps=schedule.steps,
            batch_size=schedule.batch_size,
        )
        self.settings = model.step_settings
        self.processes = 1

    def setup(self, fabric: Fabric) -> None:
        """Hands the networks to Fabric; several processes sum over their global batch."""
        super().setup(fabric)
        self.processes = fabric.world_size

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each player."""
        x, settings = batch["image"], self.settings
        mean, log_variance = self.networks["encoder"](x).chunk(2, dim=1)
        z_graph = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        z = z_graph.detach().requires_grad_()
        # Two passes: reconstructions and samples have batch statistics of their own.
        rebuilt_graph, sampled_graph = self.networks["decoder"]((z,), (torch.randn_like(z),))
        judged_graph = sampled_graph
        if settings.judge_reconstructions:
            judged_graph = torch.cat([sampled_graph, rebuilt_graph])
        rebuilt = rebuilt_graph.detach().requires_grad_()
        judged = judged_graph.detach().requires_grad_()

        terms = self._terms(x, rebuilt, judged)
        decision = self._decide(terms)
        to_rebuilt = self.gradient(terms.feature, rebuilt, retain_graph=True)
        to_judged = self._update_discriminator(terms, judged, decision)
        to_z = self.gradient(rebuilt_graph, z, gradient=to_rebuilt, retain_graph=decision.generator)
        if decision.generator:
            # A sum of products has the gradients of both cuts, in one backward.
            loss = settings.feature_weight * (rebuilt_graph * to_rebuilt).sum()
            loss = loss - settings.adversarial_weight * (judged_graph * to_judged).sum()
            self.update("decoder", loss, inputs=[*self.networks["decoder"].parameters()])
        kl = self._reduce(gaussian_kl(mean, log_variance))
        self.update("encoder", settings.kl_weight * kl + (z_graph * to_z).sum())
        return _log(terms, kl, F.mse_loss(rebuilt.detach(), x), decision)

    def _terms(self, x: Tensor, rebuilt: Tensor, judged: Tensor) -> Terms:
        """All losses of the discriminator, from [x̃; x] for features and [fakes; x] for logits."""
        compared, sampled = self.networks["discriminator"](
            (torch.cat([rebuilt, x]),), (torch.cat([judged, x]),)
        )
        ours, theirs = compared[1].chunk(2)
        feature = self._reduce(0.5 * (ours - theirs) ** 2)
        fake, real = sampled[0].split([len(judged), len(x)])
        real_cost, fake_cost = minimax_terms(real, fake, epsilon=self.settings.log_epsilon)
        weighted_fake = self._weighted(fake_cost, len(judged))
        adversarial = self._weighted(real_cost, len(x)) + weighted_fake
        return Terms(feature, real_cost, fake_cost, adversarial, weighted_fake)

    def _update_discriminator(self, terms: Terms, judged: Tensor, decision: GateDecision) -> Tensor:
        """Updates Dis; returns the gradient of its loss in the fakes, for the decoder."""
        fake_alone: Tensor | None = None
        if not self.settings.generator_sees_real:
            fake_alone = self.gradient(terms.adversarial_fake, judged, retain_graph=True)
        if decision.discriminator:
            # One backward gives both: the discriminator's own gradient and that of its input.
            learning = [*self.networks["discriminator"].parameters(), judged]
            self.update("discriminator", terms.adversarial, inputs=learning)
            whole, judged.grad = judged.grad, None
            assert whole is not None
        else:
            whole = self.gradient(terms.adversarial, judged)
        return whole if fake_alone is None else fake_alone

    def _reduce(self, values: Tensor) -> Tensor:
        """The mean of all elements, or their sum over the global batch."""
        return self._weighted(values.mean(), values.numel())

    def _weighted(self, mean: Tensor, count: int) -> Tensor:
        # DDP averages over the processes, and a sum is to be one over all of them.
        return mean * (count * self.processes) if self.settings.sums else mean

    def _decide(self, terms: Terms) -> GateDecision:
        if self.settings.gate is None:
            return GateDecision(generator=True, discriminator=True)
        # The mean over the processes: with a gate on local values the ranks would part.
        costs = torch.stack([terms.real_cost.detach(), terms.fake_cost.detach()])
        return self.settings.gate(*self.mean_over_ranks(costs).tolist())


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Element-wise KL divergence from N(mean, exp(log_variance)) to N(0, 1).

        ½ (μ² + e^lv - lv - 1)

    Args:
        mean: any shape.
        log_variance: the same shape.

    Returns:
        The same shape, >= 0; its sum over the dimensions of z is the KL divergence of an image.

    Example:
        >>> round(gaussian_kl(torch.tensor(1.0), torch.tensor(0.0)).item(), 4)
        0.5
    """
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1)


def _log(terms: Terms, kl: Tensor, pixel: Tensor, decision: GateDecision) -> dict[str, Tensor]:
    logs = {
        "loss/kl": kl.detach(),
        "loss/feature": terms.feature.detach(),
        "loss/real": terms.real_cost.detach(),
        "loss/fake": terms.fake_cost.detach(),
        "loss/pixel": pixel,  # of no player, but comparable between methods
    }
    for player, learns in decision._asdict().items():
        logs[f"gate/{player}"] = torch.full_like(pixel, float(learns))
    return logs
