"""DrNet: its three losses and the scene discriminator's against plain formulas; skips."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods import DrNet
from tests.dcorr_models.methods.rival_toys import (
    BATCH,
    CLASS_DIM,
    CONTENT_DIM,
    DenseToyDecoder,
    batch,
    check_resume,
    dense_encoder,
    moved,
    prepared,
    snapshot,
    toy_rival,
    trained,
)
from tests.dcorr_models.toy import ToyContents

SIZE = 4
GROUPS = BATCH // SIZE
DRAWING = {"class_encoder", "content_encoder", "decoder"}


class ToyCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * CONTENT_DIM, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.net(torch.cat([first, second], dim=1))


def toy(*, seed: int = 0, **options) -> DrNet:
    torch.manual_seed(seed)
    settings: dict = {
        "class_encoder": dense_encoder(CLASS_DIM),
        "content_encoder": dense_encoder(CONTENT_DIM),
        "decoder": DenseToyDecoder(),
        "scene_discriminator": ToyCritic(),
    }
    return toy_rival(DrNet, seed=seed, **(settings | options))


def reference(model: DrNet, x: Tensor, order: Tensor, *, weight: float) -> dict:
    """Both losses in float64 from probabilities; the critic as it is."""
    model, x = copy.deepcopy(model).double(), x.double()
    h_c, h_p = model.class_encoder(x), model.content_encoder(x)
    half, scene, others = GROUPS // 2, [], []
    similarity = rebuilt = adversarial = torch.zeros(()).double()
    for g in range(GROUPS):
        x1, x2, x4, x3 = range(SIZE * g, SIZE * g + SIZE)
        others.append(h_p[x4])
        similarity = similarity + (h_c[x1] - h_c[x2].detach()).square().mean() / GROUPS
        x_hat = model.decoder(h_c[x1][None], h_p[x3][None])
        rebuilt = rebuilt + (x_hat - x[x3]).square().mean() / GROUPS
        p = model.scene_discriminator(h_p[x3][None], h_p[x4][None].detach()).sigmoid()
        adversarial = adversarial - 0.5 * (p.log() + (1 - p).log()).mean() / GROUPS
    for g in range(GROUPS):
        shuffled = g < half
        second = others[int(order[g])] if shuffled else others[g]
        p = model.scene_discriminator(
            h_p[SIZE * g + 3][None].detach(), second[None].detach()
        ).sigmoid()
        scene.append(-(p if shuffled else 1 - p).log().mean())
    total = rebuilt + similarity + weight * adversarial
    drawing = {k: p for k, p in model.named_parameters() if k.split(".")[0] in DRAWING}
    judging = {k: p for k, p in model.named_parameters() if k not in drawing}
    scene_loss = torch.stack(scene).mean()
    found = torch.autograd.grad(total, list(drawing.values()), retain_graph=True)
    found += torch.autograd.grad(scene_loss, list(judging.values()))
    return {
        "scene": scene_loss,
        "similarity": similarity,
        "reconstruction": rebuilt,
        "adversarial": adversarial,
        "gradients": dict(zip([*drawing, *judging], found, strict=True)),
    }


def test_losses_and_gradients_are_the_published_ones():
    model = toy(adversarial_weight=0.7, lr=0.0)
    stage, data = prepared(model), batch(SIZE)
    torch.manual_seed(3)
    order = torch.randperm(GROUPS // 2)
    wanted = reference(model, data["image"], order, weight=0.7)
    torch.manual_seed(3)
    logs = stage.step(data)
    for name in ("scene", "similarity", "reconstruction", "adversarial"):
        assert logs[f"loss/{name}"].item() == pytest.approx(wanted[name].item(), rel=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad.double(), wanted["gradients"][name], rtol=2e-3, atol=1e-6
        )


@pytest.mark.parametrize(
    ("term", "learning"),
    [
        ("reconstruction", DRAWING),
        ("similarity", {"class_encoder"}),
        ("adversarial", {"content_encoder"}),
    ],
)
def test_who_learns_from_which_loss(term, learning):
    names = ("reconstruction", "similarity", "adversarial")
    model = toy(**{f"{name}_weight": float(name == term) for name in names})
    before = snapshot(model)
    prepared(model).step(batch(SIZE))
    assert moved(model, before) == learning | {"scene_discriminator"}


def test_the_others_stay_still_while_the_scene_discriminator_learns():
    model = toy()
    stage, before = prepared(model), snapshot(model)
    seen = []
    stage.optimizers["scene_discriminator"].register_step_post_hook(
        lambda *_: seen.append(moved(model, before))
    )
    stage.step(batch(SIZE))
    assert seen == [{"scene_discriminator"}]
    judged = {k: p.detach().clone() for k, p in model.scene_discriminator.named_parameters()}
    learned = snapshot(model)
    stage.optimizers["scene_discriminator"].param_groups[0]["lr"] = 0.0
    stage.step(batch(SIZE))
    assert moved(model, learned) == DRAWING
    now = dict(model.scene_discriminator.named_parameters())
    assert all(torch.equal(now[k], judged[k]) for k in now)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("size", "roles"), [(4, (0, 1, 3, 2)), (3, (0, 1, 2, 1)), (2, (0, 1, 1, 0))]
)
def test_roles_of_the_images_of_a_group(size, roles):
    model = toy(images_per_class=size, batch_size=4 * size)
    stage = prepared(model)
    x = torch.arange(4 * size).float()[:, None, None, None]
    got = [role[0].item() for role in stage._roles(x)]
    assert got == list(roles)
    assert got[0] != got[2], "the image that is drawn does not give its class code"


def test_a_trained_scene_discriminator_tells_classes_apart(tmp_path):
    model = toy(reconstruction_weight=0.0, similarity_weight=0.0, adversarial_weight=0.0)
    stage = prepared(model)
    torch.manual_seed(0)
    data = batch(SIZE)
    losses = torch.stack([stage.step(data)["loss/scene"] for _ in range(120)])
    assert losses[-40:].mean() < losses[:40].mean()


def test_ten_steps_equal_five_saved_loaded_and_five_more(tmp_path):
    check_resume(toy, tmp_path)


def test_toy_training_gives_a_class_one_code(tmp_path):
    model = trained(toy(), tmp_path, steps=200).eval()
    images, labels = ToyContents().splits().test.tensors()
    with torch.no_grad():
        codes = model.encode(images)
        error = (model.decode(codes) - images).square().mean()
    between = torch.stack([codes.label[labels == k].mean(0) for k in range(8)]).var(0)
    within = torch.stack([codes.label[labels == k].var(0) for k in range(8)]).mean(0)
    # 1 / 4 for a code that knows nothing of the class: four images a class
    assert (between / within).max() > 4
    assert error < 0.5 * images.sub(images.mean(0)).square().mean()


def test_the_published_networks_with_and_without_skips():
    maps = sum(64 * 2**k * (32 >> k) ** 2 for k in range(4))
    for skips, more in ((None, maps), (True, maps), (False, 0)):
        with torch.device("meta"):
            model = DrNet(content_skips=skips).eval()
            images = torch.empty(2, 3, 64, 64)
            codes = model.encode(images)
            assert codes.label.shape == (2, 128 + more) == (2, model.class_dim)
            assert codes.residual.shape == (2, 10)
            assert model.decode(codes).shape == images.shape


def test_skips_carry_the_class_image_past_the_code():
    model = DrNet().eval()
    assert 0.018 < model.class_encoder.down[2][0].weight.std() < 0.022
    codes = model.encode(torch.rand(2, 3, 64, 64))
    other = codes.label.clone()
    other[:, 128:] = other[:, 128:].flip(0)
    assert torch.equal(other[:, :128], codes.label[:, :128])
    assert not torch.allclose(model.decode(codes), model.decode(codes._replace(label=other)))


def test_the_similarity_is_of_the_vector_not_of_the_maps():
    torch.manual_seed(0)
    model = DrNet(batch_size=16, reconstruction_weight=0.0, adversarial_weight=0.0)
    stage, seen = prepared(model), []
    model.class_encoder.register_forward_hook(lambda *args: seen.append(args[-1].detach()))
    logs = stage.step({"image": torch.rand(16, 3, 64, 64), "label": torch.zeros(16).long()})
    first, second = (codes[:, :128] for codes in seen)
    wanted = (first - second).square().mean().item()
    assert logs["loss/similarity"].item() == pytest.approx(wanted, rel=1e-5)


def test_lords_networks_have_bounded_codes_and_no_skips():
    model = DrNet(architecture="sprites_small", image_shape=(3, 32, 32), class_dim=8)
    images = torch.rand(2, 3, 32, 32)
    codes = model.encode(images)
    assert codes.label.shape == (2, 8) == (2, model.class_dim)
    assert max(code.abs().max() for code in codes) < 1
    assert model.decode(codes).shape == images.shape
    assert model.class_vectors() is None
    assert model.posterior(images) is None


def test_bfloat16_autocast_trains_every_parameter():
    model = toy()
    before = snapshot(model)
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    logs = stage.step(batch(SIZE))
    assert all(torch.isfinite(value) for value in logs.values())
    assert all(not torch.equal(p, before[k]) for k, p in model.named_parameters())


SHARED = dense_encoder(CONTENT_DIM)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (3, 32, 32)}, "its images have 64 x 64 pixels; take one of lord64"),
        ({"architecture": "lord64", "content_skips": True}, "content_skips join the published"),
        ({"class_encoder": dense_encoder(3), "content_skips": True}, "content_skips join"),
        ({"images_per_class": 1}, "images_per_class must be 2 or more"),
        ({"images_per_class": 5}, "images_per_class must be 2 to 4, got 5"),
        ({"batch_size": 402}, r"multiple of images_per_class \(4\), got 402"),
        ({"batch_size": 12}, "batch_size must be 16 or more"),
        ({"adversarial_weight": -1.0}, "adversarial_weight must be 0 or more"),
        ({"reconstruction": "psnr"}, "reconstruction must be one of published, l1"),
        ({"betas": (0.5,)}, "betas must be two numbers"),
        ({"class_encoder": SHARED, "content_encoder": SHARED}, "share parameters"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        DrNet(**options)
