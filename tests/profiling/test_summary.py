"""What a model costs, worked out on tensors without content, against models that compute."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from msrn.bundle.files import read_bundle
from msrn.config import Settings, load_settings, merge, preset
from msrn.engine.optim import WeightAverage, build_optimizer, freeze_backbone, hold_norms
from msrn.errors import BundleError, ConfigError
from msrn.losses.soft_margin import soft_margin
from msrn.models import Tagger, build_model
from msrn.profiling.model_cost import Part, Use, cost_of
from msrn.profiling.summary import short_count, summarize, summary_json, summary_text

LABELS, WIDTH = 6, 10  # L and E; the preset's group ratio gives one group, so K = 7


def settings(**sections: dict[str, Any]) -> Settings:
    return load_settings(merge(preset("tiny"), sections))


@functools.cache
def cost(tree: str = "{}", labels: int = LABELS) -> tuple[dict[str, Part], dict[tuple[str, int], Use]]:
    parts, uses = cost_of(settings(**json.loads(tree)), num_labels=labels, vector_width=WIDTH)
    return {part.name: part for part in parts}, {(use.name, use.images): use for use in uses}


def cost_with(**sections: dict[str, Any]) -> tuple[dict[str, Part], dict[tuple[str, int], Use]]:
    return cost(json.dumps(sections))


def real_model(chosen: Settings) -> Tagger:
    """The same model with numbers in it, as training has it."""
    torch.manual_seed(0)
    model = build_model(
        chosen.model,
        label_vectors=torch.randn(LABELS, WIDTH),
        adjacency=(torch.rand(LABELS, LABELS) > 0.5).float(),
        image_size=chosen.data.image_size,
    ).to(memory_format=torch.channels_last)
    freeze_backbone(model.backbone, chosen.model.freeze)
    model.train()
    hold_norms(model.backbone, everywhere=chosen.model.freeze_norm)
    return model


def images(count: int, side: int = 64) -> Tensor:
    return torch.zeros(count, 3, side, side).contiguous(memory_format=torch.channels_last)


def loss_of(model: Tagger, batch: Tensor, *, mixed: bool = False) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        output = model(batch)
    return soft_margin(output.logits, torch.zeros_like(output.logits)) + sum(output.aux.values())


def most_allocated(work: Callable[[], object]) -> int:
    """Bytes that torch's allocator holds at most for some work, as its profiler sees them."""
    work()  # first calls keep things
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


# ---- weights


@pytest.mark.parametrize(
    ("labels", "ratio", "first_layer"), [(20, 0.2, 24 * 1536 * 2048), (80, 0.05, 84 * 1536 * 2048)], ids=["voc", "coco"]
)
def test_the_flatten_head_has_the_weights_of_the_released_checkpoints(
    labels: int, ratio: float, first_layer: int
) -> None:
    assert round(first_layer / 1e6, 1) in {75.5, 264.2}
    model = {"head": "flatten", "width": 512, "group_ratio": ratio}
    parts, _ = cost(json.dumps({"model": model}), labels)
    assert parts["head"].parameters == first_layer + 2048 + 2048 * labels + labels
    assert parts["head"].flops_per_image == 2 * (first_layer + 2048 * labels)


def test_the_per_label_head_has_a_quarter_of_a_million_weights_on_coco() -> None:
    parts, _ = cost(json.dumps({"model": {"width": 512, "group_ratio": 0.05}}), 80)
    assert parts["head"].parameters == 80 * 2 * 3 * 512 + 80 == 245_840


@pytest.mark.parametrize(
    "model",
    [
        {"freeze": 2},
        {"name": "average_pool", "freeze": -1},
        {"backbone": "test_efficientnet", "final_conv": True, "weights": "hub"},  # not asked for
        {"backbone": "test_convnext", "head": "flatten", "checkpoint": "gone.pth.tar"},
    ],
    ids=str,
)
def test_the_parts_together_have_the_weights_of_the_model(model: dict[str, Any]) -> None:
    parts, uses = cost_with(model=model)
    real = real_model(settings(model={**model, "weights": "none", "checkpoint": ""}))
    parameters = list(real.parameters())
    assert sum(part.parameters for part in parts.values()) == sum(value.numel() for value in parameters)
    free = sum(value.numel() for value in parameters if value.requires_grad)
    assert sum(part.trainable for part in parts.values()) == free
    state = sum(value.nbytes for value in real.state_dict().values())
    assert sum(part.weight_bytes for part in parts.values()) == state == uses["train", 8].weights
    assert parts["backbone"].parameters == sum(value.numel() for value in real.backbone.parameters())


