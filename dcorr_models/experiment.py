"""One run from Python: train a method on a data set into a folder, load it back."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fabric import Fabric
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from dcorr_models.admission import admit, check_data
from dcorr_models.data.base import DataSource, Splits
from dcorr_models.data.splitting import check_seed
from dcorr_models.errors import CheckpointError, RunError, UserError
from dcorr_models.methods.base import Method
from dcorr_models.option_errors import explain
from dcorr_models.run_folder import RunFolder
from dcorr_models.training.execution import Execution
from dcorr_models.training.fit import LoopSettings, fit
from dcorr_models.training.stage import Stage
from dcorr_models.whole_files import whole_file

__all__ = ["LoadedRun", "load_run", "load_weights", "run_settings", "train"]


class LoadedRun(NamedTuple):
    """A finished run."""

    folder: RunFolder
    method: Method  # trained, in eval mode
    data: DataSource


def train(
    method: Method,
    data: DataSource,
    run: str | Path,
    *,
    seed: int = 1,
    resume: bool = False,
    loop: LoopSettings | None = None,
    execution: Execution | None = None,
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
        execution: memory format, and whether networks are compiled.
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
    check_seed(seed)
    splits = data.splits()
    check_data(method, data, splits.train)
    _meet(method, splits, RunFolder(folder.start) if resume else None)
    stages = method.stages()
    admit(method, data, splits, stages, processes=fabric.world_size)
    method.label_names = tuple(data.label_names)
    config = dict(settings or run_settings(method, data, seed))
    execution = execution or Execution()
    config["precision"] = str(fabric.strategy.precision.precision)
    config.update(asdict(execution))
    # Later processes are started by the first, or beside it: only one of them makes the folder.
    if not first_process():
        fabric.launch()
        return _train(method, stages, splits, folder, fabric, seed, loop, execution)
    folder.begin(config, resume=resume)
    with folder.locked():
        if method.start_from is not None and not folder.finished:
            folder.keep_start(RunFolder(method.start_from))
        fabric.launch()
        return _train(method, stages, splits, folder, fabric, seed, loop, execution)


def _meet(method: Method, splits: Splits, kept: RunFolder | None) -> None:
    """`meet`, which reads the weights of `start_from`: of the run's own copy, once there is one."""
    named = method.start_from
    if named is not None and kept is not None and kept.finished:
        method.start_from = str(kept.path)
    try:
        method.meet(splits.train)
    finally:
        method.start_from = named


def _train(
    method: Method,
    stages: list[Stage],
    splits: Splits,
    folder: RunFolder,
    fabric: Fabric,
    seed: int,
    loop: LoopSettings | None,
    execution: Execution,
) -> Method:
    fabric.barrier()
    if folder.finished:
        load_weights(method, folder)
        return method.eval()
    mark = folder.fingerprint()
    for stage in stages:
        fit(
            stage,
            splits.train,
            fabric=fabric,
            folder=folder.path,
            seed=seed,
            settings=loop,
            execution=execution,
            fingerprint=mark,
        )
    if fabric.is_global_zero:
        weights = {k: v.detach().cpu().contiguous() for k, v in method.state_dict().items()}
        names = json.dumps(method.label_names)
        with whole_file(folder.weights) as temporary:
            # not save_file: what it writes nobody else may read, whatever the umask
            content = save(weights, metadata={"fingerprint": mark, "label_names": names})
            temporary.write_bytes(content)
    fabric.barrier()
    return method.eval()


def first_process() -> bool:
    """Whether this is the process that makes the run folder, before Fabric knows the ranks."""
    return all(int(os.environ.get(name) or 0) == 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def run_settings(method: Method, data: DataSource, seed: int) -> dict[str, Any]:
    """What `config.yaml` holds of method, data and seed; `train` adds precision and execution."""
    return {"method": method.settings(), "data": data.settings(), "seed": seed}


def load_run(run: str | Path) -> LoadedRun:
    """A finished run: its folder, the trained method in eval mode, and its data source.

    The method is made from the settings in the folder, so that nothing else needs to be known:

    ```python
    folder, method, data = load_run("runs/faces")
    images, labels = data.splits().test.tensors(8)
    faces = editing.sweep(method, images, "Eyeglasses", [-1.5, 0, 1.5, 3])
    ```

    Args:
        run: folder of the run.

    Raises:
        UserError: no run there, an unfinished one, or files that do not fit each other.
    """
    # Here: the parser knows every method, and each of them may be trained by this module.
    from dcorr_models.option_parser import BASES, Parser

    folder = RunFolder(run)
    config = folder.read_config()
    parser = Parser()
    for name, base in BASES.items():
        parser.add_subclass_arguments(base, name, required=True)
    try:
        options = parser.parse_object({name: config[name] for name in BASES})
        objects = parser.instantiate(options)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{folder.config}: {explain(str(error), BASES)}") from error
    objects.method.label_names = tuple(objects.data.label_names)
    load_weights(objects.method, folder)
    return LoadedRun(folder, objects.method.eval(), objects.data)


def load_weights(method: Method, folder: RunFolder, *, settings: str | None = None) -> None:
    """Puts a finished run's weights into a method made with the same settings.

    Args:
        method: changed in place.
        folder: of the run.
        settings: what an error calls those that the method was made with, where they are not the
            run's own.

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
        # safetensors says that a file does not exist when it may not be read
        folder.weights.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"{folder.weights} cannot be read: {error.strerror}") from error
    try:
        with safe_open(folder.weights, framework="pt") as file:
            metadata = file.metadata() or {}
        weights = load_file(folder.weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{folder.weights} cannot be read ({' '.join(str(error).split())}): remove it and run "
            "the training command with --resume to write it again from the checkpoints"
        ) from error
    if metadata.get("fingerprint") != folder.fingerprint():
        raise CheckpointError(
            f"{folder.weights} belongs to a run with other settings than {folder.config}: put the "
            "two files of one run together again"
        )
    _check_names(method, folder, json.loads(metadata.get("label_names", "null")))
    own = method.state_dict()
    different = sorted(
        k
        for k in own.keys() | weights.keys()
        if k not in own or k not in weights or own[k].shape != weights[k].shape
    )
    if different:
        raise CheckpointError(
            f"{folder.weights} belongs to another method or architecture than "
            f"{type(method).__name__} with {settings or f'the settings in {folder.config}'}: "
            f"{different[0]!r} and {len(different) - 1} more differ"
        )
    method.load_state_dict(weights)


def _check_names(method: Method, folder: RunFolder, trained: list[str] | None) -> None:
    """Refuses data whose labels have changed since: a column added to a table, another order."""
    if trained is None or method.label_names is None or trained == list(method.label_names):
        return
    now = list(method.label_names)
    pairs = [pair for pair in itertools.zip_longest(trained, now) if pair[0] != pair[1]]
    raise RunError(
        f"the data of {folder.path} have other labels than when it was trained: {len(trained)} "
        f"then, {len(now)} now, {pairs[0][0]!r} then where {pairs[0][1]!r} is now; give it the old "
        "data, or train a new run"
    )
