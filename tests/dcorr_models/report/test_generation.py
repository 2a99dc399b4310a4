"""The report and the comparison of methods that draw images of a class."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from dcorr_models.data.three_moons import ThreeMoons
from dcorr_models.errors import RunError
from dcorr_models.evaluation import ClassContentProtocol, GenerationProtocol, evaluate
from dcorr_models.report import Comparison, build_report
from dcorr_models.report.generation import (
    _same_noise,
    draw_rows,
    fixed_code_grids,
    inpainting_rows,
    point_figure,
    sample_grid,
    single_dimensions,
)
from dcorr_models.report.points import point_chart
from dcorr_models.run_folder import RunFolder
from tests.dcorr_models.methods.test_cvae import toy as toy_cvae
from tests.dcorr_models.test_generation_evaluation import ToyMoons
from tests.dcorr_models.test_report import Page, make_run
from tests.dcorr_models.toy import ToyContents, ToyGaussians, ToyImages, ToySamples, toy_cdnet

QUICK = GenerationProtocol(samples=4, classifier_epochs=1, diversity_images=2, features="pixels")
CODES = ClassContentProtocol(distance="l1", pairs=5, probe_steps=3)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Page:
    """The report of an evaluated method with class Gaussians."""
    method, data = ToyGaussians(spread=0.02), ToyContents()
    run = make_run(tmp_path_factory.mktemp("report") / "run", method, data, log=False)
    found = evaluate(
        method, data.splits(), transfer=CODES, generation=QUICK, target_names=["bar_place"]
    )
    run.write_json(run.evaluation, found)
    names = data.label_names
    return Page(build_report(run, method, data.splits(), label_names=names).read_text("utf-8"))


def test_every_section_is_there(built):
    for title in (
        "Drawn images of each class",
        "One code fixed, the other varied",
        "One dimension of the content code at a time",
        "The class of one image, the content of another",
        "Holes filled in",
    ):
        assert title in built.text
    assert "Drawn points" not in built.text
    assert "codes from class Gaussians, seed 0" in built.text


def test_numbers_have_words(built):
    assert "Diversity within a class (d_intra)" in built.text
    assert "Fréchet distance" in built.text
    assert "Numbers of different features do not compare." in built.text
    assert "Purity of the clusters of class codes" in built.text
    assert "Accuracy of the judging" not in built.text
    assert "bar place" in built.text  # the target's name beside its error


def test_a_method_without_an_encoder_shows_samples_alone(tmp_path):
    method, data = ToySamples(), ToyImages()
    run = make_run(tmp_path / "run", method, data)
    page = Page(build_report(run, method, data.splits()).read_text("utf-8"))
    assert "Drawn images of each class" in page.text
    for title in ("Reconstructions", "Holes filled in", "Every class in the style", "One code"):
        assert title not in page.text


def test_methods_that_draw_nothing_have_none_of_it():
    test = ToyImages().splits().test
    method = toy_cdnet().eval()
    assert sample_grid(method, test, "abcd") == fixed_code_grids(method, test, "abcd") == ""
    assert single_dimensions(method, test, "abcd") == inpainting_rows(method, test) == ""
    assert point_figure(method, ToyImages().splits(), "abcd") == ""


def test_samples_class_by_class():
    method = ToySamples(known=3)
    rows = draw_rows(method, [0, 2], 4)
    assert rows.shape == (2, 4, 1, 12, 12)
    assert bool((rows[0, :, 0, :6, :6].mean(dim=(1, 2)) > 0.6).all())
    assert bool((rows[1, :, 0, 6:, :6].mean(dim=(1, 2)) > 0.6).all())
    assert torch.equal(rows, draw_rows(method, [0, 2], 4))
    page = Page(sample_grid(method, ToyImages().splits().test, "abcd"))
    assert [image["alt"] for image in page.named("img")] == [
        "10 drawn images of each class, by row: a, b, c"
    ]


def test_the_dimensions_that_vary_most_are_shown():
    """The toy's four bars vary, its fifth number does not."""
    page = Page(single_dimensions(ToyGaussians(), ToyContents().splits().test, "abcdefgh"))
    shown = [image["alt"].split(" of ")[0] for image in page.named("img")]
    assert len(shown) == 3
    assert "Dimension 4" not in shown


def test_of_a_method_with_one_hot_labels_the_other_code_varies():
    torch.manual_seed(0)
    method, test = toy_cvae().eval(), ToyImages().splits().test
    page = Page(fixed_code_grids(method, test, "abcd"))
    assert "Class fixed, z varied." in page.text
    (image,) = page.named("img")  # a class has one label code: no second picture
    assert "the class code the same in each row: a, b, c, d" in image["alt"]
    page = Page(single_dimensions(method, test, "abcd"))
    assert "of z from -3 to 3" in page.text
    assert "z_u" not in page.text


