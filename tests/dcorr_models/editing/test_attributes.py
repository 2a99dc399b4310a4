from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from dcorr_models.editing import (
    default_intensities,
    edit_attributes,
    reconstruct,
    set_attributes,
    single_intensity,
    sweep,
)
from dcorr_models.editing.labels import label_index
from dcorr_models.errors import UserError
from dcorr_models.methods import Codes
from tests.dcorr_models.editing.stamp import Stamp, stamps
from tests.dcorr_models.toy import ToyAttributes, toy_attribute_cdnet

NAMES = ("Eyeglasses", "Smiling", "Pale_Skin", "Wearing_Hat")


def faces(*, named: bool = True) -> Stamp:
    method = Stamp(multilabel=True)
    method.label_names = NAMES if named else None
    return method


class TestSetAttributes:
    def test_writes_columns_and_leaves_its_argument_alone(self):
        codes = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
        before = codes.clone()
        each = torch.tensor([1.0, -2.0, 3.0])
        written = set_attributes(codes, {0: 5.0, 2: each})
        assert written[:, 0].tolist() == [5.0] * 3
        assert torch.equal(written[:, 2], each)
        assert torch.equal(written[:, [1, 3]], codes[:, [1, 3]])
        assert torch.equal(codes, before)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({4: 1.0}, "numbered from 0 to 3, got 4"),
            ({-1: 1.0}, "numbered from 0 to 3, got -1"),
            ({0: float("nan")}, "a finite number, got nan"),
            ({0: float("inf")}, "a finite number, got inf"),
            ({0: "much"}, "a finite number, got 'much'"),
            ({0: True}, "a finite number, got True"),
            ({0: None}, "a number, got None"),
            ({0: torch.zeros(2)}, "shape (3,), got (2,)"),
            ({0: torch.tensor([1.0, 2.0, float("nan")])}, "values of 0 must be finite"),
        ],
    )
    def test_wrong_calls(self, values, message):
        with pytest.raises(UserError, match=re.escape(message)):
            set_attributes(torch.zeros(3, 4), values)

    def test_wrong_codes(self):
        with pytest.raises(UserError, match=re.escape("(N, K), got (3,)")):
            set_attributes(torch.zeros(3), {0: 1.0})


class TestEditAttributes:
    def test_several_at_once_beyond_the_unit_interval(self):
        images = stamps(5)
        edited = edit_attributes(faces(), images, {"Smiling": -1.5, "Wearing_Hat": 3})
        assert edited[:, 0, 0, 1].tolist() == [-1.5] * 5
        assert edited[:, 0, 0, 3].tolist() == [3.0] * 5
        assert torch.equal(edited[:, 0, 0, [0, 2]], images[:, 0, 0, [0, 2]])
        assert torch.equal(edited[:, 0, 1], images[:, 0, 1])

    def test_by_number_of_the_column(self):
        images = stamps(2)
        wanted = edit_attributes(faces(), images, {"Pale_Skin": 2.0})
        for method, key in ((faces(), 2), (faces(), "2"), (faces(named=False), 2)):
            assert torch.equal(edit_attributes(method, images, {key: np.float64(2.0)}), wanted)

    def test_a_value_an_image_in_several_passes(self, monkeypatch):
        monkeypatch.setattr("dcorr_models.editing.passes.BATCH", 3)
        method, images, values = faces(), stamps(8), torch.arange(8.0)
        edited = edit_attributes(method, images, {0: values, 1: 0.5})
        assert torch.equal(edited[:, 0, 0, 0], values)
        assert method.decoded == [3, 3, 2]

    def test_flags_come_back_and_dropout_is_off(self):
        method = toy_attribute_cdnet().train()
        images = ToyAttributes().splits().test.tensors(4)[0]
        first, second = (edit_attributes(method, images, {1: 2.0}) for _ in range(2))
        assert torch.equal(first, second)
        assert method.training
        assert not first.requires_grad

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"Eyglasses": 1.0}, "no attribute 'Eyglasses': did you mean 'Eyeglasses'?"),
            ({"smiling": 1.0}, "did you mean 'Smiling'?"),
            ({"pale skin": 1.0}, "did you mean 'Pale_Skin'?"),
            ({"Bangs": 1.0}, "no attribute 'Bangs': the attributes are Eyeglasses, Smiling"),
            ({7: 1.0}, "no attribute 7: the columns are numbered from 0 to 3"),
            ({-1: 1.0}, "no attribute -1"),
            ({True: 1.0}, "a name or the number of a column, got True (bool)"),
            ({1.0: 1.0}, "got 1.0 (float)"),
            ({"Smiling": 1.0, 1: 2.0}, "attribute 1 is set twice"),
            ({}, "nothing to edit"),
            ({"Smiling": float("nan")}, "the value of Smiling must be a finite number"),
        ],
    )
    def test_wrong_values(self, values, message):
        with pytest.raises(UserError, match=re.escape(message)):
            edit_attributes(faces(), stamps(2), values)

    def test_wrong_methods_and_images(self):
        with pytest.raises(UserError, match=r"exclusive classes.*edit_class"):
            edit_attributes(Stamp(), stamps(2), {0: 1.0})
        with pytest.raises(UserError, match=r"does not know the names.*'Smiling'.*load_run"):
            edit_attributes(faces(named=False), stamps(2), {"Smiling": 1.0})
        with pytest.raises(UserError, match=re.escape("(N, 1, 2, 4), got (2, 1, 4, 4)")):
            edit_attributes(faces(), torch.zeros(2, 1, 4, 4), {0: 1.0})
        method = faces()
        method.has_label_code = False
        with pytest.raises(UserError, match="no label code: it reconstructs"):
            edit_attributes(method, stamps(2), {0: 1.0})


