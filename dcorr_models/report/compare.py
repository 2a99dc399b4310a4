"""Several runs side by side: one page, one table in Markdown, pictures as files."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcorr_models.errors import RunError, UserError
from dcorr_models.file_names import distinct_file_names
from dcorr_models.pictures import png_bytes
from dcorr_models.report.class_content import compared_leakage
from dcorr_models.report.compare_pictures import (
    Drawn,
    draw_figures,
    figure_html,
    figure_picture,
)
from dcorr_models.report.compare_rows import Row, differences, read_rows
from dcorr_models.report.compare_table import (
    html_table,
    markdown_table,
    metric_table,
    notes,
    quality_table,
)
from dcorr_models.report.contents import read_run_log
from dcorr_models.report.edit_measures import curve, svm_panels
from dcorr_models.report.lines import Line, legend, line_chart, svg_file
from dcorr_models.report.markup import table, text
from dcorr_models.report.page import page
from dcorr_models.report.points import point_chart
from dcorr_models.whole_files import whole_file

__all__ = ["Comparison", "compare_runs"]

MARK = "dcorr-models compare"
"""What says of a file that it may be written again."""


class Chart(NamedTuple):
    """The error curves of one attribute, a line a row."""

    attribute: str
    lines: list[Line]


class Comparison:
    """Runs of one data set, and what can be written about them.

    Args:
        runs: folders of finished and evaluated runs. Those that differ in the seed alone are one
            row: means and standard deviations over seeds, pictures of the first.
        names: one a row; by default the method, and the settings in which rows differ.

    Raises:
        UserError: see `compare_rows.read_rows`.
    """

    def __init__(self, runs: Sequence[str | Path], names: Sequence[str] = ()) -> None:
        self.rows = read_rows(runs, names)
        self.charts = _charts(self.rows)
        self.leakage = compared_leakage(
            {row.name: read_run_log(row.first.folder.log) for row in self.rows}
        )
        self._drawn: Drawn | None = None

    @property
    def drawn(self) -> Drawn:
        """The pictures; made when they are first asked for."""
        if self._drawn is None:
            self._drawn = draw_figures(self.rows)
        return self._drawn

    def markdown(self) -> str:
        """Metrics, then reconstruction with its spread over images, then what has to be known."""
        parts = [markdown_table(metric_table(self.rows)), " ".join(notes(self.rows))]
        quality = quality_table(self.rows)
        parts += ["Mean ± standard deviation over the test images:", markdown_table(quality)]
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """The page: one file without script, links or network."""
        drawn = self.drawn
        sections = [
            ("Measurements", _tables(self.rows)),
            ("Are edited attributes recognised?", self._curves()),
            ("What codes tell of each other, during training", self._leakage()),
            ("Drawn points", self._points()),
            *((figure.title, figure_html(figure, drawn.test)) for figure in drawn.figures),
            ("Runs", _runs(self.rows)),
        ]
        body = "\n".join(
            f"<section><h2>{text(title)}</h2>{content}</section>"
            for title, content in sections
            if content
        )
        runs = sum(len(row.entries) for row in self.rows)
        lead = f"{len(self.rows)} models, {runs} runs" if runs > len(self.rows) else f"{runs} runs"
        return page(
            title=f"Comparison on {drawn.data_name}",
            lead=f"{lead}, {len(drawn.test):,} test images",
            body=body,
            footer=f"Written by <code>{MARK}</code>.",
        )

    def pictures(self) -> dict[str, bytes]:
        """File names and contents: PNG for images, SVG for curves."""
        drawn = self.drawn
        names = distinct_file_names([figure.stem for figure in drawn.figures])
        files = {
            f"{name}.png": png_bytes(figure_picture(figure, drawn.test))
            for name, figure in zip(names, drawn.figures, strict=True)
        }
        if self.charts:
            charts = [
                (chart.attribute.replace("_", " "), line_chart(chart.lines, title=chart.attribute))
                for chart in self.charts
            ]
            files["svm_errors.svg"] = svg_file(charts, self._curved()).encode()
        if self.leakage:
            charts = [(what, line_chart(lines, title=what)) for what, lines in self.leakage.items()]
            files["leakage.svg"] = svg_file(charts, [row.name for row in self.rows]).encode()
        if drawn.points:
            files["points.svg"] = svg_file(self._point_charts(), drawn.label_names).encode()
        return files

    def _point_charts(self) -> list[tuple[str, str]]:
        points = self.drawn.points
        return [
            (name, point_chart(clouds, bounds_of=points["real"], title=f"Points, {name}"))
            for name, clouds in points.items()
        ]

    def _points(self) -> str:
        if not self.drawn.points:
            return ""
        figures = "".join(
            f"<figure><figcaption>{text(name)}</figcaption>{chart}</figure>"
            for name, chart in self._point_charts()
        )
        return (
            "<p>Real test points, and as many drawn ones of the first run of each model, a colour "
            f"a class, all in one frame.</p>{legend(self.drawn.label_names)}"
            f'<div class="panels">{figures}</div>'
        )

    def _leakage(self) -> str:
        if not self.leakage:
            return ""
        figures = "".join(
            f"<figure><figcaption>{text(what)}</figcaption>{line_chart(lines, title=what)}</figure>"
            for what, lines in self.leakage.items()
        )
        return (
            "<p>What a quick probe reads from one code of the other's, asked again and again "
            "during the training of the first run of each model, against the number of updates: "
            f"lower is better.</p>{legend([row.name for row in self.rows])}"
            f'<div class="panels">{figures}</div>'
        )

    def _curved(self) -> list[str]:
        """Names of the rows with curves, in the order of the lines' styles."""
        return [row.name for row in self.rows if _attributes(row)]

    def _curves(self) -> str:
        if not self.charts:
            return ""
        panels = [(chart.attribute, "", chart.lines) for chart in self.charts]
        return (
            "<p>The share of edited test images that linear support vector machines, trained on "
            "real images, still take for images without the attribute, against the intensity that "
            "was written: lower is better. The band is one standard deviation over seeds where a "
            "model has several, else over the machines.</p>" + svm_panels(panels, self._curved())
        )


