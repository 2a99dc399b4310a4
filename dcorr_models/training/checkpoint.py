"""Checkpoints of a stage: written whole or not at all, read without running code."""

from __future__ import annotations

import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from dcorr_models.errors import CheckpointError
from dcorr_models.training.random_state import RandomState, get_random_state
from dcorr_models.training.stage import Stage
from dcorr_models.whole_files import whole_file

__all__ = ["Identity", "load_checkpoint", "restore_networks", "save_checkpoint"]

FORMAT = 1
KEYS = {"stage", "step", "seed", "fingerprint", "random"}
REMOVE = "remove it to begin this stage again"


class Identity(NamedTuple):
    """Which run a checkpoint belongs to."""

    seed: int
    fingerprint: str


def save_checkpoint(fabric: Fabric, path: Path, stage: Stage, run: Identity, *, step: int) -> None:
    """Writes the stage after `step` updates to a temporary name, then renames it.

    Called on all processes: each adds its own random state.
    """
    state = _objects(stage)
    state.update(format=FORMAT, stage=stage.name, step=step, **run._asdict())
    gathered = fabric.all_gather(get_random_state())
    assert isinstance(gathered, dict)
    state["random"] = {k: v.reshape(fabric.world_size, -1).cpu() for k, v in gathered.items()}
    # All processes call save; the file is the first one's.
    with whole_file(path) if fabric.is_global_zero else nullcontext(path) as temporary:
        fabric.save(temporary, state)
    fabric.barrier()


def load_checkpoint(
    fabric: Fabric, path: Path, stage: Stage, run: Identity
) -> tuple[int, RandomState]:
    """Puts networks, optimizers and schedules back in place.

    Returns:
        The number of updates done, and this process's random state.

    Raises:
        CheckpointError: an unreadable file, another run, stage, architecture, seed or process
            count.
    """
    content = _read(path, stage, run)
    states = content["random"]
    if states["torch"].shape[0] != fabric.world_size:
        raise CheckpointError(
            f"{path} was made by {states['torch'].shape[0]} process(es), not {fabric.world_size}; "
            "resume with as many"
        )
    _put_back(path, content, _objects(stage))
    # Cloned: torch.set_rng_state wants memory of its own and crashes on a view into another tensor.
    own = {k: v[fabric.global_rank].clone() for k, v in states.items()}
    return int(content["step"]), own


def restore_networks(path: Path, stage: Stage, run: Identity) -> int:
    """Puts back only the networks of a finished stage, for the stages after it.

    Returns:
        The number of updates that the checkpoint had done.
    """
    content = _read(path, stage, run)
    _put_back(path, content, {f"network.{k}": m for k, m in stage.networks.items()})
    return int(content["step"])


def _objects(stage: Stage) -> dict[str, Any]:
    return {
        **{f"network.{k}": m for k, m in stage.networks.items()},
        **{f"optimizer.{k}": o for k, o in stage.optimizers.items()},
        **{f"scheduler.{k}": s for k, s in stage.schedulers.items()},
    }


def _read(path: Path, stage: Stage, run: Identity) -> dict[str, Any]:
    content = _load(path)
    if content["stage"] != stage.name or not 0 <= content["step"] <= stage.max_steps:
        raise CheckpointError(
            f"{path} does not hold a checkpoint of stage {stage.name!r} with {stage.max_steps} "
            f"steps (found {content['stage']!r}, step {content['step']}); {REMOVE}"
        )
    if content["seed"] != run.seed:
        raise CheckpointError(
            f"{path} was made with seed {content['seed']}, not {run.seed}; "
            "resume with that seed or give the run a new folder"
        )
    if content["fingerprint"] != run.fingerprint:
        raise CheckpointError(f"{path} belongs to a run with other settings; {REMOVE}")
    return content


def _load(path: Path) -> dict[str, Any]:
    try:
        # torch does not look at the archive's checksums, and a flipped bit would go unseen.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason}); {REMOVE}"
        ) from error
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not content.keys() >= KEYS
        or not isinstance(content["step"], int)
        or not isinstance(content["random"], dict)
        or "torch" not in content["random"]
    ):
        raise CheckpointError(f"{path} holds no checkpoint; {REMOVE}")
    return content


def _put_back(path: Path, content: dict[str, Any], objects: dict[str, Any]) -> None:
    # All shapes are compared before anything is touched: a refused file changes nothing.
    for name, target in objects.items():
        if name not in content:
            raise CheckpointError(
                f"{path} has no {name!r}: it belongs to another method or another setting of it"
            )
        if name.startswith("network."):
            _compare_shapes(path, name, content[name], target.state_dict())
    for name, target in objects.items():
        try:
            target.load_state_dict(content[name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path} does not fit {name!r}: {reason}") from error


def _compare_shapes(
    path: Path, name: str, stored: dict[str, Tensor], wanted: dict[str, Tensor]
) -> None:
    different = sorted(
        key
        for key in stored.keys() | wanted.keys()
        if key not in stored or key not in wanted or stored[key].shape != wanted[key].shape
    )
    if different:
        raise CheckpointError(
            f"{path} was made with another architecture: {name!r} differs in "
            f"{different[0]!r} and {len(different) - 1} more; use the settings of that run"
        )
