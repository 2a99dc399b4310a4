"""Traversals: the right number moves; in the report, in comparisons, and as a GIF."""

from __future__ import annotations

import io
import json

import pytest
import torch
from PIL import Image

from dcorr_models.cli import main
from dcorr_models.data.views import some_rows
from dcorr_models.editing.traversal import by_spread, drawers, traverse, traverse_file
from dcorr_models.errors import UserError
from dcorr_models.evaluation import DisentanglementProtocol, evaluate
from dcorr_models.report.compare_rows import Entry, Row
from dcorr_models.report.compare_table import metric_table, notes
from dcorr_models.report.measures import headlines, measure_tables
from dcorr_models.report.traversals import latent_samples, nuisance_grids, traversal_grids
from dcorr_models.run_folder import RunFolder
from tests.dcorr_models.latent_columns import (
    NAMES,
    SIDE,
    SPLITS,
    ColumnData,
    Columns,
    Distilled,
    Drawer,
)
from tests.dcorr_models.toy import toy_cdnet

TEST = SPLITS.test
NO_TEST = SPLITS._replace(test=some_rows(SPLITS.test, torch.arange(0)))


def test_only_the_named_number_moves():
    images = traverse(Columns(), torch.zeros(2), [1, 0], torch.tensor([-2.0, 0.0, 2.0]))
    assert images.shape == (2, 3, 1, SIDE, SIDE)
    places, shades = images[:, :, 0, 0].max(dim=-1).indices, images.amax(dim=(2, 3, 4))
    assert len(set(places[0].tolist())) == 1
    assert shades[0].diff().min() > 0  # dimension 1 is the shade
    assert places[1].diff().min() > 0
    assert len(set(shades[1].tolist())) == 1
    assert torch.equal(images[0, 1], images[1, 1])  # both are at the base


def test_all_images_of_a_traversal_have_one_s():
    images = traverse(Distilled(), torch.zeros(2), [0], torch.zeros(4))
    assert torch.equal(images, images[:, :1].expand_as(images))


def test_dimensions_that_tell_most_come_first():
    method = Columns()
    method.std = method.std * torch.tensor([10.0, 1.0])  # means of dimension 0 hardly spread
    spread = by_spread(method, TEST.tensors()[0])
    assert (spread.order, spread.images) == ([1, 0], len(TEST))
    assert spread.std[0] < spread.std[1]
    assert by_spread(Drawer(), TEST.tensors()[0]) == ([0, 1], [], 0)


def test_the_report_shows_vae_and_generator_side_by_side():
    assert list(drawers(Distilled())) == ["Columns", "Distilled"]
    alone, both = traversal_grids(Columns(), SPLITS), traversal_grids(Distilled(), SPLITS)
    assert (alone.count("<img"), both.count("<img")) == (1, 2)
    assert "On the left drawn by Columns and on the right Distilled" in both
    assert "the first test image" in alone
    assert "at the code of 0" in traversal_grids(Drawer(), SPLITS)
    assert nuisance_grids(Distilled(), TEST).count("<img") == 2
    assert nuisance_grids(Columns(), TEST) == ""
    assert latent_samples(Columns(), TEST).count("<img") == 1
    for section in (nuisance_grids, latent_samples):
        assert section(toy_cdnet(), TEST) == ""
    assert traversal_grids(toy_cdnet(), SPLITS) == ""


def test_where_all_images_train_traversals_begin_at_one_of_them(tmp_path):
    shown = traversal_grids(Columns(), NO_TEST)
    assert "the first training image" in shown
    assert f"over {len(SPLITS.train)} training images: " in shown

    class AllTrain(ColumnData):
        def splits(self):
            return NO_TEST

    own = tmp_path / "own.png"
    Image.new("L", (SIDE, SIDE), 100).save(own)
    assert traverse_file(Columns(), AllTrain(), tmp_path / "a.gif", image=own, frames=2).exists()
    for number, method in enumerate((Columns(), Drawer())):
        out = tmp_path / f"{number}.gif"
        assert traverse_file(method, AllTrain(), out, index=3, frames=2).exists()
    with pytest.raises(UserError, match="index 384 is outside the 384 training images"):
        traverse_file(Columns(), AllTrain(), tmp_path / "b.gif", index=384, frames=2)