def compare_runs(
    runs: Sequence[str | Path],
    *,
    out: Path | None = None,
    markdown: Path | None = None,
    pictures: Path | None = None,
    names: Sequence[str] = (),
) -> Comparison:
    """Writes a comparison of runs.

    Args:
        runs: see `Comparison`.
        out: an HTML file: tables, error curves, and the same images through every model.
        markdown: a file for the tables in Markdown.
        pictures: a new or empty folder for the pictures of the page as files.
        names: see `Comparison`.

    Returns:
        The comparison; `markdown()` is its tables.

    Raises:
        UserError: see `Comparison`; a file that exists and was not written by this function, a
            folder that is not empty, a place that cannot be written to.
    """
    for path in (out, markdown):
        _check_file(path)
    if out is not None and markdown is not None and out.resolve() == markdown.resolve():
        raise UserError(f"{out} cannot be the page and the tables: give two names")
    if pictures is not None and not _is_free(pictures):
        raise UserError(f"{pictures} is not an empty folder: give --pictures a new one")
    if pictures is not None and pictures.resolve() in {p.resolve() for p in (out, markdown) if p}:
        raise UserError(f"{pictures} cannot be a file and the folder of pictures: give two names")
    comparison = Comparison(runs, names)
    try:
        if markdown is not None:
            _write(markdown, f"<!-- {MARK} -->\n\n{comparison.markdown()}")
        if out is not None:
            _write(out, comparison.html())
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            for name, content in comparison.pictures().items():
                with whole_file(pictures / name) as temporary:
                    temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written ({error.strerror})") from error
    return comparison


def _charts(rows: Sequence[Row]) -> list[Chart]:
    """A chart for each attribute that some run has a curve of."""
    measured = [row for row in rows if _attributes(row)]
    return [
        Chart(attribute, [line for row in measured if (line := _line(row, attribute, measured))])
        for attribute in dict.fromkeys(name for row in measured for name in _attributes(row))
    ]


def _attributes(row: Row) -> list[str]:
    """What all runs of a row have a curve of."""
    each = [(e.evaluation.get("svm") or {}).get("attributes", {}) for e in row.entries]
    return [name for name in each[0] if all(name in found for found in each)]


def _line(row: Row, attribute: str, rows: Sequence[Row]) -> Line | None:
    """The mean over seeds, with the standard deviation over them; of one seed its own band."""
    if attribute not in _attributes(row):
        return None
    found = [curve(entry.evaluation, attribute, name=row.name) for entry in row.entries]
    lines = [line for line in found if line is not None]
    style = rows.index(row)
    if len(lines) == 1:
        return lines[0]._replace(style=style)
    if len({tuple(line.places) for line in lines}) > 1:
        raise RunError(
            f"the seeds of {row.name!r} were evaluated at different intensities: "
            "evaluate them alike"
        )
    values = list(zip(*(line.values for line in lines), strict=True))
    return Line(
        row.name,
        lines[0].places,
        [statistics.fmean(at) for at in values],
        [statistics.stdev(at) for at in values],
        style,
    )


def _tables(rows: Sequence[Row]) -> str:
    return (
        html_table(metric_table(rows))
        + "".join(f'<p class="soft">{text(note)}</p>' for note in notes(rows))
        + "<h3>Reconstruction, mean ± standard deviation over the test images</h3>"
        + html_table(quality_table(rows))
    )


def _runs(rows: Sequence[Row]) -> str:
    """Where each row comes from, and the settings that tell the rows apart."""
    varied = differences(rows)
    head = ["model", "seeds", "folders", *(key.removeprefix("method.") for key in varied)]
    body = []
    for number, row in enumerate(rows):
        folders = ", ".join(str(entry.folder.path) for entry in row.entries)
        cells: list[Any] = [row.name, ", ".join(map(str, row.seeds)), folders]
        body.append(
            [text(cell) for cell in [*cells, *(found[number] for found in varied.values())]]
        )
    return f'<div class="scroll">{table(head, body, kind="settings")}</div>'


def _check_file(path: Path | None) -> None:
    """Refuses to replace what this command did not write."""
    if path is None or not path.exists():
        return
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file in it")
    try:
        ours = MARK in path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours:
        raise UserError(f"{path} exists and is no comparison: give another name")


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
