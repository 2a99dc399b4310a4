"""Projection cGAN: a class-conditional GAN whose critic reads the class by an inner product.

Miyato and Koyama 2018, "cGANs with projection discriminator" (arXiv 1802.05637), as a rival of
Lr-LiVAE. It has no encoder. The defaults are the published code's for CIFAR-10; every departure is
in `docs/methods/projection_cgan.md`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import (
    check_at_least,
    check_betas,
    check_choice,
    check_separate,
)
from dcorr_models.methods.class_conditional import ClassConditional
from dcorr_models.nets.projection_cgan import ARCHITECTURES, ResNetGenerator, critic
from dcorr_models.training.gan import GanLoss, critic_cost, generator_cost
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, frozen

__all__ = ["CriticSteps", "ProjectionCGAN"]


class ProjectionCGAN(ClassConditional):
    """Projection cGAN (Miyato and Koyama 2018), with the published settings for CIFAR-10.

    Args:
        architecture: `cifar10` (32x32) and `facescrub64` (64x64), the published ResNets, images in
            [-1, 1]; `mnist_small` (28x28, in [0, 1]), for a CPU, with the discriminator of
            Lr-LiVAE's architecture of that name.
        image_shape: channels, height and width of the images.
        num_labels: classes.
        noise_dim: size of z.
        loss: `hinge`, as in the paper, or `log`, the published code's other choice.
        critic_steps: updates of the discriminator for each of the generator.
        batch_size: real images, and as many generated ones, of an update of the discriminator.
        generator_batch_size: generated images of an update of the generator.
        steps: updates of the generator.
        lr: learning rate of both Adams.
        betas: their decay rates of the two moments.
        lr_decay_steps: the last so many updates, in which the rate falls in a line to 0; none for
            all of them, 0 for a constant rate.
        generator: your own generator, called with (z, classes), giving images.
        discriminator: your own discriminator, called with (images, classes), giving a pair whose
            first entry is the logits (N,).
    """

    has_encoder = False
    needs_every_class = True
    samples_from = "standard normal and class"

    def __init__(
        self,
        *,
        architecture: Literal["cifar10", "facescrub64", "mnist_small"] = "cifar10",
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_labels: int = 10,
        noise_dim: int = 128,
        loss: GanLoss = "hinge",
        critic_steps: int = 5,
        batch_size: int = 64,
        generator_batch_size: int = 128,
        steps: int = 50_000,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        lr_decay_steps: int | None = None,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(architecture=(architecture, ARCHITECTURES), loss=(loss, ("hinge", "log")))
        check_at_least(1, num_labels=num_labels, noise_dim=noise_dim, critic_steps=critic_steps)
        check_at_least(2, batch_size=batch_size, generator_batch_size=generator_batch_size)
        check_at_least(0, steps=steps, lr=lr)
        check_betas(betas)
        if lr_decay_steps is None:
            lr_decay_steps = steps
        if not 0 <= lr_decay_steps <= steps:
            raise UserError(
                f"lr_decay_steps must lie between 0 and steps ({steps}), got {lr_decay_steps}"
            )
        self.image_shape, self.num_labels, self.noise_dim = image_shape, num_labels, noise_dim
        sizes = ARCHITECTURES[architecture]
        ranges = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
        # A generator of the user's own may give any range.
        self.value_range = ranges[sizes.output] if generator is None else None
        if generator is None:
            generator = ResNetGenerator(image_shape, sizes, noise_dim, num_labels)
        if discriminator is None:
            discriminator = critic(image_shape, architecture, num_labels)
        check_separate(generator, discriminator)
        self.generator, self.discriminator = generator, discriminator
        self.schedule = Schedule(
            loss=loss,
            critic_steps=critic_steps,
            batch_size=batch_size,
            generator_batch_size=generator_batch_size,
            steps=steps,
            lr=lr,
            betas=(betas[0], betas[1]),
            lr_decay_steps=lr_decay_steps,
        )

    def stages(self) -> list[Stage]:
        """One: both players."""
        return [CriticSteps(self)]

    def sample(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """New images, one of each class asked for, from z of the standard normal."""
        self.check_classes(labels)
        images: Tensor = self.generator(self.draw(len(labels), labels.device, generator), labels)
        return images

    def draw(
        self, n: int, device: torch.device, generator: torch.Generator | None = None
    ) -> Tensor:
        """Noise codes (n, noise_dim) of the standard normal."""
        return torch.randn(n, self.noise_dim, device=device, generator=generator)


class Schedule(NamedTuple):
    """How both players learn; see the arguments of `ProjectionCGAN`."""

    loss: GanLoss
    critic_steps: int
    batch_size: int
    generator_batch_size: int
    steps: int
    lr: float
    betas: tuple[float, float]
    lr_decay_steps: int

    def factor(self, step: int) -> float:
        """What the rate is multiplied by after so many steps."""
        left = self.steps - step
        return 1.0 if left >= self.lr_decay_steps else left / self.lr_decay_steps


class Model(Protocol):
    """What the stage needs of `ProjectionCGAN`."""

    generator: nn.Module
    discriminator: nn.Module
    num_labels: int
    schedule: Schedule

    def draw(self, n: int, device: torch.device) -> Tensor:
        """Noise codes."""


class CriticSteps(Stage):
    """One update of the generator, then `critic_steps` of the discriminator, as published.

    A batch of the stage holds the real images of all those updates, one after the other:

        Gen   -mean D(G(z, y), y),    y uniform
        Dis   mean max(0, 1 - D(x, y)) + mean max(0, 1 + D(G(z, y'), y')),    y' uniform
    """

    def __init__(self, model: Model) -> None:
        schedule = model.schedule
        players = {"generator": model.generator, "discriminator": model.discriminator}
        optimizers = {
            name: Adam(parameters_of(network), lr=schedule.lr, betas=schedule.betas)
            for name, network in players.items()
        }
        super().__init__(
            "gan",
            networks=players,
            optimizers=optimizers,
            schedulers={name: LambdaLR(o, schedule.factor) for name, o in optimizers.items()},
            max_steps=schedule.steps,
            batch_size=schedule.batch_size * schedule.critic_steps,
        )
        self.model = model

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the generator and all of the discriminator that go with it."""
        schedule = self.model.schedule
        cost = self._update_generator(self._share(schedule.generator_batch_size), batch["image"])
        images = batch["image"].chunk(schedule.critic_steps)
        labels = batch["label"].chunk(schedule.critic_steps)
        costs = [self._update_critic(x, y) for x, y in zip(images, labels, strict=True)]
        real, fake = torch.stack(costs).mean(dim=0)
        return {"loss/generator": cost, "loss/real": real, "loss/fake": fake}

    def _update_generator(self, n: int, like: Tensor) -> Tensor:
        with frozen(self.networks["discriminator"]):
            fakes, classes = self._generate(n, like)
            logits = self.networks["discriminator"](fakes, classes)[0]
            cost = generator_cost(logits, form=self.model.schedule.loss)
            self.update("generator", cost)
        return cost.detach()

    def _update_critic(self, x: Tensor, y: Tensor) -> Tensor:
        """The two halves of the cost, (2,)."""
        with torch.no_grad():
            fakes, classes = self._generate(len(x), x)
        # One pass over both: the critic has no batch statistics that would mix them.
        logits = self.networks["discriminator"](torch.cat([x, fakes]), torch.cat([y, classes]))[0]
        form = self.model.schedule.loss
        real = critic_cost(logits[: len(x)], real=True, form=form)
        fake = critic_cost(logits[len(x) :], real=False, form=form)
        self.update("discriminator", real + fake)
        return torch.stack([real, fake]).detach()

    def _generate(self, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
        classes = torch.randint(self.model.num_labels, (n,), device=like.device)
        images: Tensor = self.networks["generator"](self.model.draw(n, like.device), classes)
        return images, classes

    def _share(self, n: int) -> int:
        """This process's part of the generator's batch."""
        assert self.fabric is not None, "setup() comes before step()"
        return -(-n // self.fabric.world_size)
