"""Tables of codes: in memory and in mapped files."""

from __future__ import annotations

import pytest
import torch

from dcorr_models.errors import UserError
from dcorr_models.nets.latent_table import LatentTable


def test_initial_codes_are_uniform_within_the_bound():
    torch.manual_seed(0)
    table = LatentTable(2000, 4)
    assert 0.049 < table.weight.max().item() <= 0.05
    assert -0.05 <= table.weight.min().item() < -0.049


def test_a_mapped_table_holds_the_same_codes_stays_where_it_is_and_leaves_no_file(tmp_path):
    torch.manual_seed(0)
    inside = LatentTable(10, 3)
    torch.manual_seed(0)
    mapped = LatentTable(10, 3, folder=tmp_path)
    index = torch.tensor([[1, 2], [9, 1]])
    assert torch.equal(inside(index), mapped(index))
    mapped.write("weight", torch.tensor([2]), torch.ones(1, 3))
    where = mapped.weight.data_ptr()
    mapped.double()
    assert mapped.weight.dtype == torch.float32
    assert mapped.weight.data_ptr() == where
    assert not list(tmp_path.iterdir())
    inside.load_state_dict(mapped.state_dict())
    assert inside(torch.tensor(2)).tolist() == [1.0, 1.0, 1.0]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere cannot hold a table of .* table_folder"):
        LatentTable(10, 3, folder=tmp_path / "nowhere")
