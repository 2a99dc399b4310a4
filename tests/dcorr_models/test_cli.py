"""The commands as a user types them: what they write, and one line for every mistake."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from dcorr_models.cli import main
from dcorr_models.errors import CheckpointError, RunError
from dcorr_models.experiment import load_weights
from dcorr_models.run_folder import RunFolder

TOY = "tests.dcorr_models.toy."
ROOT = Path(__file__).parents[2]


def toy_config(path: Path, *, method: dict | None = None, **top: object) -> Path:
    """A YAML file for a toy CDNet: every network is the user's own, by import path."""
    arguments = {
        "image_shape": [1, 12, 12],
        "num_labels": 4,
        "latent_dim": 3,
        "batch_size": 24,
        "label_steps": 8,
        "steps": 8,
        "label_lr": 1e-2,
        "lr": 1e-3,
        "label_encoder": {"class_path": TOY + "ToyEncoder", "init_args": {"out": 4}},
        "residual_encoder": {"class_path": TOY + "ToyEncoder", "init_args": {"out": 3}},
        "decoder": {"class_path": TOY + "ToyDecoder"},
        "discriminator": {"class_path": TOY + "ToyCritic"},
    }
    content = {
        "method": {"class_path": "CDNet", "init_args": arguments | (method or {})},
        "data": {"class_path": TOY + "ToyImages"},
        "loop": {"progress": False},
        "accelerator": "cpu",
    }
    path.write_text(yaml.safe_dump(content | top))
    return path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def refused(capsys, *words: object) -> str:
    """The one line of a refusal."""
    capsys.readouterr()
    assert run(*words) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("dcorr-models: error: ")
    assert "Traceback" not in captured.err + captured.out
    return lines[0]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    config = toy_config(folder / "toy.yaml")
    assert run("train", "--config", config, "--run", folder / "run") == 0
    return folder


def test_train_evaluate_edit_report(trained, capsys):
    folder = trained / "run"
    names = {"config.yaml", "versions.json", "log.csv", "weights.safetensors", "checkpoints"}
    assert names <= {p.name for p in folder.iterdir()}
    assert run("evaluate", folder) == 0
    assert "leakage.linear_probe: " in capsys.readouterr().out
    assert run("edit", folder, "--indices", "[0,3]", "--out", trained / "edited") == 0
    assert list((trained / "edited").glob("*.png"))
    assert run("report", folder) == 0
    html = (folder / "report.html").read_text()
    assert "linear" in html.lower()


def test_without_a_command_the_help_is_shown(capsys):
    assert run() == 0
    assert "prepare" in capsys.readouterr().out


def test_help_names_the_methods_options_without_pages_of_classes(capsys):
    with pytest.raises(SystemExit) as stop:
        run("train", "--method.help", "CDNet")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "decorrelation_ramp" in text
    assert "updates over which the weight grows" in " ".join(text.split())
    assert "torch.nn" not in text or len(text) < 12_000


def test_options_on_the_command_line_override_the_file(tmp_path):
    config = toy_config(tmp_path / "toy.yaml")
    assert (
        run("train", "--config", config, "--run", tmp_path / "r", "--method.decorrelation", "xcov",
            "--method.steps", 2, "--method.label_steps", 2, "--seed", 7) == 0
    )  # fmt: skip
    settings = yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())
    assert settings["seed"] == 7
    assert settings["method"]["init_args"]["decorrelation"] == "xcov"
    assert settings["method"]["init_args"]["steps"] == 2
    assert settings["method"]["init_args"]["latent_dim"] == 3


