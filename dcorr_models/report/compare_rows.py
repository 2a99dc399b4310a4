"""Which runs are compared: one data set, seeds of the same settings together, a name each."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from dcorr_models.errors import RunError, UserError
from dcorr_models.report.contents import flat, look_up, plain, read_evaluation
from dcorr_models.run_folder import CONTROL, RunFolder

__all__ = ["Entry", "Row", "differences", "read_rows"]

# Where data lie on a machine, not which data they are.
LOCATIONS = ("data.folder", "data.cache")
# How an evaluation was made: numbers of another protocol do not belong in one column.
PROTOCOL = (
    "svm.repeats",
    "svm.penalty",
    "svm.standardised",
    "svm.balanced",
    "svm.max_per_side",
    "edits.names",
    "edits.images",
    "edits.classifier_images",
    "leakage.train_samples",
    "leakage.dcor_samples",
    "transfer.distance",
    "transfer.matched_by",
    "transfer.pairs",
    "probes.held_out",
    *(
        f"probes.{probe}.{key}"
        for probe in ("class_from_content", "content_from_class")
        for key in ("steps", "standardised", "train_samples", "test_samples")
    ),
    "regression.class_code.unit",
    "regression.class_code.train_samples",
    "generation.samples_per_class",
    "generation.classes",
    "generation.classifier.images",
    "generation.classifier.epochs",
    "generation.inception.splits",
    "generation.diversity.images_a_class",
    "generation.frechet.features",
    "generation.frechet.real_samples",
    "generation.coverage.bins",
    "disentanglement.images",
    "disentanglement.factor_vae.form",
    "disentanglement.factor_vae.votes",
    "disentanglement.cut",
    "disentanglement.mig.bins",
    "disentanglement.dci.model",
    "disentanglement.dci.train_samples",
    "disentanglement.sap.form",
    "generation.network.images",
    "generation.network.epochs",
    "alignment.gilbo.steps",
    "purity.k",
    "purity.samples",
)
START = "method.start_from"
FEW = 2  # settings that differ, up to which a name says all of them


@dataclass(frozen=True)
class Entry:
    """One evaluated run."""

    folder: RunFolder
    config: Mapping[str, Any]
    evaluation: Mapping[str, Any]

    @property
    def method(self) -> str:
        """The method's class."""
        return str(self.config["method"]["class_path"]).rpartition(".")[2]

    def settings(self) -> dict[str, str]:
        """All that decides the result but data and seed, by dotted names.

        For `start_from` stand the settings of the run that it names: seeds of one method may each
        begin with another run's weights.
        """
        named = {key: _setting(value) for key, value in _own(self.config)}
        start = named.get(START)
        if start not in (None, "null"):
            begun = _started_with(self.folder, start)
            if begun is not None:
                del named[START]
                found = _own(begun)
                named |= {f"start.{k.removeprefix('method.')}": _setting(v) for k, v in found}
        return {key: value for key, value in named.items() if key != "method.class_path"}


