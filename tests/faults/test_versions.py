"""Bundles and runs that earlier versions wrote: they predict, are evaluated and go on; what changed is named."""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_network  # noqa: F401 - the network of the stored runs
import torch

from msrn.cli import main
from msrn.config import Settings, without_unknown
from msrn.engine.run_folder import read_state
from msrn.errors import ConfigError
from msrn.inference.predictor import Predictor

STORED = sorted((Path(__file__).parents[1] / "fixtures").glob("format-*.tar.xz"))


@pytest.fixture(params=STORED, ids=lambda path: path.name)
def stored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is expected of a stored run, in whose folder the test stands."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return json.loads(Path("expected.json").read_text())


@pytest.fixture
def changed(stored: dict[str, Any]) -> dict[str, Any]:
    """The stored run as a version wrote it that had other settings: three more and two fewer."""

    def change(settings: dict[str, Any]) -> dict[str, Any]:
        settings["optim"] |= {"lookahead": 5}
        settings["loss"] |= {"sharpness": 2.0}
        settings["data"] |= {"prefetch": 4}
        del settings["data"]["eval_batch_size"], settings["optim"]["clip_norm"]
        return settings

    path = Path("run/bundle/bundle.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"settings": change(content["settings"])}))
    state = read_state(Path("run"))
    change(state["settings"])
    torch.save(state, "run/last.pt")
    return stored


def predicted() -> list[dict[str, float]]:
    images = sorted(Path("data/val").iterdir())
    return [dict(sorted(found.ranked)) for found in Predictor.load("run", device="cpu").predict(images)]


def evaluated() -> float:
    assert main(["evaluate", "run", "--out=figures.json"]) == 0
    return json.loads(Path("figures.json").read_text())["mAP"]


def resumed() -> float:
    assert main(["train", "--resume", "run"]) == 0
    events = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "epoch", "evaluate", "epoch", "evaluate", "end"]
    return events[-1]["val_mAP"]


def test_there_are_stored_runs_and_they_are_small() -> None:
    assert STORED
    assert sum(path.stat().st_size for path in STORED) < 300_000


def test_a_stored_bundle_gives_the_scores_that_were_recorded(stored: dict[str, Any]) -> None:
    for found, expected in zip(predicted(), stored["scores"], strict=True):
        assert found == pytest.approx(expected, abs=1e-5)  # float32 sums in another order


def test_a_stored_run_is_evaluated_and_goes_on(stored: dict[str, Any]) -> None:
    assert evaluated() == pytest.approx(stored["mAP"], abs=1e-6)
    assert resumed() == pytest.approx(stored["final mAP"], abs=0.02)  # other versions of libraries may add otherwise


def test_settings_that_come_and_go_keep_no_stored_run_from_being_used(
    changed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for found, expected in zip(predicted(), changed["scores"], strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    with caplog.at_level(logging.WARNING):
        assert evaluated() == pytest.approx(changed["mAP"], abs=1e-6)
        assert "settings that this version of msrn does not have: data.prefetch" in caplog.text
        caplog.clear()
        assert resumed() == pytest.approx(changed["final mAP"], abs=0.02)
    assert "does not have, and which have no effect: data.prefetch, loss.sharpness, optim.lookahead" in caplog.text
    new = next(line for line in caplog.messages if "are new, by default: " in line)
    assert "data.eval_batch_size 32" in new
    assert "optim.clip_norm 0.0" in new


def test_a_new_setting_is_refused_where_it_would_change_the_run(
    changed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", "run", "--optim.clip_norm=1"]) == 2
    assert "optim.clip_norm was 0.0 in this run and is now 1.0" in capsys.readouterr().err


def test_an_unknown_setting_of_the_model_is_an_error_that_names_it(stored: dict[str, Any]) -> None:
    """It may change what the network computes."""
    path = Path("run/bundle/bundle.json")
    content = json.loads(path.read_text())
    content["settings"]["model"]["head"]["temperature"] = 2.0
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"settings\.model\.head\.temperature"):
        Predictor.load("run")


def test_what_is_known_of_a_tree_is_kept_as_it_is(tiny: Callable[..., Settings]) -> None:
    tree = tiny("run", labels={"aliases": {"car": "auto", "data": "x"}}).model_dump(mode="json")
    assert without_unknown(tree) == (tree, [])
    assert without_unknown({**tree, "extra": {"a": 1}, "loss": "soft_margin"}) == (
        {**tree, "loss": "soft_margin"},
        ["extra"],
    )