def test_the_same_seed_gives_the_same_weights(tmp_path):
    config = toy_config(tmp_path / "toy.yaml")
    for name in ("a", "b"):
        assert run("train", "--config", config, "--run", tmp_path / name) == 0
    a, b = (load_file(tmp_path / n / "weights.safetensors") for n in ("a", "b"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    config = toy_config(
        tmp_path / "toy.yaml",
        method={"steps": 400, "label_steps": 100, "decorrelation_ramp": 50},
        loop={"progress": False, "save_every": 7, "log_every": 5},
    )
    command = [sys.executable, "-m", "dcorr_models", "train", "--config", str(config), "--run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def start(name: str, *more: str) -> subprocess.Popen:
        return subprocess.Popen([*command, str(tmp_path / name), *more], cwd=ROOT, env=environment)

    assert start("whole").wait(120) == 0
    killed = start("killed")
    checkpoint = tmp_path / "killed" / "checkpoints" / "label_encoder.ckpt"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.01)
    time.sleep(random.random() * 1.5)  # anywhere: between stages, in a step, in a save
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(30) == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    assert start("killed", "--resume").wait(120) == 0

    whole, resumed = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_resume_of_a_finished_run_changes_nothing(trained):
    before = files(trained / "run")
    assert run("train", "--config", trained / "toy.yaml", "--run", trained / "run", "--resume") == 0
    assert files(trained / "run") == before


def test_a_folder_that_holds_a_run_is_refused(trained, capsys):
    before = files(trained / "run")
    line = refused(capsys, "train", "--config", trained / "toy.yaml", "--run", trained / "run")
    assert "already holds a run" in line
    assert "--resume" in line
    assert files(trained / "run") == before


def test_resuming_with_other_settings_is_refused(trained, capsys):
    before = files(trained / "run")
    line = refused(
        capsys, "train", "--config", trained / "toy.yaml", "--run", trained / "run", "--resume",
        "--method.lr", "0.5",
    )  # fmt: skip
    assert "method.lr is 0.001 there and 0.5 here" in line
    assert files(trained / "run") == before


def test_a_folder_with_other_files_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    config = toy_config(tmp_path.parent / f"{tmp_path.name}.yaml")
    line = refused(capsys, "train", "--config", config, "--run", tmp_path)
    assert "is not empty and holds no run" in line
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, capsys):
    (tmp_path / "taken").write_text("x")
    config = toy_config(tmp_path / "toy.yaml")
    assert "is a file" in refused(capsys, "train", "--config", config, "--run", tmp_path / "taken")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, capsys):
    # Under a file no folder can be made, whoever asks: file modes do not stop the superuser.
    (tmp_path / "taken").write_text("x")
    config = toy_config(tmp_path / "toy.yaml")
    line = refused(capsys, "train", "--config", config, "--run", tmp_path / "taken" / "run")
    assert "cannot be written to" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--method.decorelation", "xcov"], "did you mean 'decorrelation'"),
        (["--method.steps", "many"], "steps"),
        (["--method.steps", "-1"], "steps must be 0 or more, got -1"),
        (["--method.batch_size", "1000"], "the training split has 96 labelled images"),
        (["--method.latent_dim", "0"], "latent_dim must be 1 or more"),
        (["--method.decorrelation", "hsic"], "hsic"),
        (["--method.updates", "both"], "both"),
        (["--method", "CDNt"], "CDNt"),
        (["--data", "Digitz"], "Digitz"),
        (["--sead", "3"], "sead"),
        (["--seed", "one"], "seed"),
        (["--loop.save_every", "0"], "save_every must be 1 or more"),
        (["--accelerator", "abacus"], "abacus"),
        (["--precision", "16-mixed"], "16-mixed"),
        (["--devices", "0"], "devices"),
        (["--precision", "64-true"], "64-true"),
        (["--method.batch_size", "1"], "leaves a process one image"),
        (["--method.decorrelation", "torch.nn.ReLU"], "decorrelation fails on a batch"),
        (["--method.decorrelation", "torch.nn.Bilinear"], "in1_features"),
        (["--method.image_shape", "[1, 28, 28]"], "--method.image_shape"),
        (["--method.num_labels", "5"], "--method.num_labels"),
        (["--config", "no_such_config"], "cdnet_digits_demo"),
        (["--method", "LatentGAN"], "a base class was named, which cannot be trained: take AEXCov"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, words, expected):
    config = toy_config(tmp_path / "toy.yaml")
    line = refused(capsys, "train", "--config", config, "--run", tmp_path / "r", *words)
    assert expected in line
    assert len(line) < 600


