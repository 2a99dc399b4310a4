from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from dcorr_models.data import LabelledImages, Splits
from dcorr_models.errors import RunError
from dcorr_models.methods import Method
from dcorr_models.report import build_report
from dcorr_models.report.curves import Curve, chart, curves_of, training_seconds
from dcorr_models.report.markup import duration, number, share, text
from dcorr_models.report.measures import headlines, measure_tables
from dcorr_models.report.pictures import distinct_styles
from dcorr_models.run_folder import RunFolder
from dcorr_models.training.logs import COLUMNS, CsvLog
from tests.dcorr_models.toy import ToyImages, toy_cdnet

VOID = {"meta", "img", "br", "hr", "link", "input"}
EVALUATION = {
    "format": 1,
    "split": "test",
    "num_images": 48,
    "reconstruction": {
        "rmse": {"mean": 0.16712, "std": 0.02134},
        "psnr": {"mean": 15.678, "std": 1.234},
        "ms_ssim": {"mean": 0.8765, "std": 0.0654},
        "ms_ssim_scales": 2,
    },
    "leakage": {
        "linear_probe": 0.1875,
        "mlp_probe": 0.5625,
        "chance": 0.25,
        "dcor": 0.0871,
        "train_samples": 96,
    },
    "soft_target": {"accuracy": 0.9583},
    "editing": {
        "recognised": 0.9653,
        "per_class": [0.91, 0.92, 0.93, 0.94],
        "classifier_accuracy": 0.9792,
        "num_edits": 144,
    },
    "seconds": 12.3,
}


