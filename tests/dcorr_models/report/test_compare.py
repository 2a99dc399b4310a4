from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from dcorr_models.cli import main
from dcorr_models.editing import reconstruct, style_transfer
from dcorr_models.errors import RunError, UserError
from dcorr_models.experiment import load_run
from dcorr_models.pictures import data_uri
from dcorr_models.report import Comparison, compare_runs
from dcorr_models.report.compare_rows import differences, read_rows
from dcorr_models.report.pictures import picture
from dcorr_models.run_folder import RunFolder
from tests.dcorr_models.report.test_attributes import measured
from tests.dcorr_models.test_cli import refused, toy_config
from tests.dcorr_models.test_report import EVALUATION, Page

TOY = "tests.dcorr_models.toy."


def train(folder: Path, config: Path, *words: object, evaluation: dict | None = None) -> Path:
    """A trained run, and what an evaluation of it is said to have found."""
    assert main(["train", "--config", str(config), "--run", str(folder), *map(str, words)]) == 0
    if evaluation is not None:
        RunFolder(folder).write_json(RunFolder(folder).evaluation, evaluation)
    return folder


def changed(**values: float) -> dict:
    """The evaluation of the report's tests with other numbers, by dotted name."""
    content = json.loads(json.dumps(EVALUATION))
    for key, value in values.items():
        group, name = key.split("__")
        content[group][name] = value
    return content


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    config = toy_config(folder / "toy.yaml", method={"steps": 2, "label_steps": 2})
    first, second = changed(leakage__dcor=0.1), changed(leakage__dcor=0.3)
    train(folder / "dcov1", config, evaluation=first)
    train(folder / "dcov2", config, "--seed", 2, evaluation=second)
    train(folder / "xcov", config, "--method.decorrelation", "xcov", evaluation=changed())
    return folder


@pytest.fixture(scope="module")
def attributes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("attributes")
    networks = {
        "num_labels": 3,
        "multilabel": True,
        "label_encoder": {"class_path": TOY + "ToyEncoder", "init_args": {"out": 3}},
        "decoder": {"class_path": TOY + "ToyDecoder", "init_args": {"labels": 3}},
    }
    config = toy_config(
        folder / "toy.yaml",
        method={"steps": 2, "label_steps": 2} | networks,
        data={"class_path": TOY + "ToyAttributes"},
    )
    for name, seed, weight, slope in (
        ("a1", 1, 1.0, 1.0), ("a2", 2, 1.0, 2.0), ("b", 1, 0.05, 0.5),
    ):  # fmt: skip
        content = {"num_images": 48, **measured(slope)}
        errors = content["svm"]["attributes"]["Smiling"]["error"]
        content["svm"] |= {"mean_errors": errors, "mean_error": errors[-1]}
        words = ("--seed", seed, "--method.decorrelation_weight", weight)
        train(folder / name, config, *words, evaluation=content)
    return folder


