"""A calibrated bundle: its logits are calibrated wherever they are read, and its decisions stay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msrn.bundle.metadata import METADATA_FILE, read_metadata
from msrn.bundle.read import read_bundle
from msrn.bundle.split_images import read_split_images
from msrn.bundle.write import write_bundle
from msrn.config import Settings
from msrn.data.readers.table import read_table
from msrn.engine.calibrate import calibrate_bundle, calibration_text
from msrn.engine.distributed import make_fabric
from msrn.engine.evaluate import evaluate
from msrn.engine.scoring import split_logits
from msrn.engine.tune import retune_thresholds
from msrn.errors import BundleError, DataError
from msrn.inference.predictor import Predictor
from msrn.metrics import fit_temperature
from msrn.metrics.calibration import sigmoid

Tiny = Callable[..., Settings]


@pytest.fixture
def bundle(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run / "bundle", tmp_path / "bundle"))


def logits_of(bundle: Path, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Of the network itself on the validation split, with the target."""
    read = read_bundle(bundle, calibrated=False)
    manifest = read_table(Path(settings.data.root) / "val.csv", read.labels)
    fabric = make_fabric(settings)
    logits = split_logits(read.model, manifest, read.preprocessing, settings=settings.data, fabric=fabric)
    return logits, manifest.targets("positive")


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_evaluation_and_prediction_give_calibrated_probabilities(
    bundle: Path, tiny: Tiny, tmp_path: Path, scenes: Path, method: str
) -> None:
    settings = tiny("unused")
    logits, target = logits_of(bundle, settings)
    before, _ = evaluate(bundle, settings, out=tmp_path / "before.json")
    metadata = calibrate_bundle(bundle, settings, method, min_support=3)  # type: ignore[arg-type]
    record = metadata.calibration
    assert record is not None
    assert read_metadata(bundle) == metadata
    assert record.split == metadata.splits["val"]
    rows = [record.labels[name] for name in metadata.labels]
    if method == "temperature":
        assert {(row.scale, row.offset) for row in rows} == {(fit_temperature(logits, target), 0.0)}
    else:
        assert {row.method for row in rows} == {"temperature", "platt"}
    expected = sigmoid(logits.astype(float) * [row.scale for row in rows] + [row.offset for row in rows])
    after, _ = evaluate(bundle, settings, out=tmp_path / "after.json")
    np.testing.assert_allclose(np.load(tmp_path / "after-scores.npz")["scores"], expected, atol=1e-6)
    assert [row.ap for row in after.metrics.per_label] == pytest.approx(
        [row.ap for row in before.metrics.per_label], nan_ok=True
    )
    predictor = Predictor.load(bundle)
    manifest = read_table(scenes / "val.csv", predictor.labels)
    predictions = list(predictor.predict([manifest.path(n) for n in range(len(manifest))]))
    for row, prediction in zip(expected, predictions, strict=True):
        assert [prediction[name] for name in predictor.labels] == pytest.approx(row.tolist(), abs=1e-5)
    text = calibration_text(metadata)
    assert text.startswith(f"{method}, fitted on 13 images (val.csv); after: cross-fitted")
    assert all(f"{row.scale:8.4f}" in text for row in rows)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_tuned_thresholds_move_along_and_decide_as_before(bundle: Path, tiny: Tiny, method: str) -> None:
    settings = tiny("unused", thresholds={"min_positives": 1})
    retune_thresholds(bundle, settings, force=True)
    logits, _ = logits_of(bundle, settings)
    before = read_metadata(bundle)
    after = calibrate_bundle(bundle, settings, method, min_support=3)  # type: ignore[arg-type]
    assert after.calibration is not None
    for column, name in enumerate(before.labels):
        row = after.calibration.labels[name]
        if before.threshold_support[name].tuned:
            decided = sigmoid(row.scale * logits[:, column].astype(float) + row.offset) > after.thresholds[name]
            assert np.array_equal(decided, sigmoid(logits[:, column].astype(float)) > before.thresholds[name])
        else:
            assert after.thresholds[name] == 0.5
    assert after.threshold_support == before.threshold_support
    other = calibrate_bundle(bundle, settings, "temperature", force=True)
    removed = calibrate_bundle(bundle, settings, "none", force=True)
    assert other.calibration is not None
    assert removed.calibration is None
    assert removed.thresholds == pytest.approx(before.thresholds, abs=1e-9)
    assert "not calibrated" in calibration_text(removed)


def test_a_calibration_is_replaced_only_when_asked(bundle: Path, tiny: Tiny) -> None:
    calibrate_bundle(bundle, tiny("unused"), "temperature")
    before = (bundle / METADATA_FILE).read_bytes()
    for method in ("platt", "none"):
        with pytest.raises(DataError, match=r"is calibrated: temperature; on 13 images(?s:.*)--force"):
            calibrate_bundle(bundle, tiny("unused"), method)  # type: ignore[arg-type]
    assert (bundle / METADATA_FILE).read_bytes() == before
    with pytest.raises(DataError, match="trained on these very images"):
        calibrate_bundle(bundle, tiny("unused", data={"val": "train"}), "platt", force=True)


def test_the_calibration_is_no_part_of_the_weights(bundle: Path, tiny: Tiny, tmp_path: Path) -> None:
    calibrate_bundle(bundle, tiny("unused"), "temperature")
    read = read_bundle(bundle, precompute=False)
    images = read_split_images(bundle, read.metadata)
    write_bundle(tmp_path / "again", read.model, read.inputs, read.metadata, split_images=images)
    for path in bundle.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_a_calibration_of_other_labels_is_refused_and_a_bundle_without_the_key_is_read(bundle: Path) -> None:
    path = bundle / METADATA_FILE
    tree = json.loads(path.read_text())
    assert tree.pop("calibration") is None
    path.write_text(json.dumps(tree))
    assert read_metadata(bundle).calibration is None
    measures = {"ece": 0, "ece_equal_mass": 0, "label_ece": None, "brier": 0, "curve": [], "per_label": [None]}
    row = {"scale": 1.0, "offset": 0.0, "method": "temperature"}
    tree["calibration"] = {"method": "temperature", "labels": {"yak": row}, "split": tree["splits"]["val"]}
    tree["calibration"] |= {"before": measures, "after": measures}
    path.write_text(json.dumps(tree))
    with pytest.raises(BundleError, match="the labels are not those"):
        read_metadata(bundle)
