"""The report of a run: one HTML file that needs no other file, no network and no script."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from dcorr_models.data.base import Splits
from dcorr_models.errors import RunError
from dcorr_models.methods.base import Method
from dcorr_models.pictures import is_point
from dcorr_models.report.attributes import intensity_panels, single_attributes
from dcorr_models.report.class_content import (
    LEAKAGE,
    collapse_chart,
    leakage_curves,
    swap_grid,
    translation_grid,
)
from dcorr_models.report.contents import flat, plain, read_evaluation, read_json, read_run_log
from dcorr_models.report.curves import Curve, chart, curves_of, training_seconds
from dcorr_models.report.edit_measures import effect_matrix, svm_charts
from dcorr_models.report.generation import (
    fixed_code_grids,
    inpainting_rows,
    point_figure,
    sample_grid,
    single_dimensions,
)
from dcorr_models.report.lines import style_sheet
from dcorr_models.report.markup import details, duration, number, table, text
from dcorr_models.report.measures import headlines, measure_tables
from dcorr_models.report.pictures import reconstructions, style_grid
from dcorr_models.report.traversals import latent_samples, nuisance_grids, traversal_grids
from dcorr_models.run_folder import RunFolder
from dcorr_models.whole_files import whole_file

__all__ = ["SECTIONS", "Run", "build_report"]


@dataclass(frozen=True)
class Run:
    """What the sections draw from."""

    folder: RunFolder
    method: Method
    splits: Splits
    config: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None  # None: not evaluated yet
    log: Sequence[Mapping[str, Any]]
    label_names: Sequence[str]
    data_name: str

    @property
    def method_name(self) -> str:
        """The method's class."""
        return type(self.method).__name__

    @property
    def has_pictures(self) -> bool:
        """Whether there are test images to look at, and codes of them."""
        return self.method.has_encoder and not is_point(self.splits.test.images.shape)


def build_report(
    folder: RunFolder,
    method: Method,
    splits: Splits,
    *,
    data_name: str | None = None,
    label_names: Sequence[str] | None = None,
) -> Path:
    """Writes `report.html` of a trained run, whole or not at all.

    Args:
        folder: the run; its settings, log, evaluation and versions are read. Log, evaluation and
            versions may be missing: the report then says so.
        method: the trained method; its training flags stay as they are.
        splits: pictures show images of `test`.
        data_name: what the data set is called; by default the name of its class.
        label_names: names of the classes or attributes; by default numbers.

    Returns:
        The path of the report.

    Raises:
        RunError: no run, one without trained weights, a file of it that cannot be read, or a
            report that cannot be written.
    """
    config = folder.read_config()
    if not folder.finished:
        raise RunError(
            f"{folder.path} has no trained weights to report on: "
            "let the training end first (`dcorr-models train` with --resume)"
        )
    run = Run(
        folder,
        method,
        splits,
        config,
        read_evaluation(folder.evaluation) if folder.evaluation.exists() else None,
        read_run_log(folder.log),
        list(label_names or map(str, range(method.num_labels))),
        data_name or _class_name(config["data"]),
    )
    content = _page(run)
    try:
        with whole_file(folder.report) as temporary:
            temporary.write_text(content, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder.report} cannot be written: {error.strerror}") from error
    return folder.report


def _page(run: Run) -> str:
    # Sections are HTML already; only their titles are text.
    parts = [
        f"<section><h2>{text(title)}</h2>{body}</section>" if title else body
        for title, section in SECTIONS
        if (body := section(run))
    ]
    return page(
        title=f"{run.method_name} on {run.data_name}",
        lead=_lead(run),
        body="\n".join(parts),
        footer=f"Written by <code>dcorr-models report</code> for {text(run.folder.path.name)}.",
    )


def page(*, title: str, lead: str, body: str, footer: str) -> str:
    """A whole page. The title is text, everything else HTML already."""
    template = Template(files("dcorr_models.report").joinpath("page.html").read_text("utf-8"))
    return template.substitute(
        title=text(title), lead=lead, body=body, footer=footer, lines=style_sheet()
    )


def _lead(run: Run) -> str:
    """One line: seed, time and sizes."""
    parts = [f"Seed {text(run.config['seed'])}"]
    seconds = training_seconds(run.log)
    if seconds:
        stages = ", ".join(f"{text(stage)} {duration(s)}" for stage, s in seconds.items())
        several = f" ({stages})" if len(seconds) > 1 else ""
        parts.append(f"trained in {duration(sum(seconds.values()))}{several}")
    parts.append(
        f"{number(len(run.splits.train))} training and {len(run.splits.test):,} test images"
    )
    return " · ".join(parts)


def _summary(run: Run) -> str:
    if run.evaluation is None:
        command = f"dcorr-models evaluate {run.folder.path}"
        return (
            f'<p class="note">Not evaluated yet: run <code>{text(command)}</code>, '
            "then write the report again.</p>"
        )
    return headlines(run.evaluation)


def _samples(run: Run) -> str:
    return sample_grid(run.method, run.splits.test, run.label_names)


def _points(run: Run) -> str:
    return point_figure(run.method, run.splits, run.label_names)


def _fixed_codes(run: Run) -> str:
    return fixed_code_grids(run.method, run.splits.test, run.label_names)


def _dimensions(run: Run) -> str:
    return single_dimensions(run.method, run.splits.test, run.label_names)


