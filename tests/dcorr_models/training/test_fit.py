"""Resuming, checkpoints and the loop's own rules, on a toy CDNet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from dcorr_models.errors import CheckpointError, RunError
from dcorr_models.methods import CDNet
from dcorr_models.training.fit import LoopSettings, fit
from dcorr_models.training.logs import read_log
from tests.dcorr_models.toy import ToyImages, toy_cdnet

QUIET = {"progress": False, "log_every": 1}


def train(model: CDNet, folder: Path, *, steps: int = 12, seed: int = 5, **loop) -> CDNet:
    """Both stages; the second only to `steps`."""
    data = ToyImages().splits().train
    for stage in model.stages():
        if stage.name == "disentangle":
            stage.max_steps = steps
        fit(
            stage,
            data,
            fabric=Fabric(accelerator="cpu", devices=1),
            folder=folder,
            seed=seed,
            settings=LoopSettings(**(QUIET | loop)),
        )
    return model


def same_weights(a: CDNet, b: CDNet) -> bool:
    states = a.state_dict(), b.state_dict()
    return all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
@pytest.mark.parametrize("stop", [1, 5, 11])
def test_resuming_equals_never_stopping_bit_for_bit(tmp_path, updates, stop):
    options = {"updates": updates, "gate": True, "lr_milestones": (4, 8)}
    whole = train(toy_cdnet(**options), tmp_path / "whole")
    train(toy_cdnet(**options), tmp_path / "parts", steps=stop)
    torch.rand(17)  # whatever happens to the random state in between
    resumed = train(toy_cdnet(seed=99, **options), tmp_path / "parts")
    assert same_weights(whole, resumed)


def test_other_seeds_give_other_weights(tmp_path):
    assert not same_weights(
        train(toy_cdnet(), tmp_path / "a"), train(toy_cdnet(), tmp_path / "b", seed=6)
    )


def test_saving_and_logging_do_not_change_the_result(tmp_path):
    often = train(toy_cdnet(), tmp_path / "often", save_every=1, log_every=1)
    rarely = train(toy_cdnet(), tmp_path / "rarely", save_every=1000, log_every=1000)
    assert same_weights(often, rarely)


def test_the_log_has_each_step_once_after_a_resume(tmp_path):
    train(toy_cdnet(), tmp_path, steps=5)
    train(toy_cdnet(), tmp_path)
    steps = [
        row["step"]
        for row in read_log(tmp_path / "log.csv")
        if row["stage"] == "disentangle" and row["name"] == "loss/pixel"
    ]
    assert steps == list(range(1, 13))


def test_a_finished_stage_is_loaded_not_trained_again(tmp_path):
    whole = train(toy_cdnet(), tmp_path)
    rows = len(read_log(tmp_path / "log.csv"))
    again = train(toy_cdnet(seed=99), tmp_path)
    assert same_weights(whole, again)
    assert len(read_log(tmp_path / "log.csv")) == rows


def test_toy_training_learns_the_classes_and_the_images(tmp_path):
    # 96 images and 200 updates: enough for both stages to show that they learn.
    model = train(toy_cdnet(label_steps=60, lr=3e-3), tmp_path, steps=200).eval()
    images, labels = ToyImages().splits().test.tensors()
    with torch.no_grad():
        codes = model.encode(images)
        error = (model.decode(codes) - images).square().mean().item()
    assert (codes.label.argmax(1) == labels).float().mean().item() == 1.0
    assert error < 0.3 * images.var().item()


def test_a_loss_that_becomes_nan_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    train(toy_cdnet(), tmp_path, steps=4)
    checkpoint = tmp_path / "checkpoints" / "disentangle.ckpt"
    before = checkpoint.read_bytes()

    model = toy_cdnet()
    stages = model.stages()
    fit(stages[0], ToyImages().splits().train, fabric=Fabric(accelerator="cpu"), folder=tmp_path,
        seed=5, settings=LoopSettings(**QUIET))  # fmt: skip
    stages[1].settings = stages[1].settings._replace(regulariser=lambda y, z: z.sum() * torch.nan)
    with pytest.raises(RunError, match=r"loss/decorrelation became nan at step 5 of stage"):
        fit(stages[1], ToyImages().splits().train, fabric=Fabric(accelerator="cpu"),
            folder=tmp_path, seed=5, settings=LoopSettings(**QUIET))  # fmt: skip
    assert checkpoint.read_bytes() == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, "cannot be read as a checkpoint"),
        (lambda p: p.write_bytes(b""), "cannot be read as a checkpoint"),
        (lambda p: p.write_text("not a checkpoint"), "cannot be read as a checkpoint"),
        (lambda p: torch.save({"format": 1, "stage": "other"}, p), "holds no|does not hold|has no"),
        (lambda p: torch.save([1, 2], p), "holds no checkpoint"),
    ],
)
def test_a_broken_checkpoint_is_named_and_left_alone(tmp_path, spoil, message):
    train(toy_cdnet(), tmp_path, steps=4)
    path = tmp_path / "checkpoints" / "disentangle.ckpt"
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=message) as caught:
        train(toy_cdnet(), tmp_path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    train(toy_cdnet(), tmp_path, steps=4)
    other = toy_cdnet(latent_dim=5, residual_encoder=None, architecture="mnist",
                      image_shape=(1, 12, 12), discriminator=None)  # fmt: skip
    with pytest.raises(CheckpointError, match="another architecture"):
        train(other, tmp_path)


def test_a_checkpoint_of_another_method_is_refused(tmp_path):
    train(toy_cdnet(), tmp_path, steps=4)
    pixel_only = toy_cdnet(feature_weight=0.0, adversarial_weight=0.0)
    train(pixel_only, tmp_path / "m1", steps=4)
    (tmp_path / "m1" / "checkpoints" / "disentangle.ckpt").replace(
        tmp_path / "checkpoints" / "disentangle.ckpt"
    )
    with pytest.raises(CheckpointError, match=r"has no 'network\.discriminator'"):
        train(toy_cdnet(), tmp_path)


def test_another_seed_is_refused(tmp_path):
    train(toy_cdnet(), tmp_path, steps=4)
    with pytest.raises(CheckpointError, match="seed 5, not 6"):
        fit(
            toy_cdnet().stages()[1],
            ToyImages().splits().train,
            fabric=Fabric(accelerator="cpu", devices=1),
            folder=tmp_path,
            seed=6,
            settings=LoopSettings(**QUIET),
        )


@pytest.mark.parametrize("name", ["save_every", "log_every"])
def test_impossible_loop_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
        LoopSettings(**{name: 0})
