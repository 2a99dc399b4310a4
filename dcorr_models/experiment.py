"""One run from Python: train a method on a data set into a folder, load it back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dcorr_models.data.base import DataSource
from dcorr_models.errors import CheckpointError, RunError, UserError
from dcorr_models.methods.base import Method
from dcorr_models.run_folder import RunFolder
from dcorr_models.training.fit import LoopSettings, fit

__all__ = ["load_weights", "run_settings", "train"]


def train(
    method: Method,
    data: DataSource,
    run: str | Path,
    *,
    seed: int = 1,
    resume: bool = False,
    loop: LoopSettings | None = None,
    fabric: Fabric | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Method:
    """Trains all stages of a method into a run folder.

    Args:
        method: networks and settings; changed in place. Its initial weights come from torch's
            random state: call `torch.manual_seed` before making it for a run that can be repeated.
        data: where the images come from; the training split is used.
        run: folder for settings, log, checkpoints and weights; made if missing.
        seed: orders the samples and seeds dropout and noise.
        resume: continue the run in that folder, or begin it when there is none.
        loop: when to save and to log.
        fabric: device, precision and processes; by default one process on the best device.
        settings: what `config.yaml` says of method, data and seed; by default what the objects
            know of themselves, which leaves out the arguments of networks made in Python.

    Returns:
        The trained method in eval mode, on the device it was trained on.

    Raises:
        UserError: a folder that holds another run or cannot be written, data that does not fit the
            method, a broken checkpoint; the message says what to do.
    """
    folder = RunFolder(run)
    fabric = fabric or Fabric(accelerator="auto", devices=1)
    # Everything that can be refused is looked at before the folder is touched.
    check_fit(method, data)
    stages, splits = method.stages(), data.splits()
    for stage in stages:
        _check_batch(stage.name, stage.batch_size, len(splits.train), fabric.world_size)
    if fabric.is_global_zero:
        folder.begin(settings or run_settings(method, data, seed), resume=resume)
    fabric.launch()
    if folder.finished:
        load_weights(method, folder)
        return method.eval()
    for stage in stages:
        fit(
            stage,
            splits.train,
            fabric=fabric,
            folder=folder.path,
            seed=seed,
            settings=loop,
        )
    if fabric.is_global_zero:
        temporary = folder.weights.with_name(folder.weights.name + ".tmp")
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in method.state_dict().items()}, temporary
        )
        temporary.replace(folder.weights)
    fabric.barrier()
    return method.eval()


def run_settings(method: Method, data: DataSource, seed: int) -> dict[str, Any]:
    """What `config.yaml` holds: all that decides the result of a run."""
    return {"method": method.settings(), "data": data.settings(), "seed": seed}


def check_fit(method: Method, data: DataSource) -> None:
    """Raises `UserError` when the data's images or labels are not what the method was made for."""
    if tuple(method.image_shape) != tuple(data.image_shape):
        raise UserError(
            f"{data.name} has images of shape {tuple(data.image_shape)}, "
            f"{type(method).__name__} was made for {tuple(method.image_shape)}: "
            "set --method.image_shape (and --method.architecture) to fit"
        )
    if method.num_labels != len(data.label_names) or method.multilabel != data.multilabel:
        kind = "attributes" if data.multilabel else "classes"
        own = "attributes" if method.multilabel else "classes"
        raise UserError(
            f"{data.name} has {len(data.label_names)} {kind}, {type(method).__name__} was made for "
            f"{method.num_labels} {own}: set --method.num_labels and --method.multilabel to fit"
        )


def load_weights(method: Method, folder: RunFolder) -> None:
    """Puts a finished run's weights into a method made with the same settings.

    Raises:
        RunError: the run has not finished.
        CheckpointError: a broken file, or weights of another method or architecture.
    """
    if not folder.finished:
        raise RunError(
            f"{folder.path} has not finished training: continue it with "
            f"`dcorr-models train --resume` and the settings in {folder.config}"
        )
    try:
        weights = load_file(folder.weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{folder.weights} cannot be read ({' '.join(str(error).split())}): remove it and run "
            "the training command with --resume to write it again from the checkpoints"
        ) from error
    own = method.state_dict()
    different = sorted(
        k
        for k in own.keys() | weights.keys()
        if k not in own or k not in weights or own[k].shape != weights[k].shape
    )
    if different:
        raise CheckpointError(
            f"{folder.weights} belongs to another method or architecture than "
            f"{type(method).__name__} with the settings in {folder.config}: {different[0]!r} and "
            f"{len(different) - 1} more differ"
        )
    method.load_state_dict(weights)


def _check_batch(stage: str, batch_size: int, available: int, processes: int) -> None:
    if batch_size > available:
        raise UserError(
            f"stage {stage!r} takes batches of {batch_size} but the training split has {available} "
            "images: set --method.batch_size to fit"
        )
    if batch_size % processes:
        raise UserError(
            f"batch_size {batch_size} is not divisible by the {processes} processes: "
            "change --method.batch_size or --devices"
        )
