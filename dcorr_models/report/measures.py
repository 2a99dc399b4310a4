"""The numbers of `evaluation.json` as headlines, tables and bars; `measure_words` has the words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dcorr_models.report.class_content_words import CLASS_CONTENT_MEASURES
from dcorr_models.report.contents import look_up
from dcorr_models.report.generation_words import GENERATION_MEASURES
from dcorr_models.report.latent_words import LATENT_MEASURES
from dcorr_models.report.markup import number, share, table, text
from dcorr_models.report.measure_words import ATTRIBUTE_MEASURES, MEASURES, Measure

__all__ = ["HEADLINES", "headlines", "measure_tables"]

Evaluation = Mapping[str, Any]

# Drawn as charts and tables of their own; the rest of their group is listed here.
DRAWN = frozenset(
    {
        "svm.attributes",
        "edits.matrix",
        "collapse.absolute_mean",
        "collapse.std",
        "collapse.divergence",
        # matrices, which a row of a table cannot hold
        "disentanglement.mig.mutual_information",
        "disentanglement.dci.importance",
        "disentanglement.sap.scores",
    }
)

# Lists with no entry a label, however many labels there are.
LISTS = frozenset(
    {
        "alignment.gilbo.per_dimension",
        "alignment.l_id.per_dimension",
        "disentanglement.dci.per_dimension",
        "disentanglement.mig.best_dimensions",
        "disentanglement.mig.entropy",
        "disentanglement.sap.best_dimensions",
        "edits.values",
        "generation.coverage.classes",
        "generation.diversity.classes",
        "generation.diversity.ms_ssim_weights",
        "generation.from_images.known.classes",
        "generation.from_images.unseen.classes",
        "generation.recognised.classes",
        "reconstruction.ms_ssim_weights",
        "reconstruction.value_range",
        "regression.class_code.per_target",
        "regression.class_code.per_target_unread",
        "regression.content_code.per_target",
        "regression.content_code.per_target_unread",
        "regression.target_names",
        "svm.intensities",
        "svm.mean_errors",
    }
)

# Where the names of a list's entries stand, by the list's key or its path.
NAMES = (
    dict.fromkeys(("per_target", "per_target_unread"), "regression.target_names")
    | {
        f"disentanglement.{path}": "disentanglement.names"
        for path in (
            *(
                "mig.per_factor",
                "mig.best_dimensions",
                "mig.entropy",
                "dci.per_factor",
                "dci.accuracy",
            ),
            *("sap.per_factor", "sap.best_dimensions"),
        )
    }
    | dict.fromkeys(
        ("generation.network.per_factor", "generation.network.chance"), "generation.network.names"
    )
)

# Words for what one kind of evaluation alone measures, or measures in its own way.
OF_KIND = {
    "attributes": ATTRIBUTE_MEASURES,
    "class_content": CLASS_CONTENT_MEASURES,
    "latent": LATENT_MEASURES,
}

HEADLINES = (
    "disentanglement.factor_vae.score",
    "disentanglement.mig.mig",
    "alignment.l_id.log_likelihood",
    "alignment.gilbo.log_likelihood",
    "transfer.transfer",
    "probes.class_from_content.accuracy",
    "probes.content_from_class.accuracy",
    "generation.recognised.rate",
    "generation.inception.score",
    "generation.diversity.mean",
    "generation.frechet.distance",
    "generation.coverage.coverage",
    "editing.recognised",
    "edits.mean_diagonal",
    "edits.mean_off_diagonal",
    "svm.mean_error",
    "leakage.linear_probe",
    "leakage.mlp_probe",
    "reconstruction.rmse",
    "reconstruction.ms_ssim",
)


def headlines(evaluation: Evaluation) -> str:
    """The first numbers of the page, each with its meaning; those that were measured."""
    tiles = []
    for path in HEADLINES:
        value = look_up(evaluation, path)
        if value is None:
            continue
        measure = _measure(path, evaluation)
        mean = value["mean"] if _is_spread(value) else value
        written = f"{mean:.3g}" if measure.write is number else measure.write(mean)
        tiles.append(
            f"<div><dt>{text(measure.name)}</dt><dd><strong>{text(written + measure.unit)}</strong>"
            f"<span>{text(_meaning(measure, evaluation))}</span></dd></div>"
        )
    return f'<dl class="headlines">{"".join(tiles)}</dl>' if tiles else ""


def measure_tables(evaluation: Evaluation, label_names: Sequence[str]) -> str:
    """Every number, a table for each group; lists with an entry a label become bars.

    The labels of a group are its own `names`, or else `label_names`.
    """
    groups: dict[str, list[tuple[str, Any]]] = {}
    for path, value in _flat(evaluation):
        group, _, key = path.rpartition(".")
        if key not in ("format", "kind", "names") and value != {}:
            groups.setdefault(group, []).append((path, value))
    several = "attribute" if evaluation.get("kind") == "attributes" else "class"
    parts = []
    for group, entries in sorted(groups.items(), key=lambda item: item[0] == ""):
        names = look_up(evaluation, f"{group}.names") or label_names
        rows, bars = [], ""
        for path, value in entries:
            if _is_bars(value, names) and path not in LISTS:
                title = f"{_measure(path, evaluation).name}, by {several}"
                bars += _bars(title, value, names)
            else:
                rows.append(_row(path, value, evaluation))
        title = _measure(group, evaluation).name if group else "General"
        parts.append(f"<h3>{text(title)}</h3>")
        parts.append(table(("measure", "value", "meaning"), rows, kind="measures") if rows else "")
        parts.append(bars)
    return "".join(parts)


def _row(path: str, value: Any, evaluation: Evaluation) -> tuple[str, str, str]:
    measure = _measure(path, evaluation)
    if _is_spread(value):
        written = _mean_and_spread(measure, value["mean"], value["std"])
    elif isinstance(value, Mapping):
        written = "; ".join(f"{name}: {reason}" for name, reason in value.items())
    elif value is None or isinstance(value, (bool, str, list)):
        stands = NAMES.get(path) or NAMES.get(path.rpartition(".")[2], "")
        names = look_up(evaluation, stands) or ()
        written = _named(value, names) if len(names) else number(value)
    else:
        written = measure.write(value) + measure.unit
    return text(measure.name), text(written), text(_meaning(measure, evaluation))


def _named(values: Any, names: Sequence[str]) -> str:
    """Each value after its name; without names where their number is another."""
    if not isinstance(values, list) or len(values) != len(names):
        return number(values)
    pairs = zip(names, values, strict=True)
    return "; ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in pairs)


def _mean_and_spread(measure: Measure, mean: float, std: float) -> str:
    """Both with the decimals of the mean; the spread is over the images."""
    if measure.write is not number:
        return f"{measure.write(mean)} ± {measure.write(std)}"
    written = number(mean)
    decimals = len(written.partition(".")[2]) if "e" not in written else 0
    spread = f"{std:.{decimals}f}" if decimals else number(std)
    return f"{written} ± {spread}{measure.unit}"


def _meaning(measure: Measure, evaluation: Evaluation) -> str:
    """Fills in what the words quote from the evaluation."""
    head, brace, rest = measure.meaning.partition("{")
    if not brace:
        return head
    path, _, words = rest.partition("}")[0].partition(":")
    value = look_up(evaluation, path)
    if not isinstance(value, (int, float)):
        return head
    return head + words.replace("%", share(value), 1).replace("#", number(value), 1)


def _bars(title: str, values: Sequence[float], names: Sequence[str]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td><span class="bar" style="--share:{value:.4f}">'
        f"</span></td><td>{text(share(value))}</td></tr>"
        for name, value in zip(names, values, strict=True)
    )
    return f'<table class="bars"><caption>{text(title)}</caption>{rows}</table>'


def _is_bars(value: Any, names: Sequence[str]) -> bool:
    return (
        isinstance(value, list)
        and len(value) == len(names) > 0
        and all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in value)
    )


def _is_spread(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) - {"standard_error"} == {"mean", "std"}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        path = f"{prefix}{key}"
        if path in DRAWN:
            continue
        if isinstance(inner, Mapping) and not _is_spread(inner) and key != "skipped":
            yield from _flat(inner, f"{path}.")
        else:
            yield path, inner


def _measure(path: str, evaluation: Evaluation) -> Measure:
    """The words above for this kind of evaluation, or the key's own name."""
    key = path.rpartition(".")[2]
    if key == "skipped":
        return Measure("Not measured", "What was left out, and why.")
    words = MEASURES | GENERATION_MEASURES | OF_KIND.get(evaluation.get("kind", ""), {})
    return words.get(path, Measure(key.replace("_", " ").capitalize(), ""))