@pytest.mark.parametrize("command", ["evaluate", "edit", "report"])
def test_commands_on_runs_that_are_not_there(tmp_path, capsys, command):
    assert "there is no such folder" in refused(capsys, command, tmp_path / "none")
    assert "has no config.yaml" in refused(capsys, command, tmp_path)


@pytest.fixture
def copy_of_run(trained, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(trained / "run", tmp_path / "copy"))


def test_an_unfinished_run_cannot_be_evaluated(copy_of_run, capsys):
    (copy_of_run / "weights.safetensors").unlink()
    assert "has not finished training" in refused(capsys, "evaluate", copy_of_run)


def test_truncated_weights_are_named(copy_of_run, capsys):
    path = copy_of_run / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert "weights.safetensors cannot be read" in refused(capsys, "evaluate", copy_of_run)


def test_weights_of_a_run_with_other_settings_are_refused(copy_of_run, capsys):
    config = copy_of_run / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["method"]["init_args"]["decoder"] = None
    config.write_text(yaml.safe_dump(content))
    assert "run with other settings" in refused(capsys, "report", copy_of_run)


def test_weights_of_another_architecture_are_refused(copy_of_run, capsys):
    path = copy_of_run / "weights.safetensors"
    weights = load_file(path)
    del weights["decoder.net.0.weight"]
    mark = RunFolder(copy_of_run).fingerprint()
    save_file(weights, path, metadata={"fingerprint": mark})
    assert "another method or architecture" in refused(capsys, "report", copy_of_run)


def begun(tmp_path: Path, name: str, *words: object) -> Path:
    """A run stopped in its second stage."""
    config = toy_config(tmp_path / f"{name}.yaml", loop={"progress": False, "save_every": 2})
    assert run("train", "--config", config, "--run", tmp_path / name, *words) == 0
    (tmp_path / name / "weights.safetensors").unlink()
    return tmp_path / name / "checkpoints" / "disentangle.ckpt"


def test_a_flipped_bit_in_a_checkpoint_is_seen(tmp_path, capsys):
    checkpoint = begun(tmp_path, "a")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    line = refused(
        capsys, "train", "--config", tmp_path / "a.yaml", "--run", tmp_path / "a", "--resume"
    )
    assert "cannot be read as a checkpoint" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("--seed", "2"), "seed 2, not 1"), (("--method.lr", "0.5"), "settings")],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, capsys, words, expected):
    begun(tmp_path, "b", *words).replace(begun(tmp_path, "a"))
    line = refused(
        capsys, "train", "--config", tmp_path / "a.yaml", "--run", tmp_path / "a", "--resume"
    )
    assert expected in line


def test_another_precision_is_another_setting(tmp_path, capsys):
    begun(tmp_path, "a")
    line = refused(
        capsys, "train", "--config", tmp_path / "a.yaml", "--run", tmp_path / "a", "--resume",
        "--precision", "bf16-mixed",
    )  # fmt: skip
    assert "precision is 32-true there and bf16-mixed here" in line


