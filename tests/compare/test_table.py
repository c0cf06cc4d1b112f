"""The comparison of finished runs: means, spread, paired differences, and what it is written as."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from msrn.compare.cell import CellResult
from msrn.compare.run import Failure
from msrn.compare.table import compare_results, comparison_markdown
from msrn.compare.write import write_comparison
from msrn.errors import DataError

LABELS = ("boat", "sea | sky", "sun")


def finished(folder: Path, variant: str, seed: int, quality: float) -> tuple[CellResult, Path]:
    """A cell whose scores follow the truth as closely as ``quality`` says."""
    target = (np.random.default_rng(0).random((200, 3)) < 0.3).astype(float)
    target[0, 0] = np.nan
    noise = np.random.default_rng([seed, len(variant)]).random((200, 3))
    scores = (quality * np.nan_to_num(target) + noise) / (1 + quality)
    place = folder / f"{variant}-{seed}"
    place.mkdir(parents=True)
    np.savez_compressed(place / "scores.npz", scores=scores.astype(np.float32), target=target)
    known = [~np.isnan(target[:, column]) for column in range(3)]
    aps = tuple(
        float(average_precision_score(target[rows, column], scores[rows, column].astype(np.float32)))
        for column, rows in enumerate(known)
    )
    result = CellResult(
        variant=variant, choices={"head": variant}, seed=seed, digest="d", split="test", images=200,
        split_digest="s" * 64, labels=LABELS, mean_ap=float(np.mean(aps)), class_f1=0.5, overall_f1=0.6,
        per_label_ap=aps, positives=(60, 60, 60), val_map=0.5, best_epoch=1, minutes=1.0 + seed,
        peak_memory_bytes=2**30, head_parameters=1000, backbone_parameters=5,
    )  # fmt: skip
    return result, place


@pytest.fixture
def runs(tmp_path: Path) -> list[tuple[CellResult, Path]]:
    return [
        finished(tmp_path, name, seed, quality)
        for name, quality in (("plain", 0.4), ("better", 0.9))
        for seed in (0, 1)
    ]


def test_seeds_are_averaged_and_variants_compared_on_the_same_images(runs: list[tuple[CellResult, Path]]) -> None:
    found = compare_results(runs, [], reference="plain", resamples=300)
    better, plain = found.rows
    assert (better.variant, better.seeds, plain.variant) == ("better", (0, 1), "plain")
    by_hand = {name: [run.mean_ap for run, _ in runs if run.variant == name] for name in ("plain", "better")}
    assert better.mean_ap == pytest.approx(np.mean(by_hand["better"]))
    assert better.spread == pytest.approx(np.std(by_hand["better"], ddof=1))
    assert plain.difference is None
    assert better.difference is not None
    assert better.difference.value == pytest.approx(np.mean(by_hand["better"]) - np.mean(by_hand["plain"]))
    assert 0 < better.difference.low < better.difference.value < better.difference.high
    assert better.minutes == 1.5
    json.dumps(found.to_json(), allow_nan=False)


def test_runs_on_other_images_or_labels_are_refused(runs: list[tuple[CellResult, Path]]) -> None:
    result, place = runs[-1]
    with pytest.raises(DataError, match="same images and labels, better"):
        compare_results([*runs[:-1], (replace(result, split_digest="other"), place)], [], reference="plain")
    with pytest.raises(DataError, match="no run"):
        compare_results([], [], reference="plain")


def test_a_variant_is_no_markdown_and_a_failed_run_is_named(
    runs: list[tuple[CellResult, Path]], tmp_path: Path
) -> None:
    failed = Failure("odd <b> | head", 2, "needs two labels", tmp_path)
    found = compare_results(runs, [failed], reference="absent", resamples=64)
    text = comparison_markdown(found)
    assert "| better | " in text
    assert "one seed" not in text
    assert "- odd <b> \\| head, seed 2: needs two labels" in text
    write_comparison(found, tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "odd &lt;b&gt; | head" in page
    assert not (tmp_path / "out" / "intervals.svg").exists()


def test_table_figures_and_page_are_written(runs: list[tuple[CellResult, Path]], tmp_path: Path) -> None:
    found = compare_results(runs, [], reference="plain", resamples=64)
    write_comparison(found, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        *("comparison.html", "comparison.json", "comparison.md", "cost.svg", "differences.svg", "intervals.svg"),
    ]
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert page.count("<svg") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "sea | sky" in page