class TestSweep:
    @pytest.mark.parametrize("batch", [1, 2, 7, 256])
    def test_is_each_edit_whatever_the_batch(self, monkeypatch, batch):
        monkeypatch.setattr("dcorr_models.editing.passes.BATCH", batch)
        method, images, steps = faces(), stamps(5), [-1.5, 0, 1, 2, 3.0]
        swept = sweep(method, images, "Smiling", steps)
        assert swept.shape == (5, 5, 1, 2, 4)
        assert max(method.decoded) <= batch
        for t, step in enumerate(steps):
            assert torch.equal(swept[:, t], edit_attributes(method, images, {"Smiling": step}))

    def test_images_are_encoded_once(self):
        method = faces()
        encoded: list[int] = []
        encode = method.encode

        def count(images: Tensor):
            encoded.append(len(images))
            return encode(images)

        method.encode = count
        sweep(method, stamps(6), 0, [0.0, 1.0, 2.0])
        assert encoded == [6]

    def test_the_range_of_the_method_by_default(self):
        method = faces()
        method.intensities = (0.0, 6.0)
        swept = sweep(method, stamps(1), 3)
        assert swept[0, :, 0, 0, 3].tolist() == [0.0, 1.5, 3.0, 4.5, 6.0]
        assert default_intensities(method, 2) == [0.0, 6.0]
        assert single_intensity(method) == 4.5
        with pytest.raises(UserError, match="2 or more, got 1"):
            default_intensities(method, 1)

    def test_no_images(self):
        assert sweep(faces(), stamps(0), 0, [1.0, 2.0]).shape == (0, 2, 1, 2, 4)

    @pytest.mark.parametrize(
        ("steps", "message"),
        [
            ([], "no intensities for 'Smiling'"),
            ([0.0, float("nan")], "a finite number, got nan"),
            ([torch.tensor([1.0, 2.0])], "one number for all images"),
        ],
    )
    def test_wrong_intensities(self, steps, message):
        with pytest.raises(UserError, match=message):
            sweep(faces(), stamps(2), "Smiling", steps)


def test_reconstructions_are_the_methods_own():
    method = toy_attribute_cdnet().eval()
    images = ToyAttributes().splits().test.tensors(5)[0]
    with torch.no_grad():
        torch.testing.assert_close(reconstruct(method, images), method(images))


def test_a_method_without_label_code_reconstructs():
    method, images = faces(), stamps(3)
    method.has_label_code = False
    encode, decode = method.encode, method.decode
    method.encode = lambda x: Codes(x[:, 0, 0, :0], x.flatten(1))
    method.decode = lambda codes: codes.residual.reshape(-1, 1, 2, 4)
    assert torch.equal(reconstruct(method, images), images)
    method.encode, method.decode = encode, decode
    assert torch.equal(reconstruct(method, images), images)


def test_many_names_are_not_all_listed():
    names = [f"attribute{k}" for k in range(40)]
    with pytest.raises(UserError, match="attribute11 and 28 more"):
        label_index("xyz", names, kind="attribute")


def test_a_column_may_be_an_integer_of_numpy():
    images = stamps(2)
    wanted = sweep(faces(), images, 1, [0.5])
    assert torch.equal(sweep(faces(), images, np.int64(1), [np.float32(0.5)]), wanted)


def test_a_sweep_holds_its_result_once(monkeypatch):
    monkeypatch.setattr("dcorr_models.editing.passes.BATCH", 4)
    monkeypatch.setattr(torch, "cat", refused)
    assert sweep(faces(), stamps(9), 1, [0.0, 0.5, 1.0]).shape == (9, 3, 1, 2, 4)


def refused(*_: object) -> None:
    raise AssertionError("joined parts of the images")
