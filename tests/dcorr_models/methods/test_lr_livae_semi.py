"""Lr-LiVAE with unlabelled images: which terms they have, classes without a Gaussian, refusals."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from dcorr_models.admission import check_data
from dcorr_models.errors import DataError, UserError
from dcorr_models.methods.lr_livae_gaussians import ClassGaussians
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods.lr_livae_toys import BATCH, batch, partly_labelled, toy_lr_livae
from tests.dcorr_models.methods.rival_toys import CONTENT_DIM, moved, prepared, snapshot
from tests.dcorr_models.toy import ToyContents


def mixed(batches: int) -> dict[str, torch.Tensor]:
    """Batches of labelled images, and eight images of classes 6 and 7 without a label."""
    data = partly_labelled(6, 7)
    known = (data.labels >= 0).nonzero().flatten()[: batches * BATCH]
    hidden = (data.labels < 0).nonzero().flatten()[:8]
    return data.__getitems__(torch.cat([known, hidden]).tolist())


@pytest.mark.parametrize("unlabelled", ["known", "unknown"])
def test_unlabelled_codes_follow_the_mixture_or_its_total(unlabelled):
    model = toy_lr_livae(unlabelled=unlabelled, steps=0, n_gm=0)
    model.meet(partly_labelled(6, 7))
    twin, data = copy.deepcopy(model), mixed(1)
    logs = prepared(model).step(data)
    y = data["label"][:BATCH]
    z, mixture = twin.class_encoder(data["image"]), twin.gaussians.mixture
    assert mixture.priors.tolist() == pytest.approx([1 / 6] * 6 + [0, 0])
    own = torch.distributions.Normal(mixture.means[y], (mixture.log_variances[y] / 2).exp())
    labelled = -own.log_prob(z[:BATCH]).sum(1)
    densities = torch.stack(
        [
            torch.distributions.Normal(mean, (lv / 2).exp()).log_prob(z[BATCH:]).sum(1)
            for mean, lv in zip(mixture.means[:6], mixture.log_variances[:6], strict=True)
        ]
    )
    others = -densities.logsumexp(0) + torch.tensor(6.0).log()
    if unlabelled == "unknown":
        means, variances = mixture.means[:6], mixture.log_variances[:6].exp()
        spread = variances.mean(0) + means.square().mean(0) - means.mean(0).square()
        total = torch.distributions.Normal(means.mean(0), spread.sqrt())
        others = -total.log_prob(z[BATCH:]).sum(1)
    wanted = torch.cat([labelled, others]).mean()
    torch.testing.assert_close(logs["loss/joint_likelihood"], wanted.detach())


def test_unlabelled_images_have_no_part_in_classifying_losses():
    model = toy_lr_livae(unlabelled="unknown", steps=0)
    model.meet(partly_labelled(6, 7))
    data = mixed(3)
    changed = {**data, "image": data["image"].clone()}
    changed["image"][3 * BATCH :] = torch.rand(8, 1, 12, 12)
    logs = []
    for one in (data, changed):
        twin = copy.deepcopy(model)
        stage = prepared(twin)
        torch.manual_seed(0)
        before = snapshot(twin)
        logs.append(stage.step(one))
        assert "gaussians" in moved(twin, before)
    for name in ("loss/classification", "loss/likelihood"):
        assert torch.equal(logs[0][name], logs[1][name])
    # The latent classifier's first loss is of the labelled z_u alone.
    assert torch.equal(logs[0]["loss/adversary"], logs[1]["loss/adversary"])
    for name in ("loss/pixel", "loss/kl", "loss/real", "loss/joint_likelihood"):
        assert not torch.equal(logs[0][name], logs[1][name])


def test_both_stages_train_and_unknown_classes_have_no_vector(tmp_path: Path):
    model = toy_lr_livae(unlabelled="unknown", steps=3)
    data = partly_labelled(6, 7)
    model.meet(data)
    for stage in model.stages():
        fit(
            stage,
            data,
            fabric=Fabric(accelerator="cpu", devices=1),
            folder=tmp_path,
            settings=LoopSettings(progress=False),
        )
    assert model.class_vectors().isnan().any(dim=1).tolist() == [False] * 6 + [True] * 2
    assert model.known_classes().tolist() == list(range(6))
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert model.posterior(batch(2)["image"])[0].shape == (2, CONTENT_DIM)
    with pytest.raises(UserError, match="knows 6 classes, from 0 to 5, got 7"):
        model.sample(torch.tensor([0, 7]))


def test_labels_that_the_settings_do_not_allow_are_refused():
    source, data = ToyContents(), partly_labelled(6, 7)
    with pytest.raises(DataError, match="have no label"):
        check_data(toy_lr_livae(), source, data)
    check_data(toy_lr_livae(unlabelled="unknown"), source, data)
    data.labels = torch.where(data.labels < 0, 0, data.labels)
    with pytest.raises(DataError, match="has none of g, h"):
        check_data(toy_lr_livae(), source, data)
    check_data(toy_lr_livae(missing_classes="leave_out"), source, data)
    data.labels = data.labels + 3
    with pytest.raises(DataError, match="more classes than the 8"):
        check_data(toy_lr_livae(), source, data)


def published(z, labels, means, precisions):
    """The released code's two terms, by loops."""
    classification, likelihood = [], []
    for row, label in zip(z, labels.tolist(), strict=True):
        d = [0.5 * (p * (row - m) ** 2).sum() for m, p in zip(means, precisions, strict=True)]
        q = [(-a).exp() * p.prod().sqrt() for a, p in zip(d, precisions, strict=True)]
        classification.append(-(q[label] / (sum(q) + 1e-8) + 1e-4).log())
        likelihood.append(d[label] - 0.5 * (precisions[label].prod() + 1e-4).log())
    return torch.stack(classification).mean(), torch.stack(likelihood).mean()


@pytest.mark.parametrize("learned", ["variances", "precisions"])
def test_the_probability_form_is_the_published_one(learned):
    torch.manual_seed(0)
    gaussians = ClassGaussians(5, 3, form="probability", learned=learned)
    raw = gaussians.mixture.raw_log_variances
    if learned == "precisions":
        start = (-gaussians.mixture.log_variances).exp()
        torch.testing.assert_close(start, torch.full_like(start, 0.9992), rtol=1e-4, atol=0)
    with torch.no_grad():
        raw.add_(torch.randn_like(raw))
    z, labels = torch.randn(7, 3), torch.randint(5, (7,))
    precisions = torch.nn.functional.softplus(raw)
    if learned == "variances":
        precisions = 1 / (1e-6 + raw.exp())
    wanted = published(z, labels, gaussians.mixture.means, precisions)
    for found, term in zip(gaussians(z, labels), wanted, strict=True):
        torch.testing.assert_close(found, term)


def test_classes_without_images_have_no_part_in_either_form():
    torch.manual_seed(0)
    z, labels = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2])
    for form in ("log", "probability"):
        gaussians = ClassGaussians(5, 3, form=form)
        fewer = ClassGaussians(3, 3, form=form)
        with torch.no_grad():
            fewer.mixture.means.copy_(gaussians.mixture.means[:3])
        gaussians.meet(labels)
        for found, term in zip(gaussians(z, labels), fewer(z, labels), strict=True):
            torch.testing.assert_close(found, term)
        sum(gaussians(z, labels)).backward()
        assert bool(z.grad.isfinite().all())
        assert not gaussians.mixture.means.grad[3:].any()
