"""Weights files that others wrote: plain numbers of the right shapes, or refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from msrn.errors import WeightsError
from msrn.models.state_files import load_matching, read_safetensors, read_state, read_torch, require_finite

ODD = {
    "without content": torch.empty(2, 3, device="meta"),
    "sparse": torch.eye(2, 3).to_sparse(),
    "complex": torch.zeros(2, 3, dtype=torch.complex64),
    "whole numbers": torch.zeros(2, 3, dtype=torch.int64),
}


@pytest.mark.parametrize("name", ODD)
def test_a_tensor_that_holds_no_plain_numbers_is_refused(name: str) -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    with pytest.raises(WeightsError, match="plain numbers"):
        load_matching(layer, {"weight": ODD[name], "bias": torch.ones(2)}, where="a.pth")
    assert torch.equal(layer.weight, before)


def test_a_header_of_safetensors_has_a_largest_size(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert read_safetensors(tmp_path / "a.safetensors")["a"].tolist() == [0.0]
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", 2**24 + 1) + header)
    with pytest.raises(ValueError, match="header of at most 16,777,216 bytes"):
        read_safetensors(tmp_path / "b.safetensors")


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x80\x02", b"\x80\x02}q\x00(K\x05", b"PK\x03\x04" + bytes(50)])
def test_what_is_no_torch_file_is_a_value_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        read_torch(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="plain tensors"):
        read_state(path)


def test_a_number_that_is_not_finite_is_named() -> None:
    require_finite({"a": torch.ones(2), "b": torch.tensor([1, 2])})
    with pytest.raises(ValueError, match="the numbers of b"):
        require_finite({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])})
