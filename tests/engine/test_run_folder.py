"""The run folder: claimed by one run, checked before anything is written, refused where another version wrote it."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import STEPS, lines, result

from msrn.bundle import write as bundle_writing
from msrn.config import Settings
from msrn.engine import run_folder, scoring
from msrn.engine.run_folder import RunFolder, claim_default_folder
from msrn.engine.trainer import Interrupted, Trainer, train
from msrn.errors import BundleError, ConfigError, DataError

Tiny = Callable[..., Settings]
Usage = namedtuple("Usage", "total used free")


def test_runs_that_start_in_one_second_get_folders_of_their_own(tiny: Tiny, here: Path) -> None:
    settings = tiny("").model_copy(update={"preset": "mine"})
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(claim_default_folder(settings))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8
    assert all(Path(folder).is_dir() and folder.startswith("runs/mine-") for folder in found)


def test_training_without_a_folder_makes_one_and_records_it(tiny: Tiny, here: Path) -> None:
    (here.parent / "notes.txt").write_text("of the user")
    trained = train(tiny("", optim={"epochs": 1}))
    assert trained.folder.parent == Path("runs")
    assert torch.load(trained.folder / "last.pt")["settings"]["run"]["folder"] == str(trained.folder)
    assert sorted(path.name for path in here.parent.iterdir()) == ["notes.txt", "runs"]


def test_of_two_runs_that_choose_one_folder_the_second_is_refused(tiny: Tiny, here: Path) -> None:
    first, second = (RunFolder(here, writes=True) for _ in range(2))
    for folder in (first, second):
        folder.require_usable(0)  # both find it empty
    first.save_state({"whose": "first"}, first=True)
    with pytest.raises(ConfigError, match="already holds a run"):
        second.save_state({"whose": "second"}, first=True)
    assert torch.load(here / "last.pt")["whose"] == "first"
    assert [path.name for path in here.iterdir()] == ["last.pt"]


def test_a_disk_that_is_too_small_is_found_before_anything_is_written(
    tiny: Tiny, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: Usage(9, 9, 2**20))
    with pytest.raises(ConfigError, match=r"the run needs [\d.]+ MiB .*, 1\.0 MiB are free(?s:.*)--run\.folder"):
        train(tiny("run"))
    assert not here.exists()


def test_a_run_needs_no_more_space_than_it_says(tiny: Tiny, here: Path) -> None:
    run = Trainer(tiny("run", optim={"ema": 0.9}), resume=False)
    checkpoint, bundle = run.learner.bytes_on_disk()
    run.train_epoch(0, threading.Event())
    run.evaluate_epoch(0, threading.Event())
    run.save()
    assert 0.9 < (here / "last.pt").stat().st_size / checkpoint < 1.3  # names and hashes are not counted
    assert 0.9 < (here / "bundle" / "model.safetensors").stat().st_size / bundle < 1.3


def test_a_bundle_that_cannot_be_written_stops_a_run_before_its_first_step(
    tiny: Tiny, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("these tensors cannot be saved")

    with monkeypatch.context() as patch:
        patch.setattr(bundle_writing, "save_file", fails)
        with pytest.raises(RuntimeError, match="cannot be saved"):
            train(tiny("run"))
    assert list(here.iterdir()) == []
    Trainer(tiny("run"), resume=False)  # the same command works once the cause is gone
    assert not (here / "bundle").exists()


def test_a_file_where_the_folder_should_be_is_refused(tiny: Tiny, here: Path) -> None:
    here.write_text("a file")
    with pytest.raises(ConfigError, match="expected a folder, found a file"):
        train(tiny("run"))


def test_a_checkpoint_of_another_version_or_kind_is_refused(tiny: Tiny, tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    state = torch.load(run / "last.pt")
    for content, message in (
        ({**state, "format_version": 9}, "format version 1, got 9"),
        ({"model": {}}, "found no settings, data, progress, optimizer in it"),
        ([1, 2], "damaged"),
    ):
        torch.save(content, run / "last.pt")
        with pytest.raises(BundleError, match=message):
            train(tiny(run), resume=True)


def test_versions_and_processes_that_differ_are_told(
    tiny: Tiny, tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    state = torch.load(run / "last.pt")
    torch.save({**state, "versions": state["versions"] | {"timm": "0.1"}, "processes": 2}, run / "last.pt")
    train(tiny(tiny_run).model_copy(update={"run": tiny(run).run}), resume=True)
    assert "the run began with timm 0.1" in caplog.text
    assert "the run began with 2 processes and goes on with 1" in caplog.text


def test_label_embeddings_and_preprocessing_that_changed_are_refused(
    tiny: Tiny, tiny_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    state = torch.load(run / "last.pt")
    changed = {"label_inputs": "0" * 64, "preprocessing": state["data"]["preprocessing"] | {"interpolation": "nearest"}}
    torch.save({**state, "data": state["data"] | changed}, run / "last.pt")
    with pytest.raises(DataError) as caught:
        train(tiny(run), resume=True)
    assert [problem.message for problem in caught.value.problems] == [
        "the label embeddings or the label graph are others",
        "images would be preprocessed in another way: interpolation",
    ]


@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_what_a_scheduler_or_a_terminal_sends_saves_the_run(
    tiny: Tiny, here: Path, at_step: Callable[[int, Callable[[], None]], None], sign: signal.Signals
) -> None:
    at_step(2, lambda: os.kill(os.getpid(), sign))
    with pytest.raises(Interrupted):
        train(tiny("run"))
    assert lines(here)[-1] == {"event": "interrupted", "step": 2}


def test_a_hang_up_that_is_ignored_stays_ignored(
    tiny: Tiny, here: Path, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        at_step(2, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert train(tiny("run", optim={"epochs": 1})).best_epoch == 1
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_request_during_evaluation_does_not_wait_for_its_end(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = scoring.on_device, iter(range(1, 1000))

    def asked(*arguments: Any) -> Any:
        if next(calls) == 3:  # the first two are those of the rehearsal
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(*arguments)

    settings = tiny("run", data={"eval_batch_size": 8})
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "on_device", asked)
        with pytest.raises(Interrupted):
            train(settings)
    assert lines(here)[-1] == {"event": "interrupted", "step": STEPS}
    assert not lines(here, "evaluate")
    train(settings, resume=True)
    assert result(here)["log"] == whole("plain")["log"]
    assert result(here)["bundle/model.safetensors"] == whole("plain")["bundle/model.safetensors"]
