"""Distillation: the divergence of the formula, labels bound by name, and a run that stands without its teacher."""

from __future__ import annotations

import math
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from msrn.bundle.metadata import METADATA_FILE
from msrn.bundle.read import read_bundle
from msrn.bundle.write import write_bundle
from msrn.config import DistillSettings, Settings, load_settings
from msrn.engine.distributed import make_fabric
from msrn.engine.teacher import Teacher, binary_divergence
from msrn.engine.trainer import Interrupted, Trainer, train
from msrn.errors import BundleError, ConfigError, DataError
from msrn.inference.predictor import Predictor

Tiny = Callable[..., Settings]


@pytest.fixture
def teacher(tiny: Tiny, tiny_run: Path) -> Callable[..., Teacher]:
    def make(labels: tuple[str, ...] | None = None, bundle: Path | str = tiny_run, **preprocessing: Any) -> Teacher:
        metadata = read_bundle(tiny_run).metadata
        ours = metadata.preprocessing.model_copy(update=preprocessing)
        chosen = DistillSettings(bundle=str(bundle), weight=2.0, temperature=1.5)
        return Teacher(chosen, labels or metadata.labels, preprocessing=ours, fabric=make_fabric(tiny("unused")))

    return make


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_divergence_is_that_of_two_outcomes_summed_by_hand(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student, taught = (3 * torch.randn(4, 5, generator=generator) for _ in range(2))
    total = 0.0
    for ours, theirs in zip(student.flatten().tolist(), taught.flatten().tolist(), strict=True):
        p, q = (1 / (1 + math.exp(-x / temperature)) for x in (theirs, ours))
        total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    found = binary_divergence(student, taught, temperature=temperature)
    assert float(found) == pytest.approx(temperature**2 * total / 20, rel=1e-5)
    assert float(binary_divergence(student, student, temperature=temperature)) == pytest.approx(0, abs=1e-6)


def test_gradients_go_to_the_student_alone_and_stay_finite_however_sure_both_are() -> None:
    student = torch.tensor([[300.0, -300.0, 0.0]], requires_grad=True)
    taught = torch.tensor([[-300.0, -300.0, 0.0]], requires_grad=True)
    value = binary_divergence(student, taught, temperature=1.0)
    value.backward()
    assert float(value.detach()) == pytest.approx(100, rel=1e-6)
    assert taught.grad is None
    assert student.grad is not None
    assert student.grad.tolist() == [pytest.approx([1 / 3, 0, 0], abs=1e-6)]


def test_labels_are_bound_by_name_and_those_that_the_teacher_lacks_have_no_part(
    teacher: Callable[..., Teacher], tiny_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = read_bundle(tiny_run).metadata.labels
    labels = (names[3], "unicorn", names[0])
    taught = teacher(labels)
    assert "the teacher has 2 of 3 labels; without it: unicorn" in caplog.text
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    theirs = read_bundle(tiny_run).model(image).logits[:, [3, 0]]
    expected = 2 * binary_divergence(logits[:, [0, 2]], theirs, temperature=1.5)
    torch.testing.assert_close(taught.loss(image, logits), expected)
    other = logits.clone()
    other[:, 1] = 77.0
    torch.testing.assert_close(taught.loss(image, other), expected)


def test_images_of_other_statistics_are_rescaled_for_the_teacher(
    teacher: Callable[..., Teacher], tiny_run: Path
) -> None:
    theirs = read_bundle(tiny_run).preprocessing
    ours = {"mean": (0.1, 0.5, 0.7), "std": (0.3, 0.4, 0.5)}
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def scaled(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        return torch.stack([(pixels[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)

    logits = torch.zeros(2, len(read_bundle(tiny_run).metadata.labels))
    same = teacher().loss(scaled(theirs.mean, theirs.std), logits)
    other = teacher(**ours).loss(scaled(ours["mean"], ours["std"]), logits)
    torch.testing.assert_close(other, same, rtol=1e-4, atol=1e-6)


def test_a_teacher_that_cannot_teach_is_refused_with_what_to_do(teacher: Callable[..., Teacher]) -> None:
    with pytest.raises(ConfigError, match=r"images of 64 px, and this run trains on 96 px(?s:.*)--data.image_size 64"):
        teacher(size=96)
    with pytest.raises(ConfigError, match="none of the labels"):
        teacher(("unicorn", "yeti"))
    with pytest.raises(BundleError, match=r"the teacher cannot be read(?s:.*)nowhere(?s:.*)--optim.distill.bundle"):
        teacher(bundle="nowhere")
    cached = {"data": {"feature_cache": "features", "augment": "none"}, "model": {"freeze": -1}}
    with pytest.raises(ConfigError, match=r"optim\.distill\.bundle needs images"):
        load_settings({**cached, "optim": {"distill": {"bundle": "runs/teacher"}}})


def test_a_run_is_resumed_with_the_same_teacher_wherever_it_lies_and_its_bundle_stands_alone(
    tiny: Tiny,
    here: Path,
    scenes: Path,
    tiny_run: Path,
    at_step: Callable[[int, Callable[[], None]], None],
) -> None:
    first, second = here.parent / "teacher", here.parent / "moved"
    shutil.copytree(tiny_run / "bundle", first)

    def settings(folder: Path) -> Settings:
        head = {"name": "max_pool"}
        return tiny("run", model={"head": head}, optim={"epochs": 1, "distill": {"bundle": str(folder)}})

    at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(settings(first))
    at_step(0, lambda: None)
    other, changed = here.parent / "other", read_bundle(first, precompute=False)
    next(changed.model.parameters()).add_(1)
    write_bundle(other, changed.model, changed.inputs, changed.metadata)
    first.rename(second)
    with pytest.raises(DataError, match="the teacher is another one"):
        train(settings(other), resume=True)
    train(settings(second), resume=True)
    uninterrupted = settings(second).model_copy(
        update={"run": settings(second).run.model_copy(update={"folder": "whole"})}
    )
    train(uninterrupted)
    ours, theirs = (read_bundle(folder, precompute=False).model.state_dict() for folder in ("run", "whole"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    shutil.rmtree(second)
    prediction = Predictor.load(here)(next((scenes / "images" / "val").iterdir()))
    assert len(prediction.ranked) == 16
    assert METADATA_FILE in {path.name for path in (here / "bundle").iterdir()}


def test_what_is_distilled_is_part_of_the_loss_of_a_step(tiny: Tiny, tmp_path: Path, tiny_run: Path) -> None:
    losses = {}
    for weight in (1.0, 3.0):
        optim = {"distill": {"bundle": str(tiny_run), "weight": weight}}
        run = Trainer(tiny(tmp_path / f"run{weight}", optim=optim), resume=False)
        batch = next(iter(run.batches.loader(0, 0)))
        run.learner.train()
        assert run.learner.teacher is not None
        logits = run.learner.net(batch["image"]).logits
        run.learner.step(0, [batch], steps_per_epoch=6)
        losses[weight] = run.learner.check(threading.Event())[0][0]
        distilled = float(run.learner.teacher.loss(batch["image"], logits.detach()))
    assert losses[3.0] - losses[1.0] == pytest.approx(distilled * 2 / 3, rel=1e-4)
    assert distilled > 0.01
