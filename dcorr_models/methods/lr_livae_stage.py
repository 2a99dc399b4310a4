"""How Lr-LiVAE is trained: steps of the GM loss, then all players from one joint pass."""

from __future__ import annotations

from bisect import bisect_right
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from dcorr import dcov2
from dcorr_models.errors import UserError
from dcorr_models.methods.lr_livae_gaussians import ClassGaussians
from dcorr_models.methods.ml_vae import draw
from dcorr_models.methods.regularisers import Regulariser, for_processes
from dcorr_models.methods.vae_gan_stage import gaussian_kl
from dcorr_models.nets.projection_discriminator import ProjectionDiscriminator
from dcorr_models.training.gan import GanLoss, critic_cost, generator_cost
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.passes import Passes
from dcorr_models.training.stage import Batch, Stage

__all__ = ["LrLiVAEStage", "StepSettings", "Unlabelled"]

Unlabelled = Literal["none", "known", "unknown"]


class StepSettings(NamedTuple):
    """What one iteration needs to know; see the arguments of `LrLiVAE`."""

    n_gm: int
    joint_batch: Literal["new", "last"]
    gan_loss: GanLoss
    prior_labels: Literal["batch", "uniform"]
    dcov_with: Literal["labels", "class_code"] | None
    likelihood_weight: float
    joint_likelihood_weight: float
    reconstruction_weight: float
    kl_weight: float
    confusion_weight: float
    gan_weight: float
    unlabelled: Unlabelled
    unlabelled_batch_size: int
    batch_size: int
    lr: float
    variance_lr_milestones: tuple[int, ...]
    variance_lr_decay: float
    betas: tuple[float, float]

    @property
    def chunks(self) -> int:
        """Labelled batches of an iteration."""
        return max(1, self.n_gm + (self.joint_batch == "new"))

    def variance_factor(self, step: int) -> float:
        """What the variances' rate is multiplied by after `step` iterations."""
        return float(self.variance_lr_decay ** bisect_right(self.variance_lr_milestones, step))


class Model(Protocol):
    """What the stage needs of `LrLiVAE`."""

    class_encoder: nn.Module
    content_encoder: nn.Module
    gaussians: ClassGaussians
    decoder: nn.Module
    discriminator: nn.Module | None
    adversary: nn.Module | None
    step_settings: StepSettings
    class_dim: int
    content_dim: int
    num_labels: int


class Joint(NamedTuple):
    """The images of a joint pass: the labelled ones, then those without a label, of class -1."""

    images: Tensor
    labels: Tensor
    labelled: int