class TestRows:
    def test_seeds_are_one_row_and_names_say_what_differs(self, classes):
        rows = read_rows([classes / name for name in ("dcov1", "xcov", "dcov2")])
        assert [row.name for row in rows] == [
            "CDNet, decorrelation dcov2",
            "CDNet, decorrelation xcov",
        ]
        assert [row.seeds for row in rows] == [[1, 2], [1]]
        assert rows[0].first.folder.path == classes / "dcov1"
        assert differences(rows) == {"method.decorrelation": ["dcov2", "xcov"]}

    def test_seeds_that_began_with_other_seeds_are_one_row(self, classes, tmp_path):
        def begun(name: str, run: str, start: str) -> Path:
            folder = Path(shutil.copytree(classes / run, tmp_path / name))
            config = yaml.safe_load((folder / "config.yaml").read_text())
            config["method"]["init_args"]["start_from"] = str(classes / start)
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            return folder

        runs = [begun("a", "dcov1", "dcov1"), begun("b", "dcov2", "dcov2")]
        assert [row.seeds for row in read_rows(runs)] == [[1, 2]]
        other = begun("c", "dcov2", "xcov")
        rows = read_rows([runs[0], other])
        assert [row.seeds for row in rows] == [[1], [2]]
        assert differences(rows) == {"start.decorrelation": ["dcov2", "xcov"]}
        # the copy that a run keeps tells what it began with
        shutil.copytree(classes / "dcov1", other / "start")
        assert len(read_rows([runs[0], other])) == 1
        shutil.rmtree(other / "start")
        (other / "config.yaml").write_text(
            (other / "config.yaml").read_text().replace(str(classes / "xcov"), "gone")
        )
        assert "method.start_from" in differences(read_rows([runs[0], other]))

    def test_many_settings_leave_the_defaults_out(self, classes, tmp_path):
        words = ("--method.decorrelation", "none", "--method.feature_weight", 0,
                 "--method.adversarial_weight", 0)  # fmt: skip
        train(tmp_path / "m1", classes / "toy.yaml", *words, evaluation=EVALUATION)
        rows = read_rows([classes / "dcov1", classes / "xcov", tmp_path / "m1"])
        assert [row.name for row in rows] == [
            "CDNet",
            "CDNet, decorrelation xcov",
            "CDNet, decorrelation none, feature_weight 0, adversarial_weight 0",
        ]

    def test_names_of_ones_own(self, classes):
        runs = [classes / name for name in ("dcov1", "dcov2", "xcov")]
        assert [row.name for row in read_rows(runs, ["A", "B"])] == ["A", "B"]
        assert [row.name for row in read_rows(runs, ["A\nB", " B "])] == ["A B", "B"]
        for wrong in (["A"], ["A", "B", "C"], ["A", "A"], ["A", " "], ["A", "A\n"]):
            with pytest.raises(UserError, match=r"each of the 2 rows \(CDNet, decorrelation dcov2"):
                read_rows(runs, wrong)

    def test_runs_that_cannot_be_compared(self, classes, attributes, tmp_path):
        with pytest.raises(UserError, match="nothing to compare"):
            read_rows([])
        with pytest.raises(RunError, match="no such folder"):
            read_rows([tmp_path / "none"])
        with pytest.raises(RunError, match=r"different data \(data.class_path is .*ToyImages"):
            read_rows([classes / "dcov1", attributes / "b"])
        with pytest.raises(RunError, match="same settings and the same seed"):
            read_rows([classes / "dcov1", classes / "dcov1"])
        bare = train(tmp_path / "bare", classes / "toy.yaml")
        with pytest.raises(RunError, match=f"run `dcorr-models evaluate {bare}` first"):
            read_rows([bare])
        fewer = EVALUATION | {"num_images": 20}
        other = train(tmp_path / "few", classes / "toy.yaml", "--seed", 3, evaluation=fewer)
        with pytest.raises(RunError, match=r"on 48 images and .* on 20: evaluate them alike"):
            read_rows([classes / "dcov1", other])
        (bare / "weights.safetensors").unlink()
        with pytest.raises(RunError, match="has not finished training"):
            read_rows([bare])

    def test_the_place_of_the_data_does_not_matter(self, classes, tmp_path, monkeypatch):
        monkeypatch.setattr("dcorr_models.report.compare_rows.LOCATIONS", ("data.train",))
        words = ("--data.train", 120, "--seed", 5)
        other = train(tmp_path / "r", classes / "toy.yaml", *words, evaluation=EVALUATION)
        assert len(read_rows([classes / "dcov1", other])) == 1


