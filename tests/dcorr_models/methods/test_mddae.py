"""mddAE: its loss against the paper's equations, and what each of the five models learns from."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import dcorr
from dcorr_models.editing import swap_class
from dcorr_models.errors import UserError
from dcorr_models.methods import MddAE
from dcorr_models.methods.mddae import VARIANTS
from dcorr_models.metrics.image_quality import ms_ssim
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods.one_encoder_toys import batch, doubled, gradients, prepared, toy
from tests.dcorr_models.toy import ToyEncoder, ToyImages


def tables(y: Tensor, z: Tensor) -> Tensor:
    """Eq. 14 from its tables of distances."""
    a, b = ((t[:, None] - t[None]).square().sum(-1).add(1e-30).sqrt() for t in (y, z))
    a, b = (d - d.mean(0) - d.mean(1, keepdim=True) + d.mean() for d in (a, b))
    return (a * b).mean()


def reference(model: MddAE, data: dict[str, Tensor], *, gamma: float) -> dict[str, Tensor]:
    """Equations 1 to 15 in float64, with probabilities instead of logits."""
    model, data = copy.deepcopy(model).double(), doubled(data)
    x, y = data["image"], data["label"]
    code, n = model.encoder(x), len(x)
    variant = VARIANTS["mddAE-dCov"]._replace(decoder_input=model.decoder_input)
    if variant.decoder_input == "none":
        x_hat = model.decoder(code[:, :0], code)
        return {"pixel": (x - x_hat).square().sum() / x.numel()}
    a, z = code[:, : model.num_labels], code[:, model.num_labels :]
    if model.multilabel:
        y_hat = 1 / (1 + (-a).exp())
        one_hot = y
        loss = -(y * y_hat.log() + (1 - y) * (1 - y_hat).log()).sum() / (n * y.shape[1])
    else:
        y_hat = a.exp() / a.exp().sum(1, keepdim=True)
        one_hot = torch.eye(model.num_labels, dtype=torch.float64)[y]
        loss = -(one_hot * y_hat.log()).sum() / n
    x_hat = model.decoder(y_hat if model.decoder_input == "soft" else one_hot, z)
    terms = {"pixel": (x - x_hat).square().sum() / x.numel(), "class": loss}
    centred_y, centred_z = y_hat - y_hat.mean(0), z - z.mean(0)
    values = {
        dcorr.dcov2: tables(y_hat, z),
        dcorr.xcov: 0.5 * (centred_y.T @ centred_z / n).square().sum(),
    }
    if model.decorrelation.loss is not None:
        terms["decorrelation"] = values[model.decorrelation.loss]
    terms["total"] = terms["pixel"] + loss + gamma * terms.get("decorrelation", 0.0)
    names = [f"encoder.{k}" for k, _ in model.encoder.named_parameters()]
    names += [f"decoder.{k}" for k, _ in model.decoder.named_parameters()]
    found = torch.autograd.grad(terms["total"], list(model.parameters()))
    return terms | {"gradients": dict(zip(names, found, strict=True))}


@pytest.mark.parametrize("multilabel", [False, True], ids=["classes", "attributes"])
@pytest.mark.parametrize("variant", ["disAE", "disAE-XCov", "mddAE-XCov", "mddAE-dCov"])
def test_losses_and_gradients_are_those_of_the_equations(variant, multilabel):
    model = toy(MddAE, variant=variant, multilabel=multilabel, lr=0.0, decorrelation_weight=3.0)
    stage, data = prepared(model), batch(multilabel=multilabel)
    wanted = reference(model, data, gamma=3.0)
    logs = stage.step(data)
    for name in ("pixel", "class", "decorrelation"):
        if name in wanted:
            assert logs[f"loss/{name}"].item() == pytest.approx(wanted[name].item(), rel=1e-4)
    assert ("loss/decorrelation" in logs) == (variant != "disAE")
    assert "loss/dssim" not in logs, "12 pixels are too few for three scales"
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad.double(), wanted["gradients"][name], rtol=2e-3, atol=2e-6
        )


def test_the_plain_auto_encoder_has_one_code_and_one_loss():
    model = toy(MddAE, variant="AE")
    stage, data = prepared(model), batch()
    wanted = reference(model, data, gamma=0.0)
    logs = stage.step(data)
    assert set(logs) == {"loss/pixel"}
    assert logs["loss/pixel"].item() == pytest.approx(wanted["pixel"].item(), rel=1e-5)
    codes = model.eval().encode(data["image"])
    assert codes.label.shape == (24, 0)
    assert codes.residual.shape == (24, 7)
    assert not model.has_label_code
    assert model.decode(codes).shape == (24, 1, 12, 12)


def test_one_update_is_adams_with_the_stated_rates():
    model = toy(MddAE, lr=1e-2)
    stage, data = prepared(model), batch()
    twin = copy.deepcopy(model)
    stage.step(data)
    for own, before in zip(model.parameters(), twin.parameters(), strict=True):
        # Adam's first step: both moments corrected for their start, m / sqrt(v) = sign
        step = 1e-2 * own.grad / (own.grad.abs() + 1e-8)
        torch.testing.assert_close(own, before - step, rtol=1e-4, atol=1e-6)
    (group,) = stage.optimizers["autoencoder"].param_groups
    assert group["betas"] == (0.5, 0.999)
    assert MddAE().step_settings.lr == 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant):
    model = toy(MddAE, variant=variant, lr=1e-2)
    before = {k: v.clone() for k, v in model.named_parameters()}
    prepared(model, dropout=True).step(batch())
    assert all(not torch.equal(v, before[k]) for k, v in model.named_parameters())


@pytest.mark.parametrize(
    ("options", "moves"),
    [
        # Without a label the decoder's input cannot train the ŷ head: only L_dis can.
        ({"variant": "disAE", "class_weight": 0.0}, {"residual"}),
        ({"variant": "disAE"}, {"residual", "soft"}),
        # The soft target is trained by the reconstruction itself.
        ({"variant": "mddAE-dCov", "class_weight": 0.0, "decorrelation": "none"},
         {"residual", "soft"}),
    ],
)  # fmt: skip
def test_who_trains_the_label_head(options, moves):
    model = toy(MddAE, **options)
    prepared(model).step(batch())
    head = model.encoder[-1].weight.grad
    got = {n for n, rows in (("soft", head[:4]), ("residual", head[4:])) if rows.abs().max() > 0}
    assert got == moves


@pytest.mark.parametrize(("gradient", "reached"), [("both", True), ("residual", False)])
def test_the_regulariser_reaches_the_label_head_unless_told_not_to(gradient, reached):
    model = toy(MddAE, variant="disAE-XCov", class_weight=0.0, decorrelation_gradient=gradient)
    prepared(model).step(batch())
    head = model.encoder[-1].weight.grad
    assert (head[:4].abs().max() > 0) == reached
    assert head[4:].abs().max() > 0


@pytest.mark.parametrize("variant", ["disAE", "disAE-XCov", "AE"])
def test_the_decoder_stays_still_under_the_other_losses(variant):
    """Reconstruction is the decoder's only loss."""
    model = toy(MddAE, variant=variant)
    stage = prepared(model)
    stage.settings.weights["pixel"] = 0.0
    stage.step(batch())
    assert all(g is None or g.abs().max() == 0 for g in gradients(model.decoder))