def test_a_held_backbone_has_no_trainable_weights_and_keeps_nothing_for_the_backward_pass() -> None:
    parts, uses = cost_with(model={"freeze": -1})
    free, _ = cost_with()
    assert (parts["backbone"].trainable, free["backbone"].trainable) == (0, free["backbone"].parameters)
    assert parts["backbone"].flops_per_image == free["backbone"].flops_per_image
    last_taps = parts["backbone"].saved_bytes_per_image  # what the new layers read: theirs to keep
    assert 0 < last_taps < free["backbone"].saved_bytes_per_image / 5
    assert uses["train", 8].memory < cost_with()[1]["train", 8].memory / 2


def test_parts_come_in_the_order_in_which_they_run() -> None:
    assert list(cost_with()[0]) == [
        *("semantics", "backbone", "tap buffers", "projections", "semantic attention", "head", "between the parts")
    ]
    assert list(cost_with(model={"name": "average_pool"})[0]) == ["backbone", "output", "between the parts"]


# ---- operations


def test_resnet_101_has_the_published_operations_and_parameters() -> None:
    published = torchvision.models.ResNet101_Weights.IMAGENET1K_V1.meta
    chosen = settings(
        model={"name": "average_pool", "backbone": "resnet101"}, data={"image_size": 224, "eval_batch_size": 1}
    )
    parts, uses = cost_of(chosen, num_labels=1000, vector_width=1)
    assert sum(part.parameters for part in parts) == published["num_params"] == 44_549_160
    assert sum(part.flops_per_image for part in parts) / 2 / 1e9 == pytest.approx(published["_ops"], abs=0.001)
    assert uses[0].flops / 2 / 1e9 == pytest.approx(7.801, abs=0.001)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet"])
def test_operations_of_convolutions_are_those_of_a_loop_over_their_shapes(backbone: str) -> None:
    model = {"backbone": backbone}
    real = real_model(settings(model=model)).eval()
    counted: dict[str, int] = {}

    def count(name: str, layer: nn.Conv2d, output: Tensor) -> None:
        out_channels, in_channels, height, width = layer.weight.shape  # in_channels of one group
        products = output.shape[2] * output.shape[3] * out_channels * in_channels * height * width
        part = name.split(".")[0].replace("_", " ")
        counted[part] = counted.get(part, 0) + 2 * products

    for name, layer in real.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, _, output, name=name: count(name, layer, output))
    with torch.no_grad():
        real(images(1))
    parts, _ = cost_with(model=model)
    assert counted == {name: parts[name].flops_per_image for name in ("backbone", "tap buffers", "projections")}


def test_operations_of_attention_grow_with_positions_vectors_and_width() -> None:
    chosen = settings()
    with torch.no_grad():
        positions = sum(math.prod(tap.shape[2:]) for tap in real_model(chosen).eval().features(images(1)))
    found = cost_with()[0]["semantic attention"].flops_per_image
    assert found == 6 * positions * (LABELS + 1) * chosen.model.width  # an exponential counts as one


def test_the_label_side_costs_the_same_for_any_number_of_images() -> None:
    part = cost_with()[0]["semantics"]
    width, groups = settings().model.width, 1

    def layer(inside: int, outside: int) -> int:  # x W, two vectors of scores, attention over labels
        return LABELS * inside * outside + 2 * LABELS * outside + LABELS * LABELS * outside

    products = LABELS * WIDTH * 256 + layer(256, 300) + layer(300, width) + layer(width, width) + layer(width, groups)
    products += groups * LABELS * width
    assert (part.flops_per_image, part.flops_once) == (0, 2 * products)
    assert part.saved_bytes_per_image == 0 < part.saved_bytes_once


def test_prediction_is_folded_and_computes_nothing_once() -> None:
    parts, uses = cost_with()
    per_image = sum(part.flops_per_image for part in parts.values())
    assert (uses["predict", 1].flops, uses["predict", 8].flops) == (per_image, 8 * per_image)
    assert uses["train", 8].flops > 2.5 * (8 * per_image + parts["semantics"].flops_once)
    real = real_model(settings())
    real.fold()
    state = sum(value.nbytes for value in real.state_dict().values())
    assert uses["predict", 1].weights == state < uses["train", 8].weights


