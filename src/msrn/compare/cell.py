"""One cell of a grid, in a process of its own: train or resume, evaluate on the reporting split, write the result.

python -m msrn.compare.cell FOLDER, with ``cell.json`` and ``settings.yaml`` in the folder.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from msrn.compare.folder import end_with_parent
from msrn.compare.grid import Cell
from msrn.config import Settings, load_settings
from msrn.errors import DataError, MsrnError, reason
from msrn.files import atomic_path, parse_json, write_atomically, write_json
from msrn.json_results import ResultFormat
from msrn.labels.array_files import read_arrays
from msrn.metrics.results import Measure
from msrn.presets import read_settings_file

if TYPE_CHECKING:
    from msrn.engine.evaluation import Evaluation
    from msrn.models.classifier import MultiLabelClassifier

__all__ = ["CellResult", "prepare_cell", "read_result", "read_scores", "read_target", "run_cell"]

RESULT, SCORES = "result.json", "scores.npz"
FORMAT = ResultFormat("the result of a run", 1, "remove the file, and the run is done again")


@dataclass(frozen=True, slots=True)
class CellResult:
    """What a finished cell says about itself. Measures are fractions in [0, 1], minutes and bytes of its training."""

    variant: str
    choices: dict[str, str]
    seed: int
    digest: str
    """Of the settings."""
    split: str
    images: int
    split_digest: str
    labels: tuple[str, ...]
    mean_ap: Measure
    class_f1: Measure
    overall_f1: Measure
    per_label_ap: tuple[Measure, ...]
    positives: tuple[int, ...]
    """Of each label, in the reporting split."""
    val_map: Measure
    best_epoch: int
    minutes: float
    peak_memory_bytes: int
    head_parameters: int
    backbone_parameters: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"format_version": FORMAT.version, **_RESULT.dump_python(self, mode="json")}


_RESULT = TypeAdapter(CellResult)


def prepare_cell(folder: Path, cell: Cell, evaluate: str) -> None:
    """Write what the cell's process reads; ``evaluate`` is the split that reports."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "settings.yaml", cell.settings.to_yaml())
    description = {"variant": cell.variant, "choices": dict(cell.choices), "digest": cell.digest, "evaluate": evaluate}
    write_json(folder / "cell.json", description)


def read_result(folder: Path) -> CellResult | None:
    """The result of a finished cell; None where it is not finished.

    Raises:
        DataError: the file is damaged or of another format.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        tree = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"the result of a run is damaged: {reason(error)}", str(path), FORMAT.make) from error
    return FORMAT.read(_RESULT, FORMAT.require(tree, str(path)), str(path))


def read_scores(folder: Path) -> np.ndarray:
    """Probabilities ``(n, L)`` of a finished cell, in the order of split and labels."""
    return _array(folder / SCORES, "scores")


def read_target(folder: Path) -> np.ndarray:
    """Targets ``(n, L)`` of average precision, in {1, 0, nan}, of the split that a finished cell was evaluated on."""
    return _array(folder / SCORES, "target")


def _array(path: Path, name: str) -> np.ndarray:
    try:
        return np.asarray(read_arrays(path, {name})[name], np.float64)
    except (OSError, ValueError, KeyError) as error:
        hint = "remove the folder; the run is done again"
        raise DataError(f"the scores of a run are damaged: {reason(error)}", str(path), hint) from error


def run_cell(folder: Path) -> CellResult:
    """Train, or continue, then evaluate; the result is written last of all."""
    from msrn.engine.run_folder import holds_state
    from msrn.engine.trainer import train

    description = parse_json((folder / "cell.json").read_bytes())
    run_folder = folder / "run"
    tree = read_settings_file(folder / "settings.yaml")
    tree["run"]["folder"] = str(run_folder)
    settings = load_settings(tree, str(folder / "settings.yaml"))
    trained = train(settings, resume=holds_state(run_folder))
    evaluation, model = _evaluate(folder, settings, description["evaluate"])
    metrics = evaluation.metrics
    result = CellResult(
        variant=description["variant"],
        choices=description["choices"],
        seed=settings.run.seed,
        digest=description["digest"],
        split=evaluation.data.split,
        images=evaluation.data.images,
        split_digest=evaluation.data.digest,
        labels=tuple(row.label for row in metrics.per_label),
        mean_ap=metrics.mean_ap,
        class_f1=metrics.all.class_f1,
        overall_f1=metrics.all.overall_f1,
        per_label_ap=tuple(row.ap for row in metrics.per_label),
        positives=tuple(row.positives for row in metrics.per_label),
        val_map=float("nan") if trained.val_map is None else trained.val_map,
        best_epoch=trained.best_epoch,
        minutes=trained.minutes,
        peak_memory_bytes=trained.peak_memory_bytes,
        head_parameters=sum(weight.numel() for weight in model.head.parameters()),
        backbone_parameters=sum(weight.numel() for weight in model.backbone.parameters()),
    )
    write_json(folder / RESULT, result.to_json())
    return result


def _evaluate(folder: Path, settings: Settings, split: str) -> tuple[Evaluation, MultiLabelClassifier]:
    """Evaluate the bundle at thresholds of 0.5, on cached features where it was trained on such; keep the scores."""
    from msrn.bundle.read import read_bundle
    from msrn.data.transforms import VIEWS
    from msrn.engine.distributed import launch
    from msrn.engine.evaluate import evaluate_scores
    from msrn.engine.feature_cache import cached_features
    from msrn.engine.scoring import score_split
    from msrn.engine.setup import read_split, split_targets

    fabric = launch(settings.run)
    bundle = read_bundle(folder / "run", precompute=False)
    model = bundle.model.to(fabric.device)
    manifest = read_split(settings, split, bundle.labels)
    images = None
    if settings.data.feature_cache:
        absent = manifest.targets("negative")
        views = VIEWS[bundle.preprocessing.views]
        cached = cached_features(manifest, absent, settings, model.backbone, bundle.preprocessing, fabric, views=views)
        images = cached.each_view()
    scores = score_split(model, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric, images=images)
    evaluation = evaluate_scores(scores, manifest, difficult=settings.data.difficult)
    write_json(folder / "evaluation.json", evaluation.to_json())
    target = split_targets(manifest, settings.data.difficult).ap.astype(np.float32)
    names = np.array([record.image for record in manifest.records])
    with atomic_path(folder / SCORES) as partial:
        np.savez_compressed(partial, scores=scores, target=target, labels=bundle.labels.names, images=names)
    return evaluation, model


def main(folder: Path) -> int:
    """The process of a cell: exit code 0, 2 with the message of one of our errors, or 130 if it was asked to stop."""
    from msrn.engine.trainer import Interrupted

    end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        run_cell(folder)
    except Interrupted:
        return 130
    except MsrnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
