"""How LORD is trained: codes and generator, then encoders that give these codes for any image."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from dcorr import AsymmetricNoise
from dcorr_models.data.base import LabelledImages
from dcorr_models.methods.class_embeddings import ClassEmbeddings
from dcorr_models.methods.lord_leakage import linear_leakage, probe_rows
from dcorr_models.methods.lord_settings import Scale, Variant
from dcorr_models.methods.vae_gan_stage import gaussian_kl
from dcorr_models.nets.latent_table import LatentTable
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.rates import CosineRate, Plateau
from dcorr_models.training.row_adam import LearnedRows, RowAdam, Skipped
from dcorr_models.training.stage import Batch, Stage, weighted_sum

__all__ = ["AmortiseStage", "CodesStage", "Model", "Plan", "mean_of_class"]

_PROBED_AT_ONCE = 256


class Plan(NamedTuple):
    """What the stages need to know beside the published numbers; see the arguments of `LORD`."""

    scale: Scale
    variant: Variant
    steps: int
    steps_per_epoch: int
    encoder_steps: int
    kl_weight: float
    images_per_class: int
    skipped_steps: Skipped
    leakage_every: int


class Model(Protocol):
    """What the stages need of `LORD`."""

    content_dim: int
    generator: nn.Module
    embeddings: ClassEmbeddings | None
    class_encoder: nn.Module | None
    content_encoder: nn.Module | None
    content_codes: tuple[LatentTable, ...]
    train_images: LabelledImages | None

    def reconstruction_loss(self) -> nn.Module:
        """Called with (x̂, x)."""


class _LordStage(Stage):
    """What both stages share: one optimizer for all networks, the loss, and ending early."""

    def __init__(
        self,
        name: str,
        model: Model,
        plan: Plan,
        players: dict[str, nn.Module],
        memories: dict[str, nn.Module],
        rate: CosineRate,
        plateau: Plateau | None,
        *,
        fixed: dict[str, nn.Module] | None = None,
        images_per_class: int | None = None,
    ) -> None:
        scale = plan.scale
        self.learning = parameters_of(*players.values())
        optimizer = Adam(self.learning, lr=rate.start, betas=scale.betas, eps=scale.eps)
        if plateau is not None:
            memories = {**memories, "plateau": plateau}
        super().__init__(
            name,
            networks={**players, **memories},
            optimizers={"model": optimizer},
            fixed={**(fixed or {}), "reconstruction": model.reconstruction_loss()},
            schedulers={
                "model": LambdaLR(optimizer, lambda done: rate.factor(done) * self._slowed())
            },
            max_steps=rate.steps,
            batch_size=scale.batch_size,
            images_per_class=images_per_class,
        )
        self.model, self.plan, self.players, self.memories = model, plan, players, memories
        self.plateau = plateau

    # LambdaLR asks while the constructor runs.
    plateau: Plateau | None = None

    def _slowed(self) -> float:
        return 1.0 if self.plateau is None else self.plateau.factor

    def setup(self, fabric: Fabric) -> None:
        """Networks to Fabric; tables and other memories to its device, never compiled."""
        super().setup(fabric)
        self.networks |= self.memories
        if fabric.world_size > 1:
            # DDP gives every rank the first one's parameters; these are buffers.
            for memory in self.memories.values():
                for buffer in memory.buffers():
                    buffer.copy_(fabric.broadcast(buffer.cpu()))

    def over(self) -> bool:
        """Whether an earlier epoch has ended the training; the steps that are left do nothing."""
        return self.plateau is not None and self.plateau.stopped

    def reconstruct(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """The reconstruction loss of a batch."""
        assert self.fabric is not None, "setup() comes before reconstruct()"
        with self.fabric.autocast():
            loss: Tensor = self.fixed["reconstruction"](x_hat, x)
        return loss

    def judge(self, loss: Tensor) -> None:
        """Tells the plateau of a step's loss, and at the end of an epoch asks for its verdict."""
        if self.plateau is not None:
            self.plateau.add(loss.detach())
            if self.plateau.ends_epoch(self.step_index):
                self.plateau.close(self.mean_over_ranks(self.plateau.mean()))


