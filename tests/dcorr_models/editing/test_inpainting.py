from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcorr_models.data import ThreeMoons
from dcorr_models.editing import (
    bottom_half,
    box,
    corrupt,
    edit_files,
    inpaint,
    inpaint_files,
    random_square,
    reconstruct,
    right_half,
)
from dcorr_models.editing.inpainting import mask_from, read_mask
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes
from tests.dcorr_models.editing.stamp import Stamp, stamps
from tests.dcorr_models.test_cli import refused, run, toy_config
from tests.dcorr_models.toy import ToyClassContent, ToyContents, ToyImages, toy_cdnet


class Painter(Stamp):
    """Its reconstruction is one grey level everywhere, the mean of what it was shown."""

    value_range = (-1.0, 1.0)

    def encode(self, images: torch.Tensor) -> Codes:
        level = images.mean(dim=(1, 2, 3))
        return Codes(level[:, None], level[:, None])

    def decode(self, codes: Codes) -> torch.Tensor:
        return codes.label[:, :, None, None].expand(-1, 1, 2, 4)


def test_the_hole_alone_changes_and_what_it_hid_is_not_looked_at():
    images, mask = stamps(5), right_half(2, 4)
    done = inpaint(Painter(), images, mask)
    assert torch.equal(done[..., :2], images[..., :2])
    # half of what the network sees is the fill, 0 of [-1, 1]
    level = images[..., :2].mean(dim=(1, 2, 3)) / 2
    torch.testing.assert_close(done[..., 2:], level[:, None, None, None].expand(-1, 1, 2, 2))
    others = images.clone()
    others[..., 2:] = 0.9
    assert torch.equal(inpaint(Painter(), others, mask), torch.where(mask, done, others))


@pytest.mark.parametrize(("fill", "level"), [(0.0, -1.0), (0.5, 0.0), (1.0, 1.0), (0.75, 0.5)])
def test_what_stands_in_the_hole(fill, level):
    images, mask = stamps(2), box(2, 4, 0, 1, 1, 2)
    corrupted = corrupt(Painter(), images, mask, fill=fill)
    assert torch.equal(corrupted[:, 0, 0, 1:3], torch.full((2, 2), level))
    assert torch.equal(corrupted[..., ~mask], images[..., ~mask])
    assert torch.equal(
        inpaint(Painter(), images, mask, fill=fill),
        torch.where(mask, reconstruct(Painter(), corrupted), images),
    )


def test_a_method_of_both_codes_fills_what_the_rest_tells():
    data, method = ToyContents(), ToyClassContent()
    images, _ = data.splits().test.tensors()
    # columns 6 to 11 of the upper half, which has one grey level
    done = inpaint(method, images, box(12, 12, 0, 6, 6, 6), fill=0.0)
    torch.testing.assert_close(
        done[:, 0, :6, 6:].mean(dim=(1, 2)), images[:, 0, :6, :6].mean(dim=(1, 2)) / 2
    )


def test_halves_of_odd_sizes_leave_the_middle():
    assert right_half(3, 5).sum() == 3 * 2
    assert right_half(3, 5)[:, 3:].all()
    assert bottom_half(5, 3).sum() == 2 * 3
    assert bottom_half(5, 3)[3:].all()


def test_a_random_square_may_lie_anywhere_and_its_seed_decides_where():
    masks = [random_square(4, 5, 2, seed=seed) for seed in range(200)]
    assert all(int(mask.sum()) == 4 for mask in masks)
    places = {tuple(mask.nonzero()[0].tolist()) for mask in masks}
    assert places == {(top, left) for top in range(3) for left in range(4)}
    assert torch.equal(random_square(4, 5, 2, seed=3), masks[3])
    assert bool(random_square(3, 3, 3).all())