def test_every_row_varies_by_the_same_random_numbers():
    labels = torch.tensor([0, 2, 5])
    codes = _same_noise(ToyGaussians(spread=0.1), labels, seed=3)
    noise = codes.label[:, 0] - labels * 30 / 255
    torch.testing.assert_close(noise, noise[:1].expand(3))
    assert float(noise[0]) != 0
    assert torch.equal(codes.residual, codes.residual[:1].expand(3, -1))


def test_points_are_drawn_as_points(tmp_path):
    splits = ThreeMoons(train=90, valid=0, test=300).splits()
    method = ToyMoons().eval()
    page = Page(point_figure(method, splits, ["left", "middle", "right"]))
    charts = [svg["aria-label"] for svg in page.named("svg") if "aria-label" in svg]
    assert charts[0] == "Real test points: 300, 0 of them outside the frame"
    assert charts[1].startswith("Drawn points: 600, ")
    assert "a run keeps one checkpoint" in page.text
    assert sample_grid(method, splits.test, "abc") == inpainting_rows(method, splits.test) == ""


def test_points_outside_the_frame_are_counted():
    inside = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    svg = point_chart([inside, inside + 100], bounds_of=[inside], title="two")
    assert svg.count("<circle") == 20
    assert "two: 40, 20 of them outside the frame" in svg
    broken = torch.full((1, 2), torch.nan)
    assert "1 of them outside" in point_chart([broken], bounds_of=[inside], title="one")


def evaluated(folder, method, data, **options) -> RunFolder:
    """A finished run of a toy, measured."""
    run = RunFolder(folder)
    run.begin({"method": method.settings(), "data": data.settings(), "seed": 1})
    weights = {k: v.contiguous() for k, v in method.state_dict().items()}
    save_file(weights, run.weights, metadata={"fingerprint": run.fingerprint()})
    found = evaluate(method.eval(), data.evaluation_splits(), generation=QUICK, **options)
    run.write_json(run.evaluation, found)
    return run


def test_compare(tmp_path):
    data = ToyImages(train=40)
    methods = {"exact": ToySamples(), "collapsed": ToySamples(collapsed=True)}
    runs = [evaluated(tmp_path / name, method, data) for name, method in methods.items()]
    compared = Comparison([run.path for run in runs], list(methods))
    table = compared.markdown()
    assert "| samples recognised, % ↑ | d_intra ↑ | Fréchet (pixels) ↓ |" in table
    assert "Real training images have a d_intra of" in table
    figures = {figure.stem: figure for figure in compared.drawn.figures}
    assert "reconstructions" not in figures
    assert figures["samples_2"].names == ["real", "exact", "collapsed"]
    content = json.loads(runs[0].evaluation.read_text())
    content["generation"]["samples_per_class"] = 5
    runs[0].evaluation.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"with generation.samples_per_class 5"):
        Comparison([run.path for run in runs])


def test_compare_points(tmp_path):
    data = ThreeMoons(train=90, valid=0, test=300)
    runs = [evaluated(tmp_path / str(part), ToyMoons(part=part), data) for part in (1.0, 0.2)]
    compared = Comparison([run.path for run in runs], ["whole", "middle"])
    assert "| axis reached, % ↑ | W₁ along the axis ↓ | W₁ across it ↓ |" in compared.markdown()
    assert "Real training points reach" in compared.markdown()
    assert compared.drawn.figures == []
    assert list(compared.drawn.points) == ["real", "whole", "middle"]
    chart = compared.pictures()["points.svg"].decode()
    assert chart.count("<circle") > 1000
    assert "Drawn points" in Page(compared.html()).text


def test_compare_notes_hold_the_baselines_of_content_transfer(tmp_path):
    run = evaluated(tmp_path / "run", ToyGaussians(), ToyContents(), transfer=CODES)
    words = Comparison([run.path]).markdown()
    assert "The image that gives the class, as it is in place of the transfer, is at 0." in words
    assert "The one that gives the content is at 0." in words


@pytest.mark.parametrize(
    "part",
    [
        {"generation": [1]},
        {"generation": {"inception": 3}},
        {"generation": {"recognised": {"rate": "high"}}},
        {"purity": {"clusters": "high"}},
    ],
)
def test_a_damaged_evaluation_is_named(tmp_path, part):
    method, data = ToySamples(), ToyImages()
    run = make_run(tmp_path / "run", method, data)
    run.evaluation.write_text(json.dumps({"kind": "generation", **part}))
    with pytest.raises(RunError, match="does not hold what this version measures"):
        build_report(run, method, data.splits())
