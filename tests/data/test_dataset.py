"""Loaders: what a batch holds depends on seed, epoch and step alone."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from msrn.data.dataset import ImageDataset, evaluation_loader, loader_processes, training_loader
from msrn.data.manifest import Manifest, Record
from msrn.data.transforms import Preprocessing, eval_transform, train_transform
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

COUNT = 23


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(root / f"{index}.png")
    records = tuple(Record(f"{index}.png", ("even",) if index % 2 == 0 else ()) for index in range(COUNT))
    return Manifest(records, LabelSpace(["even", "odd"]), "train", root)


@pytest.fixture(scope="module")
def images(manifest: Manifest) -> ImageDataset:
    return ImageDataset(manifest, train_transform(Preprocessing(size=8), "modern"), manifest.targets("positive"))


def epoch(images: ImageDataset, **changes: Any) -> list[dict[str, torch.Tensor]]:
    settings: dict[str, Any] = {"batch_size": 4, "seed": 3, "epoch": 1} | changes
    return list(training_loader(images, **settings))


def same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in ("image", "target", "index")
    )


def joined(parts: list[list[dict[str, torch.Tensor]]]) -> list[dict[str, torch.Tensor]]:
    """Batches of several processes or parts, put together step by step."""
    return [{key: torch.cat([part[key] for part in step]) for key in step[0]} for step in zip(*parts, strict=True)]


def test_a_batch_holds_images_targets_and_positions(images: ImageDataset) -> None:
    batches = epoch(images)
    assert len(batches) == COUNT // 4
    assert (batches[0]["image"].shape, batches[0]["image"].dtype) == ((4, 3, 8, 8), torch.float32)
    for batch in batches:
        even = (batch["index"] % 2 == 0).float()
        assert torch.equal(batch["target"], torch.stack([even, torch.zeros(4)], 1))
    seen = torch.cat([batch["index"] for batch in batches]).tolist()
    assert len(set(seen)) == len(seen) == 20
    assert seen != sorted(seen)


def test_worker_processes_change_nothing(images: ImageDataset) -> None:
    assert same(epoch(images, workers=2), epoch(images))


def test_what_a_worker_process_is_sent_gives_the_same_items(images: ImageDataset) -> None:
    dataset = training_loader(images, batch_size=4, seed=3, epoch=1).dataset
    copied = pickle.loads(pickle.dumps(dataset))  # as a worker gets it where processes do not fork
    assert torch.equal(copied[(5, 77)]["image"], dataset[(5, 77)]["image"])


@pytest.mark.parametrize(("world_size", "parts"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_parts_share_the_same_global_batches(images: ImageDataset, world_size: int, parts: int) -> None:
    ranks = [epoch(images, rank=rank, world_size=world_size, parts=parts) for rank in range(world_size)]
    assert all(len(batches) == parts * (COUNT // 4) for batches in ranks)
    together = joined([batches[part::parts] for part in range(parts) for batches in ranks])
    assert same(together, epoch(images))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_an_epoch_goes_on_exactly_where_it_was_left(images: ImageDataset, step: int, workers: int) -> None:
    assert same(epoch(images, start_step=step, workers=workers), epoch(images)[step:])


def test_steps_that_are_done_are_not_read_again(manifest: Manifest, tmp_path: Path) -> None:
    order = [int(index) for batch in epoch(_plain(manifest)) for index in batch["index"]]
    for index in set(range(COUNT)) - set(order[:8]):
        (tmp_path / f"{index}.png").write_bytes(manifest.path(index).read_bytes())
    partial = Manifest(manifest.records, manifest.labels, "train", tmp_path)
    rest = epoch(_plain(partial), start_step=2)
    assert [int(index) for batch in rest for index in batch["index"]] == order[8:]


def test_epochs_and_seeds_differ_in_order_and_in_augmentation(images: ImageDataset) -> None:
    first = epoch(images)
    for changes in ({"epoch": 2}, {"seed": 4}):
        other = epoch(images, **changes)
        assert not torch.equal(torch.cat([b["index"] for b in first]), torch.cat([b["index"] for b in other]))
        mine, theirs = _by_index(first), _by_index(other)
        assert not any(torch.equal(mine[index], theirs[index]) for index in set(mine) & set(theirs))


def test_loading_leaves_the_global_generators_alone(images: ImageDataset) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state()
    for workers in (0, 1):
        epoch(images, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.random() == np.random.RandomState(0).random()
    torch.manual_seed(1)
    assert same(epoch(images), epoch(images))


@pytest.mark.parametrize("world_size", [1, 2, 3, COUNT + 2])
def test_evaluation_sees_every_image_once_over_all_processes(manifest: Manifest, world_size: int) -> None:
    images = _plain(manifest)
    shards = [evaluation_loader(images, batch_size=4, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = [int(index) for shard in shards for batch in shard for index in batch["index"]]
    assert sorted(seen) == list(range(COUNT))


def test_evaluation_batches_hold_what_the_transform_gives(manifest: Manifest) -> None:
    images = _plain(manifest)
    one = list(evaluation_loader(images, batch_size=5))
    assert same(one, list(evaluation_loader(images, batch_size=5, workers=2)))
    assert [len(batch["index"]) for batch in one] == [5, 5, 5, 5, 3]
    assert torch.equal(one[1]["image"][0], images[5]["image"])


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_stop_the_loader_and_are_named(manifest: Manifest, tmp_path: Path, workers: int) -> None:
    for index in range(4):
        (tmp_path / f"{index}.png").write_bytes(manifest.path(index).read_bytes())
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "2.png").unlink()
    broken = Manifest(manifest.records[:4], manifest.labels, "train", tmp_path)
    with pytest.raises(DataError) as caught:
        list(evaluation_loader(_plain(broken), batch_size=4, workers=workers))
    assert [problem.where for problem in caught.value.problems] == [str(tmp_path / "1.png"), str(tmp_path / "2.png")]
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_unknown_targets_stay_unknown_in_every_batch(manifest: Manifest, workers: int) -> None:
    targets = np.random.default_rng(3).choice(np.array([0, 1, np.nan], np.float32), (COUNT, 2))
    assert np.isnan(targets).any()
    images = ImageDataset(manifest, eval_transform(Preprocessing(size=8)), targets)
    batches = list(training_loader(images, batch_size=4, seed=0, epoch=0, workers=workers))
    assert len(batches) == COUNT // 4
    for batch in batches:
        np.testing.assert_array_equal(batch["target"].numpy(), targets[batch["index"].numpy()])


def _plain(manifest: Manifest) -> ImageDataset:
    return ImageDataset(manifest, eval_transform(Preprocessing(size=8)), manifest.targets("positive"))


def _by_index(batches: list[dict[str, torch.Tensor]]) -> dict[int, torch.Tensor]:
    return {int(i): image for batch in batches for i, image in zip(batch["index"], batch["image"], strict=True)}


@pytest.mark.parametrize(
    ("gpu", "cores", "expected"), [(False, 2, 0), (False, 7, 0), (False, 64, 2), (True, 4, 4), (True, 64, 8)]
)
def test_processes_are_started_where_they_do_not_compete_with_training(
    monkeypatch: pytest.MonkeyPatch, images: ImageDataset, gpu: bool, cores: int, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert loader_processes() == expected
    one_each = evaluation_loader(images, batch_size=1, workers=-1)
    assert one_each.num_workers == min(expected, len(images))
    assert evaluation_loader(images, batch_size=1, workers=1).num_workers == 1
