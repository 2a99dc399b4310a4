"""How IcGAN is trained: the conditional GAN, then two encoders of what it learned."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from dcorr_models.training.gan import log_probability, minimax_terms
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.passes import Passes
from dcorr_models.training.stage import Batch, Stage, frozen, weighted_sum

__all__ = ["EncoderStage", "GanStage", "Schedule", "StepSettings"]


class Schedule(NamedTuple):
    """How long and how fast one stage learns."""

    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float]
    lr_milestones: tuple[int, ...]
    lr_decay: float

    def optimizer(self, network: nn.Module) -> Adam:
        """A network's own Adam."""
        return Adam(parameters_of(network), lr=self.lr, betas=self.betas)

    def scheduler(self, optimizer: Adam) -> MultiStepLR:
        """The rate times `lr_decay` at each milestone."""
        return MultiStepLR(optimizer, list(self.lr_milestones), self.lr_decay)


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `IcGAN`."""

    wrong_label_weight: float
    shuffled_labels: bool
    fresh_noise: bool
    simultaneous: bool
    stored_codes: int


class Model(Protocol):
    """What the stages need of `IcGAN`."""

    generator: nn.Module
    discriminator: nn.Module
    latent_encoder: nn.Module
    label_encoder: nn.Module
    latent_dim: int
    step_settings: StepSettings

    def label_code(self, labels: Tensor) -> Tensor:
        """Labels of a data set as the networks read them."""


class GanStage(Stage):
    """Generator and discriminator, conditioned on the labels."""

    def __init__(self, model: Model, schedule: Schedule) -> None:
        players = {"generator": model.generator, "discriminator": model.discriminator}
        optimizers = {name: schedule.optimizer(network) for name, network in players.items()}
        super().__init__(
            "gan",
            networks={**players, "discriminator": Passes(model.discriminator)},
            optimizers=optimizers,
            schedulers={name: schedule.scheduler(o) for name, o in optimizers.items()},
            max_steps=schedule.steps,
            batch_size=schedule.batch_size,
        )
        self.model = model
        self.settings = model.step_settings
        wrong = self.settings.wrong_label_weight
        self.weights = {"real": 1.0, "fake": 1.0 - wrong, "wrong_label": wrong}

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each player."""
        x, y = batch["image"], self.model.label_code(batch["label"])
        if self.settings.simultaneous:
            return self._simultaneous(x, y)
        return self._sequential(x, y)

    def _sequential(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The discriminator, then the generator against it, as both releases do.

        Where the generator is judged on the images that the discriminator has just seen, one pass
        of the generator serves both: its parameters do not move in between.
        """
        fresh, fake_y = self.settings.fresh_noise, self._fake_labels(y)
        with torch.set_grad_enabled(not fresh):
            fakes = self._generate(fake_y)
        costs, _ = self._costs(x, y, fakes.detach(), fake_y)
        self.update("discriminator", weighted_sum(costs, self.weights))
        if fresh:
            fakes = self._generate(fake_y)
        discriminator = self.networks["discriminator"]
        with frozen(discriminator):
            (fake_logits,) = discriminator((fakes, fake_y))
            cost = _generator_cost(fake_logits)
            self.update("generator", cost)
        return _log(costs, cost)

    def _simultaneous(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Both players from one pass of each network, at the same parameters.

        The graph is cut at the generated images. The generator's loss is differentiated up to the
        cut first, then the discriminator learns, then the generator from the gradient at the cut.
        """
        fake_y = self._fake_labels(y)
        graph = self._generate(fake_y)
        fakes = graph.detach().requires_grad_()
        costs, fake_logits = self._costs(x, y, fakes, fake_y)
        cost = _generator_cost(fake_logits)
        to_image = self.gradient(cost, fakes, retain_graph=True)
        learning = [*self.networks["discriminator"].parameters()]
        self.update("discriminator", weighted_sum(costs, self.weights), inputs=learning)
        self.update("generator", graph, gradient=to_image)
        return _log(costs, cost)

    def _generate(self, fake_y: Tensor) -> Tensor:
        noise = torch.randn(len(fake_y), self.model.latent_dim, device=fake_y.device)
        images: Tensor = self.networks["generator"](noise, fake_y)
        return images

    def _fake_labels(self, y: Tensor) -> Tensor:
        return _of_others(y) if self.settings.shuffled_labels else y

    def _costs(
        self, x: Tensor, y: Tensor, fakes: Tensor, fake_y: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The discriminator's costs by name, and its logits of the generated images."""
        # One pass each, so that real and generated images have batch statistics of their own.
        passes = [(x, y), (fakes, fake_y)]
        if self.settings.wrong_label_weight:
            passes.append((x, _of_others(y)))
        real, fake, *wrong = self.networks["discriminator"](*passes)
        costs = dict(zip(("real", "fake"), minimax_terms(real, fake), strict=True))
        if wrong:
            costs["wrong_label"] = -log_probability(-wrong[0]).mean()
        return costs, fake


class EncoderStage(Stage):
    """Enc_z from generated images to the z they came from, Enc_y from real images to labels."""

    def __init__(self, model: Model, schedule: Schedule) -> None:
        players = {"latent_encoder": model.latent_encoder, "label_encoder": model.label_encoder}
        optimizers = {name: schedule.optimizer(network) for name, network in players.items()}
        super().__init__(
            "encoders",
            networks=players,
            optimizers=optimizers,
            schedulers={name: schedule.scheduler(o) for name, o in optimizers.items()},
            fixed={"generator": model.generator},
            max_steps=schedule.steps,
            batch_size=schedule.batch_size,
        )
        self.model = model
        self.stored: Tensor | None = None
        if model.step_settings.stored_codes:
            # Not from the run's seed: a resumed run must find the same codes.
            generator = torch.Generator().manual_seed(0)
            shape = (model.step_settings.stored_codes, model.latent_dim)
            self.stored = torch.randn(shape, generator=generator)

    def setup(self, fabric: Fabric) -> None:
        """Hands the networks to Fabric, and moves the stored codes beside them."""
        super().setup(fabric)
        if self.stored is not None:
            self.stored = self.stored.to(fabric.device)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each encoder; neither depends on the other."""
        x, y = batch["image"], self.model.label_code(batch["label"])
        z = self._codes(batch["index"])
        images = self.run_fixed("generator", z, y)
        latent = F.mse_loss(self.networks["latent_encoder"](images), z)
        self.update("latent_encoder", latent)
        label = F.mse_loss(self.networks["label_encoder"](x), y)
        self.update("label_encoder", label)
        return {"loss/latent": latent.detach(), "loss/label": label.detach()}

    def _codes(self, index: Tensor) -> Tensor:
        if self.stored is None:
            return torch.randn(len(index), self.model.latent_dim, device=index.device)
        return self.stored[index % len(self.stored)]


def _generator_cost(fake_logits: Tensor) -> Tensor:
    """The non-saturating loss: mean -log D(G(z, y), y)."""
    return -log_probability(fake_logits).mean()


def _of_others(y: Tensor) -> Tensor:
    # The order of a batch is random already: the row before is another image's.
    return y.roll(1, dims=0)


def _log(costs: dict[str, Tensor], generator: Tensor) -> dict[str, Tensor]:
    logs = {f"loss/{name}": value.detach() for name, value in costs.items()}
    return {**logs, "loss/generator": generator.detach()}