def test_the_decoder_is_fed_what_the_variant_says(monkeypatch):
    fed = {}

    def step(variant: str) -> None:
        model = toy(MddAE, variant=variant)
        stage = prepared(model)
        model.decoder.register_forward_pre_hook(
            lambda _, inputs: fed.__setitem__(variant, inputs[0].detach())
        )
        stage.step(batch())

    for variant in ("disAE", "mddAE-dCov"):
        step(variant)
    assert torch.equal(fed["disAE"].argmax(1), batch()["label"])
    assert set(fed["disAE"].unique().tolist()) == {0.0, 1.0}
    assert ((fed["mddAE-dCov"] > 0) & (fed["mddAE-dCov"] < 1)).all()


@pytest.mark.parametrize("multilabel", [False, True], ids=["classes", "attributes"])
def test_a_discrete_code_is_decided_and_a_soft_one_is_not(multilabel):
    images = batch(multilabel=multilabel)["image"]
    soft = toy(MddAE, multilabel=multilabel).eval().encode(images).label
    hard = toy(MddAE, variant="disAE", multilabel=multilabel).eval().encode(images).label
    assert ((soft > 0) & (soft < 1)).all()
    assert set(hard.unique().tolist()) <= {0.0, 1.0}
    if multilabel:
        assert torch.equal(hard, (soft > 0.5).float())
    else:
        assert torch.equal(hard.argmax(1), soft.argmax(1))
        assert torch.equal(hard.sum(1), torch.ones(24))
        assert torch.equal(swap_class(hard, 2).argmax(1), torch.full((24,), 2))


def small_faces(**options) -> MddAE:
    torch.manual_seed(0)
    return MddAE(
        architecture="faces_small",
        image_shape=(3, 64, 64),
        num_labels=3,
        multilabel=True,
        latent_dim=4,
        dropout=0.0,
        batch_size=4,
        **options,
    )


def test_faces_have_the_structural_term_of_three_scales():
    generator = torch.Generator().manual_seed(1)
    data = {
        "image": torch.rand(4, 3, 64, 64, generator=generator) * 2 - 1,
        "label": torch.randint(0, 2, (4, 3), generator=generator).float(),
    }

    class Near(nn.Module):
        """A decoder whose images are near enough for no term of MS-SSIM to be below 0."""

        def forward(self, label_code: Tensor, residual: Tensor) -> Tensor:
            return 0.8 * data["image"] + 0.0 * residual.sum()

    model = small_faces(decoder=Near())
    logs = prepared(model).step(data)
    x, x_hat = (data["image"] + 1) / 2, (0.8 * data["image"] + 1) / 2
    wanted = 0.5 * (1 - ms_ssim(x, x_hat).mean())
    assert logs["loss/dssim"].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert len(model.step_settings.ssim_weights) == 3


