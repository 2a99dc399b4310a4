"""The folder of a run: what is written where, and who may write."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from dcorr_models.errors import RunError
from dcorr_models.whole_files import whole_file

__all__ = ["RunFolder", "versions"]

# What may differ between a run and its continuation: none of it changes the result on a CPU.
CONTROL = ("loop", "accelerator", "devices")
LOCK, PROBE = ".lock", ".write-test-"


class RunFolder:
    """Names of a run's files.

    Args:
        path: the folder; nothing is created or checked here.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.config = self.path / "config.yaml"  # method, data, seed: enough to make the run again
        self.versions = self.path / "versions.json"  # packages, machine, commit
        self.log = self.path / "log.csv"  # stage, step, seconds, name, value
        self.checkpoints = self.path / "checkpoints"  # one file a stage, for resuming
        self.weights = self.path / "weights.safetensors"  # the trained model, once all stages ended
        self.evaluation = self.path / "evaluation.json"  # metrics
        self.report = self.path / "report.html"  # what people look at
        self.start = self.path / "start"  # settings and weights of the run that this one began with

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return self.config.is_file()

    @property
    def finished(self) -> bool:
        """Whether all stages ended."""
        return self.weights.is_file()

    def begin(self, config: Mapping[str, Any], *, resume: bool = False) -> None:
        """Makes the folder and writes settings and versions, or accepts it for a resumed run.

        Raises:
            RunError: the folder holds a run and `resume` is off, or a run with other settings; it
                holds something else; it cannot be written to.
        """
        if self.exists:
            if not resume:
                raise RunError(
                    f"{self.path} already holds a run: add --resume to continue it, "
                    "or give --run a new name"
                )
            self._same_settings(config)
            self.check_writable("give --run a folder that you may write to")
            return
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a folder: give --run another name")
        if self.path.is_dir() and any(not self._own(p.name) for p in self.path.iterdir()):
            raise RunError(
                f"{self.path} is not empty and holds no run: give --run a new or an empty folder"
            )
        self.check_writable("give --run a folder that you may write to")
        with self.locked():
            if not self.exists:
                self.write_json(self.versions, versions())
                # Last and by renaming: a folder with this file holds a run.
                with whole_file(self.config) as temporary:
                    temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False))
                return
        # Another process was faster: its settings stay.
        self.begin(config, resume=resume)

    def read_config(self) -> dict[str, Any]:
        """The settings of the run.

        Raises:
            RunError: no such folder, no run in it, or a broken file.
        """
        if not self.path.is_dir():
            raise RunError(f"no run at {self.path}: there is no such folder")
        if not self.exists:
            raise RunError(f"no run at {self.path}: it has no {self.config.name}")
        try:
            config = yaml.safe_load(self.config.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise RunError(f"{self.config} cannot be read: {reason}") from error
        if not isinstance(config, dict) or not {"method", "data", "seed"} <= config.keys():
            raise RunError(
                f"{self.config} is not the settings of a run: method, data or seed is missing"
            )
        return config

    def keep_start(self, source: RunFolder) -> None:
        """Copies a finished run's settings and weights here, once.

        A run that is resumed takes them from here: it goes on with the weights that it began with,
        though the other run be trained again, moved or removed.
        """
        kept = RunFolder(self.start)
        if kept.finished:
            return
        kept.path.mkdir(exist_ok=True)
        # weights last: a folder with them is whole
        for old, new in ((source.config, kept.config), (source.weights, kept.weights)):
            with whole_file(new) as temporary:
                temporary.write_bytes(old.read_bytes())

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Writes a file of the run whole or not at all.

        Raises:
            RunError: a number that is NaN or infinite, which JSON does not have.
        """
        wrong = [name for name, value in _flat(content) if not _is_finite(value)]
        if wrong:
            raise RunError(
                f"{', '.join(wrong[:3])} came out as NaN or infinite: {path} is not written"
            )
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second training out of the folder; the lock ends with the process, however.

        Raises:
            RunError: another process trains there.
        """
        try:
            import fcntl
        except ImportError:  # not on Windows
            yield
            return
        with (self.path / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(
                    f"{self.path} is being trained by another process: wait for it or give --run "
                    "a new name"
                ) from error
            self._remove_unfinished()
            yield

    def _remove_unfinished(self) -> None:
        """What a killed training was writing; checkpoints are too large to let these pile up."""
        names = (self.config.name, self.versions.name, self.log.name, self.weights.name)
        for left in [*self.path.glob("*.tmp"), *self.checkpoints.glob("*.tmp")]:
            if left.parent != self.path or left.name.startswith(names):
                left.unlink(missing_ok=True)

    def fingerprint(self) -> str:
        """A hash of the settings: checkpoints and weights carry it."""
        settings = {k: v for k, v in self.read_config().items() if k not in CONTROL}
        text = json.dumps(settings, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _own(self, name: str) -> bool:
        """What a run killed before its settings were written leaves behind."""
        own = (self.versions.name, self.config.name)
        unfinished = name.endswith(".tmp") and name.startswith(own)
        return name in (*own, LOCK) or unfinished or name.startswith(PROBE)

    def _same_settings(self, config: Mapping[str, Any]) -> None:
        old, new = (
            dict(_flat({k: v for k, v in c.items() if k not in CONTROL}))
            for c in (self.read_config(), config)
        )
        different = [
            f"{key} is {old.get(key, 'unset')} there and {new.get(key, 'unset')} here"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        if different:
            raise RunError(
                f"{self.path} holds a run with other settings ({'; '.join(different)}): "
                "resume it with its own settings or give --run a new name"
            )

    def check_writable(self, way_out: str) -> None:
        """Makes the folder if it is missing, and tries whether files can be made in it.

        Raises:
            RunError: they cannot; the message ends with the way out.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f"{PROBE}{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written to ({error.strerror}): {way_out}"
            ) from error


def versions() -> dict[str, str]:
    """Versions of what decides a result, the machine, and the source's commit if there is one."""
    result = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("dcorr", "torch", "lightning-fabric", "numpy", "scikit-learn", "torchmetrics"):
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = _commit()
    if commit:
        result["commit"] = commit
    return result


def _commit() -> str | None:
    """The commit of the source tree, with `-changed` if files differ; None outside a checkout."""
    source = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=-changed", "--exclude=*"],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _is_finite(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix.replace(".init_args", ""), list(value) if isinstance(value, tuple) else value