class TestTables:
    def test_mean_and_spread_over_seeds(self, classes):
        comparison = Comparison([classes / name for name in ("dcov1", "dcov2", "xcov")])
        lines = comparison.markdown().splitlines()
        assert lines[0].startswith("| model | seeds | RMSE ↓ | PSNR, dB ↑ | MS-SSIM ↑ | edits rec")
        head, first, second = ([c.strip() for c in lines[i].split("|")[1:-1]] for i in (0, 2, 3))
        assert len(head) == len(first) == len(second)
        dcor = head.index("dcor(ŷ, z) ↓")
        # 0.1 and 0.3: mean 0.2, standard deviation 0.1 √2.
        assert first[dcor] == "0.200 ± 0.141"
        assert second[dcor] == "0.087"
        assert first[head.index("edits recognised, % ↑")] == "96.5 ± 0.0"
        assert first[1:3] == ["2", "0.1671 ± 0.0000"]
        text = comparison.markdown()
        assert "Measured on 48 held-out images. ± is the standard deviation over seeds" in text
        assert "right in 25.0 %" in text
        assert "| CDNet, decorrelation xcov | 0.1671 ± 0.0213 | 15.68 ± 1.23 | 0.8765 ±" in text

    def test_one_seed_each_needs_no_column_of_seeds(self, classes):
        comparison = Comparison([classes / "dcov1", classes / "xcov"], ["a|b", "c"])
        lines = comparison.markdown().splitlines()
        assert lines[0].startswith("| model | RMSE ↓ |")
        assert lines[2].startswith("| a\\|b | 0.1671 | 15.68 |")
        assert "seeds" not in comparison.markdown()

    def test_what_a_run_lacks_is_a_dash(self, classes, tmp_path):
        content = {k: v for k, v in EVALUATION.items() if k != "leakage"}
        words = ("--method.decorrelation", "none")
        train(tmp_path / "r", classes / "toy.yaml", *words, evaluation=content)
        lines = Comparison([classes / "xcov", tmp_path / "r"]).markdown().splitlines()
        assert "| – |" in lines[3]
        assert "| – |" not in lines[2]


