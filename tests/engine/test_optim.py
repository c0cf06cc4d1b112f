"""Parameter groups, the learning-rate schedule, the EMA of the weights, and what is held fixed."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msrn.config import ModelSettings, OptimSettings
from msrn.engine.optim import WeightEMA, build_optimizer, lr_factor
from msrn.models.classifier import MultiLabelClassifier, create_model
from msrn.models.heads.base import LabelInputs

LABELS = 5


@pytest.fixture
def model() -> MultiLabelClassifier:
    torch.manual_seed(0)
    head = {"name": "msrn", "pools": (2, 1, 1), "width": 8, "group_ratio": 0.4, "output_layer": "per_label"}
    settings = ModelSettings(backbone="test_resnet", weights="none", head=head)
    labels = LabelInputs(tuple("abcde"), torch.randn(LABELS, 6), torch.eye(LABELS))
    return create_model(settings, labels, image_size=64)


def factors(epochs: int, per_epoch: int, **settings: object) -> list[float]:
    optim = OptimSettings.model_validate({"epochs": epochs, **settings})
    return [lr_factor(step, steps_per_epoch=per_epoch, settings=optim) for step in range(epochs * per_epoch)]


def test_adamw_spares_biases_and_norms_from_decay_and_slows_the_backbone(model: MultiLabelClassifier) -> None:
    settings = OptimSettings(name="adamw", lr=0.01, backbone_lr_multiplier=0.1, weight_decay=0.05)
    optimizer = build_optimizer(model, settings)
    assert isinstance(optimizer, torch.optim.AdamW)
    backbone = {id(parameter) for parameter in model.backbone.parameters()}
    kinds = set()
    for group in optimizer.param_groups:
        inside, flat = ({id(p) in backbone for p in group["params"]}, {p.ndim <= 1 for p in group["params"]})
        assert len(inside) == len(flat) == 1
        kinds.add((inside.pop(), flat.pop(), round(group["lr"], 9), group["weight_decay"]))
    assert kinds == {
        (True, True, 0.001, 0.0),
        (True, False, 0.001, 0.05),
        (False, True, 0.01, 0.0),
        (False, False, 0.01, 0.05),
    }


def test_sgd_decays_everything_as_published(model: MultiLabelClassifier) -> None:
    optimizer = build_optimizer(
        model, OptimSettings(lr=0.05, backbone_lr_multiplier=0.1, momentum=0.8, weight_decay=1e-4)
    )
    assert isinstance(optimizer, torch.optim.SGD)
    found = [(group["base_lr"], group["weight_decay"], group["momentum"]) for group in optimizer.param_groups]
    assert found == [(pytest.approx(0.005), 1e-4, 0.8), (0.05, 1e-4, 0.8)]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_each_part_of_the_backbone_has_a_share_of_the_next_deeper_ones_rate(
    model: MultiLabelClassifier, name: str
) -> None:
    settings = OptimSettings(name=name, lr=0.01, backbone_lr_multiplier=0.1, layer_decay=0.5)
    groups = build_optimizer(model, settings).param_groups
    rates = {id(weight): group["base_lr"] for group in groups for weight in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    parts = model.backbone.parts()
    for number, part in enumerate(parts):
        expected = 0.001
        for _ in range(number, len(parts) - 1):
            expected /= 2
        assert [rates[id(weight)] for weight in part] == pytest.approx([expected] * len(part))
    assert {rates[id(weight)] for weight in model.head.parameters()} == {0.01}


def test_a_last_convolution_has_the_rate_of_the_deepest_part() -> None:
    model = create_model(
        ModelSettings(backbone="efficientnet_lite0", weights="none", final_conv=True, head="max_pool", stages=(-1,)),
        LabelInputs(tuple("ab")),
    )
    groups = build_optimizer(model, OptimSettings(lr=1.0, backbone_lr_multiplier=0.5, layer_decay=0.1)).param_groups
    rates = {id(weight): group["base_lr"] for group in groups for weight in group["params"]}
    assert model.backbone.final_conv is not None
    assert {rates[id(weight)] for weight in model.backbone.final_conv.parameters()} == {0.5}
    assert {rates[id(weight)] for weight in model.backbone.parts()[-1]} == {0.5}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_every_weight_that_may_move_is_in_one_group_and_no_other_is(model: MultiLabelClassifier, name: str) -> None:
    model.backbone.freeze(2)
    groups = build_optimizer(model, OptimSettings(name=name)).param_groups
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(found) == len(set(found))
    assert set(found) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert len(found) < len(list(model.parameters()))


def test_a_constant_rate_is_one_after_its_warm_up() -> None:
    assert factors(2, 4, schedule="constant") == [1.0] * 8
    assert factors(2, 4, schedule="constant", warmup_epochs=0.5) == [0.5] + [1.0] * 7
    assert factors(2, 4, schedule="constant", warmup_epochs=1)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_step_rate_falls_after_each_of_the_epochs() -> None:
    found = factors(4, 3, schedule="step", step_epochs=(1, 3), step_factor=0.1)
    assert found == pytest.approx([1.0] * 3 + [0.1] * 6 + [0.01] * 3)


def test_a_cosine_rate_goes_from_one_towards_zero_through_a_half() -> None:
    found = factors(4, 25, schedule="cosine")
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5)
    assert found[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))
    assert all(earlier > later for earlier, later in pairwise(found))


def test_a_one_cycle_rate_is_that_of_torch() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=101, pct_start=31 / 101, final_div_factor=1e4, cycle_momentum=False
    )
    expected = []
    for _ in range(101):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < 101:
            oracle.step()
    # torch counts the peak itself as a step of the rise, so 30 steps before it are 31 of torch's 101.
    found = factors(1, 101, schedule="onecycle", warmup_epochs=30 / 101)
    assert found[0] == pytest.approx(1 / 25)
    assert found[30] == 1.0
    assert found[-1] == pytest.approx(1 / 250_000)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_one_cycle_without_a_warm_up_rises_for_three_tenths_of_the_run() -> None:
    found = factors(10, 10, schedule="onecycle")
    assert found.index(max(found)) == 30
    assert all(earlier < later for earlier, later in pairwise(found[:31]))
    assert all(earlier > later for earlier, later in pairwise(found[30:]))


@given(
    schedule=st.sampled_from(["constant", "step", "cosine", "onecycle"]),
    epochs=st.integers(1, 9),
    per_epoch=st.integers(1, 9),
    share=st.floats(0, 0.99),
    falls=st.sets(st.integers(1, 9)),
)
def test_a_rate_is_never_above_the_set_one_nor_below_zero(
    schedule: str, epochs: int, per_epoch: int, share: float, falls: set[int]
) -> None:
    found = factors(
        epochs, per_epoch, schedule=schedule, warmup_epochs=share * epochs, step_epochs=tuple(sorted(falls))
    )
    assert all(0 < factor <= 1 for factor in found)
    warm = round(share * epochs * per_epoch)
    rise = found[: warm + (schedule == "onecycle")]
    assert all(earlier < later for earlier, later in pairwise(rise))


def test_the_ema_is_that_of_a_loop_over_numbers(model: MultiLabelClassifier) -> None:
    ema = WeightEMA(model, 0.9)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 30):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(torch.randint(3, value.shape, generator=generator).to(value.dtype))
        ema.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            whole = not value.is_floating_point()
            expected[name] = value.double() if whole else decay * expected[name] + (1 - decay) * value.double()
    for name, value in ema.model.state_dict().items():
        # float32 rounding over 29 steps of values up to 60
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-5, msg=name)
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())


def test_the_ema_moves_a_weight_of_two_names_once_and_leaves_out_what_is_not_saved() -> None:
    first, second = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    second.weight = first.weight  # as some networks share a layer among their branches
    model = torch.nn.Sequential(first, second)
    model.register_buffer("places", torch.zeros(1), persistent=False)
    torch.nn.init.zeros_(first.weight)
    ema = WeightEMA(model, 0.5)  # type: ignore[arg-type]
    torch.nn.init.ones_(first.weight)
    model.places = torch.zeros(7, 7)  # as some networks do once they know the size of the images
    ema.update(model, 100)
    assert ema.model[0].weight.item() == 0.5


@pytest.mark.parametrize(("parts", "held"), [(0, 0), (1, 1), (2, 2), (-1, None)])
def test_the_backbone_is_held_fixed_from_the_stem_on(model: MultiLabelClassifier, parts: int, held: int | None) -> None:
    groups = model.backbone.parts()
    assert len(groups) > 2
    model.backbone.freeze(parts)
    for number, group in enumerate(groups):
        moves = {parameter.requires_grad for parameter in group}
        assert moves == {held is not None and number >= held}
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "backbone" not in name)


def test_norms_of_fixed_parts_keep_their_statistics_and_others_do_not(model: MultiLabelClassifier) -> None:
    norms = [module for module in model.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    model.backbone.freeze(2)
    model.train()
    model.backbone.hold_norms(everywhere=False)
    assert {norm.training == norm.weight.requires_grad for norm in norms} == {True}
    assert {norm.training for norm in norms} == {True, False}
    model.train()
    model.backbone.hold_norms(everywhere=True)
    assert {norm.training for norm in norms} == {False}
