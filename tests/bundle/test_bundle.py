"""Bundles: complete, replaced as a whole, and clear about what is wrong with them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from msrn.bundle.metadata import read_metadata
from msrn.bundle.read import read_bundle
from msrn.bundle.split_images import is_among, read_split_images
from msrn.bundle.verify import file_digest
from msrn.bundle.write import repair_bundle, write_bundle
from msrn.config import Settings
from msrn.data.manifest import Record
from msrn.data.readers.table import read_table
from msrn.errors import BundleError, MsrnError, WeightsError
from msrn.models.label_semantics import PrecomputedSemantics

FILES = {"bundle.json", "model.safetensors", "label_inputs.safetensors"}  # those that prediction reads


@pytest.fixture
def bundle(tiny_run: Path, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(tiny_run / "bundle", tmp_path / "bundle"))


def edit(bundle: Path, **changes: Any) -> None:
    path = bundle / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(bundle: Path, name: str, state: dict[str, torch.Tensor]) -> None:
    """Replace a file of tensors, and the digest that guards it."""
    save_file(state, bundle / name)
    edit(bundle, files=read_metadata(bundle).files | {name: file_digest(bundle / name)})


def test_reading_a_bundle_draws_no_random_weights(tiny_run: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = read_bundle(tiny_run, precompute=False).model
    assert torch.equal(torch.get_rng_state(), before)
    file = load_file(tiny_run / "bundle" / "model.safetensors")
    assert model.state_dict().keys() == file.keys()
    assert all(torch.equal(value, file[name]) for name, value in model.state_dict().items())


def test_a_bundle_comes_back_as_it_was_written(tiny_run: Path, tmp_path: Path, tiny: Callable[..., Settings]) -> None:
    first = read_bundle(tiny_run, precompute=False)
    images = read_split_images(tiny_run / "bundle", first.metadata)
    write_bundle(tmp_path / "again", first.model, first.inputs, first.metadata, split_images=images)
    for name in (*FILES, "split_images.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_run / "bundle" / name).read_bytes()
    assert first.metadata.settings == tiny(tiny_run).model_dump(mode="json")
    assert first.preprocessing.size == 64
    assert len(first.labels) == len(first.thresholds) == 16
    assert not first.model.training
    assert not any(parameter.requires_grad for parameter in first.model.parameters())


def test_a_bundle_records_what_it_was_made_of(tiny_run: Path) -> None:
    metadata = read_metadata(tiny_run)
    evaluated = json.loads((tiny_run / "metrics-val.json").read_text())
    assert metadata.versions.keys() == {"msrn", "torch", "torchvision", "timm", "pillow"}
    assert {name: split.images for name, split in metadata.splits.items()} == {"train": 48, "val": 13}
    assert metadata.thresholds_split == metadata.splits["val"]
    assert metadata.splits["val"].digest == evaluated["data"]["digest"]
    assert metadata.metrics["mAP"] == evaluated["mAP"]
    assert metadata.epoch in (1, 2)
    assert metadata.precision == "32-true"
    assert "best F1 per label" in metadata.thresholds_chosen


def test_a_bundle_records_by_hashes_which_images_it_was_made_of(tiny_run: Path, bundle: Path, scenes: Path) -> None:
    images = read_split_images(bundle, read_metadata(bundle))
    labels = read_bundle(tiny_run).labels
    train, val, test = (read_table(scenes / f"{name}.csv", labels) for name in ("train", "val", "test"))
    assert [int(is_among(each, images["train"]).sum()) for each in (train, val, test)] == [48, 0, 0]
    assert [int(is_among(each, images["val"]).sum()) for each in (train, val, test)] == [0, 13, 0]
    moved = replace(train, root=Path("/elsewhere"))
    named = replace(train, root=Path(), records=tuple(Record(str(train.path(n))) for n in range(3)))
    assert is_among(moved, images["train"]).all()
    assert is_among(named, images["train"]).all()
    raw = (bundle / "split_images.safetensors").read_bytes()
    assert b"images/train" not in raw
    (bundle / "split_images.safetensors").unlink()
    assert read_bundle(bundle).labels  # prediction does not need it
    with pytest.raises(BundleError, match=r"found no split_images\.safetensors"):
        read_split_images(bundle, read_metadata(bundle))


def test_label_inputs_stand_under_names_of_the_bundles_own(tiny_run: Path) -> None:
    inputs = load_file(tiny_run / "bundle" / "label_inputs.safetensors")
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {"embeddings": (16, 300), "graph": (16, 16)}
    assert not any("embeddings" in name or "adjacency" in name for name in read_bundle(tiny_run).model.state_dict())


def test_a_precomputed_bundle_gives_the_same_logits(tiny_run: Path) -> None:
    ready, trainable = read_bundle(tiny_run).model, read_bundle(tiny_run, precompute=False).model
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert isinstance(ready.head.semantics, PrecomputedSemantics)
    assert torch.equal(ready(image).logits, trainable(image).logits)


def test_thresholds_are_bound_by_name(bundle: Path) -> None:
    before = read_bundle(bundle)
    edit(bundle, thresholds=dict(reversed(read_metadata(bundle).thresholds.items())))
    assert read_bundle(bundle).thresholds == before.thresholds


def test_a_bundle_is_replaced_as_a_whole(bundle: Path) -> None:
    read = read_bundle(bundle, precompute=False)
    (bundle / "stale.txt").write_text("left over")
    (bundle.parent / "bundle.partial").mkdir()  # a write that was cut short
    (bundle.parent / "bundle.old").mkdir()
    write_bundle(bundle, read.model, read.inputs, read.metadata)
    assert {path.name for path in bundle.iterdir()} == FILES
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_folder_that_is_no_bundle_is_never_replaced(bundle: Path, tmp_path: Path) -> None:
    read = read_bundle(bundle, precompute=False)
    own = tmp_path / "mine"
    own.mkdir()
    (own / "notes.txt").write_text("of the user")
    with pytest.raises(BundleError, match="expected a bundle or nothing here"):
        write_bundle(own, read.model, read.inputs, read.metadata)
    assert (own / "notes.txt").read_text() == "of the user"


def test_others_may_read_a_bundle_as_far_as_the_umask_allows(bundle: Path, tmp_path: Path) -> None:
    read = read_bundle(bundle, precompute=False)
    before = os.umask(0o027)
    try:
        write_bundle(tmp_path / "shared", read.model, read.inputs, read.metadata)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "shared").iterdir()} == {0o640}


def test_a_setting_that_only_training_reads_does_not_decide_whether_a_bundle_predicts(bundle: Path) -> None:
    settings = read_metadata(bundle).settings
    edit(bundle, settings=settings | {"optim": settings["optim"] | {"added_later": 3}}, added_later="x")
    assert read_bundle(bundle).labels


def test_a_bundle_leads_to_no_other_file(bundle: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("a line that must not be read")
    settings = read_metadata(bundle).settings
    head = settings["model"]["head"] | {"checkpoint": str(secret), "checkpoint_labels": str(secret)}
    settings |= {
        "labels": settings["labels"] | {"aliases": str(secret), "embeddings": str(secret)},
        "model": settings["model"] | {"head": head, "weights": str(secret)},
    }
    edit(bundle, settings=settings)
    secret.chmod(0)
    secret.unlink()
    assert read_bundle(bundle).labels  # opening any of them would fail


def test_weights_with_one_flipped_bit_are_refused(bundle: Path) -> None:
    path = bundle / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"not the file that bundle\.json was written for") as caught:
        read_bundle(bundle)
    assert caught.value.problems[0].where == str(path)
    assert "copy the whole folder again" in str(caught.value)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_bundle_without_one_of_its_files_says_which(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"found no {name}"):
        read_bundle(bundle)


def test_a_folder_that_holds_no_bundle_says_where_one_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(BundleError, match=r"expected a bundle(?s:.*)a run folder holds one"):
            read_bundle(place)


def test_a_bundle_of_a_later_version_asks_for_a_later_msrn(bundle: Path) -> None:
    edit(bundle, format_version=3)
    with pytest.raises(BundleError, match=r"format version 2, got msrn-bundle 3(?s:.*)the msrn version named"):
        read_bundle(bundle)


def test_a_bundle_of_another_kind_is_refused(bundle: Path) -> None:
    edit(bundle, format="another")
    with pytest.raises(BundleError, match="got another 2"):
        read_bundle(bundle)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"format": "msrn-bundle"}', "{half", "\x00"])
def test_metadata_that_cannot_be_read_is_called_damaged(bundle: Path, content: str) -> None:
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
        {"thresholds": {"sun": 2}},
        {"settings": {"optim": {"lr": -1}}},
        {"settings": {"model": {"head": {"name": "another"}}}},
        {"files": None},
        {"files": {}},
    ],
    ids=str,
)
def test_metadata_that_contradicts_itself_is_an_error_of_ours(bundle: Path, changes: dict[str, Any]) -> None:
    edit(bundle, **changes)
    with pytest.raises(MsrnError):
        read_bundle(bundle)


def test_labels_in_another_order_than_the_weights_were_trained_for_are_refused(bundle: Path) -> None:
    edit(bundle, labels=list(reversed(read_metadata(bundle).labels)))
    with pytest.raises(BundleError, match="labels"):
        read_bundle(bundle)


def test_weights_of_another_network_are_listed(bundle: Path) -> None:
    state = load_file(bundle / "model.safetensors")
    state["stray"] = state.pop("head.output_layer.bias")
    rewrite(bundle, "model.safetensors", state)
    with pytest.raises(WeightsError) as caught:
        read_bundle(bundle)
    assert "head.output_layer.bias" in str(caught.value)
    assert "stray" in str(caught.value)


def test_label_inputs_of_other_labels_are_refused(bundle: Path) -> None:
    inputs = load_file(bundle / "label_inputs.safetensors")
    rewrite(bundle, "label_inputs.safetensors", {name: value[:-1] for name, value in inputs.items()})
    with pytest.raises(BundleError, match="the bundle is damaged"):
        read_bundle(bundle)


@pytest.mark.parametrize("killed", ["while writing", "between the two renames", "before the old one was removed"])
def test_a_bundle_that_was_half_replaced_is_repaired(bundle: Path, killed: str) -> None:
    before = (bundle / "bundle.json").read_bytes()
    old, partial = bundle.with_name("bundle.old"), bundle.with_name("bundle.partial")
    match killed:
        case "while writing":
            partial.mkdir()
            (partial / "model.safetensors").write_bytes(b"half")
        case "between the two renames":
            shutil.copytree(bundle, partial)
            bundle.rename(old)
        case _:
            shutil.copytree(bundle, old)
    repair_bundle(bundle)
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
    assert (bundle / "bundle.json").read_bytes() == before
    assert read_bundle(bundle).labels