class LrLiVAEStage(Stage):
    """Algorithm 1 of Zheng and Sun: `n_gm` steps of L_GM, then one joint step.

    In the joint step the graph is cut at the codes and at the decoder's images; a gradient is taken
    up to a cut once and sent on to the player that owns what lies behind it. No parameter moves
    before all gradients through it are taken, so that all are of equal parameter values:

        Dis         from its cost of x, x̂_f and x_p
        Dec         from w_rec dL_rec/dx̂_f and w_adv d(L_f + L_p)/d(x̂_f, x_p)
        classifier  from L_C
        Enc_u       from w_kl L_kl + (dx̂_f/dz_u)ᵀ w_rec dL_rec/dx̂_f + w_E dL_E/dz_u
        Enc_s       from (dx̂_f/dz_s)ᵀ w_rec dL_rec/dx̂_f + w_lkd dL_lkd/dz_s

    Enc_s has two Adams: one that L_GM moves it by, together with the class Gaussians, and one for
    its part of the joint step.

    Args:
        model: the networks and their settings.
        name: of the stage.
        steps: iterations.
        with_unlabelled: joint steps take unlabelled images too.
    """

    def __init__(
        self, model: Model, *, name: str, steps: int, with_unlabelled: bool = False
    ) -> None:
        settings = model.step_settings
        encoder, mixture = model.class_encoder, model.gaussians.mixture
        groups = [
            {"params": [*parameters_of(encoder), mixture.means]},
            {"params": [mixture.raw_log_variances]},
        ]
        players = {"content_encoder": model.content_encoder, "decoder": Passes(model.decoder)}
        if model.discriminator is not None:
            players["discriminator"] = model.discriminator
        if model.adversary is not None:
            players["adversary"] = model.adversary
        optimizers = {
            "gaussians": Adam(groups, lr=settings.lr, betas=settings.betas),
            "class_encoder": Adam(parameters_of(encoder), lr=settings.lr, betas=settings.betas),
            **{
                name: Adam(parameters_of(network), lr=settings.lr, betas=settings.betas)
                for name, network in players.items()
            },
        }
        super().__init__(
            name,
            networks={"class_encoder": encoder, "gaussians": model.gaussians, **players},
            optimizers=optimizers,
            # Without GM steps their Adam never steps, and PyTorch warns of a schedule that does.
            schedulers={
                "gaussians": LambdaLR(
                    optimizers["gaussians"], [lambda _: 1.0, settings.variance_factor]
                )
            }
            if settings.n_gm
            else {},
            max_steps=steps,
            batch_size=settings.chunks * settings.batch_size,
            unlabelled_batch_size=settings.unlabelled_batch_size if with_unlabelled else None,
        )
        self.settings = settings
        self.class_dim, self.content_dim = model.class_dim, model.content_dim
        self.num_labels = model.num_labels
        # For what must not reach the Gaussians: densities of codes, and draws from them.
        self.prior = model.gaussians
        self.dependence: Regulariser | None = None
        # One of the user's own may have batch statistics.
        self.each_alone = isinstance(model.discriminator, ProjectionDiscriminator)

    def setup(self, fabric: Fabric) -> None:
        """Hands the networks to Fabric; `dcov2` is one of the global batch."""
        size, processes = self.settings.batch_size, fabric.world_size
        if size % processes or size // processes < 2:
            raise UserError(
                f"batch_size {size} cannot be shared by {processes} processes with two images or "
                "more for each: change --method.batch_size or --devices"
            )
        super().setup(fabric)
        if self.settings.dcov_with is not None:
            self.dependence = for_processes(dcov2, fabric)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One iteration: `n_gm` GM steps, and one update of every player."""
        labelled, others = self.side_by_side(batch)
        size = len(labelled["label"]) // self.settings.chunks
        images, labels = (torch.split(labelled[key], size) for key in ("image", "label"))
        pairs = list(zip(images, labels, strict=True))
        logs: dict[str, Tensor] = {}
        for x, y in pairs[: self.settings.n_gm]:
            logs = self._gm_step(x, y)
        x, y = pairs[-1]
        joint = Joint(x, y, len(y))
        if len(others["label"]):
            joint = Joint(torch.cat([x, others["image"]]), torch.cat([y, others["label"]]), len(y))
        return {**logs, **self._joint_step(joint)}

    def _gm_step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Enc_s, means and variances from L_GM = L_cls + λ L_lkd (Eq. 9)."""
        classification, likelihood = self.networks["gaussians"](
            self.networks["class_encoder"](x), y
        )
        loss = classification + self.settings.likelihood_weight * likelihood
        self.update("gaussians", loss)
        return {
            "loss/classification": classification.detach(),
            "loss/likelihood": likelihood.detach(),
        }

    def _joint_step(self, joint: Joint) -> dict[str, Tensor]:
        """One update of every player but the Gaussians, from one pass through each."""
        settings, dim = self.settings, self.class_dim
        z_s_graph = self.networks["class_encoder"](joint.images)
        mean, log_variance = self.networks["content_encoder"](joint.images).chunk(2, dim=1)
        z_u_graph = draw(mean, log_variance)
        codes = torch.cat([z_s_graph, z_u_graph], dim=1).detach().requires_grad_()

        to_codes, logs = self._decode_and_judge(joint, codes)
        to_codes = to_codes + self._judge_codes(joint, codes, logs)
        kl = gaussian_kl(mean, log_variance).mean()
        loss = settings.kl_weight * kl + (z_u_graph * to_codes[:, dim:]).sum()
        self.update("content_encoder", loss)
        self.update("class_encoder", z_s_graph, gradient=to_codes[:, :dim])
        return {**logs, "loss/kl": kl.detach()}

    def _decode_and_judge(self, joint: Joint, codes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Updates Dec and Dis; returns what the reconstruction wants of the codes."""
        settings = self.settings
        inputs = [self._parts(codes)]
        judges = "discriminator" in self.networks
        if judges:
            prior_labels = self._prior_labels(joint.labels[: joint.labelled])
            inputs += [self._prior_codes(prior_labels)]
        graphs = self.networks["decoder"](*inputs)
        rebuilt = graphs[0].detach().requires_grad_()
        pixel = F.mse_loss(rebuilt, joint.images)
        to_rebuilt = self.gradient(settings.reconstruction_weight * pixel, rebuilt)
        to_codes = self.gradient(graphs[0], codes, gradient=to_rebuilt, retain_graph=True)
        logs = {"loss/pixel": pixel.detach()}
        loss = (graphs[0] * to_rebuilt).sum()
        if judges:
            judged = torch.cat([joint.labels, prior_labels])
            fakes = torch.cat(list(graphs))
            to_fakes = self._update_discriminator(joint, fakes.detach(), judged, logs)
            loss = loss + settings.gan_weight * (fakes * to_fakes).sum()
        self.update("decoder", loss, inputs=[*self.networks["decoder"].parameters()])
        return to_codes, logs

    def _update_discriminator(
        self, joint: Joint, fakes: Tensor, labels: Tensor, logs: dict[str, Tensor]
    ) -> Tensor:
        """Updates Dis; returns the gradient of the generator's cost in the fakes."""
        form, fakes = self.settings.gan_loss, fakes.requires_grad_()
        logits = self.networks["discriminator"](
            torch.cat([joint.images, fakes]), torch.cat([joint.labels, labels])
        )[0]
        n = len(joint.images)
        real, rebuilt, sampled = logits.split([n, n, len(fakes) - n])
        costs = {
            "real": critic_cost(real, real=True, form=form),
            "rebuilt": critic_cost(rebuilt, real=False, form=form),
            "sampled": critic_cost(sampled, real=False, form=form),
        }
        cost = torch.stack([*costs.values()]).sum()
        wanted = generator_cost(rebuilt, form=form) + generator_cost(sampled, form=form)
        learning = [*self.networks["discriminator"].parameters()]
        if form == "log" and self.each_alone:
            # One backward gives both. No image's logit l depends on another image, so that the two
            # costs of a fake have gradients in it that differ by a factor alone:
            # dL_G/dl = -sigmoid(-l) / n = -e^-l dL_D/dl.
            self.update("discriminator", cost, inputs=[*learning, fakes])
            assert fakes.grad is not None
            # Clamped where dL_D/dl is about to round to 0.
            factor = -(-logits[n:].detach().clamp(min=-80.0)).exp()
            to_fakes: Tensor = fakes.grad * factor.reshape(-1, 1, 1, 1)
        else:
            to_fakes = self.gradient(wanted, fakes, retain_graph=True)
            self.update("discriminator", cost, inputs=learning)
        logs.update({f"loss/{name}": cost.detach() for name, cost in costs.items()})
        logs["loss/generator"] = wanted.detach()
        return to_fakes

    def _judge_codes(self, joint: Joint, codes: Tensor, logs: dict[str, Tensor]) -> Tensor:
        """Updates the latent classifier; returns what prior and adversary want of the codes."""
        settings = self.settings
        y, (z_s, z_u) = joint.labels[: joint.labelled], self._parts(codes)
        likelihood = self._likelihood(joint, z_s)
        loss = settings.joint_likelihood_weight * likelihood
        logs["loss/joint_likelihood"] = likelihood.detach()
        own = z_u[: joint.labelled]
        if self.dependence is not None:
            labels = F.one_hot(y, self.num_labels).to(own.dtype)
            other = labels if settings.dcov_with == "labels" else z_s[: joint.labelled].detach()
            dependence = self.dependence(other, own)
            logs["loss/dcov"] = dependence.detach()
            return self.gradient(loss + settings.confusion_weight * dependence, codes)
        if "adversary" not in self.networks:
            return self.gradient(loss, codes)
        log_q = self.networks["adversary"](own).log_softmax(dim=1)
        confusion = -(log_q @ self.prior.priors.to(log_q.dtype)).mean()
        loss = loss + settings.confusion_weight * confusion
        to_codes = self.gradient(loss, codes, retain_graph=True)
        adversary = F.nll_loss(log_q, y)
        learning = [*self.networks["adversary"].parameters()]
        self.update("adversary", adversary, inputs=learning)
        logs["loss/adversary"], logs["loss/confusion"] = adversary.detach(), confusion.detach()
        logs["accuracy/adversary"] = (log_q.detach().argmax(dim=1) == y).float().mean()
        return to_codes

    def _likelihood(self, joint: Joint, z_s: Tensor) -> Tensor:
        """L_lkd: of labelled codes in their own Gaussian, of others in the mixture or the total.

        The mean over all images of the joint batch.
        """
        n, total = joint.labelled, len(z_s)
        likelihood: Tensor = self.prior(z_s[:n], joint.labels[:n])[1]
        if n == total:
            return likelihood
        others = self.prior.unlabelled(z_s[n:], known=self.settings.unlabelled == "known")
        return (n * likelihood + others.sum()) / total

    def _parts(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        return codes[:, : self.class_dim], codes[:, self.class_dim :]

    def _prior_labels(self, labels: Tensor) -> Tensor:
        if self.settings.prior_labels == "batch":
            return labels
        return torch.multinomial(self.prior.priors, len(labels), replacement=True)

    @torch.no_grad()
    def _prior_codes(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        z_s = self.prior.mixture.sample(labels)
        return z_s, torch.randn(len(labels), self.content_dim, device=labels.device)