class TestPage:
    def test_classes(self, classes):
        runs = [classes / name for name in ("dcov1", "dcov2", "xcov")]
        comparison = Comparison(runs, ["dCov", "XCov"])
        html = comparison.html()
        page = Page(html)
        assert "Comparison on toy" in page.text
        assert "2 models, 3 runs, 48 test images" in page.text
        assert "Every class in the style of test image 0 (0)" in page.text
        assert not page.named("script")
        assert not re.search(r"https?://", html)
        assert all(image["alt"].count("dCov") for image in page.named("img"))
        # Rows are the runs: the first of each, on the same images.
        _, method, data = load_run(classes / "dcov1")
        other = load_run(classes / "xcov").method
        test = data.splits().test
        images, _ = test.tensors(10)
        rows = torch.stack([images, reconstruct(method, images), reconstruct(other, images)])
        assert data_uri(picture(test, rows)) in html
        rows = [
            torch.cat([images[:1], reconstruct(m, images[:1]), style_transfer(m, images[:1])[0]])
            for m in (method, other)
        ]
        assert data_uri(picture(test, torch.stack(rows))) in html

    def test_attributes(self, attributes):
        comparison = Comparison([attributes / name for name in ("a1", "a2", "b")], ["λ 1", "λ .05"])
        page = Page(comparison.html())
        for wanted in ("Attributes of test image 0", "Without Eyeglasses", "CDNet −1.5 to 3"):
            assert wanted in page.text
        charts = [svg for svg in page.named("svg") if "error against" in svg.get("aria-label", "")]
        assert len(charts) == 3
        # Two seeds: the mean of both, at the first intensity.
        mean = sum(e["svm"]["attributes"]["Smiling"]["error"][0] for e in map(measured, (1, 2))) / 2
        assert f"λ 1 from {100 * mean:.1f}\u00a0%" in charts[1]["aria-label"]
        assert "λ .05 from 67.9\u00a0%" in charts[1]["aria-label"]
        kinds = {line["class"] for line in page.named("polyline")}
        assert kinds == {"series s0", "series s1"}
        lines = comparison.markdown().splitlines()
        head, first = ([cell.strip() for cell in lines[k].split("|")] for k in (0, 2))
        # The last of the errors is that of the strongest edit.
        last = [measured(k)["svm"]["attributes"]["Smiling"]["error"][-1] for k in (1, 2)]
        cell = first[head.index("SVM error at the strongest, % ↓")]
        assert cell.startswith(f"{50 * sum(last):.1f} ± ")
        curves = [measured(k)["svm"]["attributes"]["Smiling"]["error"] for k in (1, 2)]
        cell = first[head.index("SVM error over all intensities, % ↓")]
        assert cell.startswith(f"{5 * sum(map(sum, curves)):.1f} ± ")

    def test_seeds_measured_at_other_intensities(self, attributes, tmp_path):
        content = {"num_images": 48, **measured()}
        content["svm"]["intensities"] = [i / 10 for i in range(10)]
        config = attributes / "toy.yaml"
        words = ("--method.decorrelation_weight", 0.05, "--seed", 9)
        train(tmp_path / "r", config, *words, evaluation=content)
        with pytest.raises(RunError, match="evaluated at different intensities"):
            Comparison([attributes / "b", tmp_path / "r"])

    def test_methods_measured_at_other_intensities_are_told_apart(self, attributes, tmp_path):
        content = {"num_images": 48, **measured()}
        content["svm"]["intensities"] = [i / 10 for i in range(10)]
        words = ("--method.decorrelation_weight", 0.5)
        train(tmp_path / "r", attributes / "toy.yaml", *words, evaluation=content)
        comparison = Comparison([attributes / "b", tmp_path / "r"], ["A", "B"])
        assert "intensities of each method: A, -1.5 to 3; B, 0 to 0.9." in comparison.markdown()

    def test_measured_by_another_protocol(self, attributes, tmp_path):
        for name, repeats in (("five", 5), ("one", 1)):
            content = {"num_images": 48, **measured()}
            content["svm"]["repeats"] = repeats
            words = ("--method.decorrelation_weight", repeats)
            train(tmp_path / name, attributes / "toy.yaml", *words, evaluation=content)
        with pytest.raises(RunError, match=r"svm\.repeats 5 and .* with 1: evaluate them alike"):
            Comparison([tmp_path / "five", attributes / "b", tmp_path / "one"])

    def test_what_a_method_cannot_be_measured_by_is_no_other_protocol(self, attributes, tmp_path):
        for name, samples in (("coded", 48), ("uncoded", 0)):
            content = {"num_images": 48, **measured(), "leakage": {"dcor_samples": samples}}
            words = ("--method.decorrelation_weight", samples)
            train(tmp_path / name, attributes / "toy.yaml", *words, evaluation=content)
        runs = [tmp_path / "coded", tmp_path / "uncoded"]
        assert "| B |" in Comparison(runs, ["A", "B"]).markdown()

    def test_measured_on_other_numbers_of_edits(self, attributes, tmp_path):
        for name, images in (("all", 40), ("some", 7)):
            content = {"num_images": 48, **measured()}
            first = next(iter(content["svm"]["attributes"]))
            content["svm"]["attributes"][first]["images"] = images
            words = ("--method.decorrelation_weight", images)
            train(tmp_path / name, attributes / "toy.yaml", *words, evaluation=content)
        with pytest.raises(RunError, match=rf"edits 40 images to {first} .* and .* 7: evaluate"):
            Comparison([tmp_path / "all", tmp_path / "some"])

    def test_a_method_without_label_code_is_among_the_reconstructions_alone(
        self, attributes, monkeypatch
    ):
        def without(run: Path):
            loaded = load_run(run)
            loaded.method.has_label_code = Path(run).name != "b"
            return loaded

        monkeypatch.setattr("dcorr_models.report.compare_pictures.load_run", without)
        figures = Comparison([attributes / "a1", attributes / "b"], ["A", "B"]).drawn.figures
        by_stem = {figure.stem: figure.names for figure in figures}
        assert by_stem.pop("reconstructions") == ["original", "A", "B"]
        assert set(map(tuple, by_stem.values())) == {("A",)}


