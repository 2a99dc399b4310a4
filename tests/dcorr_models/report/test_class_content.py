"""The report of class and content codes."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from safetensors.torch import save_file

from dcorr_models.data import LabelledImages
from dcorr_models.editing.swap import example_rows
from dcorr_models.errors import RunError
from dcorr_models.evaluation import ClassContentProtocol, evaluate
from dcorr_models.report import Comparison, build_report
from dcorr_models.report.class_content import (
    collapse_chart,
    leakage_curves,
    shown_classes,
    swap_grid,
    translation_grid,
)
from dcorr_models.report.scatter import scatter_chart
from dcorr_models.run_folder import RunFolder
from dcorr_models.training.logs import CsvLog
from tests.dcorr_models.test_cli import TOY, toy_config
from tests.dcorr_models.test_report import Page, make_run
from tests.dcorr_models.toy import (
    ToyClassContent,
    ToyContents,
    ToyDecoder,
    ToyEncoder,
    ToyImages,
    toy_cdnet,
)

QUICK = ClassContentProtocol(distance="l1", pairs=5, probe_steps=3)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Page:
    """The report of an evaluated run with a log of two leakages."""
    folder = tmp_path_factory.mktemp("report") / "run"
    method, data = ToyClassContent(variational=True), ToyContents(test_classes=3)
    run = make_run(folder, method, data, log=False)
    log = CsvLog(run.log)
    for step in (10, 20, 30):
        shares = {"leakage/class_from_content": 1 / step, "leakage/chance": 0.1}
        log.write("latents", step, step * 2.0, {"loss/image": 1.0 / step, **shares})
    run.write_json(run.evaluation, evaluate(method, data.splits(), transfer=QUICK))
    names = data.label_names
    return Page(build_report(run, method, data.splits(), label_names=names).read_text("utf-8"))


def test_every_section_is_there(built):
    for title in (
        "The class of one image, the content of another",
        "Each image as each class",
        "Has the code collapsed?",
        "What the content code tells of the class, during training",
    ):
        assert title in built.text
    assert "1 of 5 dimensions of the content code are at the prior" in built.text
    assert "Every class in the style of an image" not in built.text


def test_numbers_have_words(built):
    assert "Content transfer" in built.text
    assert "pixel L1" in built.text
    assert "Class read from content codes (y ← C)" in built.text
    assert "Content read from class codes (y → C)" in built.text
    assert (
        "names the class of an image it has not seen. Lower is better. Chance is 20" in built.text
    )
    assert "One that reads nothing has" in built.text


def test_leakage_is_drawn_once(built):
    """In its own section, and not again among the losses."""
    labels = [svg["aria-label"] for svg in built.named("svg") if "aria-label" in svg]
    leaking = [label for label in labels if "class from content" in label]
    assert leaking == [
        "Leakage during latents: class from content from 10\u00a0% at 10 to 3.3\u00a0% at 30; "
        "chance from 10\u00a0% at 10 to 10\u00a0% at 30"
    ]


def test_other_methods_have_none_of_it():
    splits = ToyImages().splits()
    assert swap_grid(toy_cdnet(), splits.test, list("abcd")) == ""
    assert translation_grid(toy_cdnet(), splits, list("abcd")) == ""
    assert collapse_chart({"kind": "classes"}) == collapse_chart(None) == ""
    assert leakage_curves([]) == ""


def test_classes_of_the_training_split_in_columns():
    page = Page(
        translation_grid(ToyClassContent(), ToyContents(test_classes=3).splits(), "abcdefgh")
    )
    alts = [image["alt"] for image in page.named("img")]
    assert alts == [
        "Test images, one a row (f, g, h, f, g)",
        "The same images as each class, by column: a, b, c, d, e",
    ]
    assert shown_classes(LabelledImages(torch.zeros(40, 1, 1, 1).byte(), torch.arange(40)))[
        -2:
    ] == [
        33,
        36,
    ]


def test_examples_differ_in_class_and_content():
    test = ToyContents().splits().test
    rows = example_rows(test, 4)
    assert test.labels[rows].tolist() == [0, 2, 4, 6]
    assert test.content[rows].tolist() == [0, 1, 2, 3]
    assert len(example_rows(test, 1000)) <= len(test)


def test_images_with_attributes_are_taken_evenly():
    attributes = LabelledImages(torch.zeros(9, 1, 1, 1).byte(), torch.zeros(9, 2))
    assert example_rows(attributes, 3) == [0, 3, 6]


def test_scatter():
    svg = scatter_chart([1, 2, 3], [0.0, 0.5, 1.0], reference=1.0, title="mean σ")
    assert svg.count("<circle") == 3
    assert "mean σ: 3 values from 0 to 1" in svg
    assert "nan" not in scatter_chart([1], [0.0], reference=0.0, title="one")


@pytest.mark.parametrize(
    "part",
    [
        {"collapse": {"absolute_mean": [0.0], "std": [1.0, 1.0]}},
        {"collapse": {"absolute_mean": ["a"], "std": [1.0]}},
        {"collapse": [1]},
        {"transfer": {"transfer": "low"}},
        {"probes": {"class_from_content": {"accuracy": "low"}}},
    ],
)
def test_a_damaged_evaluation_is_named(tmp_path, part):
    method, data = ToyClassContent(), ToyContents()
    run = make_run(tmp_path / "run", method, data)
    run.evaluation.write_text(json.dumps({"kind": "class_content", **part}))
    with pytest.raises(RunError, match="does not hold what this version measures"):
        build_report(run, method, data.splits())


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Comparison:
    """A method of class and content codes, one that leaks, and one of one-hot classes."""
    folder = tmp_path_factory.mktemp("compared")
    data = ToyContents()
    methods = {
        "exact": ToyClassContent(),
        "leaks": ToyClassContent(leaks=True),
        "other": toy_cdnet(num_labels=8, label_encoder=ToyEncoder(8), decoder=ToyDecoder(8)),
    }
    networks = {
        "num_labels": 8,
        "label_encoder": {"class_path": TOY + "ToyEncoder", "init_args": {"out": 8}},
        "decoder": {"class_path": TOY + "ToyDecoder", "init_args": {"labels": 8}},
    }
    written = yaml.safe_load(toy_config(folder / "toy.yaml", method=networks).read_text())
    for name, method in methods.items():
        # a module does not know the arguments that it was made with
        own = written["method"] if name == "other" else method.settings()
        settings = {"method": own, "data": data.settings(), "seed": 1}
        run = RunFolder(folder / name)
        run.begin(settings)
        weights = {k: v.contiguous() for k, v in method.state_dict().items()}
        save_file(weights, run.weights, metadata={"fingerprint": run.fingerprint()})
        if name == "other":
            run.write_json(run.evaluation, {"num_images": 32, "leakage": {"linear_probe": 0.5}})
            continue
        log = CsvLog(run.log)
        log.write("latents", 10, 1.0, {"leakage/class_from_content": 0.5})
        log.write("latents", 20, 2.0, {"leakage/class_from_content": 0.25})
        run.write_json(run.evaluation, evaluate(method.eval(), data.splits(), transfer=QUICK))
    return Comparison([folder / name for name in methods], ["exact", "leaks", "other"])


def test_compare_names_the_distance_and_chance(compared):
    table = compared.markdown()
    assert "| content transfer (pixel L1) ↓ | y ← C, % ↓ | y → C, % ↓ |" in table
    assert "y ← C is the class read from content codes; chance is 12.5 %." in table
    assert "y → C is the content read from class codes; chance is 25.0 %." in table
    other = next(line for line in table.splitlines() if line.startswith("| other"))
    assert other.split(" | ")[1:4] == ["–", "–", "–"]


def test_compare_draws_each_method_as_it_can(compared):
    figures = {figure.stem: figure for figure in compared.drawn.figures}
    assert figures["reconstructions"].names == ["original", "exact", "leaks", "other"]
    assert figures["swaps_0"].names == ["original", "exact", "leaks"]
    assert figures["classes_a"].names == ["other"]
    # the toy is exact: its swap of a class with its own content is the image
    swaps = figures["swaps_0"].images
    assert (swaps[1, :2] - swaps[0, :2]).abs().max() < 1.01 / 255


def test_compare_draws_leakage(compared):
    page = Page(compared.html())
    assert "What codes tell of each other, during training" in page.text
    chart = compared.pictures()["leakage.svg"].decode()
    assert chart.count("<polyline") == 2 + 3  # two curves, and the legend of three rows


def test_compare_refuses_other_distances(compared, tmp_path):
    row = compared.rows[0].first
    content = dict(row.evaluation)
    content["transfer"] = {**content["transfer"], "distance": "another"}
    path = row.folder.evaluation
    kept = path.read_text()
    try:
        path.write_text(json.dumps(content))
        with pytest.raises(RunError, match=r"with transfer.distance .*another"):
            Comparison([entry.folder.path for r in compared.rows for entry in r.entries])
    finally:
        path.write_text(kept)
