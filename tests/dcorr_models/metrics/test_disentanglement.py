"""Metrics of codes and factors, on made-up codes whose answer is known."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from dcorr_models.metrics.active_dimensions import active_dimensions, require_two_active
from dcorr_models.metrics.dci import dci
from dcorr_models.metrics.factor_vae_metric import factor_vae_metric
from dcorr_models.metrics.mutual_information_gap import mutual_information_gap
from dcorr_models.metrics.sap import sap

FACTORS = torch.cartesian_prod(*(torch.arange(k) for k in (3, 4, 5))).repeat(20, 1)  # (1200, 3)
HALF = torch.arange(1200) < 600


def perfect() -> Tensor:
    """Each factor a dimension of its own, of unit variance, in another order."""
    codes = FACTORS.double()
    return ((codes - codes.mean(dim=0)) / codes.std(dim=0))[:, [2, 0, 1]]


def rotated() -> Tensor:
    """Every factor in every dimension, in two of them equally strong."""
    turn = torch.eye(3, dtype=torch.float64) - 2 / 3  # orthogonal: a mirror
    return perfect() @ turn


def noise() -> Tensor:
    """Numbers that know nothing."""
    return torch.randn(1200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def duplicated() -> Tensor:
    """Each factor twice."""
    return torch.cat([perfect(), perfect()], dim=1)


def with_constant() -> Tensor:
    return torch.cat([perfect(), torch.full((1200, 2), 0.1, dtype=torch.float64)], dim=1)


def fvm(codes: Tensor) -> float:
    return factor_vae_metric(codes, FACTORS, votes=300)["score"]


def fvm_lib(codes: Tensor) -> float:
    return factor_vae_metric(codes, FACTORS, form="disentanglement_lib", votes=400)["score"]


def mig(codes: Tensor) -> float:
    return mutual_information_gap(codes, FACTORS)["mig"]


def gap(form: str):
    def read(codes: Tensor) -> float:
        return sap(codes[HALF], FACTORS[HALF], codes[~HALF], FACTORS[~HALF], form=form)["sap"]

    return read


def dci_of(key: str, model: str = "forest"):
    def read(codes: Tensor) -> float:
        found = dci(codes[HALF], FACTORS[HALF], codes[~HALF], FACTORS[~HALF], model=model)
        return found[key]

    return read


SCORES = {
    "fvm": fvm,
    "fvm_lib": fvm_lib,
    "mig": mig,
    "sap": gap("regression"),
    "disentanglement": dci_of("disentanglement"),
    "completeness": dci_of("completeness"),
    "informativeness": dci_of("informativeness"),
}


@pytest.mark.parametrize("name", SCORES)
def test_perfect_codes(name):
    assert SCORES[name](perfect()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_constant_dimensions_change_nothing(name):
    assert SCORES[name](with_constant()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_scale_and_sign_change_nothing(name):
    scale = torch.tensor([-1.0, 3.0, 0.5], dtype=torch.float64)
    assert SCORES[name](perfect() * scale) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("name", "most"), [("mig", 0.2), ("sap", 0.4), ("disentanglement", 0.6)])
def test_rotated_codes_are_not_axes(name, most):
    assert SCORES[name](rotated()) < most
    assert SCORES["informativeness"](rotated()) > 0.95  # all is still there to be read


def test_duplicated_codes():
    """A twin takes a gap away, and neither the axis of a factor nor what can be read."""
    codes = duplicated()
    assert mig(codes) == pytest.approx(0.0, abs=1e-12)
    assert gap("regression")(codes) == pytest.approx(0.0, abs=1e-12)
    assert gap("classification")(codes) == 0.0
    assert fvm(codes) == 1.0
    assert dci_of("disentanglement")(codes) == pytest.approx(1.0)
    assert dci_of("completeness")(codes) < 0.9
    assert dci_of("informativeness")(codes) == 1.0


def test_codes_that_know_nothing():
    codes = noise()
    assert mig(codes) < 0.03
    assert gap("regression")(codes) < 0.01
    found = factor_vae_metric(codes, FACTORS)
    assert found["score"] == pytest.approx(found["score_shuffled"], abs=0.08)
    assert dci_of("informativeness")(codes) < 0.4
    assert dci_of("disentanglement")(codes) < 0.1


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("varied", [0, 1])
def test_fewer_than_two_active_dimensions_are_refused(name, varied):
    codes = torch.ones(1200, 3, dtype=torch.float64)
    codes[:, :varied] = perfect()[:, :varied]
    with pytest.raises(ValueError, match=f"{varied} of 3 dimensions .* at least two are needed"):
        SCORES[name](codes)


def test_what_is_in_use():
    spread = torch.tensor([1.0, 0.04, 0.3, 0.0], dtype=torch.float64)
    codes = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(500)[:, None] * spread + 0.1
    assert active_dimensions(codes).tolist() == [True, False, True, False]
    assert active_dimensions(codes, cut=0.04, of="std").tolist() == [True, True, True, False]
    assert active_dimensions(codes, cut=0.0).tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match="1 of 4 dimensions of the codes has a variance of at"):
        require_two_active(codes, cut=0.5)


def test_the_two_forms_cut_differently():
    """A variance of 0.01 is a standard deviation of 0.1: one form drops it, the other keeps it."""
    codes = perfect() * torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64)
    paper = factor_vae_metric(codes, FACTORS)
    library = factor_vae_metric(codes, FACTORS, form="disentanglement_lib", votes=400)
    assert (paper["active"], paper["votes"], paper["held_out_votes"]) == (2, 800, 0)
    assert (library["active"], library["votes"], library["held_out_votes"]) == (3, 400, 200)
    assert 0.6 < paper["score"] < 0.9  # a factor without a dimension is a third of the votes
    assert library["score"] == 1.0


def test_a_vote_by_hand():
    """Two factors in one dimension each, and in one dimension together."""
    codes = torch.stack([FACTORS[:, 0] + FACTORS[:, 1], FACTORS[:, 2]], dim=1).double()
    found = factor_vae_metric(codes, FACTORS, votes=3000)
    # the first two factors both choose dimension 0: its majority is right for one of the two
    assert found["score"] == pytest.approx(2 / 3, abs=0.03)


def test_mutual_information_by_loops():
    from sklearn.metrics import mutual_info_score

    generator = torch.Generator().manual_seed(1)
    factors = torch.stack([torch.randint(k, (300,), generator=generator) for k in (3, 6)], dim=1)
    codes = torch.randn(300, 4, generator=generator) + factors[:, [0, 1, 0, 1]]
    found = mutual_information_gap(codes, factors, bins=7)
    gaps = []
    for k in range(2):
        informed = []
        for d in range(4):
            column = codes[:, d].double()
            edges = torch.linspace(0, 1, 8, dtype=torch.float64)[1:-1]
            low, high = column.min(), column.max()
            places = [sum(bool(v >= low + e * (high - low)) for e in edges) for v in column]
            informed.append(mutual_info_score(places, factors[:, k].tolist()))
        assert [row[k] for row in found["mutual_information"]] == pytest.approx(informed)
        best, second = sorted(informed)[::-1][:2]
        counts = torch.bincount(factors[:, k]) / 300
        entropy = float(-(counts * counts.log()).sum())
        assert found["entropy"][k] == pytest.approx(entropy)
        gaps.append((best - second) / entropy)
    assert found["per_factor"] == pytest.approx(gaps)
    assert found["mig"] == pytest.approx(sum(gaps) / 2)


def test_sap_by_correlations():
    codes = rotated()
    found = sap(codes, FACTORS, codes, FACTORS, form="regression")
    together = torch.cat([codes, FACTORS.double()], dim=1).T
    assert (
        torch.tensor(found["scores"])
        .double()
        .allclose(torch.corrcoef(together)[:3, 3:].square(), atol=1e-7)
    )


def test_sap_of_classes():
    """Two values are cut apart at one point; the first dimension knows all, the second half."""
    factor = torch.arange(400) % 2
    partly = torch.where(torch.arange(400) < 200, factor, torch.arange(400) // 2 % 2)
    codes = torch.stack([factor, partly], dim=1).double()
    found = sap(codes, factor[:, None], codes, factor[:, None])
    assert found["scores"] == [[1.0], [0.75]]
    assert (found["sap"], found["best_dimensions"]) == (0.25, [0])


@pytest.mark.slow
def test_dci_by_boosting():
    assert dci_of("disentanglement", "boosting")(perfect()) > 0.98
    assert dci_of("disentanglement", "boosting")(rotated()) < 0.6


def test_results_are_plain_numbers_and_the_seed_decides():
    codes = rotated()
    for result in (
        factor_vae_metric(codes, FACTORS),
        mutual_information_gap(codes, FACTORS),
        dci(codes, FACTORS, codes, FACTORS),
        sap(codes, FACTORS, codes, FACTORS, form="regression"),
    ):
        assert json.loads(json.dumps(result, allow_nan=False)) == result
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert factor_vae_metric(codes, FACTORS) == factor_vae_metric(codes, FACTORS)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("codes", "factors", "error", "message"),
    [
        (perfect()[:-1], FACTORS, ValueError, "same number of samples, got 1199 and 1200"),
        (perfect(), FACTORS.double(), TypeError, "factors must be int64"),
        (perfect(), FACTORS[:, 0], ValueError, r"factors must have shape \(N, F\)"),
        (perfect(), FACTORS - 1, ValueError, "from 0 on, got -1"),
        (perfect() / 0, FACTORS, ValueError, "must be finite"),
        (perfect(), FACTORS * 0, ValueError, "factor 0 has one value"),
    ],
)
def test_mistakes(codes, factors, error, message):
    for metric in (factor_vae_metric, mutual_information_gap):
        with pytest.raises(error, match=message):
            metric(codes, factors)
    with pytest.raises(error, match=message):
        dci(codes, factors, codes, factors)


def test_other_mistakes():
    codes = perfect()
    with pytest.raises(ValueError, match="form must be one of"):
        factor_vae_metric(codes, FACTORS, form="other")
    with pytest.raises(ValueError, match="votes and batch must be 2 or more, got 800 and 1"):
        factor_vae_metric(codes, FACTORS, batch=1)
    with pytest.raises(ValueError, match="at least two columns"):
        factor_vae_metric(codes, FACTORS[:, :1])
    with pytest.raises(ValueError, match="bins must be 2 or more, got 1"):
        mutual_information_gap(codes, FACTORS, bins=1)
    with pytest.raises(ValueError, match="train_codes and test_codes need the same number"):
        sap(codes, FACTORS, codes[:, :2], FACTORS)
    with pytest.raises(ValueError, match="cut must be 0 or more"):
        active_dimensions(codes, cut=-1)


def test_values_may_be_any_numbers():
    codes, far = perfect(), FACTORS * 10**12 + 5
    assert factor_vae_metric(codes, far, votes=300)["score"] == fvm(codes)
    assert mutual_information_gap(codes, far)["mig"] == mig(codes)