class CodesStage(_LordStage):
    """Codes and generator together, by one loss: LORD's first stage, or all of a variant.

    Args:
        model: networks and tables.
        plan: settings.
    """

    def __init__(self, model: Model, plan: Plan) -> None:
        scale, variant = plan.scale, plan.variant
        players = {"generator": model.generator}
        memories: dict[str, nn.Module] = {}
        tables: dict[str, LatentTable] = {}
        if variant.content_code == "table":
            (tables["content"],) = model.content_codes
            memories["content_codes"] = tables["content"]
        else:
            assert model.content_encoder is not None
            players["content_encoder"] = model.content_encoder
        if variant.class_code == "embedding":
            assert model.embeddings is not None
            tables["class"], memories["class_embeddings"] = model.embeddings.table, model.embeddings
        else:
            assert model.class_encoder is not None
            players["class_encoder"] = model.class_encoder
        self.tables = tables
        self.adams = {
            name: RowAdam(
                *table.weight.shape,
                betas=scale.betas,
                eps=scale.eps,
                skipped=plan.skipped_steps,
                folder=table.folder,
            )
            for name, table in tables.items()
        }
        memories |= {f"{name}_adam": adam for name, adam in self.adams.items()}
        grouped = variant.class_code == "encoder"
        super().__init__(
            "codes",
            model,
            plan,
            players,
            memories,
            _rate(scale.lr, scale.final_lr, scale.rate_changes, plan.steps, plan.steps_per_epoch),
            _plateau(plan, scale.stop_after, 0),
            images_per_class=plan.images_per_class if grouped else None,
        )
        self.latent_rate = _rate(
            scale.latent_lr,
            scale.final_latent_lr,
            scale.rate_changes,
            plan.steps,
            plan.steps_per_epoch,
        )
        self.noise = AsymmetricNoise(sigma=scale.sigma, decay=scale.decay, on=scale.penalty_on)
        self.learned: dict[str, LearnedRows] = {}

    def setup(self, fabric: Fabric) -> None:
        """Networks and tables to Fabric."""
        super().setup(fabric)
        self.learned = {
            name: LearnedRows(table, self.adams[name], self.latent_rate, fabric)
            for name, table in self.tables.items()
        }

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the generator, the encoders, and the rows of this batch."""
        if self.over():
            return {"stopped": self.scalar(1.0)}
        x = batch["image"]
        leaves: list[Tensor] = []
        class_codes = self._class_codes(batch, leaves)
        content, regularisation = self._content_codes(batch, leaves)
        x_hat = self.networks["generator"](class_codes, content)
        terms = {"reconstruction": self.reconstruct(x_hat, x), "regularisation": regularisation}
        loss = weighted_sum(terms, dict.fromkeys(terms, 1.0))
        self.update("model", loss, inputs=[*self.learning, *leaves])
        for rows in self.learned.values():
            rows.learn(step=self.step_index + 1)
        logs = {f"loss/{name}": term.detach() for name, term in terms.items()}
        self.judge(loss)
        if self.step_index + 1 == self.max_steps or self.over():
            for name, adam in self.adams.items():
                adam.finish(self.tables[name], step=self.step_index + 1, rate=self.latent_rate)
        return {**logs, **self._leakage()}

    def _class_codes(self, batch: Batch, leaves: list[Tensor]) -> Tensor:
        model, labels = self.model, batch["label"]
        if "class" not in self.learned:
            return mean_of_class(self.networks["class_encoder"](batch["image"]), labels)
        assert model.embeddings is not None
        index = model.embeddings.index(labels)
        leaves.append(self._lend("class", index.flatten(), batch))
        return model.embeddings.combined(leaves[-1].reshape(*index.shape, -1))

    def _content_codes(self, batch: Batch, leaves: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Codes as the generator is given them, and the regularisation term."""
        if "content" in self.learned:
            code = self._lend("content", batch["index"], batch)
            leaves.append(code)
        else:
            code = self.networks["content_encoder"](batch["image"])
        if self.plan.variant.regulariser != "kl":
            noisy, penalty = self.noise(code)
            return noisy, penalty
        mean, log_variance = code.chunk(2, dim=1)
        sampled = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        divergence = gaussian_kl(mean, log_variance).sum(dim=1).mean()
        return sampled, self.plan.kl_weight * divergence

    def _lend(self, name: str, index: Tensor, batch: Batch) -> Tensor:
        step = self.step_index + 1
        return self.learned[name].lend(index, step=step, dtype=batch["image"].dtype)

    def _leakage(self) -> dict[str, Tensor]:
        """What a linear probe reads of the class, at the end of every so many epochs."""
        every = self.plan.leakage_every * self.plan.steps_per_epoch
        if not every or (self.step_index + 1) % every:
            return {}
        images = self.model.train_images
        assert images is not None, "stages() comes after meet()"
        rows = probe_rows(len(images))
        if "content" in self.learned:
            codes = self.tables["content"](rows)
        else:
            codes = self._encoded(images, rows)
        return {
            "leakage/class_from_content": self.scalar(linear_leakage(codes, images.labels[rows]))
        }

    def _encoded(self, images: LabelledImages, rows: Tensor) -> Tensor:
        encoder, codes = self.networks["content_encoder"], []
        encoder.eval()
        with torch.no_grad():
            for part in torch.split(rows, _PROBED_AT_ONCE):
                batch = images.__getitems__(part.tolist())
                placed = self.place({"image": batch["image"].to(self._device())})
                codes.append(encoder(placed["image"])[:, : self.model.content_dim].cpu())
        encoder.train()
        return torch.cat(codes)

    def _device(self) -> torch.device:
        assert self.fabric is not None, "setup() comes first"
        return self.fabric.device


