from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dcorr_models.editing import edit_class, inference, style_transfer, swap_class
from dcorr_models.errors import UserError
from tests.dcorr_models.editing.stamp import Stamp, stamps
from tests.dcorr_models.toy import ToyImages, toy_cdnet


def loop_swap(codes: Tensor, targets: list[int]) -> Tensor:
    """The sentence of the paper, row by row."""
    result = codes.clone()
    for row, target in enumerate(targets):
        largest = int(codes[row].argmax())
        result[row, target], result[row, largest] = codes[row, largest], codes[row, target]
    return result


class TestSwapClass:
    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
    def test_matches_the_loop(self, n, k, seed):
        generator = torch.Generator().manual_seed(seed)
        codes = torch.rand(n, k, generator=generator).softmax(dim=1)
        targets = torch.randint(0, k, (n,), generator=generator)
        swapped = swap_class(codes, targets)
        assert torch.equal(swapped, loop_swap(codes, targets.tolist()))
        # Only two entries at most change places: the sum and the sorted values stay.
        assert torch.equal(swapped.sort(dim=1).values, codes.sort(dim=1).values)
        assert torch.equal(
            swap_class(codes, 0), swap_class(codes, torch.zeros(n, dtype=torch.long))
        )

    def test_unchanged_where_the_target_is_the_largest(self):
        codes = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
        assert torch.equal(swap_class(codes, torch.tensor([1, 0])), codes)

    def test_unchanged_where_the_target_shares_the_largest_value(self):
        codes = torch.tensor([[0.4, 0.4, 0.2]])
        for target in (0, 1):
            assert torch.equal(swap_class(codes, target), codes)

    def test_is_its_own_inverse(self):
        codes = torch.rand(8, 5, generator=torch.Generator().manual_seed(3))
        back = swap_class(swap_class(codes, 2), codes.argmax(dim=1))
        assert torch.equal(back, codes)

    def test_leaves_its_argument_alone(self):
        codes = torch.tensor([[0.1, 0.9]])
        before = codes.clone()
        assert swap_class(codes, 0).data_ptr() != codes.data_ptr()
        assert torch.equal(codes, before)

    def test_gradient_is_the_permutation(self):
        codes = torch.tensor([[0.1, 0.7, 0.2]], requires_grad=True)
        swap_class(codes, 0)[0, 0].backward()
        assert codes.grad.tolist() == [[0.0, 1.0, 0.0]]

    def test_numpy_integers_and_no_images(self):
        assert swap_class(torch.zeros(0, 3), 1).shape == (0, 3)
        assert swap_class(torch.tensor([[0.0, 1.0]]), np.int64(0)).tolist() == [[1.0, 0.0]]

    @pytest.mark.parametrize(
        ("codes", "target", "message"),
        [
            (torch.zeros(3), 0, "(N, K), got (3,)"),
            (torch.zeros(2, 3), 3, "from 0 to 2, got 3"),
            (torch.zeros(2, 3), -1, "from 0 to 2, got -1"),
            (torch.zeros(2, 3), torch.tensor([0, 5]), "from 0 to 2, got 5"),
            (torch.zeros(2, 3), torch.tensor([0, 1, 2]), "shape (2,), got (3,)"),
            (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "integers, got torch.float32"),
            (torch.zeros(2, 3), torch.tensor([True, False]), "integers, got torch.bool"),
            (torch.zeros(2, 3), 1.0, "an integer, got 1.0"),
            (torch.zeros(2, 3), "1", "an integer, got '1'"),
        ],
    )
    def test_wrong_calls(self, codes, target, message):
        with pytest.raises(UserError, match=re.escape(message)):
            swap_class(codes, target)


class TestEditClass:
    def test_swaps_the_label_and_keeps_the_residual(self):
        images = stamps(5)
        edited = edit_class(Stamp(), images, 2)
        assert torch.equal(edited[:, 0, 0], loop_swap(images[:, 0, 0], [2] * 5))
        assert torch.equal(edited[:, 0, 1], images[:, 0, 1])

    def test_eval_mode_inside_and_every_flag_back(self):
        method = Stamp()
        method.part = nn.Dropout().eval()
        method.train()
        method.part.eval()
        edit_class(method, stamps(2), 0)
        assert method.seen_training == [False, False]
        assert method.training
        assert not method.part.training
        assert torch.is_grad_enabled()

    def test_flags_come_back_after_an_error(self):
        method = Stamp().train()
        with pytest.raises(UserError):
            edit_class(method, stamps(2), 9)
        assert method.training
        assert torch.is_grad_enabled()

    def test_is_repeatable_although_the_method_has_dropout(self):
        method = toy_cdnet().train()
        images = ToyImages().splits().test.tensors(4)[0]
        first, second = (edit_class(method, images, 1) for _ in range(2))
        assert torch.equal(first, second)
        assert not first.requires_grad
        assert method.training

    def test_batch_norm_statistics_stay(self):
        method = toy_cdnet().train()
        before = {k: v.clone() for k, v in method.state_dict().items()}
        style_transfer(method, ToyImages().splits().test.tensors(4)[0])
        assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())

    @pytest.mark.parametrize("call", [style_transfer, lambda m, x: edit_class(m, x, 0)])
    def test_wrong_images_and_methods(self, call):
        with pytest.raises(UserError, match=re.escape("(N, 1, 2, 4), got (3, 1, 4, 4)")):
            call(Stamp(), torch.zeros(3, 1, 4, 4))
        with pytest.raises(UserError, match=re.escape("got (1, 2, 4)")):
            call(Stamp(), torch.zeros(1, 2, 4))
        with pytest.raises(UserError, match=r"floating point, got torch\.uint8"):
            call(Stamp(), torch.zeros(3, 1, 2, 4, dtype=torch.uint8))
        with pytest.raises(UserError, match=r"attributes, which are not exclusive.*--set"):
            call(Stamp(multilabel=True), stamps(3))
        method = Stamp()
        method.has_label_code = False
        with pytest.raises(UserError, match="Stamp has no label code"):
            call(method, stamps(3))


class TestStyleTransfer:
    def test_each_image_its_own_target_in_parts(self, monkeypatch):
        monkeypatch.setattr("dcorr_models.editing.passes.BATCH", 4)
        images, targets = stamps(10), torch.arange(10) % 4
        edited = edit_class(Stamp(), images, targets)
        assert torch.equal(edited[:, 0, 0], loop_swap(images[:, 0, 0], targets.tolist()))
        with pytest.raises(UserError, match=re.escape("shape (10,), got (3,)")):
            edit_class(Stamp(), images, targets[:3])

    def test_is_every_edit_in_one_pass(self):
        method, images = Stamp(), stamps(3)
        table = style_transfer(method, images)
        assert table.shape == (3, 4, 1, 2, 4)
        assert method.decoded == [12]
        for target in range(4):
            assert torch.equal(table[:, target], edit_class(method, images, target))

    def test_the_class_of_each_column_is_the_largest_entry(self):
        table = style_transfer(Stamp(), stamps(6))
        assert torch.equal(table[:, :, 0, 0].argmax(dim=-1), torch.arange(4).expand(6, 4))


def test_inference_restores_after_an_exception():
    net = nn.Sequential(nn.Dropout()).train()

    def fail() -> None:
        with inference(net):
            assert not net[0].training
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert net[0].training