class TestFiles:
    def test_pictures_and_tables(self, attributes, tmp_path):
        runs = [attributes / name for name in ("a1", "b")]
        compare_runs(
            runs,
            out=tmp_path / "new" / "c.html",
            markdown=tmp_path / "c.md",
            pictures=tmp_path / "p",
        )
        names = {path.name for path in (tmp_path / "p").iterdir()}
        assert names == {
            "reconstructions.png", "attributes_0.png", "attributes_1.png",
            "intensities_Eyeglasses.png", "intensities_Smiling.png", "intensities_Mustache.png",
            "intensities_without_Eyeglasses.png", "svm_errors.svg",
        }  # fmt: skip
        assert Image.open(tmp_path / "p" / "reconstructions.png").height == 3 * 84 + 2 * 4
        assert (
            (tmp_path / "c.md").read_text().startswith("<!-- dcorr-models compare -->\n\n| model")
        )
        before = (tmp_path / "new" / "c.html").read_bytes()
        # Its own files may be written again.
        compare_runs(runs, out=tmp_path / "new" / "c.html", markdown=tmp_path / "c.md")
        assert (tmp_path / "new" / "c.html").read_bytes() == before

    def test_no_picture_takes_the_place_of_another(self, attributes, monkeypatch):
        comparison = Comparison([attributes / "b"])
        stems = ["a b", "A_B", "a/b", "c"]
        pairs = zip(comparison.drawn.figures, stems, strict=False)
        figures = [figure._replace(stem=stem) for figure, stem in pairs]
        comparison._drawn = comparison.drawn._replace(figures=figures)
        names = {name.lower() for name in comparison.pictures()}
        assert names == {"a_b.png", "a_b_1.png", "a_b_2.png", "c.png", "svm_errors.svg"}

    def test_one_file_for_two_things(self, attributes, tmp_path):
        path = tmp_path / "c"
        with pytest.raises(UserError, match="cannot be the page and the tables"):
            compare_runs([attributes / "b"], out=path, markdown=tmp_path / "x" / ".." / "c")
        with pytest.raises(UserError, match="cannot be a file and the folder of pictures"):
            compare_runs([attributes / "b"], out=path, pictures=path)
        assert not path.exists()

    def test_other_files_are_kept(self, attributes, tmp_path):
        (tmp_path / "mine.html").write_text("mine")
        for options in (
            {"out": tmp_path / "mine.html"},
            {"markdown": tmp_path / "mine.html"},
            {"out": tmp_path},
            {"pictures": tmp_path},
            {"pictures": tmp_path / "mine.html"},
            {"out": tmp_path / "mine.html" / "c.html"},
        ):
            with pytest.raises(UserError):
                compare_runs([attributes / "b"], **options)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]
        assert (tmp_path / "mine.html").read_text() == "mine"

    def test_the_command(self, attributes, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        runs = [str(attributes / name) for name in ("a1", "b")]
        capsys.readouterr()
        assert main(["compare", *runs, "--markdown", "-", "--names", "[A, B]"]) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith("| model | ")
        assert printed.err == ""
        assert list(tmp_path.iterdir()) == []
        assert main(["compare", *runs]) == 0
        assert (tmp_path / "compare.html").exists()
        assert main(["compare", *runs, "--pictures", "p", "--markdown", "t.md"]) == 0
        assert (tmp_path / "t.md").exists()
        assert "each of the 2 rows" in refused(capsys, "compare", *runs, "--names", "[A]")
        assert "no such folder" in refused(capsys, "compare", tmp_path / "none")
