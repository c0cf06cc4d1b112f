"""The feature maps of any timm network are its own, in one layout, with the weights that were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from msrn.errors import ConfigError
from msrn.models.backbone import Backbone


def image(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("name", "stages", "kept"),
    [
        ("test_resnet", (-3, -1), [2, 4]),
        ("test_resnet", (1,), [1]),  # nothing beyond the deepest one is kept
        ("test_convnext", (0, 2, 3), [0, 2, 3]),  # timm flattens its stages and renames their entries
        ("test_vit", (-2, -1), [4, 5]),  # timm wraps the whole classifier
        ("test_mambaout", (-2, -1), [2, 3]),  # channels last
        ("test_efficientnet", (-2, -1), [3, 4]),
    ],
)
def test_the_maps_are_the_feature_maps_of_the_classifier_whose_weights_were_loaded(
    tmp_path: Path, name: str, stages: tuple[int, ...], kept: list[int]
) -> None:
    torch.manual_seed(1)
    size = {"img_size": 64} if name == "test_vit" else {}
    classifier = timm.create_model(name, **size).eval()
    save_file(classifier.state_dict(), tmp_path / "weights.safetensors")
    backbone = Backbone(name, stages=stages, weights=str(tmp_path / "weights.safetensors"), image_size=64).eval()
    with torch.inference_mode():
        maps = backbone(image())
        expected = classifier.forward_intermediates(
            image(), indices=stages, intermediates_only=True, norm=False, output_fmt="NCHW"
        )
        for ours, theirs, channels, stride in zip(maps, expected, backbone.channels, backbone.strides, strict=True):
            torch.testing.assert_close(ours, theirs)
            assert ours.shape == (2, channels, 64 // stride, 64 // stride)


def test_the_last_tap_of_a_plain_transformer_is_its_last_block() -> None:
    backbone = Backbone("test_vit", weights="none", stages=(0, -1), image_size=64)
    assert backbone.body.feature_info.module_name() == ["blocks.0", "blocks.5"]
    assert backbone.strides == (16, 16)


def test_without_weights_a_seed_gives_the_network() -> None:
    maps = []
    for _ in range(2):
        torch.manual_seed(5)
        maps.append(Backbone("test_resnet", weights="none", stages=(-1,)).eval()(image())[0])
    assert torch.equal(*maps)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("test_resnet", 5),
        ("test_convnext", 5),
        ("test_mambaout", 5),
        ("test_vit", 7),  # six blocks; the embeddings of position and class are the stem's
        ("test_efficientnet", 6),
        ("regnety_002", 5),  # its stages are called s1 to s4
        ("vgg11", 5),  # its stages end with activations, which have no weights
        ("pit_ti_224", 4),  # timm wraps it whole
        ("coat_tiny", 3),  # three of its stages end with one module
        ("mvitv2_tiny", 5),  # timm names modules that it does not have
        ("twins_svt_small", 4),  # so too; its parts stand in several lists, and none of it in a stem
    ],
)
def test_stages_are_known_so_that_a_network_can_be_held_fixed_part_by_part(name: str, parts: int) -> None:
    size = 224 if name in ("pit_ti_224", "coat_tiny", "mvitv2_tiny", "twins_svt_small") else 64
    backbone = Backbone(name, weights="none", stages=(-1,), image_size=size)
    groups = backbone.parts()
    assert len(groups) == parts
    assert all(groups)
    assert len({id(p) for group in groups for p in group}) == len(list(backbone.parameters()))
    backbone.freeze(2)
    moves = [{p.requires_grad for p in group} for group in groups]
    assert moves == [{False}] * 2 + [{True}] * (parts - 2)
    with pytest.raises(ConfigError, match=f"expected at most {parts} parts") as caught:
        backbone.freeze(parts + 1)
    assert caught.value.where == "model.freeze"
    backbone.freeze(-1)
    assert not any(p.requires_grad for p in backbone.parameters())


def test_held_parts_get_no_gradient_and_the_others_do() -> None:
    backbone = Backbone("test_resnet", weights="none", stages=(-1,))
    backbone.freeze(3)
    backbone(image())[0].sum().backward()
    for number, group in enumerate(backbone.parts()):
        got = {p.grad is not None for p in group}
        assert got == {number >= 3}


def test_images_are_scaled_as_the_weights_want() -> None:
    statistics = Backbone("tf_efficientnet_lite0", weights="none", stages=(0,)).statistics
    assert (statistics.mean, statistics.std, statistics.interpolation) == ((0.5,) * 3, (0.5,) * 3, "bicubic")
    tagged = Backbone("test_resnet.r160_in1k", weights="none", stages=(0,)).statistics
    config = timm.get_pretrained_cfg("test_resnet.r160_in1k")
    assert (tagged.mean, tagged.std, tagged.interpolation) == (config.mean, config.std, config.interpolation)


@pytest.mark.parametrize("stages", [(), (5,), (-6,), (2, 1), (1, -4), (-1, 4)])
def test_wrong_taps_are_reported_with_the_number_of_stages(stages: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="between -5 and 4 for test_resnet") as caught:
        Backbone("test_resnet", weights="none", stages=stages)
    assert caught.value.where == "model.stages"
    assert "5 stages" in caught.value.hint


def test_a_stage_that_timm_lists_and_does_not_have_is_reported() -> None:
    with pytest.raises(ConfigError, match="no feature maps for the stages \\[0, 4\\] of tresnet_m") as caught:
        Backbone("tresnet_m", weights="none", stages=(0, 4))
    assert caught.value.where == "model.stages"


def test_a_network_timm_does_not_know_is_reported_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no network named 'test_resnett'") as caught:
        Backbone("test_resnett", weights="none")
    assert "did you mean 'test_resnet" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        Backbone("zzzzzzzzzz", weights="none")
    assert "list_models" in caught.value.hint


def test_a_tag_timm_does_not_know_is_reported_with_the_nearest_tag() -> None:
    with pytest.raises(ConfigError, match="'resnet101' has no weights of tag 'tv_in1'") as caught:
        Backbone("resnet101.tv_in1", weights="none")
    assert caught.value.hint == "did you mean 'tv_in1k'?"
    with pytest.raises(ConfigError) as caught:
        Backbone("test_resnet.mine", weights="none")
    assert caught.value.hint == "its tags are r160_in1k"


@pytest.mark.parametrize(
    ("name", "stages", "message"),
    [
        ("test_resnet", (-1,), "no final convolution to apply"),
        ("test_efficientnet", (-2,), "leaves out the last stage"),
    ],
)
def test_a_final_convolution_that_is_not_there_is_reported(name: str, stages: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone(name, weights="none", stages=stages, final_conv=True)


def test_the_final_convolution_ends_the_deepest_tap_only(tmp_path: Path) -> None:
    torch.manual_seed(2)
    classifier = timm.create_model("test_efficientnet").eval()
    save_file(classifier.state_dict(), tmp_path / "weights.safetensors")
    settings = {"stages": (-2, -1), "weights": str(tmp_path / "weights.safetensors")}
    plain = Backbone("test_efficientnet", **settings).eval()
    ended = Backbone("test_efficientnet", **settings, final_conv=True).eval()
    with torch.inference_mode():
        shallow, deep = ended(image())
        assert torch.equal(shallow, plain(image())[0])
        torch.testing.assert_close(deep, classifier.forward_features(image()))
    assert ended.channels == (plain.channels[0], classifier.num_features)
    assert deep.shape[1] == classifier.num_features != plain.channels[1]
