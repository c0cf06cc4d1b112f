"""A run is a function of its settings, however often it is interrupted, and never touches what is not its own."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import STEPS, TRICKY, lines, result

from msrn.config import Settings
from msrn.engine import learner as learning
from msrn.engine import trainer as training
from msrn.engine.trainer import Interrupted, train
from msrn.errors import BundleError, ConfigError, DataError

Tiny = Callable[..., Settings]


class Crash(Exception):  # noqa: N818
    """Stands for the end of a process."""


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("plain", 2),
        ("plain", STEPS),
        ("plain", 2 * STEPS),
        ("EMA and accumulation", STEPS + 3),
        ("mixed images and SAM", STEPS + 3),
        ("sgd with worker processes", STEPS + 3),
    ],
)
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(
    tiny: Tiny,
    here: Path,
    whole: Callable[[str], dict[str, Any]],
    at_step: Callable[[int, Callable[[], None]], None],
    name: str,
    step: int,
) -> None:
    settings = tiny("run", **TRICKY[name])
    sign = signal.SIGINT if step % 2 else signal.SIGTERM
    at_step(step, lambda: os.kill(os.getpid(), sign))
    with pytest.raises(Interrupted):
        train(settings)
    assert lines(here)[-1] == {"event": "interrupted", "step": step}
    at_step(0, lambda: None)
    train(settings, resume=True)
    assert result(here) == whole(name)


def test_a_run_that_is_stopped_again_and_again_arrives_all_the_same(
    tiny: Tiny,
    here: Path,
    whole: Callable[[str], dict[str, Any]],
    at_step: Callable[[int, Callable[[], None]], None],
) -> None:
    name = "EMA and accumulation"
    settings = tiny("run", **TRICKY[name])
    for step in (1, 2, 5, STEPS, STEPS + 1, 2 * STEPS):
        at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(settings, resume=step > 1)
    train(settings, resume=True)
    assert result(here) == whole(name)
    train(settings, resume=True)  # nothing is left to do
    assert result(here) == whole(name)


@pytest.mark.parametrize(("method", "call"), [("evaluate_epoch", 1), ("_keep", 2), ("save", STEPS + 2), ("finish", 1)])
def test_a_run_that_dies_anywhere_goes_on_from_its_last_checkpoint(
    tiny: Tiny,
    here: Path,
    whole: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    call: int,
) -> None:
    original, calls = getattr(training.Trainer, method), iter(range(1, 1000))

    def dying(self: Any, *arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise Crash
        return original(self, *arguments, **options)

    every_step = {"checkpoint_minutes": 0}
    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, method, dying)
        with pytest.raises(Crash):
            train(tiny("run", run=every_step))
    train(tiny("run"), resume=True)
    found, expected = result(here), dict(whole("plain"))
    for key in ("settings.yaml", "bundle/bundle.json"):  # how often to save is told there too
        found[key] = found[key].replace(b"checkpoint_minutes: 0.0", b"checkpoint_minutes: 10.0")
        found[key] = found[key].replace(b'"checkpoint_minutes": 0.0', b'"checkpoint_minutes": 10.0')
    found["state"]["settings"] = expected["state"]["settings"]
    assert found == expected


def test_a_run_that_is_stopped_before_its_first_step_can_be_started_or_resumed(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "score", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tiny("run"))
    train(tiny("run"), resume=(here / "last.pt").exists())
    assert result(here) == whole("plain")


def test_a_run_whose_first_step_fails_can_be_resumed(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(learning.Learner, "step", lambda *_, **__: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            train(tiny("run"))
    train(tiny("run"), resume=True)
    assert result(here) == whole("plain")


def test_a_second_request_to_stop_ends_at_once(
    tiny: Tiny, here: Path, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    before = signal.getsignal(signal.SIGINT)

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(2, twice)
    with pytest.raises(KeyboardInterrupt):
        train(tiny("run"))
    assert signal.getsignal(signal.SIGINT) is before


def test_training_outside_the_main_thread_leaves_signals_alone(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]]
) -> None:
    thread = threading.Thread(target=train, args=(tiny("run"),))
    thread.start()
    thread.join()
    assert result(here) == whole("plain")


def test_a_resumed_run_refuses_every_setting_that_would_change_it(tiny: Tiny, tiny_run: Path) -> None:
    changed = tiny(tiny_run, optim={"lr": 0.1, "epochs": 9}, model={"head": {"width": 8}}, data={"augment": "light"})
    before = result(tiny_run)
    with pytest.raises(ConfigError) as caught:
        train(changed, resume=True)
    changed_settings = [problem.message.split(" ")[0] for problem in caught.value.problems]
    assert sorted(changed_settings) == ["data.augment", "model.head.width", "optim.epochs", "optim.lr"]
    assert "optim.lr was 0.003 in this run and is now 0.1" in str(caught.value)
    assert result(tiny_run) == before


def test_a_resumed_run_takes_settings_that_change_nothing(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]], at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        train(tiny("run"))
    train(tiny("run", data={"workers": 1, "test": ""}, run={"checkpoint_minutes": 3}), resume=True)
    assert result(here)["bundle/model.safetensors"] == whole("plain")["bundle/model.safetensors"]


def test_a_folder_that_holds_a_run_is_not_written_over(tiny: Tiny, tiny_run: Path) -> None:
    before = result(tiny_run)
    with pytest.raises(ConfigError, match=r"already holds a run(?s:.*)--resume"):
        train(tiny(tiny_run))
    assert result(tiny_run) == before


def test_resuming_where_nothing_is_says_so(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="found none"):
        train(tiny(tmp_path / "nothing"), resume=True)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("change", ["renamed", "fewer", "another order", "another validation image"])
def test_a_run_is_not_resumed_on_other_data(
    tiny: Tiny, here: Path, scenes: Path, at_step: Callable[[int, Callable[[], None]], None], change: str
) -> None:
    tables = {}
    for name in ("train", "val"):
        tables[name] = here.parent / f"{name}.csv"
        tables[name].write_text((scenes / f"{name}.csv").read_text().replace("images/", f"{scenes}/images/"))
    data = {"root": "", "train": str(tables["train"]), "val": str(tables["val"]), "test": ""}
    settings = tiny("run", data=data)
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(settings)
    at_step(0, lambda: None)
    before = result(here)
    lines_of = {name: table.read_text().splitlines(keepends=True) for name, table in tables.items()}
    match change:
        case "renamed":
            for table in tables.values():
                table.write_text(table.read_text().replace("sun", "zebra"))
            message = r"lost \['sun'\], new \['zebra'\]"
        case "fewer":
            tables["train"].write_text("".join(lines_of["train"][:-1]))
            message = "the train split is another one: it was 48 images .*, and is now 47 images"
        case "another order":
            tables["train"].write_text("".join([lines_of["train"][0], *reversed(lines_of["train"][1:])]))
            message = "the train split is another one"
        case _:
            tables["val"].write_text("".join(lines_of["val"][:-1]))
            message = "the val split is another one: it was 13 images"
    with pytest.raises(DataError, match=message) as caught:
        train(settings, resume=True)
    assert "start a new run" in str(caught.value)
    assert result(here) == before


def test_a_run_is_resumed_where_its_data_was_moved(
    tiny: Tiny, here: Path, scenes: Path, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    first, second = here.parent / "a", here.parent / "b"
    shutil.copytree(scenes, first)
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(tiny("run", data={"root": str(first)}))
    at_step(0, lambda: None)
    first.rename(second)
    assert train(tiny("run", data={"root": str(second)}), resume=True).best_epoch in (1, 2)


@pytest.mark.parametrize("there", ["notes.txt", "bundle", "settings.yaml"])
def test_a_folder_that_holds_anything_is_left_alone(tiny: Tiny, here: Path, there: str) -> None:
    here.mkdir()
    (here / there).write_text("of the user")
    with pytest.raises(ConfigError, match=f"expected an empty or new folder for the run, found {there}"):
        train(tiny("run"))
    assert [path.name for path in here.iterdir()] == [there]
    assert (here / there).read_text() == "of the user"


def test_a_log_that_was_torn_does_not_keep_a_run_from_resuming(
    tiny: Tiny, here: Path, whole: Callable[[str], dict[str, Any]], at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    at_step(STEPS + 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(tiny("run"))
    at_step(0, lambda: None)
    with (here / "log.jsonl").open("a") as file:
        file.write('{"event": "epoch", "ti')
    (here / "settings.yaml").unlink()
    train(tiny("run"), resume=True)
    found = result(here)
    found["settings.yaml"] = whole("plain")["settings.yaml"]  # written once, at the start
    assert found == whole("plain")