class Page(HTMLParser):
    """A strict reader: every tag closed in order, attributes and text kept."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], f"unclosed {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.words))


def make_run(folder: Path, method: Method, data: ToyImages, *, log: bool = True) -> RunFolder:
    """A run folder with settings, versions, weights and, if asked for, a log of two stages."""
    run = RunFolder(folder)
    run.begin({"method": method.settings(), "data": data.settings(), "seed": 7})
    run.weights.touch()
    if log:
        csv = CsvLog(run.log)
        for step in range(10, 60, 10):
            values = {"loss/pixel": 10.0 ** (-step / 10), "gate/generator": 1.0}
            csv.write("disentangle", step, step * 2.0, values)
    return run


def report(run: RunFolder, method: Method, splits: Splits, **options) -> Page:
    path = build_report(run, method, splits, **options)
    assert path == run.report
    assert not list(run.path.glob("*.tmp"))
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def method():
    return toy_cdnet().eval()


@pytest.fixture
def data():
    return ToyImages()


@pytest.fixture
def run(tmp_path, method, data):
    return make_run(tmp_path / "run", method, data)


class TestBuildReport:
    def test_a_whole_run(self, run, method, data):
        run.write_json(run.evaluation, EVALUATION)
        page = report(run, method, data.splits(), data_name=data.name)
        assert "CDNet on toy" in page.text
        for wanted in ("0.1671 ± 0.0213", "15.68 ± 1.23\u00a0dB", "0.8765 ± 0.0654", "0.0871"):
            assert wanted in page.text
        for wanted in ("18.8\u00a0%", "56.2\u00a0%", "96.5\u00a0%", "97.9\u00a0%", "95.8\u00a0%"):
            assert wanted in page.text
        for wanted in ("Scales of MS-SSIM 2 ", "Number of edits 144 ", "94\u00a0%"):
            assert wanted in page.text
        assert "Chance is 25\u00a0%" in page.text
        assert "trained in 1\u00a0min 40\u00a0s" in page.text
        assert "disentangle" in page.text
        assert "label_steps" in page.text
        assert torch.__version__.split("+")[0] in page.text

    def test_needs_nothing_but_itself(self, run, method, data):
        run.write_json(run.evaluation, EVALUATION)
        page = report(run, method, data.splits())
        assert not page.named("script")
        assert not page.named("link")
        assert not page.named("iframe")
        for _, attributes in page.tags:
            for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
                assert attributes.get(name, "data:").startswith(("data:image/png;base64,", "data:"))
        source = run.report.read_text(encoding="utf-8")
        assert "url(" not in source
        assert "@import" not in source
        assert not re.search(r"https?://", source)

    def test_every_picture_has_words_and_every_id_is_unique(self, run, method, data):
        page = report(run, method, data.splits())
        pictures = page.named("img")
        assert len(pictures) == 2 + 24
        assert all(len(picture["alt"]) > 10 for picture in pictures)
        assert all(svg["aria-label"] for svg in page.named("svg"))
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))

    def test_the_style_grid_names_its_columns(self, run, method, data):
        page = report(run, method, data.splits(), label_names=["ant", "bee", "cow", "doe"])
        assert "real ant bee cow doe" in page.text
        real = page.named("img")[0]["alt"]
        # The first test image of each class, then some of distinct styles.
        assert real.startswith("Real test images, one a row: ant, bee, cow, doe, ")

    def test_same_run_same_bytes(self, run, method, data):
        first = build_report(run, method, data.splits()).read_bytes()
        method.train()
        torch.rand(3)
        assert build_report(run, method, data.splits()).read_bytes() == first
        assert method.training

    def test_without_an_evaluation(self, run, method, data):
        page = report(run, method, data.splits())
        assert f"Not evaluated yet: run dcorr-models evaluate {run.path}" in page.text
        assert "Measurements" not in page.text

    def test_everything_is_escaped(self, tmp_path, method, data):
        evil = "<img src=x onerror=1>&\"'"
        run = make_run(tmp_path / "a <b> & c", method, data, log=False)
        CsvLog(run.log).write(f"stage {evil}", 10, 1.0, {f"loss/{evil}": 0.5})
        run.write_json(run.evaluation, {evil: {evil: evil}, "list": [evil]})
        run.versions.write_text(json.dumps({evil: evil}))
        page = report(run, method, data.splits(), data_name=evil, label_names=[evil] * 4)
        source = run.report.read_text(encoding="utf-8")
        assert "<img src=x" not in source
        assert "<b>" not in source
        assert evil in page.text
        assert len(page.named("img")) == 26

    @pytest.mark.parametrize(
        "content", ["", "stage,step,seconds,name,value\n", "stage,step,seconds,name,value\nd,1,2,l"]
    )
    def test_an_empty_log(self, run, method, data, content):
        run.log.write_text(content)
        page = report(run, method, data.splits())
        assert "log.csv, is empty" in page.text
        assert "trained in" not in page.text

    def test_no_log_at_all(self, tmp_path, method, data):
        run = make_run(tmp_path / "run", method, data, log=False)
        assert "log.csv, is empty" in report(run, method, data.splits()).text

    def test_a_log_of_one_row(self, run, method, data):
        run.log.write_text(",".join(COLUMNS) + "\ndisentangle,10,4.0,loss/pixel,0.25\n")
        page = report(run, method, data.splits())
        assert len(page.named("circle")) == 1
        assert "pixel loss 0.25" in page.text

    def test_values_that_are_not_finite_leave_no_trace_in_the_charts(self, run, method, data):
        lines = [f"disentangle,{i},1.0,loss/a,{v}" for i, v in enumerate(["nan", 1.0, "inf", 2.0])]
        run.log.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
        page = report(run, method, data.splits())
        assert len(page.named("polyline")) == 1
        assert "nan" not in page.named("polyline")[0]["points"]

    def test_missing_versions(self, run, method, data):
        run.versions.unlink()
        assert "versions were not recorded" in report(run, method, data.splits()).text

    def test_attributes_have_no_classes_to_swap(self, run, data):
        method = toy_cdnet(multilabel=True).eval()
        splits = Splits(*(LabelledImages(s.images, torch.zeros(len(s), 4)) for s in data.splits()))
        page = report(run, method, splits)
        assert "Every class" not in page.text
        assert "Attributes, one at a time and together" in page.text
        # No image has an attribute: there is no panel that takes one away.
        assert (
            "without" not in page.text.split("Attributes from weak to strong")[1].split("Each")[0]
        )
        assert len(page.named("img")) == 24 + 3 + 4 * 2

    def test_small_and_empty_test_splits(self, run, method, data):
        train, valid, test = data.splits()
        for count in (0, 1, 3):
            small = LabelledImages(test.images[:count], test.labels[:count])
            page = report(run, method, Splits(train, valid, small))
            assert len(page.named("img")) == (2 + count if count else 0)

    def test_settings_say_what_is_not_the_default(self, run, method, data):
        page = report(run, method, data.splits())
        assert "method.batch_size 24 default 100" in page.text
        assert "method.dropout 0.5 method" in page.text
        assert "data.train 96" in page.text


class TestRefusals:
    def test_no_weights(self, run, method, data):
        run.weights.unlink()
        with pytest.raises(RunError, match="no trained weights"):
            build_report(run, method, data.splits())
        assert not run.report.exists()

    def test_no_run(self, tmp_path, method, data):
        with pytest.raises(RunError, match="no such folder"):
            build_report(RunFolder(tmp_path / "none"), method, data.splits())

    @pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\x00"])
    def test_a_broken_evaluation(self, run, method, data, content):
        run.report.write_text("the old one")
        run.evaluation.write_text(content)
        with pytest.raises(RunError, match=r"evaluation\.json cannot be read"):
            build_report(run, method, data.splits())
        assert run.report.read_text() == "the old one"

    def test_a_file_that_is_no_log(self, run, method, data):
        run.log.write_text("something\nelse\n")
        with pytest.raises(RunError, match="not the log of a training"):
            build_report(run, method, data.splits())


class TestMeasures:
    def test_unknown_numbers_are_shown_by_their_own_name(self):
        html = measure_tables({"speed": {"images_per_second": 1234.5, "card": "A"}}, ["0"])
        page = Page(html)
        assert "Speed" in page.text
        assert "Images per second 1234 " in page.text
        assert "Card A" in page.text

    def test_missing_numbers_are_left_out(self):
        assert headlines({}) == ""
        assert measure_tables({}, ["0"]) == ""
        page = Page(headlines({"leakage": {"linear_probe": 0.5, "dcor": None}}))
        assert len(page.named("div")) == 1
        assert "Chance" not in page.text

    def test_meanings_quote_the_evaluation_where_they_can(self):
        measured = {"dcor": 0.25, "dcor_shuffled": 0.14743, "linear_probe": 0.5, "chance": 0.1}
        with_floor = Page(measure_tables({"leakage": measured}, ["0"])).text
        assert "shuffled among the images it is 0.1474." in with_floor
        assert "Chance is 10\u00a0%." in with_floor
        without = Page(measure_tables({"leakage": {"dcor": 0.25}}, ["0"])).text
        assert "shuffled among" not in without
        assert "{" not in with_floor + without

    def test_no_value_is_written_as_none(self):
        assert "none" in Page(measure_tables({"leakage": {"dcor": None}}, ["0"])).text

    def test_the_order_of_the_headlines(self):
        page = Page(headlines(EVALUATION))
        numbers = re.findall(r"<strong>(.*?)</strong>", headlines(EVALUATION))
        assert numbers == ["96.5\u00a0%", "18.8\u00a0%", "56.2\u00a0%", "0.167", "0.876"]
        assert "right in 97.9\u00a0%" in page.text

    def test_bars_for_a_number_a_class(self):
        page = Page(measure_tables(EVALUATION, ["a", "b", "c", "d"]))
        shares = [a["style"] for a in page.named("span") if a.get("class") == "bar"]
        assert shares == [f"--share:{v:.4f}" for v in EVALUATION["editing"]["per_class"]]

    def test_lists_of_another_length_stay_lists(self):
        assert not Page(measure_tables({"a": [0.5, 0.25]}, ["x"])).named("span")


class TestCurves:
    def test_stages_and_names_in_the_order_of_the_log(self):
        rows = [
            {"stage": s, "step": i, "seconds": 1.0, "name": n, "value": float(i)}
            for s in ("b", "a")
            for i in (1, 2)
            for n in ("y", "x")
        ]
        found = curves_of(rows)
        assert list(found) == ["b", "a"]
        assert [c.name for c in found["a"]] == ["y", "x"]
        assert found["b"][0] == Curve("y", [1, 2], [1.0, 2.0])

    def test_time_of_a_run_that_was_resumed(self):
        def row(stage: str, seconds: float) -> dict:
            return {"stage": stage, "step": 0, "seconds": seconds, "name": "l", "value": 0.0}

        rows = [row("a", s) for s in (5.0, 5.0, 9.0, 2.0, 3.0)] + [row("b", 4.0)]
        assert training_seconds(rows) == {"a": 12.0, "b": 4.0}

    @pytest.mark.parametrize(
        ("values", "wanted"),
        [
            ([1.0, 0.5, 0.01], True),
            ([1.0, 0.5, 0.2], False),
            ([0.0, 1.0, 100.0], False),
            ([-1.0, 1.0, 100.0], False),
        ],
    )
    def test_axis(self, values, wanted):
        drawn = chart(Curve("loss", [1, 2, 3], values))
        assert ("logarithmic" in drawn) == wanted

    @pytest.mark.parametrize(
        "values",
        [[0.0], [5.0, 5.0], [-3.0, 2.0], [1e-12, 1.0], [1e9, 2e9], [0.3, 0.300001], [1e-30, 1e-31]],
    )
    def test_every_point_lies_inside_and_the_axis_has_ticks(self, values):
        drawn = chart(Curve("loss", list(range(5, 5 + len(values))), values))
        page = Page(drawn)
        _, _, width, height = map(float, page.named("svg")[0]["viewbox"].split())
        for line in page.named("polyline"):
            for point in line["points"].split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= width
                assert 0 <= y <= height
        ticks = [a for a in page.named("text") if a["class"] == "y"]
        assert 2 <= len(ticks) <= 8
        assert all(0 <= float(a["y"]) <= height for a in ticks)

    def test_higher_values_lie_higher(self):
        line = Page(chart(Curve("loss", [1, 2, 3], [0.1, 0.2, 0.15]))).named("polyline")[0]
        first, second, third = (float(p.split(",")[1]) for p in line["points"].split())
        assert first > third > second  # y grows downwards

    def test_a_long_log_is_thinned_by_means(self):
        steps = list(range(1, 100_001))
        drawn = Page(chart(Curve("loss", steps, [float(s % 2) for s in steps])))
        points = drawn.named("polyline")[0]["points"].split()
        assert 300 <= len(points) <= 400
        assert len({p.split(",")[1] for p in points}) == 1  # the mean of 0, 1, 0, 1, ...


class TestDistinctStyles:
    def test_one_of_each_cluster(self):
        generator = torch.Generator().manual_seed(0)
        centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
        cluster = torch.arange(80) % 4
        codes = centres[cluster] + 0.1 * torch.randn(80, 2, generator=generator)
        taken = distinct_styles(codes, 3, chosen=[0])
        assert sorted(cluster[taken].tolist()) == [1, 2, 3]

    def test_not_the_outlier(self):
        codes = torch.cat([torch.linspace(-1, 1, 40), torch.tensor([100.0])])[:, None]
        assert 40 not in distinct_styles(codes, 5, chosen=[20])

    def test_constant_codes_have_one_style(self):
        assert distinct_styles(torch.ones(10, 3), 4, chosen=[2]) == []

    def test_fewer_images_than_asked_for(self):
        assert len(distinct_styles(torch.randn(3, 2), 9, chosen=[0])) <= 2


class TestMarkup:
    def test_numbers(self):
        assert number(True) == "yes"
        assert number(1234567) == "1,234,567"
        assert number(0.00001234) == "1.234e-05"
        assert number("a") == "a"
        assert share(0) == "0\u00a0%"
        assert duration(59.7) == "1\u00a0min 0\u00a0s"
        assert duration(math.nan) == "nan"
        assert text("<'\"&") == "&lt;&#x27;&quot;&amp;"