def test_the_methods_own_flags_come_back():
    method = toy_cdnet()
    method.eval()
    method.decoder.train()
    inpaint(method, torch.rand(3, 1, 12, 12), right_half(12, 12), value_range=(0, 1))
    assert method.decoder.training
    assert not method.training


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        (right_half(3, 4), {}, "mask is of 3 x 4 pixels and the images are of 2 x 4"),
        (right_half(2, 4)[None], {}, "mask is of 1 x 2 x 4 pixels"),
        (torch.zeros(2, 4), {}, "mask must be of bool, True in the hole, got torch.float32"),
        (torch.zeros(2, 4, dtype=torch.bool), {}, "mask has no hole"),
        (np.ones((2, 4), dtype=bool), {}, "mask must be a torch tensor of bool, got ndarray"),
        (right_half(2, 4), {"fill": 1.5}, "fill must be from 0, black, to 1, white, got 1.5"),
        (right_half(2, 4), {"fill": float("nan")}, "got nan"),
    ],
)
def test_wrong_masks_are_refused(mask, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        inpaint(Painter(), stamps(2), mask, **options)


def test_methods_that_cannot_are_refused():
    method = Painter()
    with pytest.raises(UserError, match=r"images must have shape \(N, 1, 2, 4\)"):
        inpaint(method, stamps(2)[..., :3], right_half(2, 3))
    with pytest.raises(UserError, match="this Stamp does not say which values its images have"):
        inpaint(Stamp(), stamps(2), right_half(2, 4))
    method.has_encoder = False
    with pytest.raises(UserError, match="this Painter has no encoder"):
        inpaint(method, stamps(2), right_half(2, 4))


class TestMasksInWords:
    @pytest.mark.parametrize(
        ("words", "mask"),
        [
            ("right_half", right_half(6, 8)),
            ("bottom_half", bottom_half(6, 8)),
            ("box:1,2,3,4", box(6, 8, 1, 2, 3, 4)),
            ("random_square:4", random_square(6, 8, 4)),
            ("random_square:4,7", random_square(6, 8, 4, seed=7)),
        ],
    )
    def test_named_ones(self, words, mask):
        assert torch.equal(mask_from(words, 6, 8), mask)

    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
    def test_a_file_is_white_in_the_hole(self, tmp_path, mode):
        hole = box(6, 8, 1, 2, 3, 4)
        levels = hole.numpy().astype(np.uint16) * 65535
        if mode == "I;16":
            Image.fromarray(levels).save(tmp_path / "mask.png")
        else:
            Image.fromarray((levels // 257).astype(np.uint8)).convert(mode).save(
                tmp_path / "mask.png"
            )
        assert torch.equal(mask_from(str(tmp_path / "mask.png"), 6, 8), hole)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("left_half", "no mask 'left_half': give right_half, bottom_half, box:TOP"),
            ("box:1,2,3", "a box is box:TOP,LEFT,HEIGHT,WIDTH in whole pixels, got 'box:1,2,3'"),
            ("box:1,2,3,x", "got 'box:1,2,3,x'"),
            ("box:4,2,3,4", "3 x 4 pixels from row 4 and column 2 does not lie within images of 6"),
            ("box:-1,2,3,4", "from row -1"),
            ("box:0,0,0,4", "a box of 0 x 4 pixels"),
            ("box:", "a box is box:TOP,LEFT,HEIGHT,WIDTH in whole pixels, got 'box:'"),
            ("random_square", "a square of 20 x 20 pixels does not fit into images of 6 x 8"),
            ("random_square:7", "a square of 7 x 7 pixels does not fit into images of 6 x 8"),
            ("random_square:0", "a square of 0 x 0"),
            ("random_square:2,x", "a random square is random_square:SIDE,SEED in whole pixels"),
            ("random_square:2,3,4", "got 'random_square:2,3,4'"),
            ("random_square:2,-1", "seed"),
        ],
    )
    def test_wrong_words_are_refused(self, words, message):
        with pytest.raises(UserError, match=re.escape(message)):
            mask_from(words, 6, 8)

    def test_files_that_do_not_fit_are_refused(self, tmp_path):
        Image.new("L", (9, 6), 255).save(tmp_path / "wide.png")
        with pytest.raises(UserError, match=r"wide.png is of 6 x 9 pixels .* are of 6 x 8"):
            read_mask(tmp_path / "wide.png", 6, 8)
        Image.new("L", (8, 6), 127).save(tmp_path / "black.png")
        with pytest.raises(UserError, match=r"black.png has no hole"):
            read_mask(tmp_path / "black.png", 6, 8)
        (tmp_path / "text.png").write_text("no image")
        with pytest.raises(UserError, match=r"text.png is not an image"):
            read_mask(tmp_path / "text.png", 6, 8)


def test_files_and_test_images_are_written(tmp_path):
    data, method = ToyImages(), toy_cdnet().eval()
    path = inpaint_files(method, data, tmp_path / "out", mask="right_half", indices=[0, 5])
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "00_test0_inpainted.png",
        "01_test5_inpainted.png",
        "inpainted.png",
    ]
    image = data.splits().test.__getitems__([5])["image"]
    wanted = inpaint(method, image, right_half(12, 12), value_range=(0, 1))
    single = np.asarray(Image.open(path.parent / "01_test5_inpainted.png"))
    assert (single == (wanted[0, 0] * 255).round().numpy()).all()


def test_points_are_no_pictures(tmp_path):
    method, data = toy_cdnet(), ThreeMoons(train=3)
    for mask in ("box:0,0,1,1", "right_half"):
        with pytest.raises(UserError, match="three moons are no pictures"):
            inpaint_files(method, data, tmp_path, mask=mask)
    with pytest.raises(UserError, match="three moons are no pictures"):
        edit_files(method, data, tmp_path, indices=None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inpainting")
    config = toy_config(folder / "toy.yaml", seed=3)
    assert run("train", "--config", config, "--run", folder / "run") == 0
    return folder / "run"


def test_the_command_on_test_images_and_on_files(trained, tmp_path, capsys):
    assert run("inpaint", trained, "--mask", "bottom_half") == 0
    assert f"written: {trained / 'inpainted' / 'inpainted.png'}" in capsys.readouterr().out
    assert len(list((trained / "inpainted").iterdir())) == 9
    Image.new("RGB", (30, 20), "white").save(tmp_path / "a.png")
    Image.new("L", (12, 12), 255).save(tmp_path / "all.png")
    words = ("inpaint", trained, tmp_path / "a.png", "--mask", tmp_path / "all.png")
    assert run(*words, "--fill", "0", "--out", tmp_path / "out") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["00_a_inpainted.png", "inpainted.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mask", "left"], "no mask 'left'"),
        (["--mask", "box:0,0,13,1"], "does not lie within images of 12 x 12"),
        (["--mask", "right_half", "--fill", "2"], "fill must be from 0"),
        (["--mask", "right_half", "--indices", "[99]"], "index 99 is outside the 48 test images"),
        (["a.png", "--mask", "right_half", "--indices", "[1]"], "leave one out"),
        (["none.png", "--mask", "right_half"], "no image at none.png"),
        ([], "mask"),
    ],
)
def test_wrong_commands_are_one_line(trained, tmp_path, capsys, words, message):
    assert message in refused(capsys, "inpaint", trained, *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_run_is_asked_for(capsys):
    assert "the folder of a run is required, and --mask" in refused(capsys, "inpaint")
    assert "the folder of a run is required" in refused(capsys, "inpaint", "--mask", "right_half")
