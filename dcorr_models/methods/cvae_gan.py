"""cVAE-GAN: a conditional VAE whose generator matches the features of a critic and a classifier.

Bao, Chen, Wen, Li and Hua 2017, "CVAE-GAN: fine-grained image generation through asymmetric
training" (arXiv 1703.10155), as a rival of Lr-LiVAE. Discriminator and classifier learn from
cross-entropies; the generator learns from neither, but brings means of their features together.
Every departure is listed in `docs/methods/cvae_gan.md`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least, check_betas, check_choice
from dcorr_models.methods.cvae import ArchitectureName
from dcorr_models.methods.label_conditional import LabelConditional
from dcorr_models.methods.vae_gan_stage import gaussian_kl
from dcorr_models.nets.cvae import ClassEncoder, FeatureClassifier
from dcorr_models.nets.cvae_gan import PlainDiscriminator, RunningClassMeans
from dcorr_models.nets.lr_livae import ARCHITECTURES, Decoder
from dcorr_models.training.gan import minimax_terms
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, weighted_sum

__all__ = ["CVAEGAN", "CvaeGanStage"]

PLAYERS = ("encoder", "decoder", "discriminator", "classifier")


class CVAEGAN(LabelConditional):
    """cVAE-GAN (Bao et al. 2017), at the networks of Lr-LiVAE, with weights recalled of the paper.

    Args:
        architecture: Lr-LiVAE's networks of one size: `facescrub64` (64x64) and `cifar10` (32x32),
            images in [-1, 1]; `mnist`, `mnist_small` (28x28), images in [0, 1]; `toy`, points.
        image_shape: channels, height and width of the images.
        num_labels: classes.
        latent_dim: size of z.
        kl_weight: λ1, of the KL divergence, a sum over z.
        pair_weight: λ2, of ½ (‖x - x̂‖² + ‖f_D(x) - f_D(x̂)‖² + ‖f_C(x) - f_C(x̂)‖²), sums over the
            values of an image and its features.
        mean_weight: λ3, of ½ ‖mean f_D(x) - mean f_D(x_p)‖², x_p of prior samples.
        class_mean_weight: λ4, of ½ Σ_c ‖mean_c f_C(x) - mean_c f_C(x_p)‖².
        class_mean_decay: share of the batches before in the means of a class, in [0, 1).
        batch_size: images of an update.
        steps: updates.
        lr: learning rate of all four Adams.
        betas: their decay rates of the two moments.
        encoder: your own encoder, called with (images, one-hot labels), giving (N, 2 · latent_dim):
            means of z, then log-variances.
        decoder: your own decoder, called with (one-hot labels, z), giving images.
        discriminator: your own discriminator, giving a pair (logits (N,), features (N, F)).
        classifier: your own classifier, giving a pair (logits (N, num_labels), features (N, F)).
    """

    discriminator: nn.Module

    def __init__(
        self,
        *,
        architecture: ArchitectureName = "mnist",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        latent_dim: int = 32,
        kl_weight: float = 3.0,
        pair_weight: float = 1.0,
        mean_weight: float = 1e-3,
        class_mean_weight: float = 1e-3,
        class_mean_decay: float = 0.9,
        batch_size: int = 96,
        steps: int = 50_000,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(architecture=(architecture, ARCHITECTURES))
        check_at_least(1, num_labels=num_labels, latent_dim=latent_dim, batch_size=batch_size)
        weights = {
            "kl": kl_weight,
            "pair": pair_weight,
            "mean": mean_weight,
            "class_mean": class_mean_weight,
        }
        check_at_least(0, **{f"{name}_weight": weight for name, weight in weights.items()})
        check_at_least(0, steps=steps, lr=lr)
        check_betas(betas)
        if not 0 <= class_mean_decay < 1:
            raise UserError(f"class_mean_decay must lie in [0, 1), got {class_mean_decay}")
        self.image_shape, self.num_labels, self.latent_dim = image_shape, num_labels, latent_dim
        sizes = ARCHITECTURES[architecture]
        # A decoder of the user's own may give any range.
        self.value_range = sizes.value_range if decoder is None else None
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if encoder is None:
            encoder = ClassEncoder(image_shape, sizes, latent_dim, num_labels)
        if decoder is None:
            decoder = Decoder(image_shape, sizes, num_labels + latent_dim)
        if discriminator is None:
            discriminator = PlainDiscriminator(image_shape, sizes.critic)
        if classifier is None:
            classifier = FeatureClassifier(image_shape, sizes, num_labels)
        self.set_networks(
            encoder=encoder, decoder=decoder, discriminator=discriminator, classifier=classifier
        )
        width = _features_of(classifier, image_shape)
        self.real_means = RunningClassMeans(num_labels, width, decay=class_mean_decay)
        self.fake_means = RunningClassMeans(num_labels, width, decay=class_mean_decay)
        self.step_settings = StepSettings(
            weights=weights,
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            betas=(betas[0], betas[1]),
        )

    def class_logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to what the classifier makes of them, (N, num_labels)."""
        logits: Tensor = self.classifier(images)[0]
        return logits

    def stages(self) -> list[Stage]:
        """One: all four networks."""
        return [CvaeGanStage(self)]


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `CVAEGAN`."""

    weights: dict[str, float]
    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float]


class Model(Protocol):
    """What the stage needs of `CVAEGAN`."""

    encoder: nn.Module
    decoder: nn.Module
    discriminator: nn.Module
    classifier: nn.Module
    real_means: RunningClassMeans
    fake_means: RunningClassMeans
    num_labels: int
    latent_dim: int
    step_settings: StepSettings

    def one_hot(self, labels: Tensor) -> Tensor:
        """Classes as the networks read them."""


class Triple(NamedTuple):
    """Something of the real images, their reconstructions, and images of prior samples."""

    real: Tensor
    rebuilt: Tensor
    sampled: Tensor


class CvaeGanStage(Stage):
    """One update of each network from one pass of each, all at the same parameters.

    With x̂ = Dec(y, z), z of q(z | x, y), and x_p = Dec(y', z'), z' of the prior, y' uniform:

        Dis         -log D(x) - log(1 - D(x̂)) - log(1 - D(x_p))
        classifier  -log C(y | x)
        Dec         λ2 L_pair(x, x̂) + λ3 L_mean(x, x_p) + λ4 L_class_mean(x, x_p)
        Enc         λ1 KL + λ2 L_pair(x, x̂)

    KL does not depend on Dec, nor the means on Enc: both learn from one sum. The graph is cut at
    the images, so that Dis and the classifier see one batch and get the gradient of their own loss.
    """

    def __init__(self, model: Model) -> None:
        settings = model.step_settings
        networks = {name: getattr(model, name) for name in PLAYERS}
        players = {
            "generator": parameters_of(model.encoder, model.decoder),
            "discriminator": parameters_of(model.discriminator),
            "classifier": parameters_of(model.classifier),
        }
        super().__init__(
            "cvae_gan",
            networks={
                **networks,
                "real_means": model.real_means,
                "fake_means": model.fake_means,
            },
            optimizers={
                name: Adam(parameters, lr=settings.lr, betas=settings.betas)
                for name, parameters in players.items()
            },
            max_steps=settings.steps,
            batch_size=settings.batch_size,
        )
        self.model = model
        self.processes = 1

    def setup(self, fabric: Fabric) -> None:
        """Hands the networks to Fabric; means are taken over the batches of all processes."""
        super().setup(fabric)
        self.processes = fabric.world_size

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each player."""
        x, y, n = batch["image"], batch["label"], len(batch["image"])
        mean, log_variance = self.networks["encoder"](x, self.model.one_hot(y)).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        classes = torch.randint_like(y, self.model.num_labels)
        # One pass: reconstructions and samples share their batch statistics.
        drawn_graph = self.networks["decoder"](
            self.model.one_hot(torch.cat([y, classes])), torch.cat([z, torch.randn_like(z)])
        )
        drawn = drawn_graph.detach().requires_grad_()
        judged, seen = (
            [Triple(*part.split(n)) for part in self.networks[name](torch.cat([x, drawn]))]
            for name in ("discriminator", "classifier")
        )
        terms = {
            "pair": _half_square(x, drawn[:n]).mean() + self._pair(judged[1], seen[1]),
            "mean": self._mean(judged[1]),
            "class_mean": self._class_mean(seen[1], y, classes),
        }
        weights = self.model.step_settings.weights
        to_drawn = self.gradient(weighted_sum(terms, weights), drawn, retain_graph=True)
        costs = self._update_judges(judged[0], seen[0].real, y)
        kl = gaussian_kl(mean, log_variance).sum(dim=1).mean()
        self.update("generator", weights["kl"] * kl + (drawn_graph * to_drawn).sum())
        logs = {f"loss/{name}": term.detach() for name, term in {**terms, "kl": kl}.items()}
        # of no player, but comparable between methods
        return {**logs, **costs, "loss/pixel": F.mse_loss(drawn.detach()[:n], x)}

    def _update_judges(self, logits: Triple, of_classes: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Updates discriminator and classifier; returns their logs."""
        real, rebuilt = minimax_terms(logits.real, logits.rebuilt)
        _, sampled = minimax_terms(logits.real, logits.sampled)
        self._update_alone("discriminator", real + rebuilt + sampled)
        cross_entropy = F.cross_entropy(of_classes, y)
        self._update_alone("classifier", cross_entropy)
        return {
            "loss/real": real.detach(),
            "loss/rebuilt": rebuilt.detach(),
            "loss/sampled": sampled.detach(),
            "loss/class": cross_entropy.detach(),
        }

    def _update_alone(self, name: str, loss: Tensor) -> None:
        self.update(name, loss, inputs=[*self.networks[name].parameters()])

    def _pair(self, judged: Triple, seen: Triple) -> Tensor:
        """½ ‖f(x) - f(x̂)‖² of both judges' features, a mean over the images."""
        d, c = (_half_square(features.real, features.rebuilt) for features in (judged, seen))
        return (d + c).mean()

    def _mean(self, features: Triple) -> Tensor:
        """½ ‖mean f_D(x) - mean f_D(x_p)‖²."""
        real, sampled = features.real.mean(dim=0), features.sampled.mean(dim=0)
        return _half_square(self._over_ranks(real), self._over_ranks(sampled), dim=0)

    def _class_mean(self, features: Triple, y: Tensor, classes: Tensor) -> Tensor:
        """½ Σ_c ‖mean_c f_C(x) - mean_c f_C(x_p)‖² over the classes of this batch of samples."""
        real, _ = self._running("real_means", features.real.detach(), y)
        sampled, drawn = self._running("fake_means", features.sampled, classes)
        both = drawn & self.networks["real_means"].seen
        return _half_square(real, sampled).masked_fill(~both, 0.0).sum()

    def _running(self, name: str, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The running means of each class, (K, F), and which of them this batch has moved."""
        label = self.model.one_hot(labels)
        counts = self.sum_over_ranks(label.sum(dim=0))
        sums = self._over_ranks(label.T @ features) * self.processes
        present = counts > 0
        return self.networks[name](sums / counts.clamp(min=1)[:, None], present), present

    def _over_ranks(self, local: Tensor) -> Tensor:
        """A mean over the processes, with the gradient that their own averaging completes."""
        if self.processes == 1:
            return local
        return local + (self.mean_over_ranks(local) - local.detach())


def _half_square(a: Tensor, b: Tensor, *, dim: int = 1) -> Tensor:
    """½ ‖a - b‖², a row each."""
    return 0.5 * (a - b).square().flatten(dim).sum(dim=dim)


def _features_of(classifier: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """How many features a classifier gives, by a look at one image.

    Raises:
        UserError: it fails, or gives no pair of logits and features.
    """
    parameter: Any = next(classifier.parameters(), torch.zeros(()))
    training = classifier.training
    try:
        with torch.no_grad():
            _, features = classifier.eval()(parameter.new_zeros(1, *image_shape))
        return int(features.shape[1])
    except Exception as error:  # whatever a user's module may raise
        reason = " ".join(str(error).split())
        raise UserError(
            "the classifier must give a pair (logits (N, num_labels), features (N, F)) of an image "
            f"{tuple(image_shape)}, got {type(error).__name__}: {reason}"
        ) from error
    finally:
        classifier.train(training)
