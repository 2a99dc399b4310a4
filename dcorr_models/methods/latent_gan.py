"""What GANs of latent numbers share: settings, players, and one step of critic and generator.

ID-GAN, its ablations and its rivals differ in where c comes from, in what the critic reads, and in
what the generator learns beside the critic's judgement.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import RMSprop

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least, check_choice, check_separate
from dcorr_models.methods.latent_variable import LatentVariable
from dcorr_models.nets.id_gan import (
    ARCHITECTURES,
    Architecture,
    make_critic,
    make_generator,
)
from dcorr_models.training.ema import AveragedNetwork
from dcorr_models.training.gan import critic_cost, generator_cost, with_r1
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, frozen, weighted_sum

__all__ = [
    "SPRITES",
    "GanSettings",
    "Judge",
    "LatentGAN",
    "LatentGANStage",
    "rmsprop_099",
    "to_data",
    "to_generated",
]


@dataclass(frozen=True)
class GanSettings:
    """How generator and critic are made and learn; the defaults are ID-GAN's for dSprites.

    Args:
        architecture: `sprites`, a VAE's decoder and encoder (32x32, 64x64), or `resnet`, of any
            side that is a power of two from 8 on.
        width: of the ResNets: channels at the size of the image, 512 at most where it is small.
        r1_weight: of the critic's squared slope at real images; no factor 1/2.
        bottleneck_nats: what may pass a variational bottleneck in the critic, a mean over the
            places of a map; 0 for none. Published: 0.1.
        bottleneck_weight: of its divergence, at the beginning.
        bottleneck_rate: the weight grows by this for each nat too much, and falls likewise.
        averaging: share of the averaged generator that is kept in a step.
        flip: real images are mirrored, each with probability 1/2.
        image_noise: uniform noise from 0 to this on real images of [-1, 1]; published: 1/128.
        batch_size: images of a step.
        steps: updates of each player.
        generator_lr: learning rate of its RMSprop.
        critic_lr: that of the critic's.
    """

    architecture: Architecture = "sprites"
    width: int = 64
    r1_weight: float = 10.0
    bottleneck_nats: float = 0.0
    bottleneck_weight: float = 0.1
    bottleneck_rate: float = 1e-5
    averaging: float = 0.999
    flip: bool = False
    image_noise: float = 0.0
    batch_size: int = 64
    steps: int = 300_000
    generator_lr: float = 1e-3
    critic_lr: float = 1e-4

    def __post_init__(self) -> None:
        check_choice(architecture=(self.architecture, ARCHITECTURES))
        check_at_least(1, width=self.width, batch_size=self.batch_size)
        check_at_least(
            0,
            r1_weight=self.r1_weight,
            bottleneck_nats=self.bottleneck_nats,
            bottleneck_weight=self.bottleneck_weight,
            bottleneck_rate=self.bottleneck_rate,
            image_noise=self.image_noise,
            steps=self.steps,
            generator_lr=self.generator_lr,
            critic_lr=self.critic_lr,
        )
        if not 0 <= self.averaging < 1:
            raise UserError(f"averaging must lie in [0, 1), got {self.averaging}")


SPRITES = GanSettings()


class LatentGAN(LatentVariable):
    """A generator of (s, c), the running mean of its parameters, and a critic.

    Data lie in [0, 1]; generator and critic work in [-1, 1], and images are moved from the one to
    the other here. Images that come out are the averaged generator's.

    Subclasses call `make_players` in their constructor.
    """

    generator: nn.Module
    average: AveragedNetwork
    discriminator: nn.Module
    gan: GanSettings
    critic_reads_codes = False
    """True: the critic is called with (images, c)."""

    @abstractmethod
    def __init__(self) -> None:
        super().__init__()

    def make_players(
        self, gan: GanSettings, generator: nn.Module | None, discriminator: nn.Module | None
    ) -> None:
        """Makes the networks that are not given; `image_shape` and sizes of c and s are set."""
        check_at_least(1, latent_dim=self.latent_dim)
        check_at_least(0, nuisance_dim=self.nuisance_dim)
        self.gan = gan
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if generator is None:
            size = self.nuisance_dim + self.latent_dim
            generator = make_generator(gan.architecture, self.image_shape, size, gan.width)
        if discriminator is None:
            discriminator = make_critic(
                gan.architecture,
                self.image_shape,
                gan.width,
                bottleneck=gan.bottleneck_nats > 0,
                code_dim=self.latent_dim if self.critic_reads_codes else 0,
            )
        check_separate(generator, discriminator)
        self.generator, self.discriminator = generator, discriminator
        self.average = AveragedNetwork(generator, decay=gan.averaging)

    def render(self, c: Tensor, s: Tensor) -> Tensor:
        """The averaged generator's images, moved from [-1, 1] to [0, 1]."""
        return to_data(self.average(s, c))

    def stages(self) -> list[Stage]:
        """One: generator and critic."""
        return [LatentGANStage(self)]

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """What every such method shows, and the critic's logits."""
        yield from super().rehearsal(images)
        codes = [images.new_zeros(len(images), self.latent_dim)] if self.critic_reads_codes else []
        x = to_generated(images)
        yield "discriminator (logits)", lambda: self.discriminator(x, *codes)[0], (len(images),)
        if self.gan.bottleneck_nats:
            limited = "discriminator (divergence, of gan.bottleneck_nats)"
            yield limited, lambda: self.discriminator(x, *codes)[2], (len(images),)


