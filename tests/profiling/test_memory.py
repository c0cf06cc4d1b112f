"""Memory, counted on tensors without content, against what autograd saves and torch's allocator gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from msrn.config import Settings
from msrn.engine.optim import WeightEMA, build_optimizer
from msrn.models.classifier import MultiLabelClassifier
from msrn.profiling.model_cost import Part, Use, cost_of

Cost = Callable[..., tuple[dict[str, Part], dict[tuple[str, int], Use]]]
Build = Callable[[Settings], MultiLabelClassifier]
Chosen = Callable[..., Settings]
Function = Callable[..., Tensor]


def peak_allocated(work: Callable[[], object]) -> int:
    """Bytes that torch's allocator holds at the peak of some work, as its profiler records them."""
    work()  # first calls keep things
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"model": {"head": {"output_layer": "flatten"}}, "run": {"precision": "bf16-mixed"}},
        {"model": {"head": "average_pool"}},
        {"model": {"head": "max_pool"}},
        {"model": {"head": {"name": "csra", "temperatures": [1, "max"]}}},
        {"model": {"head": "ml_gcn"}},
        {"model": {"head": {"name": "add_gcn", "width": 8}}},
        {"model": {"head": {"name": "query2label", "width": 16}}},
        {"model": {"head": {"name": "ml_decoder", "width": 16, "hidden": 24}}},
        {"model": {"backbone": "test_vit", "head": {"pools": [1, 1, 1]}}, "data": {"image_size": 160}},
    ],
    ids=str,
)
def test_what_is_kept_for_the_backward_pass_is_what_autograd_saves(
    cost: Cost, real_model: Build, settings: Chosen, images: Function, loss_of: Function, sections: dict[str, Any]
) -> None:
    parts, _ = cost(**sections)
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
def test_memory_of_prediction_is_what_the_allocator_gives(
    cost: Cost, real_model: Build, settings: Chosen, images: Function, model: dict[str, Any]
) -> None:
    use = cost(model=model)[1]["predict", 8]
    real = real_model(settings(model=model)).eval()
    real.precompute()

    @torch.no_grad()
    def work() -> None:
        real(images(8))

    assert use.activations == pytest.approx(peak_allocated(work), rel=0.01)  # the allocator rounds up
    assert use.peak_in == "backbone"
    assert use.memory == use.weights + use.activations


def test_memory_of_a_training_step_is_what_the_allocator_gives(
    cost: Cost, real_model: Build, settings: Chosen, images: Function, loss_of: Function
) -> None:
    use = cost()[1]["train", 8]
    real = real_model(settings())

    def work() -> None:
        batch = images(8)
        loss_of(real, batch).backward()
        real.zero_grad()

    # Convolutions take room to work in, of a size that depends on the processor; here an eighth.
    assert 0.95 < peak_allocated(work) / (use.activations + use.gradients) < 1.4
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
def test_optimizer_and_ema_hold_what_they_hold_in_a_run(
    cost: Cost, real_model: Build, settings: Chosen, images: Function, loss_of: Function, optim: dict[str, Any]
) -> None:
    sections = {"optim": optim, "model": {"freeze": 2}}
    use = cost(**sections)[1]["train", 8]
    chosen = settings(**sections)
    real = real_model(chosen)
    optimizer = build_optimizer(real, chosen.optim)
    loss_of(real, images(2)).backward()
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert use.optimizer_state == sum(value.nbytes for value in held if value.ndim)  # all but the count of steps
    averaged = WeightEMA(real, chosen.optim.ema).model if chosen.optim.ema else None
    tensors = [] if averaged is None else [*averaged.parameters(), *averaged.buffers()]
    assert use.ema == sum(value.nbytes for value in tensors)
    assert use.memory == use.weights + use.activations + use.gradients + use.optimizer_state + use.ema


def test_a_part_of_the_batch_at_a_time_needs_less_and_finds_all_gradients_there(cost: Cost) -> None:
    whole = cost()[1]["train", 8]
    accumulated = cost(optim={"accumulate": 4})[1]["train", 2]
    shared = cost(run={"devices": 4})[1]["train", 2]
    assert shared.activations < whole.activations / 3
    trainable = sum(part.trainable for part in cost()[0].values())
    assert accumulated.gradients == 4 * trainable > shared.gradients
    assert accumulated.flops == shared.flops  # of one pass


def test_a_network_too_large_for_any_machine_is_profiled_because_nothing_is_allocated(settings: Chosen) -> None:
    chosen = settings(model={"head": {"output_layer": "flatten", "width": 4096}}, data={"batch_size": 100_000})
    parts, uses = cost_of(chosen, num_labels=20_000, embedding_width=300)
    output_layer = next(part for part in parts if part.name == "output layer")
    assert output_layer.weight_bytes > 2 * 2**40
    assert uses[-1].memory > 8 * 2**40