def test_what_a_run_killed_at_its_birth_leaves_is_no_obstacle(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    for name in ("versions.json", "config.yaml.7.tmp", ".write-test-1", ".lock"):
        (folder / name).write_text("{}")
    config = toy_config(tmp_path / "toy.yaml")
    assert run("train", "--config", config, "--run", folder) == 0
    assert not list(folder.glob("*.tmp"))


def test_a_reader_that_has_seen_enough_ends_the_output_without_a_word(monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert run("configs") == 141
    assert capsys.readouterr().err == ""


def test_of_two_processes_that_begin_at_once_the_first_ones_settings_stay(tmp_path, monkeypatch):
    settings, look = {"method": "a", "data": "b", "seed": 1}, RunFolder.check_writable

    def overtaken(folder: RunFolder, way_out: str) -> None:
        look(folder, way_out)
        monkeypatch.setattr(RunFolder, "check_writable", look)
        RunFolder(folder.path).begin(settings)

    monkeypatch.setattr(RunFolder, "check_writable", overtaken)
    with pytest.raises(RunError, match="already holds a run"):
        RunFolder(tmp_path / "r").begin(settings | {"seed": 2})
    assert RunFolder(tmp_path / "r").read_config() == settings


def test_two_trainings_in_one_folder_are_kept_apart(tmp_path, capsys):
    unfinished = begun(tmp_path, "a").with_suffix(".ckpt.7.tmp")
    unfinished.touch()
    with RunFolder(tmp_path / "a").locked():
        assert not unfinished.exists()  # of a training that was killed
        line = refused(
            capsys, "train", "--config", tmp_path / "a.yaml", "--run", tmp_path / "a", "--resume"
        )
    assert "is being trained by another process" in line


def test_a_run_that_diverged_is_not_called_trained(tmp_path, capsys):
    config = toy_config(tmp_path / "toy.yaml")
    line = refused(
        capsys, "train", "--config", config, "--run", tmp_path / "r", "--method.lr", "1e38"
    )
    assert "became" in line
    assert not (tmp_path / "r" / "weights.safetensors").exists()


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = toy_config(tmp_path / "toy.yaml")
    assert run("train", "--config", config, "--run", "~/here") == 0
    assert (tmp_path / "here" / "weights.safetensors").exists()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_seed_that_not_every_generator_takes_is_refused(trained, tmp_path, capsys, command):
    words = {
        "train": ["--config", trained / "toy.yaml", "--run", tmp_path / "r"],
        "evaluate": [trained / "run"],
    }[command]
    assert "seed must be from 0 to 2**32 - 1, got -1" in refused(
        capsys, command, *words, "--seed", "-1"
    )
    assert not (tmp_path / "r").exists()


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "x.ckpt")

    monkeypatch.setattr("dcorr_models.training.fit.save_checkpoint", full)
    config = toy_config(tmp_path / "toy.yaml")
    line = refused(capsys, "train", "--config", config, "--run", tmp_path / "r")
    assert "x.ckpt: No space left on device" in line


def test_a_number_that_json_does_not_have_is_named_and_the_old_file_stays(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json(folder.evaluation, {"old": 1})
    for content in ({"a": {"b": float("inf")}}, {"a": {"b": [[0.0], [float("nan")]]}}):
        with pytest.raises(RunError, match=r"a\.b came out as NaN or infinite"):
            folder.write_json(folder.evaluation, content)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]
    assert "old" in folder.evaluation.read_text()


@contextmanager
def no_room():
    """A disk on which no file can grow, though small ones can be made.

    Not a fixture: it would still hold where pytest writes the test's result, maybe into a file.
    """
    resource = pytest.importorskip("resource")
    pytest.importorskip("joblib")  # makes a file when it is first imported
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("words", "file"),
    [(["evaluate"], "evaluation.json"), (["report"], "report.html"), (["edit"], "edited")],
)
def test_a_full_disk_names_the_file_and_leaves_the_old_one(copy_of_run, capsys, words, file):
    before = files(copy_of_run)
    with no_room():
        line = refused(capsys, *words, copy_of_run)
    assert str(copy_of_run / file) in line
    assert files(copy_of_run) == before


def test_weights_that_cannot_be_written_can_be_written_later(tmp_path, capsys, monkeypatch):
    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    config = toy_config(tmp_path / "toy.yaml")
    words = ("train", "--config", config, "--run", tmp_path / "r")
    with monkeypatch.context() as patched:
        patched.setattr("dcorr_models.experiment.save", full)
        line = refused(capsys, *words)
    assert "weights.safetensors: No space left on device" in line
    assert not list((tmp_path / "r").glob("weights*"))
    assert run(*words, "--resume") == 0


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_weights_have_the_permissions_of_the_other_files(trained):
    modes = {path.stat().st_mode for path in (trained / "run").iterdir() if path.suffix}
    assert len(modes) == 1


def test_weights_that_may_not_be_read_are_not_called_broken(copy_of_run, monkeypatch):
    def denied(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", denied)
        with pytest.raises(CheckpointError, match=r"safetensors cannot be read: Perm.* denied$"):
            load_weights(None, RunFolder(copy_of_run))


def test_a_folder_that_cannot_be_written_is_found_before_measuring(trained, capsys, monkeypatch):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)
    monkeypatch.setattr("dcorr_models.evaluation.evaluate", lambda *_, **__: pytest.fail("late"))
    line = refused(capsys, "evaluate", trained / "run")
    assert "run cannot be written to (Permission denied): copy the run" in line