def _traversals(run: Run) -> str:
    return traversal_grids(run.method, run.splits)


def _nuisances(run: Run) -> str:
    return nuisance_grids(run.method, run.splits.test)


def _latent_samples(run: Run) -> str:
    return latent_samples(run.method, run.splits.test)


def _inpainting(run: Run) -> str:
    return inpainting_rows(run.method, run.splits.test)


def _styles(run: Run) -> str:
    if not run.has_pictures:
        return ""
    return style_grid(run.method, run.splits.test, run.label_names)


def _swaps(run: Run) -> str:
    if not run.has_pictures:
        return ""
    return swap_grid(run.method, run.splits.test, run.label_names)


def _translations(run: Run) -> str:
    if not run.has_pictures:
        return ""
    return translation_grid(run.method, run.splits, run.label_names)


def _reconstructions(run: Run) -> str:
    if not run.has_pictures:
        return ""
    return reconstructions(run.method, run.splits.test, run.label_names)


def _single_attributes(run: Run) -> str:
    return single_attributes(run.method, run.splits.test, run.label_names)


def _intensities(run: Run) -> str:
    return intensity_panels(run.method, run.splits.test, run.label_names)


def _svm(run: Run) -> str:
    return svm_charts(run.evaluation) if run.evaluation else ""


def _effects(run: Run) -> str:
    return effect_matrix(run.evaluation) if run.evaluation else ""


def _collapse(run: Run) -> str:
    return collapse_chart(run.evaluation)


def _leakage(run: Run) -> str:
    return leakage_curves(run.log)


def _metrics(run: Run) -> str:
    return measure_tables(run.evaluation, run.label_names) if run.evaluation else ""


def _curves(run: Run) -> str:
    if not run.log:
        return f'<p class="note">The log of the training, {run.folder.log.name}, is empty.</p>'
    seconds = training_seconds(run.log)
    last_steps = {row["stage"]: row["step"] for row in run.log}
    parts = [
        "<p>Against the number of updates. Each point is the mean of the updates since the one "
        "before; the last value stands on the right.</p>"
    ]
    for stage, curves in curves_of(run.log).items():
        length = f"{number(last_steps[stage])} updates in {duration(seconds[stage])}"
        parts.append(f'<h3>{text(stage)} <span class="soft">{length}</span></h3>')
        curves = [curve for curve in curves if not curve.name.startswith(LEAKAGE)]
        parts.append(f'<div class="panels">{"".join(map(_panel, curves))}</div>')
        constant = [f"{text(c.title)} {number(c.values[0])}" for c in curves if c.constant]
        if constant:
            parts.append(f'<p class="soft">The same throughout: {"; ".join(constant)}.</p>')
    return "".join(parts)


def _panel(curve: Curve) -> str:
    if curve.constant:
        return ""
    return (
        f"<figure><figcaption>{text(curve.title)}<span>{curve.values[-1]:.3g}</span></figcaption>"
        f"{chart(curve)}</figure>"
    )


def _settings(run: Run) -> str:
    defaults = {
        f"method.{name}": parameter.default
        for name, parameter in inspect.signature(type(run.method).__init__).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    rows, changed = [], 0
    for key, value in flat(run.config):
        default = defaults.get(key, value)
        differs = plain(default) != plain(value)
        changed += differs
        rows.append(
            (text(key), text(plain(value)), f"default {text(plain(default))}" if differs else "")
        )
    return (
        "<p>Everything that decides the result. The same run again: <code>dcorr-models train "
        f"--config {text(run.folder.config)} --run NEW-FOLDER</code></p>"
        + details(
            f"{len(rows)} settings, {changed} of the method's other than its defaults",
            table(("setting", "value", ""), rows, kind="settings"),
        )
    )


def _versions(run: Run) -> str:
    if not run.folder.versions.exists():
        return '<p class="note">The versions were not recorded.</p>'
    content = read_json(run.folder.versions)
    rows = [(text(key), text(number(value))) for key, value in content.items()]
    return details(f"{len(rows)} entries", table(("what", "version"), rows, kind="settings"))


# Title and content, in the order of the page. A section without content is left out.
SECTIONS: list[tuple[str, Callable[[Run], str]]] = [
    ("", _summary),
    ("Drawn images of each class", _samples),
    ("One latent number at a time", _traversals),
    ("What is read fixed, the rest varied", _nuisances),
    ("Drawn images", _latent_samples),
    ("Drawn points", _points),
    ("One code fixed, the other varied", _fixed_codes),
    ("One dimension of the content code at a time", _dimensions),
    ("Every class in the style of an image", _styles),
    ("The class of one image, the content of another", _swaps),
    ("Each image as each class", _translations),
    ("Attributes, one at a time and together", _single_attributes),
    ("Attributes from weak to strong", _intensities),
    ("Reconstructions", _reconstructions),
    ("Holes filled in", _inpainting),
    ("Are edited attributes recognised?", _svm),
    ("What an edit changes", _effects),
    ("Has the code collapsed?", _collapse),
    ("What the content code tells of the class, during training", _leakage),
    ("Measurements", _metrics),
    ("Training", _curves),
    ("Settings", _settings),
    ("Versions", _versions),
]


def _class_name(settings: Any) -> str:
    path = settings.get("class_path", "") if isinstance(settings, Mapping) else str(settings)
    return path.rpartition(".")[2] or "unnamed data"
