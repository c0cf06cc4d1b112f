"""The run folder: what a run writes, and what it is resumed from.

settings.yaml      the resolved settings
log.jsonl          one event per line
last.pt            the state at the last checkpoint
metrics-val.json   figures of the best epoch on the validation split
bundle/            the classifier of the best epoch
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from msrn.bundle.metadata import Metadata, SplitRecord
from msrn.bundle.write import package_versions, repair_bundle, try_to_write, write_bundle
from msrn.config import Settings, load_settings, without_unknown
from msrn.engine.run_log import RunLog
from msrn.errors import BundleError, ConfigError, Problem
from msrn.files import atomic_path, is_partial_file, remove_partial_files, write_atomically, write_json
from msrn.models.classifier import MultiLabelClassifier
from msrn.models.heads.base import LabelInputs
from msrn.models.state_files import read_torch

__all__ = ["RunFolder", "claim_default_folder", "holds_state", "read_state"]

logger = logging.getLogger(__name__)

STATE_FILE, STATE_VERSION = "last.pt", 1

MAY_CHANGE = {
    *("run.folder", "run.device", "run.checkpoint_minutes"),
    *("data.workers", "data.test", "data.cache", "preset"),
}
"""Settings that do not shape the result and may differ when a run is resumed."""

PLACES = {"data.root", "data.train", "data.val", "data.labels", "optim.distill.bundle"}
"""Where data and teacher are: may differ where what is found there is the same."""


def claim_default_folder(settings: Settings) -> str:
    """Create ``runs/<preset or reader>-<date and time>``; of runs that start in one second, each gets its own."""
    base = f"runs/{settings.preset or settings.data.reader.name}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while True:
        folder = Path(base if number == 1 else f"{base}-{number}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return str(folder)


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

    def require_usable(self, needed: int) -> None:
        """Refuse a folder that is not empty, or cannot hold a new run. Nothing is written.

        Args:
            needed: bytes that the run will write at most; 0: not yet known.

        Raises:
            ConfigError: it holds a run or anything else, cannot be written, or its disk is too small.
        """
        if holds_state(self.path):
            raise self._held()
        if self.path.is_dir() and (
            found := sorted(each.name for each in self.path.iterdir() if not is_partial_file(each))
        ):
            some = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            hint = "choose a new folder with --run.folder; nothing in this one was changed"
            raise ConfigError(f"expected an empty or new folder for the run, found {some}", str(self.path), hint)
        above = next(each for each in (self.path, *self.path.absolute().parents) if each.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            kind = "this folder cannot be written" if above.is_dir() else "expected a folder, found a file"
            raise ConfigError(kind, str(above), "choose another with --run.folder")
        free = shutil.disk_usage(above).free
        if needed > free:
            raise ConfigError(
                f"the run needs {_size(needed)} (checkpoint and bundle, each twice while one replaces the other), "
                f"{_size(free)} are free",
                str(self.path),
                "free some space, or choose a folder on another disk with --run.folder",
            )

    def load_state(self, settings: Settings) -> dict[str, Any]:
        """The state to resume from, on the CPU.

        Raises:
            BundleError: there is none, the file is damaged, or a later version wrote it.
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
        began, now_used = state.get("versions", {}), package_versions()
        if changed := [name for name, version in began.items() if now_used.get(name) != version]:
            told = ", ".join(f"{name} {began[name]}" for name in changed)
            logger.warning("the run began with %s: from here on, its numbers may differ in their last digits", told)
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

    def open_log(self, *, keep_until: tuple[int, int]) -> None:
        """Open the log; events of later steps and epochs than ``keep_until`` are dropped, as they will come again."""
        self.log = RunLog(self.path / "log.jsonl" if self.writes else None, keep_until=keep_until)

    def write_settings(self, settings: Settings) -> None:
        """Write ``settings.yaml``."""
        if self.writes:
            write_atomically(self.path / "settings.yaml", settings.to_yaml())

    def save_state(self, state: dict[str, Any], *, first: bool = False) -> None:
        """Replace the checkpoint by tensors and plain values. The first one makes the folder this run's own.

        Raises:
            ConfigError: it is the first one, and another run has written one since.
        """
        if not self.writes:
            return
        content = {"format_version": STATE_VERSION, "versions": package_versions(), **state}
        try:
            # torch's own file writer says nothing of a full disk but that a position is unexpected.
            with atomic_path(self.state_file, parents=True, new=first) as partial, partial.open("wb") as file:
                torch.save(content, file)
        except (FileExistsError, FileNotFoundError):
            if first and holds_state(self.path):
                raise self._held() from None
            raise
        if first:
            remove_partial_files(self.path)

    def write_metrics(self, metrics: Any) -> None:
        """Replace ``metrics-val.json``."""
        if self.writes:
            write_json(self.path / "metrics-val.json", metrics)

    def keep(
        self,
        model: MultiLabelClassifier,
        inputs: LabelInputs,
        metadata: Metadata,
        split_images: Mapping[str, np.ndarray],
    ) -> Metadata:
        """Replace the bundle; returns its metadata as written."""
        if not self.writes:
            return metadata
        return write_bundle(self.bundle, model, inputs, metadata, split_images=split_images)

    def try_bundle(self, model: MultiLabelClassifier, inputs: LabelInputs, metadata: Metadata) -> None:
        """Write a bundle and remove it. If that fails, the folder is left without a run.

        Raises:
            OSError and others: as ``write_bundle``.
        """
        if not self.writes:
            return
        try:
            try_to_write(self.bundle, model, inputs, metadata)
        except Exception:
            self.state_file.unlink()
            raise

    def _held(self) -> ConfigError:
        hint = f"msrn train --resume {self.path} continues it; or choose another --run.folder"
        return ConfigError("this folder already holds a run", str(self.path), hint)


