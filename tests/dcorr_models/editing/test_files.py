from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from dcorr_models.data import LabelledImages, Splits
from dcorr_models.editing import edit_attributes, edit_class, edit_files, sweep
from dcorr_models.errors import UserError
from tests.dcorr_models.toy import ToyAttributes, ToyImages, toy_attribute_cdnet, toy_cdnet

HEADING = 18  # a line of words and the gap under it


class TestEditFiles:
    def test_test_images_to_every_class(self, tmp_path):
        data, method = ToyImages(), toy_cdnet().eval()
        path = edit_files(method, data, tmp_path / "new" / "folder", indices=[0, 5])
        assert path == tmp_path / "new" / "folder" / "edited.png"
        names = sorted(p.name for p in path.parent.iterdir())
        assert names == sorted(
            ["edited.png"]
            + [f"0{i}_test{n}_as_{k}.png" for i, n in enumerate((0, 5)) for k in range(4)]
        )
        single = np.asarray(Image.open(path.parent / "01_test5_as_3.png"))
        wanted = edit_class(method, data.splits().test.__getitems__([5])["image"], 3)
        assert (single == (wanted[0, 0] * 255).round().numpy()).all()
        side = data.image_shape[1]
        assert Image.open(path).height == 2 * side * (84 // side) + 4 + HEADING

    def test_own_files_to_one_class(self, tmp_path):
        for name, value in (("a b.png", 30), ("c.png", 200)):
            Image.new("L", (20, 30), value).save(tmp_path / name)
        files = [tmp_path / "a b.png", tmp_path / "c.png"]
        path = edit_files(toy_cdnet(), ToyImages(), tmp_path / "out", target="2", images=files)
        names = sorted(p.name for p in path.parent.iterdir())
        assert names == ["00_a_b_as_2.png", "01_c_as_2.png", "edited.png"]
        first_column = np.asarray(Image.open(path))[HEADING:, 0]
        assert first_column[0] == 30
        assert first_column[-1] == 200

    def test_fewer_test_images_than_are_edited_by_default(self, tmp_path, monkeypatch):
        data, method = ToyImages(), toy_cdnet()
        train, valid, test = data.splits()
        few = [LabelledImages(test.images[:n], test.labels[:n]) for n in (2, 0)]
        monkeypatch.setattr(data, "splits", lambda: Splits(train, valid, few.pop(0)))
        out = edit_files(method, data, tmp_path / "few", target="1", indices=None).parent
        assert len(list(out.iterdir())) == 1 + 2
        with pytest.raises(UserError, match="no test images to edit: give image files"):
            edit_files(method, data, tmp_path / "none", indices=None)

    def test_no_file_is_written_twice(self, tmp_path):
        data, method = ToyAttributes(), toy_attribute_cdnet()
        data.label_names = ("a b", "A_B", "ü" * 300)
        Image.new("L", (12, 12)).save(tmp_path / f"{'ö' * 120}.png")
        for name, options in {
            "names": {},
            "steps": {"attribute": "a b", "intensities": [1, 1 + 1e-12, 2]},
        }.items():
            images = [tmp_path / f"{'ö' * 120}.png"]
            method.label_names = None
            out = edit_files(method, data, tmp_path / name, images=images, **options).parent
            found = {path.name.lower() for path in out.iterdir()}
            assert len(found) == 1 + 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"indices": [0], "target": "7"}, "no class '7': the classes are 0, 1, 2, 3"),
            ({"indices": [0, 48]}, "index 48 is outside the 48 test images"),
            ({"indices": [-1]}, "index -1"),
            ({}, "nothing to edit"),
            ({"images": ["/no/such.png"]}, "no image at /no/such.png"),
        ],
    )
    def test_mistakes_write_nothing(self, tmp_path, options, message):
        with pytest.raises(UserError, match=re.escape(message)):
            edit_files(toy_cdnet(), ToyImages(), tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    def test_the_nearest_class_is_offered(self, tmp_path):
        data = ToyImages()
        data.label_names = ("cat", "dog", "horse", "mouse")
        with pytest.raises(UserError, match="did you mean 'horse'"):
            edit_files(toy_cdnet(), data, tmp_path, target="hrose", indices=[0])

    def test_a_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(UserError, match="cannot be written to"):
            edit_files(toy_cdnet(), ToyImages(), tmp_path / "out", indices=[0])
        assert (tmp_path / "out").read_text() == "mine"


class TestEditFilesOfAttributes:
    def test_values_at_once(self, tmp_path):
        data, method = ToyAttributes(), toy_attribute_cdnet().eval()
        values = {"Eyeglasses": 3.0, "Smiling": 0}
        path = edit_files(method, data, tmp_path / "out", values=values, indices=[2, 4])
        names = sorted(p.name for p in path.parent.iterdir())
        assert names == [
            "00_test2_as_Eyeglasses_3_Smiling_0.png",
            "01_test4_as_Eyeglasses_3_Smiling_0.png",
            "edited.png",
        ]
        wanted = edit_attributes(method, data.splits().test.__getitems__([4])["image"], values)
        single = np.asarray(Image.open(path.parent / names[1]))
        assert (single == (wanted[0, 0] * 255).round().numpy()).all()

    def test_a_sweep_beside_input_and_reconstruction(self, tmp_path):
        data, method = ToyAttributes(), toy_attribute_cdnet().eval()
        path = edit_files(
            method, data, tmp_path, attribute="Mustache", intensities=[-1.5, 0.25, 3], indices=[0]
        )
        names = {p.name for p in path.parent.iterdir()}
        assert names == {"edited.png"} | {
            f"00_test0_as_Mustache_{value}.png" for value in ("-1.5", "0.25", "3")
        }
        cell = 84 // 12 * 12
        # Five columns, and the wider gap after the first two.
        assert Image.open(path).width == 5 * cell + 4 * 4 + 3 * 4
        swept = sweep(method, data.splits().test.__getitems__([0])["image"], 2, [3.0])
        single = np.asarray(Image.open(path.parent / "00_test0_as_Mustache_3.png"))
        assert (single == (swept[0, 0, 0] * 255).round().numpy()).all()

    def test_every_attribute_alone_by_default(self, tmp_path):
        path = edit_files(toy_attribute_cdnet(), ToyAttributes(), tmp_path, indices=[1])
        names = sorted(p.name for p in path.parent.iterdir())
        assert names == [
            *(f"00_test1_as_{k}_1.875.png" for k in ("Eyeglasses", "Mustache", "Smiling")),
            "edited.png",
        ]

    def test_a_file_of_any_size(self, tmp_path):
        Image.new("RGB", (37, 91), (200, 200, 200)).save(tmp_path / "me.jpg")
        out = tmp_path / "out"
        path = edit_files(
            toy_attribute_cdnet(),
            ToyAttributes(),
            out,
            values={"1": 2},
            images=[tmp_path / "me.jpg"],
        )
        assert Image.open(path.parent / "00_me_as_1_2.png").size == (12, 12)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"values": {"Smiling": 1.0}, "attribute": "Smiling"}, "--set and --attribute are two"),
            ({"target": "0", "values": {"Smiling": 1.0}}, "--target and --set are two"),
            ({"intensities": [1.0]}, "--intensities belong to an attribute"),
            ({"target": "Smiling"}, "trained on attributes"),
            ({"attribute": "Smile"}, "did you mean 'Smiling'"),
            ({"attribute": "Smiling", "intensities": []}, "no intensities"),
            ({"attribute": "Smiling", "intensities": [float("nan")]}, "finite number, got nan"),
            ({"values": {"Smiling": float("inf")}}, "finite number, got inf"),
            ({"values": {}}, "nothing to edit"),
        ],
    )
    def test_mistakes_write_nothing(self, tmp_path, options, message):
        with pytest.raises(UserError, match=re.escape(message)):
            edit_files(
                toy_attribute_cdnet(), ToyAttributes(), tmp_path / "out", indices=[0], **options
            )
        assert not (tmp_path / "out").exists()

    def test_attributes_of_classes_and_of_nothing(self, tmp_path):
        with pytest.raises(UserError, match="exclusive classes"):
            edit_files(toy_cdnet(), ToyImages(), tmp_path / "a", attribute="0", indices=[0])
        method = toy_attribute_cdnet()
        method.has_label_code = False
        with pytest.raises(UserError, match="no label code"):
            edit_files(method, ToyAttributes(), tmp_path / "a", indices=[0])

    def test_the_names_of_the_data_are_used_and_left_with_the_method(self, tmp_path):
        method = toy_attribute_cdnet()
        assert method.label_names is None
        edit_files(method, ToyAttributes(), tmp_path, values={"Smiling": 1}, indices=[0])
        assert method.label_names == ("Eyeglasses", "Smiling", "Mustache")
        assert torch.is_grad_enabled()
