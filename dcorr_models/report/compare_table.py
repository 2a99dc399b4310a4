"""Several runs in one table: a row a model, a column a metric, arrows for what is better."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dcorr_models.report.compare_rows import Row
from dcorr_models.report.contents import look_up
from dcorr_models.report.markup import table, text

__all__ = ["Table", "html_table", "markdown_table", "metric_table", "notes", "quality_table"]

Evaluation = Mapping[str, Any]
LOWER, HIGHER = "↓", "↑"


class Column(NamedTuple):
    """One metric of the table."""

    path: str  # in evaluation.json, to a number, a spread or a list: the last two by their means
    head: str  # {path} stands for what the evaluations say there
    better: str
    decimals: int
    factor: float = 1.0  # 100 for per cent


class Table(NamedTuple):
    """Words, for any markup."""

    head: list[str]
    rows: list[list[str]]


COLUMNS = (
    Column("reconstruction.rmse", "RMSE", LOWER, 4),
    Column("reconstruction.psnr", "PSNR, dB", HIGHER, 2),
    Column("reconstruction.ms_ssim", "MS-SSIM", HIGHER, 4),
    Column("disentanglement.factor_vae.score", "FVM", HIGHER, 3),
    Column("disentanglement.mig.mig", "MIG", HIGHER, 3),
    Column("disentanglement.dci.disentanglement", "DCI: D", HIGHER, 3),
    Column("disentanglement.dci.completeness", "DCI: C", HIGHER, 3),
    Column("disentanglement.dci.informativeness", "DCI: I", HIGHER, 3),
    Column("disentanglement.sap.sap", "SAP", HIGHER, 3),
    Column("transfer.transfer", "content transfer ({transfer.distance})", LOWER, 4),
    Column("probes.class_from_content.accuracy", "y ← C, %", LOWER, 1, 100),
    Column("probes.content_from_class.accuracy", "y → C, %", LOWER, 1, 100),
    Column(
        "regression.class_code.mean_absolute",
        "R(y) → C, error ({regression.class_code.unit})",
        HIGHER,
        4,
    ),
    Column("editing.recognised", "edits recognised, %", HIGHER, 1, 100),
    Column("svm.mean_errors", "SVM error over all intensities, %", LOWER, 1, 100),
    Column("svm.mean_error", "SVM error at the strongest, %", LOWER, 1, 100),
    Column("edits.mean_diagonal", "target changed, %", HIGHER, 1, 100),
    Column("edits.mean_off_diagonal", "others changed, %", LOWER, 1, 100),
    Column("leakage.linear_probe", "read from z, linear, %", LOWER, 1, 100),
    Column("leakage.mlp_probe", "read from z, network, %", LOWER, 1, 100),
    Column("leakage.dcor", "dcor(ŷ, z)", LOWER, 3),
    Column("soft_target.accuracy", "ŷ right, %", HIGHER, 1, 100),
    Column("generation.inception.score", "Inception score", HIGHER, 2),
    Column("generation.recognised.rate", "samples recognised, %", HIGHER, 1, 100),
    Column("generation.diversity.mean", "d_intra", HIGHER, 4),
    Column("generation.frechet.distance", "Fréchet ({generation.frechet.features})", LOWER, 3),
    Column("alignment.l_id.log_likelihood", "L_ID, nats", HIGHER, 2),
    Column("alignment.gilbo.log_likelihood", "GILBO, nats", HIGHER, 2),
    Column("generation.coverage.coverage", "axis reached, %", HIGHER, 1, 100),
    Column("generation.coverage.wasserstein", "W₁ along the axis", LOWER, 3),
    Column("generation.coverage.wasserstein_across", "W₁ across it", LOWER, 3),
    Column("generation.from_images.unseen.rate", "unseen classes kept, %", HIGHER, 1, 100),
    Column("purity.clusters", "purity of class codes, %", HIGHER, 1, 100),
)
QUALITY = COLUMNS[:3]


def metric_table(rows: Sequence[Row]) -> Table:
    """Every metric that some run has: mean, and ± the standard deviation over several seeds."""
    columns = [
        column
        for column in COLUMNS
        if any(
            _value(entry.evaluation, column.path) is not None
            for row in rows
            for entry in row.entries
        )
    ]
    several = any(len(row.entries) > 1 for row in rows)
    heads = [_head(column, rows) for column in columns]
    head = ["model", *(["seeds"] if several else []), *heads]
    body = []
    for row in rows:
        cells = [_over_seeds(row, column) for column in columns]
        body.append([row.name, *([str(len(row.entries))] if several else []), *cells])
    return Table(head, body)


def quality_table(rows: Sequence[Row]) -> Table:
    """Reconstruction as the papers print it: mean ± standard deviation over the test images.

    Both are averaged over the seeds of a row.
    """
    body = []
    for row in rows:
        cells = []
        for column in QUALITY:
            found = [look_up(entry.evaluation, column.path) for entry in row.entries]
            if all(isinstance(value, Mapping) for value in found):
                mean, std = (statistics.fmean(v[key] for v in found) for key in ("mean", "std"))
                cells.append(_written(mean, column) + " ± " + _written(std, column))
            else:
                cells.append("–")
        body.append([row.name, *cells])
    return Table(["model", *(_head(column, rows) for column in QUALITY)], body)


def notes(rows: Sequence[Row]) -> list[str]:
    """What has to be known to read the tables, one sentence or two each."""
    evaluations = [entry.evaluation for row in rows for entry in row.entries]
    result = []
    images = evaluations[0].get("num_images")
    if images:
        result.append(f"Measured on {images} held-out images.")
    if any(len(row.entries) > 1 for row in rows):
        result.append("± is the standard deviation over seeds (n − 1), where there are several.")
    for path, words, factor, decimals in (
        (
            "transfer.class_image",
            "The image that gives the class, as it is in place of the transfer, is at {}.",
            1,
            4,
        ),
        ("transfer.content_image", "The one that gives the content is at {}.", 1, 4),
        ("leakage.chance", "A probe that reads nothing is right in {} %.", 100, 1),
        (
            "probes.class_from_content.chance",
            "y ← C is the class read from content codes; chance is {} %.",
            100,
            1,
        ),
        (
            "probes.content_from_class.chance",
            "y → C is the content read from class codes; chance is {} %.",
            100,
            1,
        ),
        (
            "regression.class_code.mean_absolute_unread",
            "R(y) → C regresses targets on class codes; the mean alone has an error of {}.",
            1,
            4,
        ),
        ("leakage.dcor_shuffled", "With the codes shuffled among the images, dcor is {}.", 1, 3),
        (
            "generation.classifier.accuracy",
            "The classifier that judges samples is right on {} % of real test images.",
            100,
            1,
        ),
        (
            "generation.inception.of_real",
            "Real training images have an Inception score of {}.",
            1,
            2,
        ),
        ("generation.diversity.of_real", "Real training images have a d_intra of {}.", 1, 4),
        (
            "disentanglement.factor_vae.score_shuffled",
            "With the codes shuffled among the images, FVM is {}.",
            1,
            3,
        ),
        (
            "generation.network.accuracy",
            "The network of the Fréchet distance reads {} % of the factors right.",
            100,
            1,
        ),
        (
            "generation.frechet.of_real",
            "The Fréchet distance of other real images is {}.",
            1,
            3,
        ),
        ("generation.coverage.of_real", "Real training points reach {} % of the axis.", 100, 1),
        ("generation.coverage.wasserstein_of_real", "Along it they are at W₁ {}.", 1, 3),
        (
            "generation.from_images.known.rate",
            "Classes that had labels are kept in {} %, where unseen ones are shown.",
            100,
            1,
        ),
        ("purity.clusters_shuffled", "Chance of the purity is {} %.", 100, 1),
    ):
        found = [value for e in evaluations if (value := _value(e, path)) is not None]
        if found:
            ends = sorted({f"{factor * value:.{decimals}f}" for value in (min(found), max(found))})
            result.append(words.format(" to ".join(ends)))
    for path, words in (
        ("generation.samples_from", "Images for the Fréchet distance are drawn from {}: {}."),
        ("alignment.codes_from", "Codes of L_ID and GILBO are drawn from {}: {}."),
    ):
        latent = [row for row in rows if row.first.evaluation.get("kind") == "latent"]
        sources: dict[str, list[str]] = {}
        for row in latent:
            sources.setdefault(str(look_up(row.first.evaluation, path)), []).append(row.name)
        if len(sources) > 1:
            result += [words.format(source, "; ".join(names)) for source, names in sources.items()]
    drawn = [
        row.name for row in rows if look_up(row.first.evaluation, "probes.content_codes") == "drawn"
    ]
    if drawn:
        result.append(
            f"Probes read content codes drawn from their posterior for {'; '.join(drawn)}."
        )
    ranges = {row.name: look_up(row.first.evaluation, "svm.intensities") for row in rows}
    written = {name: f"{steps[0]:g} to {steps[-1]:g}" for name, steps in ranges.items() if steps}
    if len({tuple(steps) for steps in ranges.values() if steps}) > 1:
        each = "; ".join(f"{name}, {words}" for name, words in written.items())
        result.append(f"SVM errors are taken at the intensities of each method: {each}.")
    return result


def markdown_table(content: Table) -> str:
    """The table in Markdown; numbers stand on the right."""
    lines = [content.head, ["---", *["---:"] * (len(content.head) - 1)], *content.rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def html_table(content: Table) -> str:
    """The table in HTML."""
    rows = [[text(cell) for cell in row] for row in content.rows]
    return f'<div class="scroll">{table(content.head, rows, kind="numbers")}</div>'


def _head(column: Column, rows: Sequence[Row]) -> str:
    """With the name of what measured, which is the same in all rows that have one."""
    words, brace, rest = column.head.partition("{")
    path, _, end = rest.partition("}")
    if brace:
        found = [look_up(entry.evaluation, path) for row in rows for entry in row.entries]
        words += next((str(name) for name in found if name is not None), "unnamed") + end
    return f"{words} {column.better}"


def _over_seeds(row: Row, column: Column) -> str:
    found = [_value(entry.evaluation, column.path) for entry in row.entries]
    values = [value for value in found if value is not None]
    if not values:
        return "–"
    mean = _written(statistics.fmean(values), column)
    if len(values) < len(found):
        return f"{mean} ({len(values)} of {len(found)})"
    return f"{mean} ± {_written(statistics.stdev(values), column)}" if len(values) > 1 else mean


def _written(value: float, column: Column) -> str:
    return f"{column.factor * value:.{column.decimals}f}"


def _value(evaluation: Evaluation, path: str) -> float | None:
    """A number, or the mean of a spread or a list."""
    value = look_up(evaluation, path)
    if isinstance(value, Mapping):
        value = value.get("mean")
    if isinstance(value, list) and value:
        value = statistics.fmean(value)
    return float(value) if isinstance(value, (int, float)) else None
