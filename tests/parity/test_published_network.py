"""Is our network the published one? Against recorded outputs for weights that a rule fills in."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from msrn.config import ModelSettings
from msrn.errors import WeightsError
from msrn.labels.graph import label_graph
from msrn.models import build_model
from msrn.models.heads.msrn import MSRN
from msrn.models.weights import load_published

RATIO = {"voc": 0.2, "coco": 0.05}


def fill(keys: dict[str, list[int]], seed: int) -> dict[str, torch.Tensor]:
    """A state dict by the rule of the goldens' README."""
    state = {}
    for name, shape in keys.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        stem, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            state[name] = torch.zeros(shape, dtype=torch.int64)
            continue
        if kind == "running_mean":
            value = rng.normal(0, 0.1, shape)
        elif kind == "running_var":
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1 and kind == "weight" and f"{stem}.running_mean" in keys:
            value = rng.uniform(0.5, 1.0, shape) * (0.2 if ".bn3." in name else 1.0)
        elif len(shape) == 1:
            value = rng.normal(0, 0.05, shape)
        else:
            two_dimensional = len(shape) == 2 and name.endswith((".W", ".a"))
            fan_in = shape[0] if two_dimensional else int(np.prod(shape[1:]))
            value = rng.normal(0, np.sqrt(2 / fan_in), shape)
        state[name] = torch.from_numpy(np.asarray(value, np.float32))
    return state


def published_model(shared: Path, name: str, head: str = "flatten") -> MSRN:
    with np.load(shared / "published" / f"{name}.npz") as file:
        graph = label_graph(file["counts"], file["totals"])
        vectors = torch.from_numpy(file["vectors"].astype(np.float32))
    settings = ModelSettings(weights="none", group_ratio=RATIO[name], head=head)
    model = build_model(settings, label_vectors=vectors, adjacency=torch.tensor(graph.adjacency))
    assert isinstance(model, MSRN)
    return model.eval()


def close(got: torch.Tensor | np.ndarray, recorded: np.ndarray) -> bool:
    return bool(np.abs(np.asarray(got) - recorded).max() <= 1e-4 * np.abs(recorded).max())


@pytest.fixture(scope="module", params=["voc", "coco"])
def loaded(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory):
    name = request.param
    golden = np.load(shared / "golden" / f"{name}_7_224.npz")
    state = fill(json.loads((shared / "golden" / f"{name}_keys.json").read_text()), seed=7)
    path = tmp_path_factory.mktemp("released") / "checkpoint.pth.tar"
    prefix = "module." if name == "coco" else ""
    content = {"epoch": 3, "arch": "resnet101", "best_score": np.float64(0.9)}
    torch.save({**content, "state_dict": {prefix + key: value for key, value in state.items()}}, path)
    model = published_model(shared, name)
    load_published(model, path)
    path.unlink()
    return name, model, golden


@torch.inference_mode()
def test_every_recorded_value_of_the_published_network_is_met(loaded, shared: Path) -> None:
    name, model, golden = loaded
    with np.load(shared / "published" / f"{name}.npz") as file:
        graph = label_graph(file["counts"], file["totals"])
    assert close(graph.before, golden["A"])
    assert close(graph.adjacency, golden["adj"])

    semantics = model.semantics()
    assert close(semantics.labels, golden["label_embed"])
    assert close(semantics.groups, golden["group_embed"])
    assert close(semantics.assignment, golden["assign"])

    batch = len(golden["logits"])
    image = np.random.default_rng([7, 12345]).normal(0, 1, (batch, 3, 224, 224)).astype(np.float32)
    for tap, features in enumerate(model.features(torch.from_numpy(image)), start=1):
        assert features.shape == tuple(golden[f"feat{tap}_shape"])
        assert close(features.mean(dim=(2, 3)), golden[f"feat{tap}_mean_hw"])
    output = model(torch.from_numpy(image))
    assert close(output.logits, golden["logits"])
    assert close(output.aux["group"], golden["group_loss"])


@torch.inference_mode()
def test_folding_changes_no_logit(loaded) -> None:
    _, model, _ = loaded
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = model(image).logits
    unfolded = model.semantics
    model.fold()
    after = model(image).logits
    model.semantics = unfolded
    assert torch.equal(before, after)


def test_everything_wrong_with_a_checkpoint_is_told_at_once(shared: Path, tmp_path: Path) -> None:
    keys = json.loads((shared / "golden" / "voc_keys.json").read_text())
    state = {name: torch.zeros(shape) for name, shape in keys.items()}
    del state["fc2.bias"]
    state["fc_label.weight"] = torch.zeros(256, 50)
    state["surprise"] = torch.zeros(1)
    path = tmp_path / "broken.pth.tar"
    torch.save({"state_dict": state}, path)
    with pytest.raises(WeightsError) as caught:
        load_published(published_model(shared, "voc"), path)
    message = str(caught.value)
    assert "missing entry fc2.bias (20,)" in message
    assert "entry fc_label.weight: expected shape (256, 300), got (256, 50)" in message
    assert "unknown entry surprise" in message
    assert len(caught.value.problems) == 3


def test_the_per_label_head_takes_its_own_entries_of_a_checkpoint(shared: Path, tmp_path: Path) -> None:
    keys = json.loads((shared / "golden" / "voc_keys.json").read_text())
    state = fill({**keys, "fc1.weight": [1]}, seed=3)  # the flatten head's weights are not looked at
    path = tmp_path / "released.pth.tar"
    torch.save({"state_dict": state}, path)
    model = published_model(shared, "voc", head="per_label")
    load_published(model, path)
    assert torch.equal(model.head.weight, state["W"])
    assert torch.equal(model.head.bias, state["B"])