class AmortiseStage(_LordStage):
    """Encoders learn the codes of the first stage, and the generator goes on learning.

    Targets are the codes without noise. Where the first stage had a content encoder, that one
    stays as it is: its codes are the targets themselves.

    Args:
        model: trained by the first stage.
        plan: settings.
    """

    def __init__(self, model: Model, plan: Plan) -> None:
        scale = plan.scale
        assert model.class_encoder is not None
        assert model.content_encoder is not None
        players = {"generator": model.generator, "class_encoder": model.class_encoder}
        fixed = {}
        self.weights = {"reconstruction": 1.0, "class": scale.class_weight}
        self.from_table = plan.variant.content_code == "table"
        if self.from_table:
            players["content_encoder"] = model.content_encoder
            self.weights["content"] = scale.content_weight
        else:
            fixed["content_encoder"] = model.content_encoder
        super().__init__(
            "encoders",
            model,
            plan,
            players,
            {},
            _rate(
                scale.encoder_lr,
                scale.encoder_final_lr,
                scale.encoder_rate_changes,
                plan.encoder_steps,
                plan.steps_per_epoch,
            ),
            _plateau(plan, scale.encoder_stop_after, scale.encoder_halve_after),
            fixed=fixed,
        )

    def setup(self, fabric: Fabric) -> None:
        """Networks to Fabric, the codes of the first stage beside them."""
        super().setup(fabric)
        for table in (*self.model.content_codes, self.model.embeddings):
            if table is not None:
                fabric.to_device(table)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the encoders and the generator."""
        if self.over():
            return {"stopped": self.scalar(1.0)}
        x, model = batch["image"], self.model
        assert model.embeddings is not None
        class_codes = self.networks["class_encoder"](x)
        targets = {"class": model.embeddings(batch["label"]).to(x.dtype)}
        found = {"class": class_codes}
        if self.from_table:
            found["content"] = self.networks["content_encoder"](x)
            targets["content"] = model.content_codes[0](batch["index"]).to(x.dtype)
            content = found["content"]
        else:
            content = self.run_fixed("content_encoder", x)[:, : model.content_dim].to(x.dtype)
        x_hat = self.networks["generator"](class_codes, content)
        terms = {"reconstruction": self.reconstruct(x_hat, x)}
        terms |= {name: F.mse_loss(code, targets[name]) for name, code in found.items()}
        loss = weighted_sum(terms, self.weights)
        self.update("model", loss)
        self.judge(loss)
        return {f"loss/{name}": term.detach() for name, term in terms.items()}


def mean_of_class(codes: Tensor, labels: Tensor) -> Tensor:
    """Each code replaced by the mean over the codes of its class in the batch, with gradients.

    Example:
        >>> codes = torch.tensor([[1.0], [3.0], [7.0]])
        >>> mean_of_class(codes, torch.tensor([5, 5, 2])).flatten().tolist()
        [2.0, 2.0, 7.0]
    """
    same = (labels[:, None] == labels[None, :]).to(codes.dtype)
    return (same / same.sum(dim=1, keepdim=True)) @ codes


def _rate(start: float, end: float, changes: str, steps: int, epoch: int) -> CosineRate:
    every = epoch if changes == "per_epoch" else 1
    return CosineRate(start, start if changes == "constant" else end, steps, every)


def _plateau(plan: Plan, stop_after: int, halve_after: int) -> Plateau | None:
    if not stop_after and not halve_after:
        return None
    return Plateau(
        plan.steps_per_epoch,
        min_delta=plan.scale.min_delta,
        halve_after=halve_after,
        stop_after=stop_after,
    )