def test_the_gif_goes_there_and_back(tmp_path):
    out = traverse_file(Distilled(), ColumnData(), tmp_path / "new" / "a.gif", frames=5)
    with Image.open(out) as gif:
        assert gif.n_frames == 8
        assert gif.info["loop"] == 0
        frames = []
        for number in range(8):
            gif.seek(number)
            frames.append(gif.convert("RGB").tobytes())
    assert frames[1:4] == frames[7:4:-1]
    assert len(set(frames)) == 5


def test_an_image_of_the_users_own(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (SIDE, SIDE), 100).save(buffer, "PNG")
    (tmp_path / "own.png").write_bytes(buffer.getvalue())
    for method in (Columns(), Drawer()):
        arguments = {"image": tmp_path / "own.png", "dimensions": [1], "frames": 2}
        out = tmp_path / f"{type(method).__name__}.gif"
        if method.has_encoder:
            assert traverse_file(method, ColumnData(), out, **arguments).exists()
        else:
            with pytest.raises(UserError, match="has no encoder: leave the image file out"):
                traverse_file(method, ColumnData(), out, **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": [2]}, "dimension 2 is outside the 2 of this Columns"),
        ({"dimensions": [0, 0]}, "name each dimension once"),
        ({"dimensions": []}, "at least one"),
        ({"frames": 1}, "frames must be 2 or more"),
        ({"reach": 0.0}, "range above 0"),
        ({"index": 10_000}, "index 10000 is outside"),
    ],
)
def test_mistakes(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        traverse_file(Columns(), ColumnData(), tmp_path / "a.gif", **options)
    assert not list(tmp_path.iterdir())


def test_other_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"end its name in \.gif"):
        traverse_file(Columns(), ColumnData(), tmp_path / "a.png")
    (tmp_path / "a.gif").write_text("mine")
    with pytest.raises(UserError, match="exists: give --out a new name"):
        traverse_file(Columns(), ColumnData(), tmp_path / "a.gif")
    with pytest.raises(UserError, match="has no independent latent numbers"):
        traverse_file(toy_cdnet(), ColumnData(), tmp_path / "b.gif")
    assert main(["traverse", str(tmp_path / "no_run")]) == 2


@pytest.fixture(scope="module")
def evaluations():
    protocol = DisentanglementProtocol(
        samples=270, votes=50, network_images=200, network_epochs=1, gilbo_steps=2,
        aligned_samples=20,
    )  # fmt: skip
    found = [
        evaluate(method, SPLITS, disentanglement=protocol, factor_names=NAMES)
        for method in (Columns(), Drawer())
    ]
    return [json.loads(json.dumps(one)) for one in found]


def test_the_words_of_the_report(evaluations):
    shown = headlines(evaluations[0])
    for words in ("FactorVAE metric", "MIG", "L_ID", "GILBO", "Fréchet distance"):
        assert words in shown
    tables = measure_tables(evaluations[0], ())
    assert "x 0; shade 1" in tables  # the best dimensions, by the factors' names
    assert "Codes shuffled among the images reach" in tables
    assert "Mutual information</" not in tables  # a matrix
    assert "FactorVAE metric" not in headlines(evaluations[1])


def test_a_comparison(evaluations, tmp_path):
    config = {"method": {"class_path": "a.Columns"}, "data": {}, "seed": 1}
    rows = [
        Row(name, (Entry(RunFolder(tmp_path), config, evaluation),))
        for name, evaluation in zip(("VAE", "GAN"), evaluations, strict=True)
    ]
    table = metric_table(rows)
    for column in ("FVM ↑", "MIG ↑", "DCI: D ↑", "SAP ↑", "L_ID, nats ↑", "GILBO, nats ↑"):
        assert column in table.head
    assert table.rows[1][table.head.index("FVM ↑")] == "–"
    assert table.rows[1][table.head.index("GILBO, nats ↑")] != "–"
    said = " ".join(notes(rows))
    assert "Codes of L_ID and GILBO are drawn from the prior, N(0, I): GAN." in said
    assert "With the codes shuffled among the images, FVM is" in said
