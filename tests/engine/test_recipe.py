"""What a training step does beside its plain form: images are mixed, and SAM takes its gradient elsewhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import STEPS, lines
from torch import Tensor

from msrn.config import Settings, idle_settings, load_settings
from msrn.engine.trainer import Trainer
from msrn.errors import ConfigError

Tiny = Callable[..., Settings]
SGD = {"name": "sgd", "lr": 0.5, "momentum": 0.0, "backbone_lr_multiplier": 1.0}


@pytest.fixture
def trainer(tiny: Tiny, tmp_path: Path) -> Callable[..., Trainer]:
    def make(**optim: Any) -> Trainer:
        sections = {"optim": optim, "model": {"head": "average_pool"}}
        return Trainer(tiny(tmp_path / str(len(list(tmp_path.iterdir()))), **sections), resume=False)

    return make


def one_step(run: Trainer) -> tuple[float, dict[str, Tensor]]:
    """The loss of the first step, and weights and buffers after it."""
    run.learner.train()
    batches = iter(run.batches.loader(0, 0))
    micro_batches = [next(batches) for _ in range(run.settings.optim.accumulate)]
    run.learner.step(0, micro_batches, steps_per_epoch=STEPS)
    losses, _ = run.learner.check(threading.Event())
    return losses[0], run.learner.net.state_dict()


def gradient(run: Trainer, batch: dict[str, Any]) -> tuple[float, dict[str, Tensor]]:
    """The loss and its gradient by the network itself, without the learner."""
    net = run.learner.net
    for weight in net.parameters():
        weight.grad = None
    loss = run.learner.loss(net(batch["image"]).logits, batch["target"])
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in net.named_parameters() if weight.grad is not None}
    return float(loss.detach()), gradients


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_of_sam_is_that_of_the_gradient_at_the_top_of_the_slope(
    trainer: Callable[..., Trainer], parts: int
) -> None:
    rho = 0.3
    run, by_hand = trainer(**SGD, sam=rho, accumulate=parts), trainer(**SGD)
    if parts > 1:  # the statistics of a micro-batch are not those of the batch
        for each in (run, by_hand):
            each.learner.train = each.learner.net.eval  # type: ignore[method-assign]
    loss, found = one_step(run)
    by_hand.learner.train()
    batch = next(iter(by_hand.batches.loader(0, 0)))
    net, start = by_hand.learner.net, {name: value.clone() for name, value in by_hand.learner.net.named_parameters()}
    expected, first = gradient(by_hand, batch)
    statistics = {name: value.clone() for name, value in net.named_buffers()}
    length = sum(float(each.double().square().sum()) for each in first.values()) ** 0.5
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight += rho * first[name] / length
    _, second = gradient(by_hand, batch)
    assert max(float((second[name] - first[name]).abs().max()) for name in first) > 1e-3
    for name, value in start.items():
        # single precision, summed in another order
        torch.testing.assert_close(found[name], value - 0.5 * second[name], rtol=1e-4, atol=2e-5, msg=name)
    for name, value in statistics.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_sam_with_scaled_gradients_is_refused_with_the_settings() -> None:
    with pytest.raises(ConfigError, match=r"optim\.sam needs the length .* bf16-mixed or 32-true"):
        load_settings({"optim": {"sam": 0.05}, "run": {"precision": "16-mixed"}})
    load_settings({"optim": {"sam": 0.05}, "run": {"precision": "bf16-mixed"}})


def test_a_step_trains_on_the_images_that_the_mix_gives(trainer: Callable[..., Trainer]) -> None:
    run, by_hand = trainer(**SGD, mix={"name": "splicemix", "share": 0.5}), trainer(**SGD)
    seen: list[tuple[int, int]] = []
    run.learner.loss.register_forward_hook(lambda _, given, __: seen.append((len(given[0]), len(given[1]))))
    mixed, _ = one_step(run)
    plain, _ = one_step(by_hand)
    assert seen == [(12, 12)]
    assert mixed != plain


def test_other_steps_of_one_run_are_mixed_in_other_ways(trainer: Callable[..., Trainer]) -> None:
    run = trainer(**SGD, mix={"name": "mixup", "alpha": 1.0})
    batch, targets = next(iter(run.batches.loader(0, 0))), []
    run.learner.loss.register_forward_hook(lambda _, given, __: targets.append(given[1]))
    for number, place in ((0, 1), (0, 1), (0, 2), (1, 1)):
        run.learner._loss(batch, number, place)
    assert torch.equal(targets[0], targets[1])
    assert not any(torch.equal(targets[0], other) for other in targets[2:])


def test_an_epoch_of_repeated_images_is_longer_and_its_steps_are_logged(
    tiny: Tiny, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"sampling": "repeat_factor", "repeat_threshold": 0.3}
    with caplog.at_level(logging.INFO):
        run = Trainer(tiny("run", data=data), resume=False)
    target = run.images.targets.numpy()
    shares = (target == 1).mean(axis=0)
    factors = [max([1.0, *((0.3 / share) ** 0.5 for share in shares[row == 1])]) for row in target]
    steps = int(sum(factors)) // 8
    assert steps > STEPS
    assert run.batches.steps_per_epoch == lines(here, "start")[0]["steps_per_epoch"] == steps
    assert len(run.batches.loader(0, 0)) == steps
    assert f"an epoch draws {int(sum(factors))} images of 48, in {steps} steps" in caplog.text


def test_a_threshold_under_every_share_is_said_to_change_nothing(
    tiny: Tiny, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"sampling": "repeat_factor", "repeat_threshold": 0.001}
    assert Trainer(tiny("run", data=data), resume=False).batches.steps_per_epoch == STEPS
    assert "raise data.repeat_threshold" in caplog.text


def test_a_decay_over_parts_that_are_held_fixed_has_no_effect() -> None:
    settings = load_settings({"model": {"freeze": -1}, "optim": {"layer_decay": 0.5}})
    assert "optim.layer_decay" in idle_settings(settings, needs=("embeddings", "graph"))
