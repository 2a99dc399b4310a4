from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from dcorr_models.data import CartoonFaces
from dcorr_models.data import cartoon_faces as module
from dcorr_models.data.cartoon_faces import ATTRIBUTES, VARIATIONS
from dcorr_models.data.cartoon_rendering import HAIR_COLOURS, SKIN_COLOURS, draw_face
from dcorr_models.errors import DataError

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")


FIRST_TWO = [
    [1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 4, 4, 2, 0, 7, 6, 1, 1, 0],
    [1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 4, 3, 2, 0, 1, 2, 1, 1, 1],
]
# of the first: squares of background, face, beard and background again, in red, green and blue
SQUARES = [[18.0, 196.5, 107.4, 21.4], [57.0, 171.5, 63.7, 55.2], [47.0, 143.6, 60.8, 46.1]]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cartoon-faces")


def small(cache, **options) -> CartoonFaces:
    return CartoonFaces(**({"train": 40, "valid": 10, "test": 30, "cache": cache} | options))


def choices(source: CartoonFaces) -> list[dict[str, int]]:
    rows = np.concatenate(source.factors()).tolist()
    return [dict(zip(source.factor_names, row, strict=True)) for row in rows]


def test_the_splits_are_what_was_asked_for(cache):
    source = small(cache)
    splits = source.splits()
    assert [len(split) for split in splits] == [40, 10, 30]
    image, labels = splits.train.tensors()
    assert image.shape[1:] == source.image_shape
    assert image.min() >= -1
    assert image.max() <= 1
    assert image.min() < -0.5 < 0.5 < image.max()
    assert labels.dtype == torch.float32
    assert labels.shape == (40, 16)
    assert set(labels.unique().tolist()) == {0.0, 1.0}
    assert source.multilabel
    assert source.label_names == ATTRIBUTES


def test_no_face_occurs_twice(cache):
    splits = small(cache, train=80, valid=30, test=40).splits()
    digests = [
        hashlib.sha256(image.numpy().tobytes()).digest() for part in splits for image in part.images
    ]
    assert len(set(digests)) == 150


def test_choices_of_no_face_occur_twice():
    # with all attributes tied to each other few faces are left, and still none comes twice
    tied = {f"{ATTRIBUTES[0]}+{name}": 1.0 for name in ATTRIBUTES[1:]}
    tied |= {f"{a}+{b}": 1.0 for a in ATTRIBUTES[1:] for b in ATTRIBUTES[1:] if a < b}
    factors = np.concatenate(CartoonFaces(800, 100, 100, correlations=tied).factors())
    assert len(np.unique(factors, axis=0)) == 1000
    with pytest.raises(DataError, match=r"not 100000 different cartoon faces"):
        CartoonFaces(100000, 0, 0, correlations=tied).factors()


def test_the_seed_and_nothing_else_chooses_the_faces(cache, tmp_path):
    first = small(cache).splits().train
    again = small(tmp_path / "new").splits().train  # drawn again, not mapped again
    other = small(cache, seed=1).splits().train
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.labels, other.labels)


def test_choices_are_the_same_everywhere():
    factors = CartoonFaces(test=2).factors()[2]
    assert factors.tolist() == FIRST_TWO


def test_a_face_looks_the_same_everywhere():
    # means over 8x8 squares: anti-aliasing may differ in the last bit from build to build
    image = draw_face(dict(zip(CartoonFaces.factor_names, FIRST_TWO[0], strict=True)))
    means = image.reshape(3, 8, 8, 8, 8).mean(axis=(2, 4))
    np.testing.assert_allclose(means[:, [0, 3, 5, 7], [0, 3, 4, 7]], SQUARES, atol=2)


def test_a_larger_training_split_changes_no_other_face():
    few, many = CartoonFaces(train=50, test=20).factors(), CartoonFaces(test=20).factors()
    assert np.array_equal(few[1], many[1])
    assert np.array_equal(few[2], many[2])
    assert np.array_equal(few[0], many[0][:50])


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_each_attribute_shows_whatever_the_others_are(cache, name):
    for choice in choices(small(cache))[:5]:
        pictures = [draw_face(with_attribute(choice, name, value)) for value in (0, 1)]
        differs = np.abs(np.diff(np.stack(pictures).astype(int), axis=0)).max(axis=(0, 1)) > 40
        assert differs.sum() >= 10, "fewer than ten of 4,096 pixels differ clearly"


def with_attribute(choice: dict[str, int], name: str, value: int) -> dict[str, int]:
    changed = {**choice, name: value}
    shade = {"Blond_Hair": ("hair_colour", 5), "Pale_Skin": ("skin_colour", 3)}
    if name in shade:
        column, light = shade[name]
        changed[column] = light if value else 1
    return changed


@pytest.mark.parametrize("name", VARIATIONS)
def test_each_variation_shows(name):
    shown = {"glasses": "Eyeglasses", "hat_colour": "Wearing_Hat", "mouth": "Mouth_Slightly_Open"}
    base = dict.fromkeys(CartoonFaces.factor_names, 0)
    base |= {shown[name]: 1} if name in shown else {}
    pictures = {draw_face({**base, name: value}).tobytes() for value in range(VARIATIONS[name])}
    assert len(pictures) == VARIATIONS[name]


