"""What each number of `evaluation.json` means; a number without a word here is shown as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dcorr_models.report.markup import number, share, table, text

__all__ = ["HEADLINES", "MEASURES", "headlines", "measure_tables"]

Evaluation = Mapping[str, Any]


class Measure(NamedTuple):
    """How a number is called, written and read."""

    name: str
    # What it is and which way is better; `{path: words %}` fills in a share from the evaluation and
    # `{path: words #}` a plain number, or nothing where it was not measured.
    meaning: str
    write: Callable[[Any], str] = number
    unit: str = ""


# By the path in evaluation.json. A metric's own file has its exact protocol.
MEASURES = {
    "reconstruction.rmse": Measure(
        "Reconstruction error (RMSE)",
        "Root of the mean squared pixel error of each test image, black 0 and white 1. "
        "Lower is better, 0 is exact.",
    ),
    "reconstruction.psnr": Measure(
        "PSNR",
        "Peak signal-to-noise ratio of each test image in decibels. Higher is better.",
        unit="\u00a0dB",
    ),
    "reconstruction.ms_ssim": Measure(
        "Structural similarity (MS-SSIM)",
        "How well the structures of each test image survive, at several scales. "
        "Higher is better, 1 is identical.",
    ),
    "reconstruction.ms_ssim_scales": Measure(
        "Scales of MS-SSIM", "As many of the published five as fit the image."
    ),
    "reconstruction.ms_ssim_weights": Measure("Weights of the scales", "The finest scale first."),
    "reconstruction.value_range": Measure("Range of the pixels", "Mapped to black 0 and white 1."),
    "reconstruction.images": Measure("Images", "Test images that were reconstructed."),
    "leakage.linear_probe": Measure(
        "Class read from z, linear",
        "How often logistic regression, trained on the codes of training images, names the class "
        "of a test image from its residual code z. Lower is better.{leakage.chance: Chance is %.}",
        share,
    ),
    "leakage.mlp_probe": Measure(
        "Class read from z, small network",
        "The same with a small neural network, which also finds what is not linear. "
        "Lower is better.{leakage.chance: Chance is %.}",
        share,
    ),
    "leakage.chance": Measure(
        "Chance", "What a probe reaches that reads nothing: the most frequent class.", share
    ),
    "leakage.dcor": Measure(
        "Distance correlation of label code and z",
        "From 0 to 1, lower is better. It is above 0 even for independent codes when images are "
        "few, so compare it on the same images only.{leakage.dcor_shuffled: With the codes "
        "shuffled among the images it is #.}",
    ),
    "leakage.dcor_shuffled": Measure(
        "The same, shuffled", "The floor: what independent codes give on as many images."
    ),
    "leakage.train_samples": Measure("Training images", "What the probes learn from."),
    "leakage.test_samples": Measure("Test images", "What the probes are scored on."),
    "leakage.dimensions": Measure("Dimensions of z", ""),
    "leakage.classes": Measure("Classes", ""),
    "leakage.mlp_width": Measure("Width of the small network", "Units of its hidden layer."),
    "leakage.seed": Measure("Seed", "Of the small network's first weights and order of images."),
    "editing.recognised": Measure(
        "Edits recognised",
        "How often a classifier, trained on real training images only, takes a test image edited "
        "to another class for that class. Higher is better; edits that change nothing score "
        "about 0\u00a0%.{editing.classifier_accuracy: On real test images the classifier is right "
        "in %.}",
        share,
    ),
    "editing.per_class": Measure("Edits recognised", "", share),
    "editing.classifier_accuracy": Measure(
        "Accuracy of the judging classifier",
        "How often it is right on the real test images.",
        share,
    ),
    "editing.num_edits": Measure("Number of edits", "Each test image, to each other class."),
    "soft_target.accuracy": Measure(
        "Accuracy of the label code",
        "How often the largest entry of the label code is the true class of a test image.",
        share,
    ),
    "num_images": Measure("Images", "Held-out images that everything is measured on."),
    "seconds": Measure("Seconds", "What the evaluation took."),
}

HEADLINES = (
    "editing.recognised",
    "leakage.linear_probe",
    "leakage.mlp_probe",
    "reconstruction.rmse",
    "reconstruction.ms_ssim",
)


def headlines(evaluation: Evaluation) -> str:
    """The first numbers of the page, each with its meaning; those that were measured."""
    tiles = []
    for path in HEADLINES:
        value = _look_up(evaluation, path)
        if value is None:
            continue
        measure = MEASURES[path]
        mean = value["mean"] if _is_spread(value) else value
        written = f"{mean:.3g}" if measure.write is number else measure.write(mean)
        tiles.append(
            f"<div><dt>{text(measure.name)}</dt><dd><strong>{text(written + measure.unit)}</strong>"
            f"<span>{text(_meaning(measure, evaluation))}</span></dd></div>"
        )
    return f'<dl class="headlines">{"".join(tiles)}</dl>' if tiles else ""


def measure_tables(evaluation: Evaluation, label_names: Sequence[str]) -> str:
    """Every number, a table for each group; lists with an entry a class become bars."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    for path, value in _flat(evaluation):
        if path != "format":
            group, _, _ = path.rpartition(".")
            groups.setdefault(group, []).append((path, value))
    parts = []
    for group, entries in sorted(groups.items(), key=lambda item: item[0] == ""):
        rows, bars = [], ""
        for path, value in entries:
            if _is_bars(value, label_names):
                bars += _bars(f"{_name(path)}, by class", value, label_names)
            else:
                rows.append(_row(path, value, evaluation))
        parts.append(f"<h3>{text(_name(group) if group else 'General')}</h3>")
        parts.append(table(("measure", "value", "meaning"), rows, kind="measures") if rows else "")
        parts.append(bars)
    return "".join(parts)


def _row(path: str, value: Any, evaluation: Evaluation) -> tuple[str, str, str]:
    measure = MEASURES.get(path, Measure(_name(path), ""))
    if _is_spread(value):
        written = _mean_and_spread(measure, value["mean"], value["std"])
    elif value is None or isinstance(value, (bool, str, list)):
        written = number(value)
    else:
        written = measure.write(value) + measure.unit
    return text(measure.name), text(written), text(_meaning(measure, evaluation))


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
    value = _look_up(evaluation, path)
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
    return isinstance(value, Mapping) and set(value) == {"mean", "std"}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and not _is_spread(inner):
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _look_up(evaluation: Evaluation, path: str) -> Any:
    value: Any = evaluation
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _name(path: str) -> str:
    """The name given above, or the key's own."""
    if path in MEASURES:
        return MEASURES[path].name
    return path.rpartition(".")[2].replace("_", " ").capitalize()
