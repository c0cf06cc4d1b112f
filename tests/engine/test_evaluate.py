"""Evaluation: every picture once, in order, by the network's own numbers; labels by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from msrn.bundle.files import read_bundle
from msrn.config import Settings
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.table import read_table
from msrn.data.transforms import eval_transform, open_image
from msrn.engine.distributed import make_fabric
from msrn.engine.evaluate import evaluate_bundle, judge, score_split, summary
from msrn.engine.label_summary import describe_labels
from msrn.errors import ConfigError, DataError, TrainingError
from msrn.labels.space import LabelSpace

Tiny = Callable[..., Settings]


@pytest.fixture(scope="module")
def val(scenes: Path, tiny_run: Path) -> Manifest:
    return read_table(scenes / "val.csv", read_bundle(tiny_run).labels)


def scored(run: Path, manifest: Manifest, settings: Settings) -> np.ndarray:
    bundle = read_bundle(run)
    fabric = make_fabric(settings)
    return score_split(bundle.model, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)


def test_scores_are_those_of_a_loop_over_pictures(tiny_run: Path, tiny: Tiny, val: Manifest) -> None:
    bundle = read_bundle(tiny_run, fold=False)
    transform = eval_transform(bundle.preprocessing)
    found = scored(tiny_run, val, tiny("unused"))
    assert (found.shape, found.dtype) == ((13, 16), np.float32)
    with torch.inference_mode():
        for index in range(len(val)):
            image = transform(open_image(val.path(index)))[None]
            expected = bundle.model(image).logits.sigmoid()[0].numpy()
            np.testing.assert_allclose(found[index], expected, rtol=1e-5, atol=1e-6)  # one picture at a time


@pytest.mark.parametrize("data", [{"eval_batch_size": 1}, {"eval_batch_size": 64}, {"workers": 2}])
def test_batches_and_workers_change_no_metric(tiny_run: Path, tiny: Tiny, val: Manifest, data: dict[str, int]) -> None:
    expected = json.loads((tiny_run / "metrics-val.json").read_text())
    found = judge(scored(tiny_run, val, tiny("unused", data=data)), val, difficult="msrn")
    assert found["mAP"] == pytest.approx(expected["mAP"], abs=1e-9)
    assert found["all"] == expected["all"]


def test_labels_are_bound_by_name_whatever_the_order_of_the_table(
    tiny_run: Path, tiny: Tiny, scenes: Path, tmp_path: Path
) -> None:
    manifest = read_table(scenes / "val.csv", LabelSpace.read(scenes / "labels.txt"))
    names = list(reversed(manifest.labels.names))
    rows = [",".join([str(scenes / r.image), *(str(int(n in r.positives)) for n in names)]) for r in manifest.records]
    (tmp_path / "turned.csv").write_text("\n".join([",".join(["image", *names]), *rows]) + "\n")
    settings = tiny("unused", data={"format": "table", "root": "", "val": str(tmp_path / "turned.csv")})
    metrics, path = evaluate_bundle(tiny_run, settings, out=tmp_path / "m.json")
    expected = json.loads((tiny_run / "metrics-val.json").read_text())
    assert metrics["mAP"] == expected["mAP"]
    assert metrics["per_label"] == expected["per_label"]
    assert json.loads(path.read_text()) == metrics


def test_metrics_and_scores_are_written_beside_and_agree_with_scikit_learn(
    tiny_run: Path, tiny: Tiny, tmp_path: Path, scenes: Path
) -> None:
    metrics, path = evaluate_bundle(tiny_run, tiny("unused"), split="test", out=tmp_path / "new" / "m.json")
    assert path == tmp_path / "new" / "m.json"
    kept = np.load(tmp_path / "new" / "scores-test.npz")
    assert kept["scores"].shape == (12, 16)
    truth = read_table(scenes / "test.csv", LabelSpace(kept["labels"].tolist())).targets("positive")
    assert kept["images"].tolist()[0] == "images/test/000000.jpg"
    some = truth.sum(axis=0) > 0
    expected = average_precision_score(truth[:, some], kept["scores"][:, some], average="macro")
    assert metrics["mAP"] == pytest.approx(expected, abs=1e-9)
    assert metrics["left_out"]["mAP"] == int((~some).sum())


def test_tuned_thresholds_are_those_of_the_bundle(tiny_run: Path, tiny: Tiny, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_run)
    plain, _ = evaluate_bundle(tiny_run, tiny("unused"), out=tmp_path / "a.json")
    tuned, _ = evaluate_bundle(tiny_run, tiny("unused"), out=tmp_path / "b.json", tuned=True)
    assert [row["threshold"] for row in plain["per_label"]] == [0.5] * 16
    assert [row["threshold"] for row in tuned["per_label"]] == pytest.approx(bundle.thresholds)
    assert tuned["all"]["CF1"] > plain["all"]["CF1"]
    assert tuned["mAP"] == plain["mAP"]


def test_difficult_objects_are_left_out_of_ap_and_negative_in_counts_as_published(tmp_path: Path) -> None:
    labels = LabelSpace(["cat", "dog"])
    said = [(("cat",), ()), ((), ("cat",)), (("dog",), ()), ((), ())]
    records = tuple(Record(f"{i}.jpg", positives, difficult) for i, (positives, difficult) in enumerate(said))
    manifest = Manifest(records, labels, "val", tmp_path)
    scores = np.array([[0.8, 0.1], [0.9, 0.1], [0.1, 0.9], [0.2, 0.2]], np.float32)
    found = {policy: judge(scores, manifest, difficult=policy) for policy in ("msrn", "positive", "negative", "ignore")}
    cat = {policy: metrics["per_label"][0] for policy, metrics in found.items()}
    assert {policy: row["AP"] for policy, row in cat.items()} == {
        "msrn": 1,
        "positive": 1,
        "negative": 0.5,
        "ignore": 1,
    }
    assert {policy: row["precision"] for policy, row in cat.items()} == {
        "msrn": 0.5, "positive": 1.0, "negative": 0.5, "ignore": 1.0
    }  # fmt: skip
    assert found["msrn"]["data"]["difficult"] == "msrn"


def test_unknown_entries_are_counted_apart_from_difficult_objects_and_told_per_label(tmp_path: Path) -> None:
    labels = LabelSpace(["cat", "dog", "sofa"])
    records = (
        Record("0.jpg", ("cat",), ("dog",), ("sofa",)),
        Record("1.jpg", ("dog", "sofa")),
        Record("2.jpg", (), (), ("cat", "sofa")),
        Record("3.jpg", (), (), labels.names),
    )
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.9, 0.3], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5]], np.float32)
    metrics = judge(scores, Manifest(records, labels, "val", tmp_path), difficult="msrn")
    kinds = ("positives", "negatives", "unknown", "difficult")
    assert [[row[kind] for kind in kinds] for row in metrics["per_label"]] == [[1, 1, 2, 0], [1, 1, 1, 1], [1, 0, 3, 0]]
    assert (metrics["data"]["unknown"], metrics["left_out"]["entries"], metrics["left_out"]["images"]) == (6, 7, 1)
    lines = summary(metrics).splitlines()
    assert lines[1] == "6 entries unknown (50.00 %), left out of every figure; pictures without a known label: 1"
    assert "without a known negative, so that AP is 100 whatever the scores: sofa" in lines
    assert [line.split()[-1] for line in lines[-4:]] == ["unknown", "2", "1", "3"]


def test_unknown_entries_and_ignored_difficult_objects_are_counted_apart(tmp_path: Path) -> None:
    labels = LabelSpace(["cat", "dog", "sofa"])
    said = [
        Record("0.jpg", ("cat",), (), ("dog",)),
        Record("1.jpg", ("dog",), ("cat",)),
        Record("2.jpg", (), (), ("cat", "dog", "sofa")),
        Record("3.jpg", ("cat",), (), ("sofa",)),
    ]
    manifest = Manifest(tuple(said), labels, "val", tmp_path, "four pictures")
    scores = np.full((4, 3), 0.6, np.float32)
    for policy, difficult in (("msrn", 1), ("ignore", 1), ("positive", 0), ("negative", 0)):
        metrics = judge(scores, manifest, difficult=policy)  # type: ignore[arg-type]
        rows = metrics["per_label"]
        assert [row["unknown"] for row in rows] == [1, 2, 2]
        assert [row["difficult"] for row in rows] == [difficult, 0, 0]
        counts = ("positives", "negatives", "unknown", "difficult")
        assert all(sum(row[name] for name in counts) == 4 for row in rows)
        assert metrics["data"]["unknown"] == 5
        assert metrics["left_out"]["images"] == 1
        assert metrics["left_out"]["entries"] == 5 + difficult


def test_scores_that_are_not_finite_name_the_first_picture(tiny_run: Path, tiny: Tiny, val: Manifest) -> None:
    bundle = read_bundle(tiny_run)
    with torch.no_grad():
        bundle.model.head.bias[3] = torch.nan
    fabric = make_fabric(tiny("unused"))
    with pytest.raises(TrainingError, match=r"13 of 13 pictures, the first of them .*000000\.jpg"):
        score_split(bundle.model, val, bundle.preprocessing, settings=tiny("unused").data, fabric=fabric)


def test_an_unreadable_picture_stops_evaluation(tiny_run: Path, tiny: Tiny, tmp_path: Path, val: Manifest) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    records = (*val.records, Record(str(tmp_path / "broken.jpg")))
    with pytest.raises(DataError, match=r"broken\.jpg"):
        scored(tiny_run, Manifest(records, val.labels, "val", val.root), tiny("unused"))


@pytest.mark.parametrize(("split", "data"), [("test", {"test": ""}), ("val", {"val": "none"})])
def test_a_split_that_is_not_set_is_asked_for(
    tiny_run: Path, tiny: Tiny, tmp_path: Path, split: str, data: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=f"no {split} split is set(?s:.*)--data.{split}"):
        evaluate_bundle(tiny_run, tiny("unused", data=data), split=split, out=tmp_path / "m.json")


def test_the_summary_tells_figures_in_per_cent_and_every_label(tiny_run: Path) -> None:
    metrics = json.loads((tiny_run / "metrics-val.json").read_text())
    text = summary(metrics)
    assert "13 pictures" in text
    assert f"mAP {100 * metrics['mAP']:.2f}" in text
    assert "unknown" not in text
    rows = {line.split(" ")[0] for line in text.splitlines()}
    assert {row["label"] for row in metrics["per_label"]} <= rows


def test_the_labels_page_tells_words_counts_and_edges(tiny: Tiny, val: Manifest) -> None:
    text = describe_labels(tiny("unused", labels={"threshold": 0.5}))
    assert text.startswith("16 labels, 48 pictures")
    for name in val.labels:
        assert any(line.startswith(name) for line in text.splitlines())
    assert "->" in text


def test_a_batch_that_processes_cannot_share_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"data\.batch_size \(8\) must be divisible"):
        make_fabric(tiny("unused"))
