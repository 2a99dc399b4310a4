"""The files of a run as reports need them: settings by dotted names, JSON files, the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from dcorr_models.errors import RunError
from dcorr_models.training.logs import read_log

__all__ = ["flat", "look_up", "plain", "read_evaluation", "read_json", "read_run_log"]

GROUPS = (
    *("reconstruction", "leakage", "soft_target", "editing", "svm", "edits"),
    *("transfer", "probes", "regression", "collapse", "generation", "purity"),
    *(f"generation.{name}" for name in ("inception", "recognised", "diversity", "frechet")),
    *("generation.coverage", "generation.classifier", "generation.from_images"),
    *("generation.network", "disentanglement", "alignment"),
    *(f"disentanglement.{name}" for name in ("factor_vae", "mig", "dci", "sap")),
    *("alignment.l_id", "alignment.gilbo"),
)
FORMAT = 1  # of evaluation.json
# What is written as a number, or as mean and standard deviation.
VALUES = (
    *(f"reconstruction.{name}" for name in ("rmse", "psnr", "ms_ssim")),
    *(f"leakage.{name}" for name in ("linear_probe", "mlp_probe", "chance")),
    *("leakage.dcor", "leakage.dcor_shuffled", "soft_target.accuracy", "editing.recognised"),
    *("svm.mean_error", "edits.mean_diagonal", "edits.mean_off_diagonal"),
    *(f"transfer.{name}" for name in ("transfer", "reconstruction")),
    *("transfer.class_image", "transfer.content_image", "purity.clusters", "purity.neighbours"),
    *(f"generation.inception.{name}" for name in ("score", "of_real")),
    *("generation.recognised.rate", "generation.classifier.accuracy"),
    *(f"generation.diversity.{name}" for name in ("mean", "of_real")),
    *(f"generation.frechet.{name}" for name in ("distance", "of_real")),
    *(f"generation.coverage.{name}" for name in ("coverage", "wasserstein", "of_real")),
    *("generation.coverage.wasserstein_across", "generation.coverage.wasserstein_of_real"),
    *(f"generation.from_images.{name}.rate" for name in ("unseen", "known")),
    *(f"probes.class_from_content.{name}" for name in ("accuracy", "chance")),
    *(f"probes.content_from_class.{name}" for name in ("accuracy", "chance")),
    *(f"regression.class_code.{name}" for name in ("mean_absolute", "mean_absolute_unread")),
    *("generation.network.accuracy", "disentanglement.active", "disentanglement.mig.mig"),
    *("disentanglement.factor_vae.score", "disentanglement.factor_vae.score_shuffled"),
    *(
        f"disentanglement.dci.{name}"
        for name in ("disentanglement", "completeness", "informativeness")
    ),
    *("disentanglement.sap.sap", "alignment.l_id.log_likelihood"),
    "alignment.gilbo.log_likelihood",
    *(f"collapse.{name}" for name in ("at_prior", "dimensions", "tolerance", "samples")),
)


def read_json(path: Path) -> Mapping[str, Any]:
    """A table of names and values.

    Raises:
        RunError: a file that cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} cannot be read: it holds no table of names and values")
    return content


def read_evaluation(path: Path) -> Mapping[str, Any]:
    """`evaluation.json`; what charts are drawn from has the form that they need.

    Raises:
        RunError: see `read_json`; another format, or a part of another form.
    """
    content = read_json(path)
    wrong = _misshapen(content)
    if wrong:
        raise RunError(
            f"{path} does not hold what this version measures ({wrong}): run `dcorr-models "
            f"evaluate {path.parent}` again"
        )
    return content


def read_run_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, none where there is no file.

    Raises:
        RunError: something else than the log of a training.
    """
    if not path.exists():
        return []
    try:
        return read_log(path)
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path} is not the log of a training: {' '.join(str(error).split())}"
        ) from error


def look_up(evaluation: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    value: Any = evaluation
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _misshapen(content: Mapping[str, Any]) -> str:
    """The first part that is not what it should be, or nothing."""
    if content.get("format", FORMAT) != FORMAT:
        return f"format {content['format']}"
    for group in GROUPS:
        if not isinstance(look_up(content, group) or {}, Mapping):
            return group
        if not isinstance(look_up(content, f"{group}.skipped") or {}, Mapping):
            return f"{group}.skipped"
    for path in VALUES:
        if not _is_value(look_up(content, path)):
            return path
    for path in ("svm.mean_errors", "edits.values"):
        if not _are_numbers(look_up(content, path) or []):
            return path
    means, deviations = (
        look_up(content, f"collapse.{key}") or [] for key in ("absolute_mean", "std")
    )
    if not (_are_numbers(means) and _are_numbers(deviations) and len(means) == len(deviations)):
        return "collapse"
    steps = look_up(content, "svm.intensities") or []
    curves = look_up(content, "svm.attributes") or {}
    if not _are_numbers(steps) or not isinstance(curves, Mapping):
        return "svm"
    for name, curve in curves.items():
        errors = curve.get("error") if isinstance(curve, Mapping) else None
        if not _are_numbers(errors) or len(errors) != len(steps):
            return f"svm.attributes.{name}"
    names, matrix = (look_up(content, f"edits.{key}") or [] for key in ("names", "matrix"))
    square = isinstance(names, list) and isinstance(matrix, list) and len(names) == len(matrix)
    if not square or not all(_are_cells(row) and len(row) == len(names) for row in matrix):
        return "edits"
    return ""


def _are_numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(isinstance(v, (int, float)) for v in values)


def _is_value(value: Any) -> bool:
    """Nothing, a number, or mean and standard deviation."""
    if isinstance(value, Mapping):
        return _are_numbers([value.get("mean"), value.get("std")])
    return value is None or isinstance(value, (int, float))


def _are_cells(values: Any) -> bool:
    return isinstance(values, list) and _are_numbers([v for v in values if v is not None])


def flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted names without jsonargparse's `init_args`, as on the command line."""
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [
        pair
        for key, inner in value.items()
        for pair in flat(
            inner, prefix if key == "init_args" else f"{prefix}.{key}" if prefix else str(key)
        )
    ]


def plain(value: Any) -> str:
    """A setting as it stands in YAML, more or less."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(plain, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
