"""AE-XCov: two players, the published order of their updates, and one pass for both."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from dcorr_models.errors import UserError
from dcorr_models.methods import AEXCov
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods.one_encoder_toys import batch, doubled, gradients, prepared, toy
from tests.dcorr_models.toy import ToyImages

FORMS = pytest.mark.parametrize("updates", ["sequential", "simultaneous"])


def reference(model: AEXCov, data: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """Each player's gradient of its own loss in float64, with λ = 5 and the code's factor ½."""
    model, data = copy.deepcopy(model).double(), doubled(data)
    x, y = data["image"], data["label"]
    code, n = model.encoder(x), len(x)
    logits, z = code[:, : model.num_labels], code[:, model.num_labels :]
    if model.multilabel:
        p, label = logits.sigmoid(), y
        loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    else:
        p, label = logits.softmax(1), torch.eye(model.num_labels, dtype=torch.float64)[y]
        loss = -p.gather(1, y[:, None]).log().mean()
    pixel = 0.5 * (model.decoder(label, z) - x).square().mean()
    xcov = ((p - p.mean(0)).T @ (z - z.mean(0))).square().sum() / (2 * n**2)
    totals = {"encoder": loss + 5.0 * xcov + pixel, "decoder": pixel}
    return {
        name: list(
            torch.autograd.grad(total, list(getattr(model, name).parameters()), retain_graph=True)
        )
        for name, total in totals.items()
    }


@FORMS
@pytest.mark.parametrize("multilabel", [False, True], ids=["classes", "attributes"])
def test_each_player_gets_the_gradient_of_its_own_loss(updates, multilabel):
    model = toy(AEXCov, updates=updates, multilabel=multilabel, lr=0.0)
    data = batch(multilabel=multilabel)
    stage = prepared(model)
    wanted = reference(model, data)
    stage.step(data)
    for player in ("encoder", "decoder"):
        for got, want in zip(gradients(getattr(model, player)), wanted[player], strict=True):
            torch.testing.assert_close(got.double(), want, rtol=2e-4, atol=1e-6)


def test_each_update_of_the_sequential_form_moves_its_own_player(monkeypatch):
    model = toy(AEXCov, lr=1e-2)
    stage = prepared(model, dropout=True)
    moved: dict[str, set[str]] = {}
    update = stage.update

    def watched(name, loss, **backward):
        before = {k: v.clone() for k, v in model.named_parameters()}
        update(name, loss, **backward)
        moved[name] = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}

    monkeypatch.setattr(stage, "update", watched)
    stage.step(batch())
    assert list(moved) == ["encoder", "decoder"], "the published order"
    for player in moved:
        own = {f"{player}.{k}" for k, _ in getattr(model, player).named_parameters()}
        assert moved[player] == own


def test_the_decoder_is_updated_behind_the_updated_encoder():
    """The sequential decoder's gradient is taken after the encoder has moved."""
    model = toy(AEXCov, lr=1e-1)
    stage, data = prepared(model), batch()
    before = copy.deepcopy(model.decoder)
    stage.step(data)
    twin = copy.deepcopy(model)
    twin.decoder = before
    wanted = reference(twin, data)["decoder"]  # the new encoder with the old decoder
    for got, want in zip(gradients(model.decoder), wanted, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-6)


@FORMS
def test_passes_of_a_step(updates):
    model = toy(AEXCov, updates=updates)
    stage, calls = prepared(model), {"encoder": 0, "decoder": 0}
    for name in calls:
        getattr(model, name).register_forward_hook(
            lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    stage.step(batch())
    assert set(calls.values()) == {2 if updates == "sequential" else 1}


@FORMS
@pytest.mark.parametrize(
    ("options", "still"),
    [
        ({"reconstruction_factor": 0.0}, {"decoder"}),
        ({"class_weight": 0.0, "decorrelation": "none"}, set()),
        (
            {"reconstruction_factor": 0.0, "class_weight": 0.0, "decorrelation": "none"},
            {"encoder", "decoder"},
        ),
    ],
)
def test_a_player_without_a_loss_stays_still(updates, options, still):
    model = toy(AEXCov, updates=updates, **options)
    prepared(model).step(batch())
    for player in ("encoder", "decoder"):
        size = sum(g.abs().sum().item() for g in gradients(getattr(model, player)) if g is not None)
        assert (size == 0) == (player in still), player


def test_one_optimizer_for_both_is_the_same_as_two():
    """RMSprop works number by number: equal gradients give equal updates in either form."""
    models = [toy(AEXCov, updates=form, lr=1e-2) for form in ("sequential", "simultaneous")]
    for model in models:
        prepared(model).step(batch())
    for a, b in zip(*(m.encoder.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_decoder_is_told_the_true_label_and_encode_decides():
    model = toy(AEXCov)
    stage, data, fed = prepared(model), batch(), []
    model.decoder.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
    stage.step(data)
    assert all(torch.equal(label.argmax(1), data["label"]) for label in fed)
    codes = model.eval().encode(data["image"])
    assert set(codes.label.unique().tolist()) == {0.0, 1.0}
    assert model.intensities == (-0.5, 6.0)


@FORMS
def test_ten_steps_equal_five_saved_loaded_and_five_more(tmp_path, updates):
    def train(folder: str, *, steps: int = 10, seed: int = 0) -> AEXCov:
        model = toy(AEXCov, updates=updates, seed=seed, lr_milestones=(4,))
        (stage,) = model.stages()
        stage.max_steps = steps
        fit(
            stage,
            ToyImages().splits().train,
            fabric=Fabric(accelerator="cpu", devices=1),
            folder=tmp_path / folder,
            seed=5,
            settings=LoopSettings(progress=False),
        )
        return model

    whole = train("whole").state_dict()
    train("parts", steps=5)
    torch.rand(17)  # whatever happens to the random state in between
    resumed = train("parts", seed=99).state_dict()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


@FORMS
def test_milestones_multiply_the_learning_rates(updates):
    (stage,) = toy(AEXCov, updates=updates, lr=1.0, lr_milestones=(2,)).stages()
    for name, optimizer in stage.optimizers.items():
        rates = []
        for _ in range(3):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            stage.schedulers[name].step()
        assert rates == [1.0, 1.0, 0.75]


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({}, (3_189_492, 3_197_617)),
        (
            {"architecture": "celeba", "image_shape": (3, 64, 64), "num_labels": 40,
             "multilabel": True, "latent_dim": 1000, "dropout": 0.5},
            (76_276_368, 76_319_587),
        ),
    ],
    ids=["mnist", "celeba"],
)  # fmt: skip
def test_parameter_counts_are_the_published_ones(options, counts):
    with torch.device("meta"):
        model = AEXCov(**options)
    got = tuple(sum(p.numel() for p in n.parameters()) for n in (model.encoder, model.decoder))
    assert got == counts


@FORMS
def test_bfloat16_autocast_trains_every_parameter(updates):
    model = toy(AEXCov, updates=updates, lr=1e-2)
    before = {k: v.clone() for k, v in model.named_parameters()}
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    logs = stage.step(batch())
    assert all(torch.isfinite(value) for value in logs.values())
    assert all(not torch.equal(v, before[k]) for k, v in model.named_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"updates": "both"}, "updates must be one of"),
        ({"decorrelation": "hsic"}, "decorrelation must be one of dcov2, xcov, none"),
        ({"decorrelation_weight": -1.0}, "decorrelation_weight must be 0 or more"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"image_shape": (3, 60, 64), "architecture": "celeba"}, "multiples of 8"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        AEXCov(**options)
