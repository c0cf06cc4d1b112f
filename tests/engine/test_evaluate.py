"""Evaluation: every image once, in order, by the network's own numbers; labels by name."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from msrn.bundle.read import read_bundle
from msrn.config import DifficultPolicy, Settings
from msrn.data.decode import open_image
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.table import read_table
from msrn.data.transforms import eval_transform
from msrn.engine.distributed import make_fabric
from msrn.engine.evaluate import evaluate, evaluate_scores
from msrn.engine.evaluation import Evaluation
from msrn.engine.evaluation_text import evaluation_text
from msrn.engine.scoring import score_split
from msrn.errors import ConfigError, DataError, TrainingError
from msrn.labels.space import LabelSpace
from msrn.metrics import MultilabelMetrics, calibration_measures, mean_ap_interval

Tiny = Callable[..., Settings]


@pytest.fixture(scope="module")
def val(scenes: Path, tiny_run: Path) -> Manifest:
    return read_table(scenes / "val.csv", read_bundle(tiny_run).labels)


def scored(run: Path, manifest: Manifest, settings: Settings) -> np.ndarray:
    bundle = read_bundle(run)
    fabric = make_fabric(settings)
    return score_split(bundle.model, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)


def test_scores_are_those_of_a_loop_over_images(tiny_run: Path, tiny: Tiny, val: Manifest) -> None:
    bundle = read_bundle(tiny_run, precompute=False)
    transform = eval_transform(bundle.preprocessing)
    found = scored(tiny_run, val, tiny("unused"))
    assert (found.shape, found.dtype) == ((13, 16), np.float32)
    with torch.inference_mode():
        for index in range(len(val)):
            image = transform(open_image(val.path(index)))[None]
            expected = bundle.model(image).logits.sigmoid()[0].numpy()
            np.testing.assert_allclose(found[index], expected, rtol=1e-5, atol=1e-6)  # one image at a time


@pytest.mark.parametrize("data", [{"eval_batch_size": 1}, {"eval_batch_size": 64}, {"workers": 2}])
def test_batches_and_workers_change_no_metric(tiny_run: Path, tiny: Tiny, val: Manifest, data: dict[str, int]) -> None:
    expected = json.loads((tiny_run / "metrics-val.json").read_text())
    found = evaluate_scores(scored(tiny_run, val, tiny("unused", data=data)), val, difficult="msrn").metrics
    assert found.mean_ap == pytest.approx(expected["mAP"], abs=1e-9)
    assert found.all.to_json() == expected["all"]


def test_labels_are_bound_by_name_whatever_the_order_of_the_table(
    tiny_run: Path, tiny: Tiny, scenes: Path, tmp_path: Path
) -> None:
    manifest = read_table(scenes / "val.csv", LabelSpace.read(scenes / "labels.txt"))
    names = list(reversed(manifest.labels.names))
    rows = [",".join([str(scenes / r.image), *(str(int(n in r.positives)) for n in names)]) for r in manifest.records]
    (tmp_path / "turned.csv").write_text("\n".join([",".join(["image", *names]), *rows]) + "\n")
    settings = tiny("unused", data={"reader": "table", "root": "", "val": str(tmp_path / "turned.csv")})
    evaluation, path = evaluate(tiny_run, settings, out=tmp_path / "m.json")
    expected = json.loads((tiny_run / "metrics-val.json").read_text())
    found = json.loads(path.read_text())
    assert found["mAP"] == expected["mAP"]
    assert found["per_label"] == expected["per_label"]
    assert found == evaluation.to_json()


def test_metrics_and_scores_are_written_beside_and_agree_with_scikit_learn(
    tiny_run: Path, tiny: Tiny, tmp_path: Path, scenes: Path
) -> None:
    evaluation, path = evaluate(tiny_run, tiny("unused"), split="test", out=tmp_path / "new" / "m.json")
    assert path == tmp_path / "new" / "m.json"
    kept = np.load(tmp_path / "new" / "m-scores.npz")
    assert kept["scores"].shape == (12, 16)
    truth = read_table(scenes / "test.csv", LabelSpace(kept["labels"].tolist())).targets("positive")
    assert kept["images"].tolist()[0] == "images/test/000000.jpg"
    some = truth.sum(axis=0) > 0
    expected = average_precision_score(truth[:, some], kept["scores"][:, some], average="macro")
    assert evaluation.metrics.mean_ap == pytest.approx(expected, abs=1e-9)
    assert evaluation.metrics.left_out.mean_ap == int((~some).sum())


def test_map_comes_with_its_interval_in_file_and_text(
    tiny_run: Path, tiny: Tiny, tmp_path: Path, val: Manifest
) -> None:
    evaluation, path = evaluate(tiny_run, tiny("unused"), out=tmp_path / "m.json")
    tree = json.loads(path.read_text())
    scores, target = np.load(tmp_path / "m-scores.npz")["scores"], val.targets("positive")
    assert tree["mAP_interval"] == mean_ap_interval(scores, target).to_json()
    assert tree["mAP_interval"]["low"] < tree["mAP"] == tree["mAP_interval"]["value"] < tree["mAP_interval"]["high"]
    assert Evaluation.from_json(tree).to_json() == evaluation.to_json() == tree
    measures = calibration_measures(scores, target)
    assert tree["calibration"]["ece"] == measures.ece
    text = evaluation_text(evaluation)
    assert f"calibration error {100 * measures.ece_equal_mass:.2f}   Brier score {100 * measures.brier:.2f}" in text
    low, high = (f"{100 * tree['mAP_interval'][end]:.2f}" for end in ("low", "high"))
    expected = f"(95 % interval {low} to {high}, by 10,000 resamples of the images)"
    assert expected in evaluation_text(evaluation).splitlines()[1]


def test_tuned_thresholds_are_those_of_the_bundle(tiny_run: Path, tiny: Tiny, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_run)
    plain = evaluate(tiny_run, tiny("unused"), out=tmp_path / "a.json")[0].metrics
    tuned = evaluate(tiny_run, tiny("unused"), out=tmp_path / "b.json", tuned=True)[0].metrics
    assert [row.threshold for row in plain.per_label] == [0.5] * 16
    assert [row.threshold for row in tuned.per_label] == pytest.approx(bundle.thresholds)
    assert tuned.all.class_f1 > plain.all.class_f1
    assert tuned.mean_ap == plain.mean_ap


def test_difficult_objects_are_left_out_of_ap_and_negative_in_counts_as_published(tmp_path: Path) -> None:
    labels = LabelSpace(["cat", "dog"])
    objects = [(("cat",), ()), ((), ("cat",)), (("dog",), ()), ((), ())]
    records = tuple(Record(f"{i}.jpg", positives, difficult) for i, (positives, difficult) in enumerate(objects))
    manifest = Manifest(records, labels, "val", tmp_path)
    scores = np.array([[0.8, 0.1], [0.9, 0.1], [0.1, 0.9], [0.2, 0.2]], np.float32)
    policies: tuple[DifficultPolicy, ...] = ("msrn", "positive", "negative", "ignore")
    found = {policy: evaluate_scores(scores, manifest, difficult=policy) for policy in policies}
    cat = {policy: evaluation.metrics.per_label[0] for policy, evaluation in found.items()}
    assert [cat[policy].ap for policy in policies] == [1, 1, 0.5, 1]
    assert [cat[policy].precision for policy in policies] == [0.5, 1, 0.5, 1]
    assert [evaluation.data.difficult for evaluation in found.values()] == list(policies)


def test_unknown_entries_are_counted_apart_from_difficult_objects_and_shown_per_label(tmp_path: Path) -> None:
    labels = LabelSpace(["cat", "dog", "sofa"])
    records = (
        Record("0.jpg", ("cat",), ("dog",), ("sofa",)),
        Record("1.jpg", ("dog", "sofa")),
        Record("2.jpg", (), (), ("cat", "sofa")),
        Record("3.jpg", (), (), labels.names),
    )
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.9, 0.3], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5]], np.float32)
    evaluation = evaluate_scores(scores, Manifest(records, labels, "val", tmp_path), difficult="msrn")
    tree = evaluation.to_json()
    kinds = ("positives", "negatives", "unknown", "difficult")
    assert [[row[kind] for kind in kinds] for row in tree["per_label"]] == [[1, 1, 2, 0], [1, 1, 1, 1], [1, 0, 3, 0]]
    assert (tree["data"]["unknown"], tree["left_out"]["entries"], tree["left_out"]["images"]) == (6, 7, 1)
    lines = evaluation_text(evaluation).splitlines()
    assert lines[1] == "6 unknown entries (50.00 %), left out of every figure; images without a known label: 1"
    assert "without a known negative, so AP is 100 whatever the scores: sofa" in lines
    assert [line.split()[-1] for line in lines[-4:]] == ["unknown", "2", "1", "3"]


def test_unknown_entries_and_ignored_difficult_objects_are_counted_apart(tmp_path: Path) -> None:
    labels = LabelSpace(["cat", "dog", "sofa"])
    records = [
        Record("0.jpg", ("cat",), (), ("dog",)),
        Record("1.jpg", ("dog",), ("cat",)),
        Record("2.jpg", (), (), ("cat", "dog", "sofa")),
        Record("3.jpg", ("cat",), (), ("sofa",)),
    ]
    manifest = Manifest(tuple(records), labels, "val", tmp_path, "four images")
    scores = np.full((4, 3), 0.6, np.float32)
    for policy, difficult in (("msrn", 1), ("ignore", 1), ("positive", 0), ("negative", 0)):
        evaluation = evaluate_scores(scores, manifest, difficult=policy)  # type: ignore[arg-type]
        rows, left_out = evaluation.metrics.per_label, evaluation.metrics.left_out
        assert [row.unknown for row in rows] == [1, 2, 2]
        assert evaluation.difficult_counts == (difficult, 0, 0)
        known = [row.positives + row.negatives + row.unknown for row in rows]
        assert [sum(counts) for counts in zip(known, evaluation.difficult_counts, strict=True)] == [4, 4, 4]
        assert evaluation.data.unknown == 5
        assert (left_out.images, left_out.entries) == (1, 5 + difficult)


def test_scores_that_are_not_finite_name_the_first_image(tiny_run: Path, tiny: Tiny, val: Manifest) -> None:
    bundle = read_bundle(tiny_run)
    with torch.no_grad():
        bundle.model.head.output_layer.bias[3] = torch.nan
    fabric = make_fabric(tiny("unused"))
    with pytest.raises(TrainingError, match=r"13 of 13 images, the first of them .*000000\.jpg"):
        score_split(bundle.model, val, bundle.preprocessing, settings=tiny("unused").data, fabric=fabric)


def test_an_unreadable_image_stops_evaluation(tiny_run: Path, tiny: Tiny, tmp_path: Path, val: Manifest) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    records = (*val.records, Record(str(tmp_path / "broken.jpg")))
    with pytest.raises(DataError, match=r"broken\.jpg"):
        scored(tiny_run, Manifest(records, val.labels, "val", val.root), tiny("unused"))


@pytest.mark.parametrize(("split", "data"), [("test", {"test": ""}), ("val", {"val": "none"})])
def test_a_split_that_is_not_set_is_asked_for(
    tiny_run: Path, tiny: Tiny, tmp_path: Path, split: str, data: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=f"no {split} split is set(?s:.*)--data.{split}"):
        evaluate(tiny_run, tiny("unused", data=data), split=split, out=tmp_path / "m.json")


def test_the_text_holds_figures_in_per_cent_and_every_label(tiny_run: Path) -> None:
    evaluation = Evaluation.from_json(json.loads((tiny_run / "metrics-val.json").read_text()))
    lines = evaluation_text(evaluation).splitlines()
    assert lines[0].startswith("13 images, ")
    assert f"mAP {100 * evaluation.metrics.mean_ap:.2f}" in lines[1]
    assert lines[2].startswith(f"all:                  CP {100 * evaluation.metrics.all.class_precision:.2f}")
    assert lines[3].startswith(f"top 3 over threshold: CP {100 * evaluation.metrics.top_k.class_precision:.2f}")
    assert not any("unknown" in line for line in lines)
    assert {row.label for row in evaluation.metrics.per_label} <= {line.split(" ")[0] for line in lines}


def test_an_evaluation_is_read_back_from_its_file_and_damage_is_reported(tiny_run: Path) -> None:
    tree = json.loads((tiny_run / "metrics-val.json").read_text())
    assert tree["format_version"] == 1
    assert list(tree["data"]) == ["split", "source", "images", "unknown", "digest", "difficult"]
    assert Evaluation.from_json(tree).to_json() == tree
    assert MultilabelMetrics.from_json(tree).mean_ap == tree["mAP"]
    for damage, expected in (({"data": None}, r"data: .*"), ({"format_version": 2}, r"format version 1, got 2")):
        with pytest.raises(DataError, match=rf"{expected}(?s:.*)m\.json(?s:.*)evaluate again"):
            Evaluation.from_json(tree | damage, "m.json")
    del tree["per_label"][3]["difficult"]
    with pytest.raises(DataError, match=r"per_label\.difficult\.3: (?s:.*)m\.json"):
        Evaluation.from_json(tree, "m.json")


def test_a_batch_that_processes_cannot_share_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"data\.batch_size \(8\) must be divisible"):
        make_fabric(tiny("unused"))


def test_figures_are_never_overwritten_without_being_asked_and_no_two_share_scores(
    tiny_run: Path, tiny: Tiny, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        evaluate(tiny_run, tiny("unused"), split="test", out=tmp_path / f"{name}.json")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "a-scores.npz", "b.json", "b-scores.npz"}
    with pytest.raises(DataError, match=r"already exists(?s:.*)--force"):
        evaluate(tiny_run, tiny("unused"), split="test", out=tmp_path / "a.json")
    evaluate(tiny_run, tiny("unused"), split="test", out=tmp_path / "a.json", force=True)


def test_bundles_side_by_side_have_figures_of_their_own(tiny_run: Path, tiny: Tiny, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(tiny_run / "bundle", tmp_path / name)
        _, path = evaluate(tmp_path / name, tiny("unused"), split="test")
        assert path == tmp_path / f"{name}-evaluation-test.json"


def test_an_evaluation_records_the_weights_and_how_they_ran(tiny_run: Path, tiny: Tiny, tmp_path: Path) -> None:
    evaluation, path = evaluate(tiny_run, tiny("unused"), split="test", out=tmp_path / "m.json", tuned=True)
    digest = hashlib.sha256((tiny_run / "bundle" / "model.safetensors").read_bytes()).hexdigest()
    assert json.loads(path.read_text())["model"] == {
        "weights": digest, "image_size": 64, "precision": "32-true", "tuned": True, "tuned_on_this_split": False,
        "msrn": read_bundle(tiny_run).metadata.versions["msrn"], "epoch": read_bundle(tiny_run).metadata.epoch,
        "calibration": None, "images_trained_on": 0, "images_tuned_on": 0,
    }  # fmt: skip
    assert Evaluation.from_json(json.loads(path.read_text())).model == evaluation.model


def test_figures_that_are_too_good_for_other_images_are_warned_of(
    tiny_run: Path, tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluation, _ = evaluate(tiny_run, tiny("unused"), split="val", out=tmp_path / "a.json", tuned=True)
    assert evaluation.model is not None
    assert evaluation.model.tuned_on_this_split
    assert "tuned on this very split" in caplog.text
    caplog.clear()
    evaluate(tiny_run, tiny("unused"), split="train", out=tmp_path / "b.json")
    assert "trained on this very split" in caplog.text
    caplog.clear()
    evaluate(tiny_run, tiny("unused"), split="val", out=tmp_path / "c.json")
    assert not caplog.text
