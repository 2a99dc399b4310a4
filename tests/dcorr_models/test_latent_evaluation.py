"""Evaluation of independent latent numbers whose every number is known."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from dcorr_models.data import LabelledImages, Splits
from dcorr_models.data.views import some_rows
from dcorr_models.errors import UserError
from dcorr_models.evaluation import (
    AttributeProtocol,
    DisentanglementProtocol,
    GenerationProtocol,
    disentanglement,
    evaluate,
)
from dcorr_models.evaluation.image_pool import Pool
from tests.dcorr_models.latent_columns import NAMES, SHADES, SIDE, SPLITS, Columns, Drawer
from tests.dcorr_models.toy import ToyImages, toy_cdnet


class Corners(nn.Module):
    """Two features, so that few samples are enough: where the column is, and how bright."""

    def forward(self, images: Tensor) -> Tensor:
        rows = images[:, 0, 0]
        return torch.stack([rows @ torch.linspace(-1, 1, SIDE), rows.sum(dim=1)], dim=1)


QUICK = DisentanglementProtocol(
    samples=300, votes=100, features=Corners(), gilbo_steps=20, aligned_samples=100
)


def measured(method, protocol=QUICK, splits=SPLITS, **options):
    return evaluate(method, splits, disentanglement=protocol, factor_names=NAMES, **options)


@pytest.fixture(scope="module")
def exact():
    return measured(Columns())


def test_a_perfect_method(exact):
    assert (exact["kind"], exact["num_images"]) == ("latent", 96)
    assert exact["reconstruction"]["rmse"]["mean"] == pytest.approx(0, abs=1e-6)
    found = exact["disentanglement"]
    assert (found["images"], found["active"], found["dimensions"]) == (300, 2, 2)
    assert found["names"] == ["x", "shade"]  # what never varies is left out
    assert found["factor_vae"]["score"] == 1.0
    assert found["mig"]["mig"] > 0.8
    assert found["dci"]["disentanglement"] > 0.9
    assert found["sap"]["per_factor"][1] > 0.1
    assert found["skipped"] == {}
    assert exact["collapse"]["at_prior"] == 0
    assert exact["generation"]["samples_from"] == "the prior, N(0, I)"
    assert exact["generation"]["frechet"]["features"] == "Corners"
    assert exact["alignment"]["codes_from"] == "the posterior of real images"
    assert json.loads(json.dumps(exact, allow_nan=False)) == exact


def test_codes_of_real_images_draw_the_real_distribution(exact):
    protocol = DisentanglementProtocol(
        **{**vars(QUICK), "drawn_from": "aggregated", "gilbo_steps": 0, "samples": 240}
    )
    found = measured(Columns(), protocol)
    assert found["generation"]["frechet"]["distance"] < 0.05
    assert found["generation"]["frechet"]["others"] == 240
    assert found["generation"]["samples_from"] == "the posterior of real images"
    assert exact["generation"]["frechet"]["distance"] > found["generation"]["frechet"]["distance"]
    assert "gilbo" not in found["alignment"]


def test_mixed_and_misled_numbers(exact):
    mixed, misled = measured(Columns(mixed=True)), measured(Columns(misled=True))
    assert mixed["disentanglement"]["mig"]["mig"] < 0.3
    assert misled["disentanglement"] == exact["disentanglement"]  # its encoder is as good
    right, wrong, turned = (
        found["alignment"]["l_id"]["log_likelihood"] for found in (exact, misled, mixed)
    )
    assert right > wrong + 100  # sure, and wrong
    assert turned > wrong + 100


def test_a_collapsed_encoder_is_named_and_the_rest_measured():
    found = measured(Columns(collapsed=True))
    why = found["disentanglement"]["skipped"]["all measures"]
    assert why.startswith("0 of 2 dimensions of the code has a variance of at least 0.05")
    assert found["collapse"]["at_prior"] == 2
    assert "mig" not in found["disentanglement"]
    assert "frechet" in found["generation"]


def test_a_method_without_an_encoder(exact):
    found = measured(Drawer())
    assert found["num_images"] == exact["num_images"]
    assert not {"reconstruction", "disentanglement", "collapse"} & found.keys()
    assert set(found["alignment"]) == {"codes_from", "seed", "gilbo"}
    assert found["generation"]["frechet"] == exact["generation"]["frechet"]


def test_the_network_of_factors_reads_the_features():
    protocol = DisentanglementProtocol(
        samples=400, votes=20, gilbo_steps=0, network_images=300, network_epochs=10
    )
    found = measured(Columns(), protocol)["generation"]
    assert found["frechet"]["dimensions"] == 256
    assert found["frechet"]["features"] == "ConvNet trained on these data's factors"
    assert (found["network"]["names"], found["network"]["images"]) == (["x", "shade"], 300)
    assert found["network"]["accuracy"] > 0.8
    assert found["network"]["chance"] == pytest.approx([1 / SIDE, 1 / SHADES])


def test_fewer_samples_than_features_are_warned_of():
    protocol = DisentanglementProtocol(samples=40, votes=20, features="pixels", gilbo_steps=0)
    with pytest.warns(UserWarning, match="40 samples of 144 features"):
        found = measured(Columns(), protocol)
    assert found["generation"]["frechet"]["enough_samples"] is False


def test_data_without_factors():
    bare = Splits(*(LabelledImages(part.images, part.labels) for part in SPLITS))
    protocol = DisentanglementProtocol(samples=50, gilbo_steps=2)
    found = measured(Columns(), protocol, bare)
    assert "know no factors" in found["disentanglement"]["skipped"]["all measures"]
    assert "choose other features" in found["generation"]["skipped"]["frechet"]
    assert "l_id" in found["alignment"]


def test_where_all_images_train_all_but_reconstructions_is_measured():
    bare = SPLITS._replace(test=some_rows(SPLITS.test, torch.arange(0)))
    found = measured(Columns(), splits=bare)
    assert found["num_images"] == 0
    assert "reconstruction" not in found
    assert found["disentanglement"]["factor_vae"]["score"] == 1.0
    protocol = DisentanglementProtocol(
        samples=270, votes=20, gilbo_steps=0, network_images=100, network_epochs=1
    )
    network = measured(Columns(), protocol, bare)["generation"]["network"]
    assert set(network) == {"names", "images", "epochs"}  # nothing held out to score it by
    with pytest.raises(UserError, match="no image to measure on"):
        evaluate(toy_cdnet(), bare)


def test_features_that_cannot_be_read_stop_it_before_all_else(monkeypatch):
    monkeypatch.setattr(disentanglement, "posterior_of", None)  # nothing is encoded before
    protocol = DisentanglementProtocol(features=nn.Linear(5, 2), samples=300)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measured(Columns(), protocol)


def test_the_seed_decides_and_random_state_stays(exact):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again = measured(Columns())
    assert torch.equal(before, torch.get_rng_state())
    assert {**again, "seconds": 0} == {**exact, "seconds": 0}
    other = measured(Columns(), seed=1)
    assert other["generation"]["frechet"] != exact["generation"]["frechet"]


def test_the_pool_reads_all_splits_in_any_order():
    pool = Pool(SPLITS)
    assert len(pool) == 48 * 11
    rows = torch.tensor([500, 3, 400, 384, 383])
    expected = torch.cat([part.tensors()[0] for part in SPLITS])[rows]
    assert torch.equal(pool.images(rows), expected)
    assert torch.equal(pool.rows(None, seed=0).sort().values, torch.arange(len(pool)))
    assert Pool(SPLITS._replace(valid=ToyImages().splits().valid)).factors is None


def test_options_for_another_kind_of_method():
    splits = ToyImages(train=40).splits()
    with pytest.raises(UserError, match=r"no independent latent numbers.*--disentanglement"):
        evaluate(toy_cdnet(), splits, disentanglement=QUICK)
    with pytest.raises(UserError, match=r"draws no images of a class"):
        evaluate(Columns(), SPLITS, generation=GenerationProtocol(samples=3))
    with pytest.raises(UserError, match=r"attributes"):
        evaluate(Columns(), SPLITS, attributes=AttributeProtocol(svm_repeats=1))


def test_broken_weights_and_numbers_that_are_too_small():
    method = Columns()
    method.mean = method.mean / 0
    with pytest.raises(UserError, match="hold NaN or infinity"):
        measured(method)
    for options in ({"samples": 1}, {"gilbo_steps": -1}, {"cut": -1.0}, {"form": "other"}):
        with pytest.raises(UserError):
            DisentanglementProtocol(**options)