@pytest.mark.parametrize(
    ("options", "weight"),
    [
        ({}, 1.0),
        ({"variant": "disAE"}, 0.0),
        ({"variant": "AE", "dssim_weight": 0.5}, 0.5),
        ({"dssim_weight": 0.0}, 0.0),
    ],
)
def test_weight_of_the_structural_term(options, weight):
    settings = small_faces(**options).step_settings
    assert settings.weights["dssim"] == weight
    assert (settings.ssim_weights is None) == (weight == 0)
    assert MddAE().step_settings.weights["dssim"] == 0.0, "none on MNIST"


def test_variants_are_settings_and_settings_go_first():
    for name, variant in VARIANTS.items():
        model = toy(MddAE, variant=name)
        weights = model.step_settings.weights
        assert (model.decoder_input, weights["class"]) == variant[::2]
    own = toy(MddAE, variant="disAE-XCov", decoder_input="soft", decorrelation=dcorr.DCor2Loss())
    assert own.decoder_input == "soft"
    assert isinstance(own.decorrelation.loss, dcorr.DCor2Loss)
    assert not any("decorrelation" in k for k, _ in own.named_modules())


def test_pixel_sum_is_as_equation_2_is_printed():
    values = []
    for reduction in ("mean", "sum"):
        stage = prepared(toy(MddAE, pixel_reduction=reduction))
        values.append(stage.step(batch())["loss/pixel"].item())
    assert values[1] == pytest.approx(144 * values[0], rel=1e-5)


@pytest.mark.parametrize("variant", ["mddAE-dCov", "disAE-XCov", "AE"])
def test_ten_steps_equal_five_saved_loaded_and_five_more(tmp_path, variant):
    def train(folder: str, *, steps: int = 10, seed: int = 0) -> MddAE:
        model = toy(MddAE, variant=variant, seed=seed)
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


def test_toy_training_learns_the_classes_and_the_images(tmp_path):
    model = toy(MddAE, steps=250, lr=1e-2, decorrelation_weight=0.5)
    fit(
        model.stages()[0],
        ToyImages().splits().train,
        fabric=Fabric(accelerator="cpu", devices=1),
        folder=tmp_path,
        seed=5,
        settings=LoopSettings(progress=False),
    )
    images, labels = ToyImages().splits().test.tensors()
    with torch.no_grad():
        codes = model.eval().encode(images)
        error = (model.decode(codes) - images).square().mean().item()
    assert (codes.label.argmax(1) == labels).float().mean().item() > 0.95
    assert error < 0.5 * (images - images.mean(0)).square().mean().item()


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({}, (3_189_492, 3_197_617)),
        (
            {"architecture": "celeba", "image_shape": (3, 64, 64), "num_labels": 40,
             "multilabel": True, "latent_dim": 1000},
            (76_276_368, 76_319_587),
        ),
    ],
    ids=["mnist", "celeba"],
)  # fmt: skip
@pytest.mark.parametrize("variant", VARIANTS)
def test_all_five_models_have_the_networks_of_ae_xcov(variant, options, counts):
    with torch.device("meta"):
        model = MddAE(variant=variant, **options)
    got = tuple(sum(p.numel() for p in n.parameters()) for n in (model.encoder, model.decoder))
    assert got == counts


def test_bfloat16_autocast_trains_every_parameter():
    model = small_faces(lr=1e-2)
    before = {k: v.clone() for k, v in model.named_parameters()}
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    logs = stage.step({"image": torch.rand(4, 3, 64, 64), "label": torch.eye(3)[[0, 1, 2, 0]]})
    assert all(torch.isfinite(value) for value in logs.values())
    assert all(not torch.equal(v, before[k]) for k, v in model.named_parameters())


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


SHARED = ToyEncoder(7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "VAE"}, "variant must be one of AE, disAE"),
        ({"variant": "AE", "class_weight": 1.0}, "undivided"),
        ({"variant": "AE", "decorrelation": "xcov"}, "undivided"),
        ({"image_shape": (1, 30, 28)}, "multiples of 4"),
        ({"dssim_weight": -1.0}, "dssim_weight must be 0 or more"),
        ({"dssim_weight": float("nan")}, "dssim_weight must be 0 or more"),
        ({"dssim_weight": 1.0, "image_shape": (1, 8, 8)}, "set dssim_weight to 0"),
        ({"dssim_weight": 1.0, "ssim_weights": (0.3, 0.3, 0.4)}, "1 to 2 numbers"),
        ({"dssim_weight": 1.0, "ssim_weights": (0.3, float("nan"))}, "1 to 2 numbers"),
        ({"betas": (0.5, 1.0)}, "betas must be two numbers"),
        ({"betas": (0.5,)}, "betas must be two numbers"),
        ({"decorrelation": Learned()}, "parameters of its own"),
        ({"encoder": SHARED, "decoder": nn.Sequential(SHARED)}, "share parameters"),
        ({"latent_dim": 0}, "latent_dim must be 1 or more, got 0"),
        ({"dropout": 1.0}, "dropout must lie in"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        MddAE(**options)
