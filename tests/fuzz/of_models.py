"""Kinds of bundles, checkpoints, weights, logs, results and caches."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kinds import Kind, damaged
from of_images import PIXELS, SMALL
from of_labels import SPACE

from msrn.audit.check import check_data
from msrn.audit.result import CheckResult
from msrn.bundle.label_inputs import read_label_inputs
from msrn.bundle.metadata import Metadata, SplitRecord
from msrn.bundle.read import read_bundle
from msrn.bundle.split_images import image_hashes
from msrn.bundle.write import write_bundle
from msrn.config import ModelSettings, load_settings
from msrn.data.array_store import ArrayStore, key_of
from msrn.data.manifest import Manifest, Record
from msrn.data.transforms import Preprocessing
from msrn.engine.evaluate import evaluate_scores
from msrn.engine.evaluation import Evaluation
from msrn.engine.identity import require_same
from msrn.engine.run_folder import RunFolder
from msrn.engine.run_log import RunLog
from msrn.inference.predictor import Predictor
from msrn.models.classifier import build_without_weights, create_model
from msrn.models.heads.base import LabelInputs
from msrn.models.published import load_published, published_key_map
from msrn.models.state_files import load_matching
from msrn.models.state_files import read_state as read_weights

HEADS: dict[str, dict[str, Any]] = {
    "msrn": {"name": "msrn", "width": 4, "pools": [1, 1, 1], "output_layer": "per_label"},
    "csra": {"name": "csra", "temperatures": [1.0, "max"]},
}
INPUTS = LabelInputs(
    SPACE.names,
    torch.arange(12, dtype=torch.float32).reshape(3, 4) / 10,
    torch.eye(3) + torch.tensor([[0, 0.2, 0], [0.1, 0, 0], [0, 0, 0]]),
)
MANIFEST = Manifest(
    tuple(Record(f"{n}.png", ("sea",), (), ("boat",) * (n % 2)) for n in range(4)), SPACE, "val", Path("."), "drawn"
)


def model_settings(head: str) -> ModelSettings:
    return ModelSettings(backbone="test_resnet", weights="none", head=HEADS[head])


@functools.cache
def bundle(head: str) -> dict[str, bytes]:
    torch.manual_seed(0)
    settings = load_settings({"model": model_settings(head).model_dump(), "data": {"image_size": 32}})
    model = create_model(settings.model, INPUTS, image_size=32)
    record = SplitRecord.of(MANIFEST)
    metadata = Metadata(
        labels=SPACE.names,
        labels_digest=SPACE.digest,
        preprocessing=Preprocessing(size=32),
        precision="32-true",
        thresholds=dict.fromkeys(SPACE.names, 0.5),
        threshold_support={},
        thresholds_chosen="0.5 for all",
        thresholds_split=None,
        splits={"train": record, "val": record},
        epoch=1,
        metrics={},
        embeddings={
            "source": "random",
            "labels": [{"label": n, "words": [], "missing": [], "how": "random"} for n in SPACE.names],
        },
        graph={
            "source": "counted",
            "threshold": 0.4,
            "symmetric": False,
            "edges": [("sea", "boat", 0.5)],
            "totals": [4, 2, 0],
        },
        settings=settings.model_dump(mode="json"),
        versions={},
        files={},
    )
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "bundle", model, INPUTS, metadata)
        read_whole_bundle(Path(folder) / "bundle")  # once before processes fork: kernels are compiled
        return {path.name: path.read_bytes() for path in (Path(folder) / "bundle").iterdir()}


def sealed(files: dict[str, bytes]) -> dict[str, bytes]:
    """With digests that are right, as whoever sends a bundle can make them."""
    try:
        tree = json.loads(files["bundle.json"])
        tree["files"] = {
            name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "bundle.json"
        }
        names = tree["labels"]
        tree["labels_digest"] = hashlib.sha256("\n".join(names).encode()).hexdigest()
        if sorted(tree["thresholds"]) != sorted(names) and len(tree["thresholds"]) == len(names):
            tree["thresholds"] = dict(zip(names, tree["thresholds"].values(), strict=True))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return files
    return {**files, "bundle.json": json.dumps(tree).encode()}


def read_whole_bundle(folder: Path) -> None:
    """As a predictor, whose probabilities are right or whose prediction names an error; and its label inputs."""
    predictor = Predictor(read_bundle(folder), device="cpu")
    prediction = next(predictor.predict([PIXELS]))
    if prediction.error is None:
        values = np.array([value for _, value in prediction.ranked])
        assert ((values >= 0) & (values <= 1)).all(), values
        assert {name for name, _ in prediction.ranked} == set(predictor.labels.names)
        assert set(prediction.labels) <= set(predictor.labels.names)
    learned = read_label_inputs(folder)
    assert learned.embeddings.values.shape[0] == len(learned.labels)
    assert np.isfinite(learned.graph.adjacency).all()


def torch_file(content: Any, *, zipped: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


@functools.cache
def plain_model(head: str) -> torch.nn.Module:
    return build_without_weights(model_settings(head), INPUTS, image_size=32)


SETTINGS = load_settings({"preset": "", "run": {"folder": "run"}})
STATE = {
    "settings": SETTINGS.model_dump(mode="json"),
    "data": {
        "labels": list(SPACE.names),
        "train": {
            **SplitRecord.of(MANIFEST).model_dump(mode="json"),
            "images_hashed": torch.from_numpy(image_hashes(MANIFEST)),
            "labels_hashed": torch.arange(len(MANIFEST)),
        },
        "val": None,
        "label_inputs": "0" * 64,
        "preprocessing": Preprocessing().model_dump(mode="json"),
        "teacher": "",
    },
    "processes": 1,
    "versions": {"torch": "2.0"},
    "progress": {"step": 3, "epochs": 1, "losses": [0.5], "seconds": 1.0, "best_map": 0.5, "best_epoch": 1},
    "model": {"weight": torch.ones(2, 3), "bias": torch.zeros(2)},
    "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2, 3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    "precision": {},
}


def read_checkpoint(folder: Path) -> None:
    state = RunFolder(folder, writes=False).load_state(SETTINGS)
    require_same(state, STATE["data"], folder=folder, processes=1)


def read_model_weights(name: str, folder: Path) -> None:
    model = build_without_weights(model_settings("csra"), INPUTS, image_size=32)
    load_matching(model, read_weights(folder / name), where=name)
    model.eval()(torch.zeros(1, 3, 32, 32))


def csra_state() -> dict[str, torch.Tensor]:
    return plain_model("csra").state_dict()


def published() -> bytes:
    model = plain_model("msrn")
    names = {ours: theirs for theirs, ours in published_key_map(model).items()}
    state = {f"module.{names[name]}": value for name, value in model.state_dict().items()}
    return torch_file({"epoch": 3, "state_dict": state, "best_score": np.float64(0.5)})


def read_published(folder: Path) -> None:
    model = build_without_weights(model_settings("msrn"), INPUTS, image_size=32)
    load_published(model.head, model.backbone, folder / "model.pth.tar", order=["boat", "sea", "traffic light"])


LOG = b"".join(
    json.dumps(event).encode() + b"\n"
    for event in (
        {"event": "start", "time": 1.0, "step": 0, "train": 4},
        {"event": "epoch", "time": 2.0, "step": 3, "epoch": 1, "loss": 0.5},
        {"event": "end", "time": 2.0, "step": 3, "best_epoch": 1},
    )
)


def read_log(folder: Path) -> None:
    path = folder / "out" / "log.jsonl"  # it is written again
    path.write_bytes((folder / "log.jsonl").read_bytes())
    RunLog(path, keep_until=(3, 1)).write("end", step=3)


def tree_of(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def evaluation() -> bytes:
    scores = np.array([[0.9, 0.2, 0.1], [0.3, 0.8, 0.2], [0.4, 0.1, 0.9], [0.2, 0.7, 0.6]], np.float32)
    return json.dumps(evaluate_scores(scores, MANIFEST, difficult="ignore").to_json()).encode()


def read_evaluation(folder: Path) -> None:
    found = Evaluation.from_json(tree_of(folder / "evaluation.json"), "evaluation.json")
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.dumps(Evaluation.from_json(json.loads(text)).to_json()) == text


def check() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(4):
            (Path(folder) / f"{number}.png").write_bytes(SMALL)
        manifest = Manifest(MANIFEST.records, SPACE, "train", Path(folder))
        return json.dumps(check_data([manifest], near_bits=None).result.to_json()).encode()


def read_check(folder: Path) -> None:
    found = CheckResult.from_json(tree_of(folder / "check.json"), "check.json")
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.dumps(CheckResult.from_json(json.loads(text)).to_json()) == text


ARRAYS = {key_of(str(n)): np.full((2, 3, n + 1), n, np.uint8) for n in range(3)}


def store() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        with ArrayStore(folder, np.uint8) as made:
            for key, array in ARRAYS.items():
                made.add(key, array)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def read_store(folder: Path) -> None:
    (folder / "out").rmdir()
    found = ArrayStore(folder, np.uint8)
    for key in ARRAYS:
        if key in found:
            np.array(found[key])


Reading = Callable[[Path], None]
FILES: dict[str, tuple[Callable[[], Mapping[str, bytes]], dict[str, str], Reading, float]] = {
    "checkpoint": (lambda: {"last.pt": torch_file(STATE)}, {"last.pt": "zip"}, read_checkpoint, 1),
    "checkpoint legacy": (
        lambda: {"last.pt": torch_file(STATE, zipped=False)},
        {"last.pt": "bytes"},
        read_checkpoint,
        1,
    ),
    "weights pth": (
        lambda: {"model.pth": torch_file(csra_state())},
        {"model.pth": "zip"},
        functools.partial(read_model_weights, "model.pth"),
        0.3,
    ),
    "published": (lambda: {"model.pth.tar": published()}, {"model.pth.tar": "zip"}, read_published, 0.3),
    "log": (lambda: {"log.jsonl": LOG}, {"log.jsonl": "json"}, read_log, 1),
    "evaluation": (lambda: {"evaluation.json": evaluation()}, {"evaluation.json": "json"}, read_evaluation, 1),
    "check": (lambda: {"check.json": check()}, {"check.json": "json"}, read_check, 1),
    "cache": (store, {"index.bin": "bytes", "store.json": "json", "data.bin": "bytes"}, read_store, 0.5),
}

BUNDLE = {"bundle.json": "json", "model.safetensors": "safetensors", "label_inputs.safetensors": "safetensors"}
KINDS: list[Kind] = [
    damaged(name, build, read, forms=forms, share=share) for name, (build, forms, read, share) in FILES.items()
]
KINDS += [
    damaged(f"bundle {head}", functools.partial(bundle, head), read_whole_bundle, forms=BUNDLE, share=0.3, seal=sealed)
    for head in HEADS
]
