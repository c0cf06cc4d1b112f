"""Bundles and run states: complete, whole, and plain about what is wrong with them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from msrn.bundle.files import load_state, read_bundle, read_facts, save_state, write_bundle, write_json
from msrn.config import Settings
from msrn.errors import BundleError, MsrnError, WeightsError
from msrn.models.label_semantics import FoldedSemantics


@pytest.fixture
def bundle(tiny_run: Path, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(tiny_run / "bundle", tmp_path / "bundle"))


def edit(bundle: Path, **changes: Any) -> None:
    path = bundle / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_reading_a_bundle_draws_no_random_weights(tiny_run: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = read_bundle(tiny_run, fold=False).model
    assert torch.equal(torch.get_rng_state(), before)
    file = load_file(tiny_run / "bundle" / "model.safetensors")
    assert model.state_dict().keys() == file.keys()
    assert all(torch.equal(value, file[name]) for name, value in model.state_dict().items())


def test_a_bundle_comes_back_as_it_was_written(tiny_run: Path, tmp_path: Path, tiny: Callable[..., Settings]) -> None:
    first = read_bundle(tiny_run, fold=False)
    write_bundle(
        tmp_path / "again",
        first.model,
        labels=first.labels,
        preprocessing=first.preprocessing,
        thresholds=list(first.thresholds),
        settings=first.settings,
        facts={key: first.facts[key] for key in ("thresholds_chosen", "metrics", "epoch", "train_data", "label_side")},
    )
    for name in ("model.safetensors", "bundle.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_run / "bundle" / name).read_bytes()
    assert first.settings == tiny(tiny_run)
    assert first.preprocessing.size == 64
    assert len(first.labels) == len(first.thresholds) == 16
    assert not first.model.training
    assert not any(parameter.requires_grad for parameter in first.model.parameters())


def test_a_bundle_tells_what_it_was_made_of(tiny_run: Path) -> None:
    facts = read_facts(tiny_run)
    assert facts["versions"].keys() == {"msrn", "torch", "torchvision", "timm", "pillow"}
    assert facts["train_data"]["images"] == 48
    assert facts["metrics"]["mAP"] == json.loads((tiny_run / "metrics-val.json").read_text())["mAP"]
    assert facts["epoch"] in (1, 2)
    assert "validation" in facts["thresholds_chosen"]


def test_a_folded_bundle_gives_the_same_logits(tiny_run: Path) -> None:
    folded, open_ = read_bundle(tiny_run).model, read_bundle(tiny_run, fold=False).model
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert isinstance(folded.semantics, FoldedSemantics)
    assert torch.equal(folded(image).logits, open_(image).logits)


def test_thresholds_are_bound_by_name(bundle: Path) -> None:
    before = read_bundle(bundle)
    edit(bundle, thresholds=dict(reversed(read_facts(bundle)["thresholds"].items())))
    assert read_bundle(bundle).thresholds == before.thresholds


def test_a_bundle_is_replaced_as_a_whole(bundle: Path) -> None:
    read = read_bundle(bundle, fold=False)
    (bundle / "stale.txt").write_text("left over")
    (bundle.parent / "bundle.partial").mkdir()  # a write that was cut short
    (bundle.parent / "bundle.old").mkdir()
    write_bundle(
        bundle,
        read.model,
        labels=read.labels,
        preprocessing=read.preprocessing,
        thresholds=list(read.thresholds),
        settings=read.settings,
        facts={},
    )
    assert {path.name for path in bundle.iterdir()} == {"bundle.json", "model.safetensors"}
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_weights_with_one_flipped_bit_are_refused(bundle: Path) -> None:
    path = bundle / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"not those that bundle\.json was written for") as caught:
        read_bundle(bundle)
    assert caught.value.problems[0].where == str(path)
    assert "copy the whole folder again" in str(caught.value)


@pytest.mark.parametrize("name", ["bundle.json", "model.safetensors"])
def test_a_bundle_without_one_of_its_files_says_which(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"found no {name}"):
        read_bundle(bundle)


def test_what_is_no_bundle_at_all_says_where_one_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(BundleError, match=r"expected a bundle(?s:.*)a run folder holds one"):
            read_bundle(place)


def test_a_bundle_of_a_later_version_asks_for_a_later_msrn(bundle: Path) -> None:
    edit(bundle, format_version=2)
    with pytest.raises(BundleError, match=r"version 1 or earlier, got msrn-bundle 2(?s:.*)or a later one"):
        read_bundle(bundle)


def test_a_bundle_of_another_kind_is_refused(bundle: Path) -> None:
    edit(bundle, format="another")
    with pytest.raises(BundleError, match="got another 1"):
        read_bundle(bundle)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"format": "msrn-bundle"}', "{half", "\x00"])
def test_facts_that_cannot_be_read_are_called_damaged(bundle: Path, content: str) -> None:
    (bundle / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match="the bundle is damaged"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["sun", "sun"]},
        {"labels": []},
        {"labels": None},
        {"thresholds": {}},
        {"thresholds": {"sun": "high"}},
        {"preprocessing": {"size": 0}},
        {"settings": {"optim": {"lr": -1}}},
        {"weights_sha256": None},
    ],
    ids=str,
)
def test_facts_that_do_not_hold_are_an_error_of_ours(bundle: Path, changes: dict[str, Any]) -> None:
    edit(bundle, **changes)
    with pytest.raises(MsrnError):
        read_bundle(bundle)


def test_labels_in_another_order_than_the_weights_were_trained_for_are_refused(bundle: Path) -> None:
    edit(bundle, labels=list(reversed(read_facts(bundle)["labels"])))
    with pytest.raises(BundleError, match="labels"):
        read_bundle(bundle)


def test_weights_of_another_network_are_listed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = load_file(bundle / "model.safetensors")
    state["stray"] = state.pop("head.bias")
    save_file(state, bundle / "model.safetensors")
    monkeypatch.setattr("msrn.bundle.files._digest", lambda _path: read_facts(bundle)["weights_sha256"])
    with pytest.raises(WeightsError) as caught:
        read_bundle(bundle)
    assert "head.bias" in str(caught.value)
    assert "stray" in str(caught.value)


def test_a_state_is_written_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.pt"
    save_state(path, {"step": 3, "weights": torch.arange(3.0)})
    assert [entry.name for entry in path.parent.iterdir()] == ["last.pt"]
    found = load_state(path)
    assert found["step"] == 3
    assert torch.equal(found["weights"], torch.arange(3.0))


class Dangerous:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code from a checkpoint",)


def test_a_state_that_is_damaged_or_holds_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"weights": torch.arange(100.0)})
    whole = path.read_bytes()
    torch.save({"a": Dangerous()}, tmp_path / "code.pt")
    for content in (b"", b"no checkpoint", whole[: len(whole) // 2], (tmp_path / "code.pt").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="the checkpoint is damaged"):
            load_state(path)
    assert not capsys.readouterr().out


def test_not_a_number_is_not_written_as_json(tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "m.json", {"a": math.nan})
    assert json.loads((tmp_path / "m.json").read_text()) == {"a": 1}