@dataclass(frozen=True)
class Row:
    """Runs that differ in the seed alone."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def first(self) -> Entry:
        """The run whose pictures are shown."""
        return self.entries[0]

    @property
    def seeds(self) -> list[Any]:
        """In the order of the runs."""
        return [entry.config["seed"] for entry in self.entries]


def read_rows(runs: Sequence[str | Path], names: Sequence[str] = ()) -> list[Row]:
    """Finished, evaluated runs of one data set, those of several seeds in one row.

    Args:
        runs: folders; rows come in the order in which their first run is named.
        names: one a row; by default the method, and the settings in which rows differ.

    Raises:
        RunError: no run, one that has not finished or was not evaluated, runs of different data,
            evaluations of different numbers of images, one run named twice.
        UserError: no runs; another number of names than of rows, or one of them twice.
    """
    if not runs:
        raise UserError("nothing to compare: name the folders of at least one run")
    entries = [_read(RunFolder(run)) for run in runs]
    _same_data(entries)
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        key = json.dumps([entry.method, entry.settings()], sort_keys=True)
        twins = groups.setdefault(key, [])
        for twin in twins:
            if twin.config["seed"] == entry.config["seed"]:
                raise RunError(
                    f"{twin.folder.path} and {entry.folder.path} have the same settings and the "
                    "same seed: name one of them"
                )
        twins.append(entry)
    grouped = list(groups.values())
    found = _names([group[0] for group in grouped])
    names = [" ".join(name.split()) for name in names]
    if names:
        if len(names) != len(grouped) or len(set(names)) != len(names) or not all(names):
            raise UserError(
                f"--names takes a name of its own for each of the {len(grouped)} rows "
                f"({'; '.join(found)}), got {', '.join(names)}"
            )
        found = list(names)
    return [Row(name, tuple(group)) for name, group in zip(found, grouped, strict=True)]


def differences(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Settings in which rows differ: by dotted name the value of each row, "" where it has none."""
    each = [{"method": row.first.method, **row.first.settings()} for row in rows]
    keys = dict.fromkeys(key for settings in each for key in settings)
    values = {key: [settings.get(key, "") for settings in each] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def _read(folder: RunFolder) -> Entry:
    config = folder.read_config()
    if not folder.finished:
        raise RunError(
            f"{folder.path} has not finished training: continue it with "
            "`dcorr-models train --resume`, or leave it out"
        )
    if not folder.evaluation.exists():
        raise RunError(
            f"{folder.path} is not evaluated: run `dcorr-models evaluate {folder.path}` first"
        )
    if not isinstance(config["method"], Mapping) or "class_path" not in config["method"]:
        raise RunError(f"{folder.config} does not say which method was trained")
    return Entry(folder, config, read_evaluation(folder.evaluation))


def _own(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from flat({k: v for k, v in config.items() if k not in (*CONTROL, "data", "seed")})


def _started_with(folder: RunFolder, start_from: str) -> Mapping[str, Any] | None:
    """Settings of the run that another one began with; None where they cannot be read."""
    for place in (folder.start, start_from):
        try:
            return RunFolder(place).read_config()
        except RunError:
            continue
    return None


def _same_data(entries: Sequence[Entry]) -> None:
    def of(entry: Entry) -> dict[str, str]:
        pairs = flat({"data": entry.config["data"]})
        return {key: plain(value) for key, value in pairs if key not in LOCATIONS}

    first = entries[0]
    for entry in entries[1:]:
        ours, theirs = of(first), of(entry)
        different = [
            f"{key} is {ours.get(key, 'unset')} there and {theirs.get(key, 'unset')} here"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]
        if different:
            raise RunError(
                f"{first.folder.path} and {entry.folder.path} were trained on different data "
                f"({'; '.join(different)}): compare runs of one data set"
            )
        counts = [run.evaluation.get("num_images") for run in (first, entry)]
        if counts[0] != counts[1]:
            raise RunError(
                f"{first.folder.path} was evaluated on {counts[0]} images and "
                f"{entry.folder.path} on {counts[1]}: evaluate them alike"
            )
    _same_protocol(entries)


def _same_protocol(entries: Sequence[Entry]) -> None:
    for path in PROTOCOL:
        found = [(entry, look_up(entry.evaluation, path)) for entry in entries]
        # of a method without a label code, dcor is taken over 0 samples: not measured either
        measured = [pair for pair in found if pair[1] is False or pair[1]]
        for entry, value in measured[1:]:
            first, wanted = measured[0]
            if value != wanted:
                raise RunError(
                    f"{first.folder.path} was evaluated with {path} {plain(wanted)} and "
                    f"{entry.folder.path} with {plain(value)}: evaluate them alike"
                )
    _same_edited_images(entries)


def _same_edited_images(entries: Sequence[Entry]) -> None:
    """How many images each attribute's SVM error is taken over."""
    counted: dict[str, tuple[Entry, Any]] = {}
    for entry in entries:
        for name, curve in (look_up(entry.evaluation, "svm.attributes") or {}).items():
            first, wanted = counted.setdefault(name, (entry, curve.get("images")))
            if curve.get("images") != wanted:
                raise RunError(
                    f"{first.folder.path} edits {plain(wanted)} images to {name} for its SVM error "
                    f"and {entry.folder.path} {plain(curve.get('images'))}: evaluate them alike"
                )


def _names(entries: Sequence[Entry]) -> list[str]:
    """The method, and those of its settings in which the runs of this method differ.

    Where they differ in many settings, those that are the method's defaults are left out: what
    remains still tells any two runs apart, since they cannot both have the default.
    """
    result = []
    for entry in entries:
        kin = [other.settings() for other in entries if other.method == entry.method]
        keys = list(dict.fromkeys(key for settings in kin for key in settings))
        varied = [key for key in keys if len({settings.get(key) for settings in kin}) > 1]
        own, defaults = entry.settings(), _defaults(entry)
        shown = [
            f"{key.removeprefix('method.').rpartition('.')[2]} {own[key]}"
            for key in varied
            if key in own and (len(varied) <= FEW or own[key] != defaults.get(key))
        ]
        result.append(", ".join([entry.method, *shown]))
    return result


def _setting(value: Any) -> str:
    """As in YAML, 1.0 and 1 alike."""
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else plain(value)


def _defaults(entry: Entry) -> dict[str, str]:
    """Of the method's arguments; none where its class is not at hand."""
    module, _, name = str(entry.config["method"]["class_path"]).rpartition(".")
    try:
        parameters = inspect.signature(getattr(import_module(module), name).__init__).parameters
    except (ImportError, AttributeError, ValueError):
        return {}
    return {
        f"method.{key}": _setting(parameter.default)
        for key, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
