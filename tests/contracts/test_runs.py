"""Every head goes the whole way: settings, training, bundle, prediction, evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_heads import small

from msrn import registry
from msrn.bundle.metadata import read_metadata
from msrn.bundle.read import read_bundle
from msrn.config import Settings
from msrn.data.dataset import ImageDataset
from msrn.data.readers.table import read_table
from msrn.data.transforms import eval_transform
from msrn.engine.evaluate import evaluate
from msrn.engine.trainer import train
from msrn.inference.predictor import Predictor
from msrn.losses.soft_margin import soft_margin
from msrn.profiling.model_cost import cost_of

Tiny = Callable[..., Settings]


@pytest.fixture(scope="module", params=registry.names("head"))
def run(request: pytest.FixtureRequest, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """A run of one epoch."""
    name = str(request.param)
    folder = tmp_path_factory.mktemp("heads") / name
    chosen = {} if name == "msrn" else {"head": small(name)}  # the preset's msrn is small
    settings = tiny(folder, model=chosen, optim={"epochs": 1})
    train(settings)
    return settings, folder


def test_a_trained_head_predicts_from_its_bundle_what_it_was_evaluated_with(
    run: tuple[Settings, Path], scenes: Path, tmp_path: Path
) -> None:
    settings, folder = run
    evaluation, _ = evaluate(folder, settings, split="val", out=tmp_path / "metrics.json")
    assert evaluation.metrics.mean_ap == pytest.approx(read_metadata(folder).metrics["mAP"], abs=1e-9)
    predictor = Predictor.load(folder)
    manifest = read_table(scenes / "val.csv", predictor.labels)
    with np.load(tmp_path / "metrics-scores.npz") as file:
        scores = file["scores"]
    for row, prediction in zip(
        scores, predictor.predict([manifest.path(n) for n in range(len(manifest))]), strict=True
    ):
        assert [prediction[name] for name in predictor.labels] == pytest.approx(row.tolist(), abs=1e-5)


def test_a_bundle_holds_the_label_inputs_that_the_head_needs_and_no_others(run: tuple[Settings, Path]) -> None:
    settings, folder = run
    bundle = read_bundle(folder)
    needs = registry.load("head", settings.model.head.name).needs(settings.model.head)
    assert (bundle.inputs.embeddings is not None) == ("embeddings" in needs) == (bundle.metadata.embeddings is not None)
    assert (bundle.inputs.graph is not None) == ("graph" in needs) == (bundle.metadata.graph is not None)


def test_the_cost_of_a_head_is_known_without_computing(run: tuple[Settings, Path]) -> None:
    settings, folder = run
    parts, uses = cost_of(settings, num_labels=16, embedding_width=300)
    weights = sum(value.numel() for value in read_bundle(folder, precompute=False).model.parameters())
    assert sum(part.parameters for part in parts) == weights
    assert {use.name for use in uses} == {"predict", "train"}


def test_cached_features_train_the_same_head(run: tuple[Settings, Path], tiny: Tiny, tmp_path: Path) -> None:
    settings, _ = run
    model = {"freeze": -1, "head": settings.model.head.model_dump()}
    data = {"feature_cache": str(tmp_path / "cache")}
    ours = train(tiny(tmp_path / "cached", model=model, data=data, optim={"epochs": 1}))
    theirs = train(tiny(tmp_path / "files", model=model, optim={"epochs": 1}))
    assert ours.val_map == pytest.approx(theirs.val_map, abs=0.02)  # features are kept in float16


def test_the_loss_of_the_log_is_that_of_the_formula(tiny: Tiny, scenes: Path, tmp_path: Path) -> None:
    """One step over the whole split from the first weights, by hand."""
    import json

    from msrn.engine.setup import build_setup

    settings = tiny(tmp_path / "run", model={"head": "max_pool"}, data={"batch_size": 48}, optim={"epochs": 1})
    train(settings)
    torch.manual_seed(settings.run.seed)
    setup = build_setup(settings)
    images = ImageDataset(setup.train, eval_transform(setup.preprocessing), setup.train.targets("positive"))
    batch = [images[n] for n in range(48)]
    setup.model.train()
    logits = setup.model(torch.stack([item["image"] for item in batch])).logits
    expected = float(soft_margin(logits, torch.stack([item["target"] for item in batch])).detach())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert next(line["loss"] for line in lines if line["event"] == "epoch") == pytest.approx(expected, rel=1e-5)
