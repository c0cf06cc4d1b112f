"""The network against recorded outputs of the published one, for weights that a rule fills in."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from msrn.config import ModelSettings
from msrn.errors import LabelError, WeightsError
from msrn.labels.embeddings import label_embeddings
from msrn.labels.graph import LabelGraph, label_graph
from msrn.labels.published import PUBLISHED_ORDERS
from msrn.labels.space import LabelSpace
from msrn.models.classifier import MultiLabelClassifier, create_model
from msrn.models.heads.base import LabelInputs

GOLDEN = Path(__file__).parent / "golden"
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


def published_graph(name: str) -> LabelGraph:
    with np.load(GOLDEN / f"{name}_counts.npz") as file:
        return label_graph(file["counts"], file["totals"], labels=LabelSpace(PUBLISHED_ORDERS[name]))


def published_inputs(name: str) -> LabelInputs:
    names = PUBLISHED_ORDERS[name]
    embeddings = label_embeddings(LabelSpace(names), "glove-6b-300d-benchmarks").values
    return LabelInputs(names, torch.from_numpy(embeddings.copy()), torch.tensor(published_graph(name).adjacency))


def reordered(inputs: LabelInputs, order: list[int]) -> LabelInputs:
    assert inputs.embeddings is not None
    assert inputs.graph is not None
    names = tuple(inputs.names[n] for n in order)
    return LabelInputs(names, inputs.embeddings[order], inputs.graph[order][:, order])


def published_model(name: str, checkpoint: Path, inputs: LabelInputs, **options: object) -> MultiLabelClassifier:
    head = {"name": "msrn", "group_ratio": RATIO[name], "checkpoint": str(checkpoint), **options}
    return create_model(ModelSettings(weights="none", head=head), inputs).eval()


def keys_of(name: str) -> dict[str, list[int]]:
    keys: dict[str, list[int]] = json.loads((GOLDEN / f"{name}_keys.json").read_text())
    return keys


def close(got: torch.Tensor | np.ndarray, recorded: np.ndarray) -> bool:
    return bool(np.abs(np.asarray(got) - recorded).max() <= 1e-4 * np.abs(recorded).max())


def released(name: str, folder: Path, *, flatten: bool = True) -> Path:
    """A checkpoint as released, with what stands beside the weights; COCO's names have a prefix."""
    state = fill(keys_of(name) if flatten else {**keys_of(name), "fc1.weight": [1]}, seed=7)
    path = folder / f"{name}.pth.tar"
    prefix = "module." if name == "coco" else ""
    content = {"epoch": 3, "arch": "resnet101", "best_score": np.float64(0.9)}
    torch.save({**content, "state_dict": {prefix + key: value for key, value in state.items()}}, path)
    return path


@pytest.fixture(scope="module", params=["voc", "coco"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    name = request.param
    path = released(name, tmp_path_factory.mktemp("released"))
    model = published_model(name, path, published_inputs(name))
    path.unlink()
    return name, model, np.load(GOLDEN / f"{name}_7_224.npz")


@torch.inference_mode()
def test_every_recorded_value_of_the_published_network_is_met(loaded) -> None:
    name, model, golden = loaded
    graph = published_graph(name)
    assert close(graph.reweighted, golden["A"])
    assert close(graph.adjacency, golden["adj"])

    semantics = model.head.semantics()
    assert close(semantics.labels, golden["label_embed"])
    assert close(semantics.groups, golden["group_embed"])
    assert close(semantics.assignment, golden["assign"])

    batch = len(golden["logits"])
    image = np.random.default_rng([7, 12345]).normal(0, 1, (batch, 3, 224, 224)).astype(np.float32)
    for number, features in enumerate(model.head.pooled(model.backbone(torch.from_numpy(image))), start=1):
        assert features.shape == tuple(golden[f"feat{number}_shape"])
        assert close(features.mean(dim=(2, 3)), golden[f"feat{number}_mean_hw"])
    output = model(torch.from_numpy(image))
    assert close(output.logits, golden["logits"])
    assert close(output.aux_losses["group"], golden["group_loss"])


@torch.inference_mode()
def test_precomputing_changes_no_logit(loaded) -> None:
    _, model, _ = loaded
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = model(image).logits
    semantics = model.head.semantics
    model.precompute()
    after = model(image).logits
    model.head.semantics = semantics
    assert torch.equal(before, after)


@torch.inference_mode()
@pytest.mark.parametrize("output_layer", ["flatten", "per_label"])
def test_a_checkpoint_is_bound_by_name_whatever_the_models_order(output_layer: str, tmp_path: Path) -> None:
    path = released("voc", tmp_path)
    inputs = published_inputs("voc")
    order = np.random.default_rng(3).permutation(20).tolist()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    logits = published_model("voc", path, inputs, output_layer=output_layer)(image).logits
    moved = published_model("voc", path, reordered(inputs, order), output_layer=output_layer)(image).logits
    torch.testing.assert_close(moved, logits[:, order], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(moved, logits, rtol=1e-2)


@torch.inference_mode()
def test_the_order_of_other_labels_comes_from_a_file_and_is_never_guessed(tmp_path: Path) -> None:
    path = released("voc", tmp_path, flatten=False)
    inputs = published_inputs("voc")
    renamed = LabelInputs(tuple(f"label {n}" for n in range(20)), inputs.embeddings, inputs.graph)
    with pytest.raises(LabelError, match="the 20 labels are none of the published vocabularies") as caught:
        published_model("voc", path, renamed, output_layer="per_label")
    assert "--model.head.checkpoint_labels FILE" in caught.value.hint
    names = tmp_path / "order.txt"
    names.write_text("\n".join(renamed.names))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    logits = published_model("voc", path, renamed, output_layer="per_label", checkpoint_labels=str(names))(image).logits
    assert torch.equal(logits, published_model("voc", path, inputs, output_layer="per_label")(image).logits)
    names.write_text("\n".join([*renamed.names[:-1], "zebra"]))
    with pytest.raises(LabelError, match="differ in 2: label 19, zebra"):
        published_model("voc", path, renamed, output_layer="per_label", checkpoint_labels=str(names))


def test_everything_wrong_with_a_checkpoint_is_reported_at_once(tmp_path: Path) -> None:
    kinds = {True: torch.int64, False: torch.float32}  # counters of batch norms, and weights: one number on disk
    state = {
        name: torch.zeros((), dtype=kinds[name.endswith("num_batches_tracked")]).expand(shape)
        for name, shape in keys_of("voc").items()
    }
    del state["fc2.bias"]
    state["fc_label.weight"] = torch.zeros(256, 50)
    state["surprise"] = torch.zeros(1)
    path = tmp_path / "broken.pth.tar"
    torch.save({"state_dict": state}, path)
    with pytest.raises(WeightsError) as caught:
        published_model("voc", path, published_inputs("voc"))
    message = str(caught.value)
    assert "missing entry fc2.bias (20,)" in message
    assert "entry fc_label.weight: expected shape (256, 300), got (256, 50)" in message
    assert "unknown entry surprise" in message
    assert len(caught.value.problems) == 3


def test_the_per_label_output_layer_takes_its_own_entries_of_a_checkpoint(tmp_path: Path) -> None:
    state = fill({**keys_of("voc"), "fc1.weight": [1]}, seed=3)  # the flatten layer's weights are not looked at
    path = tmp_path / "released.pth.tar"
    torch.save({"state_dict": state}, path)
    model = published_model("voc", path, published_inputs("voc"), output_layer="per_label")
    assert torch.equal(model.head.output_layer.weight, state["W"])
    assert torch.equal(model.head.output_layer.bias, state["B"])