# ---- memory


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"model": {"head": "flatten"}, "run": {"precision": "bf16-mixed"}},
        {"model": {"name": "average_pool"}},
        {"model": {"backbone": "test_vit", "pools": [1, 1, 1]}, "data": {"image_size": 160}},
    ],
    ids=str,
)
def test_what_is_kept_for_the_backward_pass_is_what_autograd_saves(sections: dict[str, Any]) -> None:
    parts, _ = cost_with(**sections)
    chosen = settings(**sections)
    real = real_model(chosen)
    own = {value.untyped_storage().data_ptr() for value in (*real.parameters(), *real.buffers())}
    mixed = chosen.run.precision == "bf16-mixed"
    for count in (2, 5):
        saved: dict[int, int] = {}

        def pack(value: Tensor, saved: dict[int, int] = saved) -> Tensor:
            storage = value.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return value

        batch = images(count, chosen.data.image_size)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            loss = loss_of(real, batch, mixed=mixed)
        found = sum(part.saved_bytes_once + count * part.saved_bytes_per_image for part in parts.values())
        alive = loss.nbytes + (batch.nbytes if mixed else 0)  # a mixed pass saves a copy of the images
        # In mixed precision torch's shape rules take the statistics of a batch norm for bfloat16; they are float32.
        assert found == pytest.approx(sum(saved.values()) + alive, rel=0.002 if mixed else 0)


@pytest.mark.parametrize("model", [{}, {"backbone": "test_convnext"}], ids=str)
def test_memory_of_prediction_is_what_the_allocator_gives(model: dict[str, Any]) -> None:
    use = cost_with(model=model)[1]["predict", 8]
    real = real_model(settings(model=model)).eval()
    real.fold()

    @torch.no_grad()
    def work() -> None:
        real(images(8))

    assert use.activations == pytest.approx(most_allocated(work), rel=0.01)  # the allocator rounds up
    assert use.peak_in == "backbone"
    assert use.memory == use.weights + use.activations


def test_memory_of_a_training_step_is_what_the_allocator_gives() -> None:
    use = cost_with()[1]["train", 8]
    real = real_model(settings())

    def work() -> None:
        batch = images(8)
        loss_of(real, batch).backward()
        real.zero_grad()

    # Convolutions take room to work in, of a size that depends on the processor; here an eighth.
    assert 0.95 < most_allocated(work) / (use.activations + use.gradients) < 1.4
    assert use.peak_in == "backward"
    assert 0 < use.gradients < use.weights


@pytest.mark.parametrize(
    "optim",
    [
        {"name": "adamw"},
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd", "momentum": 0.0},
        {"name": "sgd", "ema": 0.9},
    ],
    ids=str,
)
def test_optimiser_and_weight_average_hold_what_they_hold_in_a_run(optim: dict[str, Any]) -> None:
    sections = {"optim": optim, "model": {"freeze": 2}}
    use = cost_with(**sections)[1]["train", 8]
    chosen = settings(**sections)
    real = real_model(chosen)
    optimizer = build_optimizer(real, chosen.optim)
    loss_of(real, images(2)).backward()
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert use.optimiser_state == sum(value.nbytes for value in held if value.ndim)  # but the count of steps
    average = WeightAverage(real, chosen.optim.ema).model.state_dict() if chosen.optim.ema else {}
    assert use.weight_average == sum(value.nbytes for value in average.values())
    five = use.weights + use.activations + use.gradients + use.optimiser_state + use.weight_average
    assert use.memory == five


def test_a_part_of_the_batch_at_a_time_needs_less_and_finds_all_gradients_there() -> None:
    whole = cost_with()[1]["train", 8]
    parted = cost_with(optim={"accumulate": 4})[1]["train", 2]
    shared = cost_with(run={"devices": 4})[1]["train", 2]
    assert shared.activations < whole.activations / 3
    trainable = sum(part.trainable for part in cost_with()[0].values())
    assert parted.gradients == 4 * trainable > shared.gradients
    assert parted.flops == shared.flops  # of one pass


def test_nothing_is_allocated_so_a_network_too_large_for_any_machine_can_be_summed_up() -> None:
    chosen = settings(model={"head": "flatten", "width": 4096}, data={"batch_size": 100_000})
    parts, uses = cost_of(chosen, num_labels=20_000, vector_width=300)
    head = next(part for part in parts if part.name == "head")
    assert head.weight_bytes > 2 * 2**40
    assert uses[-1].memory > 8 * 2**40