class Judge(nn.Module):
    """All that a step asks of a critic, in one call: one backward then serves all of it.

    Args:
        critic: called with ``(images, *codes)``, giving (logits, features, divergence).
        slopes: the R1 penalty of real images is asked for.
    """

    def __init__(self, critic: nn.Module, *, slopes: bool) -> None:
        super().__init__()
        self.critic, self.slopes = critic, slopes

    def forward(
        self, fakes: Tensor, codes: tuple[Tensor, ...], real: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """Verdicts on generated and on real images, and the penalty; without real ones, empty."""
        fake: tuple[Tensor, ...] = self.critic(fakes, *codes)
        if real is None:
            return fake, (), fakes.new_zeros(())
        if not self.slopes:
            return fake, self.critic(real, *codes), real.new_zeros(())
        judged, penalty = with_r1(lambda x: tuple(self.critic(x, *codes)), real)
        return fake, judged, penalty


class BottleneckWeight(nn.Module):
    """The weight of a bottleneck's divergence, which rises while too much passes.

    Args:
        settings: where it begins, how fast it moves, and what may pass.
    """

    value: Tensor

    def __init__(self, settings: GanSettings) -> None:
        super().__init__()
        self.rate, self.nats = settings.bottleneck_rate, settings.bottleneck_nats
        self.register_buffer("value", torch.tensor(settings.bottleneck_weight))

    def adapt(self, divergence: Tensor) -> None:
        """After an update in which so many nats passed, on all processes the same number."""
        self.value += self.rate * (divergence.to(self.value) - self.nats)
        self.value.clamp_(min=0)


class LatentGANStage(Stage):
    """One update of the critic, then one of the generator with new s and the same c.

    With c of the images' batch (`codes`), s of N(0, I), and D's logits:

        D   mean -log σ(D(x)) + mean -log σ(-D(G(s, c))) + r1_weight · R1 + weight · divergence
        G   mean -log σ(D(G(s', c))) + what a subclass adds (`wishes`)

    The averaged generator follows after each step.

    Args:
        model: networks and settings.
        name: of the stage.
        weights: of the terms that `wishes` and `lessons` return, by name.
        networks: further networks that learn here, with the critic's optimizer.
        fixed: networks that do not learn.
    """

    reads_labels = False
    smallest_share = 1

    def __init__(
        self,
        model: LatentGAN,
        name: str = "gan",
        *,
        weights: Mapping[str, float] | None = None,
        networks: Mapping[str, nn.Module] | None = None,
        fixed: Mapping[str, nn.Module] | None = None,
    ) -> None:
        gan, extra = model.gan, dict(networks or {})
        limit = {"bottleneck": BottleneckWeight(gan)} if gan.bottleneck_nats > 0 else {}
        judges = parameters_of(model.discriminator, *extra.values())
        super().__init__(
            name,
            networks={
                "generator": model.generator,
                "discriminator": Judge(model.discriminator, slopes=gan.r1_weight > 0),
                "average": model.average,
                **extra,
                **limit,
            },
            optimizers={
                "generator": rmsprop_099(parameters_of(model.generator), gan.generator_lr),
                "discriminator": rmsprop_099(judges, gan.critic_lr),
            },
            max_steps=gan.steps,
            batch_size=gan.batch_size,
            fixed=fixed,
        )
        self.model, self.judges = model, ("discriminator", *extra)
        self.weights = {"generator": 1.0, **(weights or {})}

    def setup(self, fabric: Fabric) -> None:
        """Hands the networks to Fabric; the mean begins with the first process's generator."""
        super().setup(fabric)
        self.model.average.restart(self.model.generator)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the critic and one of the generator."""
        x = self.real(batch["image"])
        c = self.codes(x)
        logs = self.update_critic(x, c)
        logs |= self.update_generator(c)
        self.model.average.follow(self.model.generator)
        return logs

    def real(self, images: Tensor) -> Tensor:
        """Images of the data as the critic sees them: in [-1, 1], mirrored, noisy."""
        x, gan = to_generated(images), self.model.gan
        if gan.flip:
            mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
            x = torch.where(mirrored, x.flip(3), x)
        if gan.image_noise:
            x = x + gan.image_noise * torch.rand_like(x)
        return x

    def codes(self, x: Tensor) -> Tensor:
        """The c of a step, (N, latent_dim), without gradient: here of the prior.

        Args:
            x: the real images of the step, in [-1, 1].
        """
        return torch.randn(len(x), self.model.latent_dim, dtype=x.dtype, device=x.device)

    def generate(self, c: Tensor) -> Tensor:
        """Images of c and new s, in [-1, 1]."""
        s = torch.randn(len(c), self.model.nuisance_dim, dtype=c.dtype, device=c.device)
        images: Tensor = self.networks["generator"](s, c)
        return images

    def told(self, c: Tensor) -> tuple[Tensor, ...]:
        """What the critic is told of the codes."""
        return (c,) if self.model.critic_reads_codes else ()

    def wishes(self, fakes: Tensor, judged: tuple[Tensor, ...], c: Tensor) -> dict[str, Tensor]:
        """What the generator minimises beside its cost; nothing here."""
        return {}

    def lessons(self, judged: tuple[Tensor, ...], c: Tensor) -> dict[str, Tensor]:
        """What the critic's player minimises beside its costs, weighted as the wishes; nothing."""
        return {}

    def update_critic(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        """One update of the critic; returns the logs."""
        gan = self.model.gan
        with torch.no_grad():
            fakes = self.generate(c)
        fake, real, penalty = self.networks["discriminator"](fakes, self.told(c), x)
        terms = {
            "real": critic_cost(real[0], real=True),
            "fake": critic_cost(fake[0], real=False),
        }
        lessons = self.lessons(fake, c)
        loss = terms["real"] + terms["fake"] + gan.r1_weight * penalty
        if lessons:
            loss = loss + weighted_sum(lessons, self.weights)
        if gan.r1_weight:
            terms["r1"] = penalty
        if "bottleneck" in self.networks:
            terms["bottleneck"] = 0.5 * (real[2].mean() + fake[2].mean())
            # A copy: the weight moves before the logs are read.
            weight = self.networks["bottleneck"].value.clone()
            loss = loss + weight * terms["bottleneck"]
        self.update("discriminator", loss)
        logs = {f"loss/{name}": term.detach() for name, term in (terms | lessons).items()}
        if "bottleneck" in self.networks:
            self.networks["bottleneck"].adapt(self.mean_over_ranks(terms["bottleneck"]))
            logs["weight/bottleneck"] = weight
        return logs

    def update_generator(self, c: Tensor) -> dict[str, Tensor]:
        """One update of the generator on new images of the same c; returns the logs."""
        terms = self.generator_terms(c)
        self.update("generator", weighted_sum(terms, self.weights))
        return {f"loss/{name}": term.detach() for name, term in terms.items()}

    def generator_terms(self, c: Tensor) -> dict[str, Tensor]:
        """What the generator minimises, of new images of c; no judge's parameter is reached."""
        with frozen(*(self.networks[name] for name in self.judges)):
            fakes = self.generate(c)
            judged, _, _ = self.networks["discriminator"](fakes, self.told(c))
            return {"generator": generator_cost(judged[0]), **self.wishes(fakes, judged, c)}


def to_generated(images: Tensor) -> Tensor:
    """[0, 1] to [-1, 1].

    Example:
        >>> to_generated(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [-1.0, 0.0, 1.0]
    """
    return 2 * images - 1


def to_data(images: Tensor) -> Tensor:
    """[-1, 1] to [0, 1].

    Example:
        >>> to_data(torch.tensor([-1.0, 0.0, 1.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    return 0.5 * (images + 1)


def rmsprop_099(parameters: list[nn.Parameter], lr: float) -> RMSprop:
    """The release's: smoothing 0.99, epsilon 1e-8."""
    return RMSprop(parameters, lr=lr, alpha=0.99, eps=1e-8)
