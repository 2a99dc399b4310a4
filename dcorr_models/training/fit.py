"""The one training loop. It owns *when*: stepping, logging, saving, resuming, the bar."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset

from dcorr_models.training.batches import Placement, batches
from dcorr_models.training.checkpoint import (
    Identity,
    load_checkpoint,
    restore_networks,
    save_checkpoint,
)
from dcorr_models.training.execution import Execution
from dcorr_models.training.logs import (
    CsvLog,
    Meter,
    Progress,
    refuse_non_finite,
    refuse_non_finite_weights,
    tensorboard_writer,
)
from dcorr_models.training.random_state import seed_everything, set_random_state
from dcorr_models.training.side_by_side import batch_sampler
from dcorr_models.training.stage import Stage

__all__ = ["LoopSettings", "fit"]


@dataclass(frozen=True)
class LoopSettings:
    """When things happen. None of it changes the result of a run.

    Args:
        save_every: steps between checkpoints; the last step is always saved.
        log_every: steps between rows of the log; a row is the mean of the steps since the last.
        num_workers: loader processes; 0 is fastest for data sets that live in memory.
        data_on_device: keep the bytes of all training images on the device: `always`, `never`, or
            `auto`, which does so on a CUDA device whose free memory they fill to at most a quarter.
        progress: show the bar.
    """

    save_every: int = 500
    log_every: int = 20
    num_workers: int = 0
    data_on_device: Placement = "auto"
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, got {self.num_workers}")
        if self.data_on_device not in get_args(Placement):
            raise ValueError(
                f"data_on_device must be one of {', '.join(get_args(Placement))}, "
                f"got {self.data_on_device!r}"
            )


def fit(
    stage: Stage,
    dataset: Dataset[Any],
    *,
    fabric: Fabric,
    folder: Path,
    seed: int = 0,
    settings: LoopSettings | None = None,
    execution: Execution | None = None,
    fingerprint: str = "",
) -> None:
    """Trains a stage to its last step, from its checkpoint in `folder` when there is one.

    On the CPU the result depends on the seed, the data and the stage alone: stopping after any
    step and calling `fit` again gives the same weights, bit for bit.

    Args:
        stage: what to train; its networks are changed in place.
        dataset: the training split; its `__getitems__` makes whole batches, see `LabelledImages`.
        fabric: launched Fabric object: device, precision and processes.
        folder: the run's folder; `checkpoints/<stage>.ckpt` and `log.csv` are written there.
        seed: orders the samples and seeds dropout and noise, per stage and process.
        settings: when to save and to log.
        execution: memory format of the images and networks, and whether networks are compiled.
        fingerprint: of the run's settings; a checkpoint with another one is refused.

    Raises:
        CheckpointError: the checkpoint in `folder` is damaged or belongs to another run, stage or
            architecture.
        RunError: a loss became NaN or infinite.
        ValueError: the batch is larger than the data set or not divisible by the processes, or
            some classes have fewer images than `stage.images_per_class`; no image has a label, or
            none has none where the stage reads such images.
    """
    settings = settings or LoopSettings()
    path = folder / "checkpoints" / f"{stage.name}.ckpt"
    run = Identity(seed=seed, fingerprint=fingerprint)
    if path.exists() and restore_networks(path, stage, run) == stage.max_steps:
        return  # finished before: its networks are what the next stage needs
    random_state, start = None, 0
    try:
        stage.execution = execution or Execution()
        stage.setup(fabric)
        if path.exists():
            start, random_state = load_checkpoint(fabric, path, stage, run)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        source = _batches(stage, dataset, fabric, start=start, seed=seed, settings=settings)
        if random_state is None:
            # A stage's noise must not depend on how many numbers the stages before it drew.
            seed_everything(_mix(seed, stage.name, fabric.global_rank))
        else:
            set_random_state(random_state)
        _loop(stage, source, fabric, folder, path, start=start, run=run, settings=settings)
    finally:
        stage.teardown()


def _loop(
    stage: Stage,
    source: Any,
    fabric: Fabric,
    folder: Path,
    path: Path,
    *,
    start: int,
    run: Identity,
    settings: LoopSettings,
) -> None:
    first = fabric.is_global_zero
    log, meter, began = CsvLog(folder / "log.csv"), Meter(), time.monotonic()
    if first:
        log.rewind(stage.name, start)
    board = tensorboard_writer(folder / "tensorboard", purge_step=start) if first else None
    bar = Progress(
        stage.name, total=stage.max_steps, done=start, enabled=first and settings.progress
    )
    try:
        for step, batch in enumerate(source, start=start + 1):
            stage.step_index = step - 1
            meter.add(stage.step(stage.place(batch)))
            for scheduler in stage.schedulers.values():
                scheduler.step()
            last = step == stage.max_steps
            if last:
                _share_buffers(stage, fabric)
            saving = last or step % settings.save_every == 0
            if saving or step % settings.log_every == 0:
                means = _means_over_ranks(meter, fabric)
                refuse_non_finite(means, stage=stage.name, step=step)
                if first:
                    log.write(stage.name, step, time.monotonic() - began, means)
                    for name, value in means.items() if board else ():
                        cast(Any, board).add_scalar(f"{stage.name}/{name}", value, step)
                bar.show(means)
            if saving:
                refuse_non_finite_weights(stage.networks, stage=stage.name, step=step)
                save_checkpoint(fabric, path, stage, run, step=step)
            bar.advance()
    finally:
        bar.close()
        if board:
            board.close()


def _share_buffers(stage: Stage, fabric: Fabric) -> None:
    """Gives every rank the first rank's buffers, as DDP does before each forward pass.

    After the last step nothing else would: BatchNorm's running statistics would stay each rank's
    own, and a stage that uses this one's networks in eval mode would differ between the ranks.
    """
    if fabric.world_size == 1:
        return
    for network in stage.networks.values():
        own = dict(network.named_buffers())
        first = fabric.broadcast({name: buffer.cpu() for name, buffer in own.items()})
        for name, buffer in own.items():
            buffer.copy_(first[name])


def _means_over_ranks(meter: Meter, fabric: Fabric) -> dict[str, float]:
    # Every rank sees the same numbers, so that a NaN stops all of them together.
    names, means = meter.flush()
    reduced = fabric.all_reduce(means, reduce_op="mean")
    return dict(zip(names, cast(Tensor, reduced).tolist(), strict=True))


def _batches(
    stage: Stage,
    dataset: Dataset[Any],
    fabric: Fabric,
    *,
    start: int,
    seed: int,
    settings: LoopSettings,
) -> Any:
    labels = getattr(dataset, "labels", None)
    labels = labels if isinstance(labels, Tensor) and stage.reads_labels else None
    if labels is None and (stage.images_per_class or stage.unlabelled_batch_size):
        raise TypeError(
            f"stage {stage.name!r} chooses its images by their labels: its data set needs a "
            f"tensor `labels`, which {type(dataset).__name__} has not"
        )
    sampler = batch_sampler(
        len(cast(Sized, dataset)),
        labels,
        batch_size=stage.batch_size,
        images_per_class=stage.images_per_class,
        unlabelled_batch_size=stage.unlabelled_batch_size,
        seed=seed,
        start=start,
        stop=stage.max_steps,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    return batches(
        dataset,
        sampler,
        fabric,
        seed=_mix(seed, stage.name, fabric.global_rank),
        start=start,
        workers=settings.num_workers,
        on_device=settings.data_on_device,
    )


def _mix(seed: int, name: str, rank: int) -> int:
    return (seed * 1_000_003 + zlib.crc32(name.encode()) * 101 + rank) % 2**63
