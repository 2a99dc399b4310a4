"""LORD: who learns from what, in each variant; its presets; what it refuses."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models import experiment
from dcorr_models.data import LabelledImages
from dcorr_models.errors import UserError
from dcorr_models.methods import LORD, Codes
from dcorr_models.methods.lord_leakage import linear_leakage
from dcorr_models.methods.lord_settings import SCALES, VARIANTS
from dcorr_models.training.fit import LoopSettings, fit
from dcorr_models.training.logs import read_log
from dcorr_models.training.perceptual import COLUMNS
from dcorr_models.training.stage import Stage
from tests.dcorr_models.methods.lord_toys import (
    CLASS_DIM,
    CONTENT_DIM,
    ToyGenerator,
    toy_lord,
    toy_settings,
)
from tests.dcorr_models.toy import ToyAttributes, ToyContents

EVERY_STEP = LoopSettings(progress=False, log_every=1, save_every=100)
QUIET = LoopSettings(progress=False, log_every=100, save_every=5)


def batch(n: int = 16) -> dict[str, Tensor]:
    """Two images each of eight classes, in double."""
    rows = [i for i in range(128) if i % 4 < 2][:n]
    got = ToyContents().splits().train.__getitems__(rows)
    return got | {"image": got["image"].double()}


def prepared(which: int, **options):
    """One stage in float64, with rate 0 so that only gradients change."""
    model = toy_lord(**({"lr": 0.0, "encoder_lr": 0.0} | options)).double()
    stage = model.stages()[which]
    stage.setup(Fabric(accelerator="cpu", devices=1, precision="64-true"))
    return model, stage


def gradients(model: LORD) -> dict[str, Tensor]:
    return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


def averaged(codes: Tensor, labels: Tensor) -> Tensor:
    """A loop over the definition: the mean over the images of the same class."""
    rows = [
        sum(codes[j] for j in range(len(codes)) if labels[j] == y) / int((labels == y).sum())
        for y in labels
    ]
    return torch.stack(rows)


def content_of(model: LORD, data: dict[str, Tensor], leaf: Tensor, scale) -> tuple[Tensor, Tensor]:
    """The content code with noise, and the regularisation, drawn again from the same state."""
    kl = model.variant.regulariser == "kl"
    code = leaf if model.variant.content_code == "table" else model.content_encoder(data["image"])
    torch.manual_seed(3)
    if kl:
        mean, log_variance = code[:, :CONTENT_DIM], code[:, CONTENT_DIM:]
        sampled = mean + torch.randn(mean.shape) * log_variance.exp().sqrt()
        divergence = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(1).mean()
        return sampled, 2 * scale.decay * divergence
    # Fabric gives a network's output as float32; rows of a table follow the images.
    dtype = torch.float64 if model.variant.content_code == "table" else torch.float32
    noise = scale.sigma * torch.randn(code.shape, dtype=dtype) if scale.sigma else 0 * code
    penalised = code + noise if scale.penalty_on == "noisy" else code
    return code + noise, scale.decay * penalised.square().sum(1).mean()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scale", ["port", "keras"])
def test_the_first_stage_follows_its_loss(variant: str, scale: str):
    model, stage = prepared(0, variant=variant, scale=scale, batch_size=16, eps=1e-8)
    data, numbers = batch(), model.scale
    index, labels = data["index"], data["label"]
    # References: plain tensors with one full graph.
    table = None
    if model.variant.content_code == "table":
        table = model.content_codes[0].weight.double().clone().requires_grad_()
    classes = None
    if model.embeddings is not None:
        classes = model.embeddings.table.weight.double().clone().requires_grad_()
    leaf = torch.empty(0) if table is None else table[index]
    content, regularisation = content_of(model, data, leaf, numbers)
    if classes is not None:
        class_codes = classes[labels]
    else:
        class_codes = averaged(model.class_encoder(data["image"]), labels)
    image = model.generator(class_codes, content)
    loss = (image - data["image"]).abs().mean() + regularisation
    names = [k for k, p in model.named_parameters()]
    leaves = [p for p in (table, classes) if p is not None]
    wanted = torch.autograd.grad(
        loss, [*model.parameters(), *leaves], allow_unused=True, materialize_grads=True
    )
    before = {name: rows.table.weight.clone() for name, rows in stage.learned.items()}
    torch.manual_seed(3)
    logs = stage.step(data)

    got = gradients(model)
    second_stage_only = {k for k in names if k not in got}
    for name, gradient in zip(names, wanted[: len(names)], strict=True):
        if name in second_stage_only:
            assert not gradient.any(), name
        else:
            torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-7)
    assert any("generator" in k for k in got)
    for what, gradient in zip(
        [n for n, t in (("content", table), ("class", classes)) if t is not None],
        wanted[len(names) :],
        strict=True,
    ):
        # Adam's first step is the rate times the gradient over its absolute value plus ε.
        step = numbers.latent_lr * gradient / (gradient.abs() + 1e-8)
        moved = before[what] - stage.learned[what].table.weight
        torch.testing.assert_close(moved.double(), step, rtol=1e-3, atol=1e-7)
        assert moved.any()
    total = logs["loss/reconstruction"] + logs["loss/regularisation"]
    torch.testing.assert_close(total.double(), loss.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("variant", ["lord", "without-regularisation", "semi-noise", "semi-kl"])
def test_the_second_stage_follows_its_loss(variant: str):
    model, stage = prepared(1, variant=variant, content_weight=7.0, class_weight=3.0)
    data = batch()
    x = data["image"]
    with torch.no_grad():
        target = model.embeddings.table.weight[data["label"]].double()
    found = model.class_encoder(x)
    content = model.content_encoder(x)[:, :CONTENT_DIM]
    tabled = model.variant.content_code == "table"
    if not tabled:
        content = content.detach()
    image = model.generator(found, content)
    loss = (image - x).abs().mean() + 3.0 * ((found - target) ** 2).mean()
    if tabled:
        codes = model.content_codes[0].weight[data["index"]].double()
        loss = loss + 7.0 * ((content - codes) ** 2).mean()
    learning = {
        k: p for k, p in model.named_parameters() if tabled or not k.startswith("content_encoder")
    }
    wanted = torch.autograd.grad(loss, list(learning.values()))
    tables = [t.clone() for t in (model.embeddings.table.weight,)]
    stage.step(data)
    got = gradients(model)
    assert got.keys() == learning.keys()
    for name, gradient in zip(learning, wanted, strict=True):
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-7)
    assert torch.equal(tables[0], model.embeddings.table.weight), "targets stay"


class KilledError(Exception):
    pass


def killed_at(stage: Stage, step: int) -> None:
    """Lets a stage run so many steps and no further."""
    whole = stage.step

    def until(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if stage.step_index == step:
            raise KilledError
        return whole(batch)

    stage.step = until


def train(
    folder, *, killed: int | None = None, settings: LoopSettings = QUIET, **options
) -> tuple[dict, LORD]:
    """Trains all stages; `killed`: a first run ends after so many steps of the first stage."""
    data = ToyContents(test_classes=2).splits().train
    for stop in (None,) if killed is None else (killed, None):
        model = toy_lord(**({"train": data} | options))
        with suppress(KilledError):
            for stage in model.stages():
                if stop is not None:
                    killed_at(stage, stop)
                fit(
                    stage,
                    data,
                    fabric=Fabric(accelerator="cpu", devices=1),
                    folder=folder,
                    seed=5,
                    settings=settings,
                )
    tables = {f"table {i}": t.weight.clone() for i, t in enumerate(model.content_codes)}
    return model.state_dict() | tables, model


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "lord"},
        {"variant": "lord", "skipped_steps": "ignore"},
        {"variant": "amortised-kl"},
        {"variant": "semi-noise", "scale": "keras", "batch_size": 16, "stop_after": 2},
    ],
    ids=["lord", "own steps", "amortised", "keras"],
)
def test_ten_steps_are_five_and_from_their_checkpoint_five(options, tmp_path):
    whole, _ = train(tmp_path / "whole", **options)
    parts, _ = train(tmp_path / "parts", killed=7, **options)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_mapped_table_trains_the_same_model(tmp_path):
    inside, _ = train(tmp_path / "a")
    mapped, _ = train(tmp_path / "b", table_folder=str(tmp_path))
    assert all(torch.equal(inside[k], mapped[k]) for k in inside)


def test_it_learns_and_knows_the_classes_that_it_met(tmp_path):
    losses = []
    _, model = train(
        tmp_path,
        settings=EVERY_STEP,
        steps=60,
        encoder_steps=1,
        lr=1e-2,
        latent_lr=3e-2,
        leakage_every=3,
    )
    rows = read_log(tmp_path / "log.csv")
    losses = [r["value"] for r in rows if r["name"] == "loss/reconstruction"]
    assert losses[59] < 0.6 * losses[0]
    leakage = [r["step"] for r in rows if r["name"] == "leakage/class_from_content"]
    assert leakage == [18, 36, 54], "six batches an epoch"
    vectors = model.class_vectors()
    assert vectors.shape == (8, CLASS_DIM)
    assert vectors.isfinite().all(dim=1).tolist() == [True] * 6 + [False] * 2
    model.label_names = tuple("abcdefgh")
    assert torch.equal(model.class_codes(torch.tensor([2, 0])), vectors[[2, 0]])
    with pytest.raises(UserError, match="no training image had the labels g, h, and they have no"):
        model.class_codes(torch.tensor([0, 7, 6, 7]))


def test_training_ends_early_and_the_rest_of_the_steps_change_nothing(tmp_path):
    """Nothing is better by a million: 96 images, 6 steps an epoch, ends after epochs 2 and 3."""
    options = {"stop_after": 2, "encoder_halve_after": 1, "encoder_stop_after": 2, "min_delta": 1e6}
    long = {"steps": 30, "encoder_steps": 30, "rate_changes": "constant"}
    early, _ = train(tmp_path / "early", settings=EVERY_STEP, **(long | options))
    rows = read_log(tmp_path / "early" / "log.csv")
    ended = {name: [r["step"] for r in rows if r["stage"] == name and r["name"] == "stopped"]
             for name in ("codes", "encoders")}  # fmt: skip
    # The first epoch is better than none; two more are not.
    assert ended == {"codes": list(range(19, 31)), "encoders": list(range(19, 31))}
    short = {"steps": 18, "encoder_steps": 18, "rate_changes": "constant"}
    plain, _ = train(tmp_path / "plain", **short)
    assert torch.equal(early["table 0"], plain["table 0"])
    halved = [k for k in plain if not torch.equal(early[k], plain[k])]
    assert halved, "the second stage's rate was halved on the way"
    assert not any(k.startswith("embeddings") for k in halved)


@pytest.mark.parametrize("combine", ["sum", "mean", "concatenation"])
def test_attributes_have_two_embeddings_each(combine: str, tmp_path):
    data = ToyAttributes().splits().train
    options = {"multilabel": True, "num_labels": 3, "combine": combine, "train": data}
    model = toy_lord(**options)
    e = model.embeddings.table.weight.reshape(3, 2, -1)
    a, b, c = e[0, 1], e[1, 0], e[2, 1]  # has, has not, has
    wanted = {
        "sum": a + b + c, "mean": (a + b + c) / 3, "concatenation": torch.cat([a, b, c])
    }[combine] if combine == "concatenation" or e.shape[2] == CLASS_DIM else None  # fmt: skip
    code = model.class_codes(torch.tensor([[1.0, 0.0, 1.0]]))
    torch.testing.assert_close(code[0], wanted)
    before = e.clone()
    for stage in model.stages():
        fit(stage, data, fabric=Fabric(accelerator="cpu", devices=1), folder=tmp_path,
            settings=QUIET)  # fmt: skip
    assert (model.embeddings.table.weight.reshape(3, 2, -1) != before).any(dim=2).all()
    assert model.class_vectors() is None
    with pytest.raises(UserError, match="a multiple of 3, got 4; take 6 or 3"):
        toy_lord(**(options | {"combine": "concatenation", "class_dim": 4}))


def test_codes_of_new_images_are_found_with_the_epsilon_of_all_adams():
    """An ε far above the gradients leaves the codes where they began."""
    model = toy_lord(variant="without-second-stage", latent_steps=5, latent_lr=0.05, eps=1e6)
    found = model.encode(torch.rand(2, 1, 12, 12))
    assert found.residual.abs().max() < 1e-6


def test_without_the_second_stage_codes_of_new_images_are_optimised():
    model = toy_lord(variant="without-second-stage", latent_steps=40, latent_lr=0.05, decay=0.0)
    assert [name for name, _ in model.named_children()] == ["embeddings", "generator"]
    wanted = Codes(torch.randn(5, CLASS_DIM), torch.randn(5, CONTENT_DIM))
    with torch.no_grad():
        images = model.decode(wanted)
        weights = [p.clone() for p in model.parameters()]
        codes = model.encode(images)
        again = model.encode(images[2:3])
        start = model.decode(Codes(model.embeddings.combined_mean(), torch.zeros(1, CONTENT_DIM)))
        # An image's codes do not depend on the others in its batch.
        torch.testing.assert_close(again.residual[0], codes.residual[2], rtol=1e-3, atol=1e-4)
        error = (model.decode(codes) - images).abs().mean()
        assert error < 0.5 * (start - images).abs().mean()
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_codes_of_the_variants_with_kl_are_means_and_the_posterior_is_known():
    model = toy_lord(variant="semi-kl")
    images = torch.rand(3, 1, 12, 12)
    mean, log_variance = model.posterior(images)
    assert torch.equal(model.encode(images).residual, mean)
    assert log_variance.shape == mean.shape == (3, CONTENT_DIM)
    assert toy_lord().posterior(images) is None


def test_presets_are_the_published_columns_and_each_number_can_be_set():
    keras, port, paper = (SCALES[name] for name in ("keras", "port", "paper"))
    assert (keras.decay, keras.content_weight, keras.slope) == (1e-3, 1e4, 0.3)
    assert (port.decay, port.content_weight, port.slope) == (1e-4, 10.0, 0.01)
    assert (paper.lr, paper.latent_lr, paper.decay, paper.epochs) == (1e-4, 1e-3, 1e-3, 200)
    assert paper.column == "keras"
    assert COLUMNS["paper"] == COLUMNS[paper.column], "one meaning of the paper's loss"
    for name, column in SCALES.items():
        assert toy_lord(scale=name, batch_size=None).scale == column
    changed = {
        "sigma": 0.5, "decay": 0.2, "epochs": 3, "betas": (0.1, 0.2), "adain": "deviation",
        "penalty_on": "clean", "class_weight": 0.0, "initialisation": "glorot",
    }  # fmt: skip
    mine = toy_lord(**changed).scale
    assert mine == port._replace(**changed, batch_size=16)


def test_epochs_are_counted_in_whole_batches():
    model = toy_lord(steps=None, encoder_steps=None, batch_size=40, epochs=5, encoder_epochs=2)
    assert [stage.max_steps for stage in model.stages()] == [15, 6], "128 images, 3 batches of 40"


def test_published_networks_fit_together_at_32_pixels():
    options = {"architecture": "sprites_small", "image_shape": (3, 32, 32), "reconstruction": "l1"}
    for variant in VARIANTS:
        model = LORD(variant=variant, class_dim=5, content_dim=4, latent_steps=2, **options)
        codes = model.encode(torch.rand(2, 3, 32, 32))
        assert codes.label.shape == (2, 5)
        assert codes.residual.shape == (2, 4)
        assert model.decode(codes).shape == (2, 3, 32, 32)


def test_a_class_with_one_image_is_named():
    images = torch.zeros(5, 1, 12, 12, dtype=torch.uint8)
    data = LabelledImages(images, torch.tensor([0, 0, 1, 2, 2]))
    with pytest.warns(UserWarning, match=r"a single training image: 1 \(1 in all\)"):
        toy_lord(train=data)


def test_leakage_of_codes_that_say_all_and_nothing():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (400,), generator=generator)
    noise = torch.randn(400, 3, generator=generator)
    assert linear_leakage(F.one_hot(labels, 4).float(), labels) == 1.0
    assert linear_leakage(noise, labels) < 0.35
    assert linear_leakage(noise[:10], torch.zeros(10, dtype=torch.int64)) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "tensorflow"}, "scale must be one of keras, port, paper"),
        ({"variant": "half"}, "variant must be one of amortised-kl"),
        ({"decay": -1.0}, "decay must be 0 or more"),
        ({"betas": (0.5, 1.0)}, "betas must be two numbers"),
        ({"rate_changes": "daily"}, "rate_changes must be one of per_step"),
        ({"variant": "without-regularisation", "sigma": 1.0}, "neither noise nor penalty"),
        ({"variant": "amortised-kl", "images_per_class": 5}, "multiple of images_per_class"),
        ({"variant": "amortised-kl", "images_per_class": 1}, "images_per_class must be 2 or more"),
        ({"variant": "amortised-kl", "multilabel": True}, "attributes are no classes"),
        ({"multilabel": True, "num_labels": 3, "leakage_every": 1}, "have none"),
        ({"generator": None}, "its images have 64 x 64 pixels"),
        ({"table_folder": "/nowhere/at/all"}, "cannot hold a table"),
    ],
)
def test_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message):
        toy_lord(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_labels": 3}, "8 classes, LORD was made for 3 classes: set --method.num_labels"),
        ({"num_labels": 8, "multilabel": True}, "LORD was made for 8 attributes"),
    ],
)
def test_other_labels_than_it_was_made_for_are_refused_before_it_meets_them(
    options, message, tmp_path
):
    model = LORD(**(toy_settings() | options))
    with pytest.raises(UserError, match=message):
        experiment.train(model, ToyContents(), tmp_path / "run", seed=1)
    assert not (tmp_path / "run").exists()


def test_stages_before_the_training_images_are_refused():
    with pytest.raises(UserError, match="call meet"):
        LORD(architecture="sprites_small", image_shape=(3, 32, 32), reconstruction="l1").stages()


@pytest.mark.parametrize("frozen", ["generator", "class_encoder", "content_encoder"])
def test_networks_whose_gradient_is_switched_off_stay(frozen: str, tmp_path):
    model = toy_lord(steps=2, encoder_steps=2)
    getattr(model, frozen).requires_grad_(False)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    codes = model.content_codes[0].weight.clone()
    for stage in model.stages():
        fit(stage, ToyContents().splits().train, fabric=Fabric(accelerator="cpu", devices=1),
            folder=tmp_path, settings=QUIET)  # fmt: skip
    for name, parameter in model.named_parameters():
        assert torch.equal(before[name], parameter) == name.startswith(frozen), name
    assert not torch.equal(codes, model.content_codes[0].weight)


def test_an_empty_network_of_the_users_own_is_used():
    class Bare(nn.Module):
        def forward(self, class_codes: Tensor, content_codes: Tensor) -> Tensor:
            return ToyGenerator()(class_codes, content_codes)

    assert isinstance(toy_lord(generator=Bare()).generator, Bare)