def holds_state(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (folder / STATE_FILE).is_file()


def read_state(folder: Path) -> dict[str, Any]:
    """The last checkpoint of a run folder, on the CPU; ``settings`` holds the settings of the run.

    Raises:
        BundleError: there is none, the file is damaged, or a later version wrote it.
    """
    path = folder / STATE_FILE
    if not holds_state(folder):
        above = holds_state(folder.parent) and (folder.is_file() or folder.name == "bundle")
        hint = f"pass the run folder: --resume {folder.parent}" if above else "start the run without --resume"
        raise BundleError("expected the checkpoint of a run, found none", str(path), hint)
    try:
        state: Any = read_torch(path)
        state = dict(state)
    except (TypeError, ValueError) as error:
        raise BundleError(f"the checkpoint is damaged: {error}", str(path), "restore it, or start a new run") from error
    version = state.get("format_version", STATE_VERSION)  # the first checkpoints did not say
    if version != STATE_VERSION:
        hint = "resume with the version of msrn that wrote it, or start a new run"
        raise BundleError(f"expected a checkpoint of format version {STATE_VERSION}, got {version}", str(path), hint)
    if missing := [name for name in ("settings", "data", "progress", "model", "optimizer") if name not in state]:
        raise BundleError(f"expected the checkpoint of a run, found no {', '.join(missing)} in it", str(path))
    try:
        _Saved.model_validate(state)
    except ValidationError as error:
        first = error.errors()[0]
        message = f"the checkpoint is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise BundleError(message, str(path)) from error
    return state


class _Split(SplitRecord):
    """A split with the hashes of its images and of their labels, which the first checkpoints did not hold."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="ignore")

    images_hashed: torch.Tensor | None = None
    labels_hashed: torch.Tensor | None = None

    @model_validator(mode="after")
    def _hashes_fit(self) -> _Split:
        for tensor, shape in ((self.images_hashed, (self.images, 2)), (self.labels_hashed, (self.images,))):
            if tensor is not None and (tensor.dtype != torch.int64 or tensor.shape != shape):
                raise ValueError(f"expected hashes of shape {shape}, got {tuple(tensor.shape)} of {tensor.dtype}")
        return self


class _Data(BaseModel):
    labels: list[str]
    train: _Split
    val: _Split | None = None
    label_inputs: str = ""
    preprocessing: dict[str, JsonValue] = {}
    teacher: str = ""


class _Saved(BaseModel):
    """The parts of a checkpoint; ``Trainer`` and ``Learner`` check what is in their own."""

    settings: dict[str, JsonValue]
    data: _Data
    progress: dict[str, JsonValue]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    precision: dict[str, Any] = {}
    ema: dict[str, Any] = {}
    processes: int = 1
    versions: dict[str, str] = {}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"
