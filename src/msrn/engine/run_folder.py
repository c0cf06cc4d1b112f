"""The run folder: what a run writes, and what it is resumed from.

settings.yaml      the resolved settings
log.jsonl          one event per line
last.pt            the state at the last checkpoint
metrics-val.json   figures of the best epoch on the validation split
bundle/            the classifier of the best epoch
"""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from msrn.bundle.metadata import Metadata
from msrn.bundle.write import repair_bundle, write_bundle
from msrn.config import Settings, load_settings, without_unknown
from msrn.engine.run_log import RunLog
from msrn.errors import BundleError, ConfigError, DataError, Problem
from msrn.files import atomic_path, remove_partial_files, write_atomically, write_json
from msrn.models.classifier import MultiLabelClassifier
from msrn.models.heads.base import LabelInputs

__all__ = ["RunFolder", "holds_state", "read_state"]

logger = logging.getLogger(__name__)

STATE_FILE = "last.pt"

MAY_CHANGE = {
    *("run.folder", "run.device", "run.checkpoint_minutes"),
    *("data.workers", "data.test", "data.cache", "preset"),
}
"""Settings that do not shape the result and may differ when a run is resumed."""

PLACES = {"data.root", "data.train", "data.val", "data.labels"}
"""Where the data is: may differ where the images and labels found there are the same."""


class RunFolder:
    """The files of one run. Only the first process writes; the methods do nothing on the others.

    Args:
        path: the folder.
        writes: whether this is the first process.
    """

    def __init__(self, path: Path, *, writes: bool) -> None:
        self.path = path
        self.writes = writes
        self.log = RunLog(None, keep_until=(-1, 0))

    @property
    def bundle(self) -> Path:
        """Where the bundle is, once an evaluation has kept one."""
        return self.path / "bundle"

    @property
    def state_file(self) -> Path:
        """The last checkpoint."""
        return self.path / STATE_FILE

    def require_empty(self) -> None:
        """Refuse a folder that is not empty: a new run writes over nothing.

        Raises:
            ConfigError: it holds a run, or anything else.
        """
        if holds_state(self.path):
            hint = "pass --resume to continue it, or another --run.folder"
            raise ConfigError("this folder already holds a run", str(self.path), hint)
        if self.path.is_dir():
            remove_partial_files(self.path)
        if self.path.is_dir() and (found := sorted(entry.name for entry in self.path.iterdir())):
            some = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            hint = "choose a new folder with --run.folder; nothing in this one was changed"
            raise ConfigError(f"expected an empty or new folder for the run, found {some}", str(self.path), hint)

    def load_state(self, settings: Settings) -> dict[str, Any]:
        """The state to resume from, on the CPU.

        Raises:
            BundleError: there is none, or the file is damaged.
            ConfigError: settings that shape the result differ from those of the run, all in one message. Settings that
                this version does not have, and its new ones where they have their defaults, are logged instead.
        """
        state = read_state(self.path)
        if self.writes:  # a process that was killed may have left parts of files
            remove_partial_files(self.path)
            repair_bundle(self.bundle)
        before, now = self._settings_of(state), _flat(settings.model_dump(mode="json"))
        problems = [
            Problem(
                f"{key} was {before.get(key)!r} in this run and is now {now.get(key)!r}",
                str(self.path),
                "to train longer, start a new run in another folder" if key == "optim.epochs" else "",
            )
            for key in {**now, **before}
            if key not in MAY_CHANGE | PLACES and before.get(key) != now.get(key)
        ]
        if problems:
            raise ConfigError.of(problems, "a resumed run must keep the settings that shape its result")
        return state

    def _settings_of(self, state: dict[str, Any]) -> dict[str, Any]:
        """The settings of the run by path, as this version has them; what another version changed is logged."""
        tree, gone = without_unknown(state["settings"])
        before = _flat(load_settings(tree, str(self.path)).model_dump(mode="json"))
        new = [f"{key} {value!r}" for key, value in before.items() if key not in _flat(tree)]
        for named, what in (
            (gone, "this version does not have, and which have no effect"),
            (new, "are new, by default"),
        ):
            if named and self.writes:
                logger.warning("another version of msrn began this run; settings that %s: %s", what, ", ".join(named))
        return before

    def require_same_data(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        """Refuse to resume on other labels or other splits than the run began with.

        Args:
            before: ``data`` of the saved state.
            now: the same of the data that the settings lead to.

        Raises:
            DataError: they differ; what differs is named.
        """
        problems = []
        lost, added = (
            [name for name in one["labels"] if name not in other["labels"]]
            for one, other in ((before, now), (now, before))
        )
        if lost or added:
            problems.append(Problem(f"the labels are others: lost {lost or 'none'}, new {added or 'none'}"))
        elif before["labels"] != now["labels"]:
            problems.append(Problem("the labels stand in another order"))
        for name in () if problems else ("train", "val"):  # other labels make every split another one
            one, other = before[name], now[name]
            if (one or {}).get("digest") != (other or {}).get("digest"):
                was, new = _described(one), _described(other)
                problems.append(Problem(f"the {name} split is another one: it was {was}, and is now {new}"))
        if problems:
            where = [Problem(each.message, str(self.path), "restore the data, or start a new run") for each in problems]
            raise DataError.of(where, "a resumed run must find the labels and images that it began with")

    def open_log(self, *, keep_until: tuple[int, int]) -> None:
        """Open the log; events of later steps and epochs than ``keep_until`` are dropped, as they will come again."""
        self.log = RunLog(self.path / "log.jsonl" if self.writes else None, keep_until=keep_until)

    def write_settings(self, settings: Settings) -> None:
        """Write ``settings.yaml``."""
        if self.writes:
            write_atomically(self.path / "settings.yaml", settings.to_yaml())

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by tensors and plain values."""
        if self.writes:
            # torch's own file writer says nothing of a full disk but that a position is unexpected.
            with atomic_path(self.state_file, parents=True) as partial, partial.open("wb") as file:
                torch.save(state, file)

    def write_metrics(self, metrics: Any) -> None:
        """Replace ``metrics-val.json``."""
        if self.writes:
            write_json(self.path / "metrics-val.json", metrics)

    def keep(self, model: MultiLabelClassifier, inputs: LabelInputs, metadata: Metadata) -> None:
        """Replace the bundle."""
        if self.writes:
            write_bundle(self.bundle, model, inputs, metadata)


def _described(split: dict[str, Any] | None) -> str:
    return f"{split['images']} images ({split['source']})" if split else "none"


def holds_state(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (folder / STATE_FILE).is_file()


def read_state(folder: Path) -> dict[str, Any]:
    """The last checkpoint of a run folder, on the CPU; ``settings`` holds the settings of the run.

    Raises:
        BundleError: there is none, or the file is damaged.
    """
    path = folder / STATE_FILE
    if not holds_state(folder):
        raise BundleError("expected the checkpoint of a run, found none", str(path), "start the run without --resume")
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(f"the checkpoint is damaged: {first}", str(path)) from error


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