# ---- where labels come from, and what is said


def test_labels_are_counted_in_the_file_of_labels_or_in_the_training_split(scenes: Path, tmp_path: Path) -> None:
    data = {"format": "scenes", "root": str(scenes)}
    counted = summarize(settings(data=data))
    names = (scenes / "train.csv").read_text().splitlines()
    assert counted.labels == len({label for row in names[1:] for label in row.split(",")[1].split("|") if label})
    assert summarize(settings(data=data), num_labels=4).labels == 4
    (tmp_path / "labels.txt").write_text("cat\ndog\nsofa\n")
    assert summarize(settings(data={"labels": str(tmp_path / "labels.txt")})).labels == 3


def test_without_data_the_number_of_labels_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        summarize(settings(data={"train": str(tmp_path / "gone.csv")}))
    assert "the number of labels is not known" in str(caught.value)
    assert "gone.csv" in str(caught.value)
    assert "--num_labels" in str(caught.value)
    with pytest.raises(ConfigError, match="at least one label, got 0"):
        summarize(settings(), num_labels=0)


@pytest.mark.parametrize(("vectors", "width"), [("random", 300), ("onehot", LABELS), ("file", 3)])
def test_the_label_side_is_as_wide_as_the_word_vectors(tmp_path: Path, vectors: str, width: int) -> None:
    (tmp_path / "words.txt").write_text("cat 1 2 3\ndog 4 5 6\n")
    source = str(tmp_path / "words.txt") if vectors == "file" else vectors
    found = summarize(settings(labels={"vectors": source}), num_labels=LABELS).parts[0]
    assert found.parameters == cost_with()[0]["semantics"].parameters + 256 * (width - WIDTH)


def test_a_bundle_is_summed_up_with_its_own_labels_and_weights(tiny_run: Path) -> None:
    bundle = read_bundle(tiny_run, fold=False)
    found = summarize(bundle.settings, bundle=tiny_run)
    assert found.labels == len(bundle.labels)
    assert sum(part.parameters for part in found.parts) == sum(value.numel() for value in bundle.model.parameters())
    assert found.uses[-1].weights == sum(value.nbytes for value in bundle.model.state_dict().values())
    with pytest.raises(ConfigError, match="a bundle has its own labels"):
        summarize(bundle.settings, bundle=tiny_run, num_labels=3)


def test_a_bundle_without_its_weights_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_bytes((tiny_run / "bundle" / "bundle.json").read_bytes())
    with pytest.raises(BundleError, match="cannot read the weights"):
        summarize(settings(), bundle=tmp_path)


def test_the_text_has_a_row_for_each_part_and_sums_them_up() -> None:
    found = summarize(settings(model={"head": "flatten", "width": 512}), num_labels=20)
    text = summary_text(found)
    rows = {cells[1]: cells[2:-1] for line in text.splitlines() if len(cells := cells_of(line)) > 3}
    for part in found.parts:
        assert rows[part.name][:2] == [short_count(part.parameters), short_count(part.trainable)]
    assert rows["all"][0] == short_count(sum(part.parameters for part in found.parts))
    assert rows["head"][0] == "75.5 M"
    assert rows["head"][2] == "288 MiB"  # 4 bytes each
    assert rows["semantics"][3].endswith(" once")
    assert rows["at most"] == ["predict, 1 image", "predict, 8 images", "train, 8 images"]
    assert rows["reached in"][2] == found.uses[-1].peak_in
    assert "msrn, head flatten, on test_resnet: 20 labels, images of 64 px" in text
    assert "\x1b" not in text
    assert "a multiply-add counts as two" in text
    assert max(map(len, text.splitlines())) <= 130


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def test_the_json_form_has_the_same_in_bytes() -> None:
    found = summarize(settings(), num_labels=3)
    told = json.loads(summary_json(found))
    assert told["labels"] == 3
    assert [part["name"] for part in told["parts"]] == [part.name for part in found.parts]
    assert told["uses"][-1]["memory"] == found.uses[-1].memory


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "-"), (7, "7"), (999, "999"), (1000, "1.00 k"), (245_840, "246 k"), (999_499, "999 k"), (999_500, "1.00 M")],
)
def test_counts_are_told_in_three_digits(number: int, told: str) -> None:
    assert short_count(number) == told