def test_attributes_are_frequent_and_independent():
    attributes = np.concatenate(CartoonFaces(20_000, 0, 0).factors())[:, : len(ATTRIBUTES)]
    # six standard errors of a share and of a correlation
    assert np.abs(attributes.mean(axis=0) - 0.5).max() < 3 / np.sqrt(20_000)
    correlations = np.corrcoef(attributes.T) - np.eye(len(ATTRIBUTES))
    assert np.abs(correlations).max() < 6 / np.sqrt(20_000)


def test_shades_follow_their_attribute():
    for choice in choices(CartoonFaces(500)):
        blond = HAIR_COLOURS[choice["hair_colour"]] in ("golden", "platinum")
        pale = SKIN_COLOURS[choice["skin_colour"]] in ("light", "pale")
        assert (blond, pale) == (bool(choice["Blond_Hair"]), bool(choice["Pale_Skin"]))
    factors = CartoonFaces(3000).factors()[0]
    for name, count in VARIATIONS.items():
        column = factors[:, CartoonFaces.factor_names.index(name)]
        assert set(column) == set(range(count))


@pytest.mark.parametrize("wanted", [-0.5, 0.3, 0.8, 1.0])
def test_a_pair_has_the_correlation_asked_for(wanted):
    source = CartoonFaces(20_000, 0, 0, correlations={"Beard+Wearing_Necktie": wanted})
    attributes = source.factors()[0][:, : len(ATTRIBUTES)]
    found = np.corrcoef(attributes.T)
    i, j = ATTRIBUTES.index("Beard"), ATTRIBUTES.index("Wearing_Necktie")
    assert found[i, j] == pytest.approx(wanted, abs=6 / np.sqrt(20_000))
    found[i, j] = found[j, i] = 0
    assert np.abs(found - np.eye(len(ATTRIBUTES))).max() < 6 / np.sqrt(20_000)


def test_chosen_attributes_in_the_order_asked_for(cache):
    source = small(cache, attributes=["Smiling", "Eyeglasses"])
    everything = small(cache).splits().train.labels
    assert source.label_names == ("Smiling", "Eyeglasses")
    assert torch.equal(source.splits().train.labels, everything[:, [1, 0]])


@pytest.mark.parametrize(("labels", "names"), module._CLASSES.items())
def test_colours_as_classes(cache, labels, names):
    source = small(cache, labels=labels)
    train = source.splits().train
    assert not source.multilabel
    assert source.label_names == names
    assert train.labels.dtype == torch.int64
    column = source.factor_names.index(labels)
    assert train.labels.tolist() == source.factors()[0][:, column].tolist()


def test_drawn_once(cache, monkeypatch):
    small(cache).splits()
    monkeypatch.setattr(module, "draw_face", lambda _: pytest.fail("drawn again"))
    small(cache).splits()


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty"])
def test_a_broken_cache_is_drawn_again(tmp_path, damage):
    source = small(tmp_path)
    wanted = source.splits().train.images.clone()
    (path,) = tmp_path.glob("*.npy")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "foreign":
        np.save(path, np.zeros((3, 4)))
    else:
        path.write_bytes(b"")
    assert torch.equal(source.splits().train.images, wanted)
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


def test_writing_to_the_images_leaves_the_cache_alone(tmp_path):
    source = small(tmp_path)
    images = source.splits().train.images
    before = images.clone()
    images.zero_()
    assert torch.equal(source.splits().train.images, before)


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "draw_face", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path).splits()
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once(tmp_path):
    code = (
        "import sys, hashlib; from dcorr_models.data import CartoonFaces; "
        "s = CartoonFaces(120, 0, 0, cache=sys.argv[1]).splits(); "
        "print(hashlib.sha256(s.train.images.numpy().tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate(timeout=120)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(digests) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_prepare_draws_and_says_where(tmp_path):
    lines: list[str] = []
    small(tmp_path).prepare(say=lines.append)
    assert "80 faces" in lines[-1]
    assert str(tmp_path) in lines[-1]
    with pytest.raises(DataError, match=r"downloads nothing"):
        small(tmp_path).prepare(mirror="http://localhost")


def test_missing_packages_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(DataError, match=r"resvg-py.*pip install 'dcorr\[avatars\]'"):
        small(tmp_path).splits()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 0}, "train >= 1"),
        ({"seed": -1}, "seed must be"),
        ({"labels": "hair"}, "labels must be"),
        ({"attributes": ["Smilling"]}, "did you mean Smiling"),
        ({"attributes": []}, "no attribute of cartoon faces is chosen"),
        ({"attributes": ["Smiling", "Smiling"]}, "chosen twice"),
        ({"attributes": ["Smiling"], "labels": "hair_colour"}, "leave one out"),
        ({"correlations": {"Beard": 0.5}}, "joined by"),
        ({"correlations": {"Beard+Beard": 0.5}}, "joined by"),
        ({"correlations": {"Beard+Mustach": 0.5}}, "did you mean Mustache"),
        ({"correlations": {"Beard+Mustache": 1.5}}, "from -1 to 1"),
        ({"correlations": {"Beard+Mustache": float("nan")}}, "from -1 to 1"),
        (
            {"correlations": {"Beard+Mustache": 0.5, "Mustache+Beard": -0.5}},
            "Mustache and Beard have two correlations",
        ),
        (
            {
                "correlations": {
                    "Beard+Mustache": 0.9,
                    "Mustache+Smiling": 0.9,
                    "Beard+Smiling": -0.9,
                }
            },
            "weaken one",
        ),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(DataError, match=message):
        CartoonFaces(**options)


def test_a_cache_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataError, match=r"cannot write.*name another folder"):
        small(file).splits()
