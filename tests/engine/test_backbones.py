"""Ten networks of ten kinds keep the backbone's promises; ``make backbones`` tries every family of timm so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from backbone_trial import examine, train_and_predict

from msrn.config import Settings
from msrn.engine.trainer import Trainer
from msrn.engine.unused import hold_unused
from msrn.errors import ConfigError
from msrn.models.classifier import build_without_weights
from msrn.models.heads.base import LabelInputs
from msrn.models.image_sizes import sizes_that_fit

Tiny = Callable[..., Settings]


@pytest.mark.parametrize(
    ("name", "size", "layout", "fuses"),
    [
        ("resnet10t", 64, "last", True),  # residual
        ("repvgg_a0", 64, "first", True),  # plain convolutions, reparametrised; see models.classifier.memory_layout
        ("vit_tiny_patch16_224", 64, "last", False),
        ("swin_tiny_patch4_window7_224", 64, "last", False),  # channels last in timm
        ("levit_128s", 64, "last", True),  # convolutions, then attention
        ("gmlp_ti16_224", 64, "last", False),  # multi-layer perceptrons
        ("mobilenetv3_small_050", 64, "last", True),
        ("regnetx_002", 64, "last", True),
        ("densenet121", 64, "last", True),
        ("inception_next_atto", 64, "last", True),
    ],
)
def test_a_network_of_any_kind_trains_and_comes_back_as_it_was(
    tmp_path: Path, name: str, size: int, layout: str, fuses: bool
) -> None:
    contract = examine(name, size)
    assert (contract.layout, contract.fused > 0) == (layout, fuses)
    assert train_and_predict(name, size, contract.stages, tmp_path).works


@pytest.mark.parametrize(
    ("name", "size", "fit"),
    [
        ("test_resnet", 237, (160, 224, 237, 256)),  # any size
        ("test_vit", 237, (160, 224, 240, 256)),  # multiples of its patches
        ("levit_128s", 237, (192, 224, 256, 288)),  # multiples of its deepest stride
    ],
)
def test_the_sizes_that_fit_are_those_that_run(name: str, size: int, fit: tuple[int, ...]) -> None:
    assert sizes_that_fit(name, size) == fit


def test_a_size_that_timm_cannot_build_is_refused_with_sizes_that_it_can(tiny: Tiny, tmp_path: Path) -> None:
    wrong = tiny(tmp_path / "run", data={"image_size": 100}, model={"backbone": "nest_tiny", "head": "average_pool"})
    with pytest.raises(ConfigError, match="nest_tiny for images of 100 px") as caught:
        Trainer(wrong, resume=False)
    assert caught.value.hint.startswith("sizes that fit: ")
    assert "96" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_what_the_logits_do_not_depend_on_is_not_trained(tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny(tmp_path, model={"backbone": "pit_ti_224", "stages": (-2, -1), "head": "average_pool"})
    run = Trainer(settings, resume=False)
    held = {key for key, weight in run.learner.net.named_parameters() if not weight.requires_grad}
    assert held == {"backbone.body.body.norm.weight", "backbone.body.body.norm.bias"}  # of timm's classifier
    run.learner.train()
    run.learner.net(torch.randn(2, 3, 64, 64)).logits.sum().backward()
    for key, weight in run.learner.net.named_parameters():
        assert (weight.grad is None) == (key in held), key


def test_a_network_that_does_not_take_the_size_is_left_as_it_is(tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny(tmp_path, model={"backbone": "coat_tiny", "head": "average_pool"})
    model = build_without_weights(settings.model, LabelInputs(("cat", "dog")), image_size=64)
    hold_unused(model, 100)
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())


def test_a_rehearsal_puts_back_what_a_network_computed_for_itself(tiny: Tiny, tmp_path: Path) -> None:
    # ConViT replaces a buffer of three zeros by the distances of its patches when it first runs.
    settings = tiny(tmp_path / "run", model={"backbone": "convit_tiny", "head": "average_pool"})
    net = Trainer(settings, resume=False).learner.net.eval()
    fresh = build_without_weights(
        settings.model, LabelInputs(tuple(f"label {number}" for number in range(16))), image_size=64
    ).eval()
    fresh.load_state_dict(net.state_dict())
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net(image).logits, fresh(image).logits)