def test_own_files_in_the_output_folder_are_kept(trained, tmp_path, capsys):
    (tmp_path / "edited.png").write_text("mine")
    line = refused(capsys, "edit", trained / "run", "--out", tmp_path)
    assert "already holds edited.png" in line
    assert (tmp_path / "edited.png").read_text() == "mine"


@pytest.mark.distributed
def test_two_devices_train_a_new_run(tmp_path):
    config = toy_config(tmp_path / "toy.yaml")
    command = [sys.executable, "-m", "dcorr_models", "train", "--config", str(config)]
    done = subprocess.run(
        [*command, "--run", str(tmp_path / "r"), "--devices", "2"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    # gloo may abort at interpreter exit: the file is what counts.
    assert (tmp_path / "r" / "weights.safetensors").exists(), done.stderr[-2000:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "cannot be read"),
        ("seed: 1", "method, data or seed is missing"),
        ("method: {class_path: Nope}\ndata: {class_path: BundledDigits}\nseed: 1", "Nope"),
    ],
)
def test_broken_settings_of_a_run_are_named(copy_of_run, capsys, text, expected):
    (copy_of_run / "config.yaml").write_text(text)
    line = refused(capsys, "evaluate", copy_of_run)
    assert "config.yaml" in line
    assert expected in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--target", "9"], "9"),
        (["--indices", "[4000]"], "4000"),
        (["--images", "[no_such_file.png]"], "no_such_file.png"),
    ],
)
def test_impossible_edits_are_one_line(trained, capsys, words, expected):
    out = ["--out", trained / "nothing"]
    assert expected in refused(capsys, "edit", trained / "run", *out, *words)


def test_prepare_of_data_without_download_says_so(capsys):
    assert run("prepare", "--data", "BundledDigits") == 0
    assert "nothing to download" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["CartoonFaces", "--data.train", "0"], "the splits need train >= 1"),
        (["CartoonFaces", "--data.attributes", "[Smilng]"], "did you mean Smiling?"),
        (["CartoonFaces", "--data.attributes", "Smiling"], "--data.attributes takes a list"),
        (["CartoonFaces", "--data.correlations", "{Beard+Mustache: 2}"], "from -1 to 1, got 2.0"),
        (["CartoonFaces", "--data.correlations", "[1]"], "takes names and values"),
        (["CelebA", "--data.seed", "-1"], "seed must be from 0"),
        (["ImageFolder", "--data.folder", ".", "--data.size", "0"], "size must be 1 or more"),
    ],
)
def test_wrong_options_of_prepare_are_one_line(capsys, words, expected):
    line = refused(capsys, "prepare", "--data", *words)
    assert expected in line
    assert len(line) < 200


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["edit", "r", "--intensities", "1"], "--intensities takes a list, such as '[a, b]'"),
        (["evaluate", "r", "--attributes.values", "[1]"], "values takes 2 values in a list, got"),
        (["compare"], "the folders of runs are required"),
    ],
)
def test_options_of_the_wrong_form_are_named(capsys, words, expected):
    assert expected in refused(capsys, *words)


def test_a_folder_with_the_name_of_a_config_and_a_config_that_is_no_text(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cdnet_digits_demo").mkdir()
    words = ("train", "--config", "cdnet_digits_demo", "--run", "r", "--seed", "-1")
    assert "seed must be from 0" in refused(capsys, *words)
    (tmp_path / "a.yaml").write_bytes(b"\x89PNG")
    line = refused(capsys, "train", "--config", "a.yaml", "--run", "r")
    assert "--config a.yaml is not a text file" in line


def test_missing_files_of_a_data_set_are_one_line(tmp_path, capsys):
    config = toy_config(
        tmp_path / "toy.yaml",
        data={"class_path": "MNIST", "init_args": {"folder": str(tmp_path / "no")}},
        method={"image_shape": [1, 28, 28], "num_labels": 10},
    )
    line = refused(capsys, "train", "--config", config, "--run", tmp_path / "r")
    assert str(tmp_path / "no") in line
