"""Mixed images and targets are those of a loop over pixels and labels, drawn anew from the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from msrn import registry
from msrn.config import load_settings
from msrn.data.mixes.base import Mix
from msrn.errors import ConfigError

NAN = float("nan")
COUNT, HEIGHT, WIDTH, LABELS = 8, 10, 13, 6


def build(name: str, **options: object) -> Mix:
    chosen = registry.options_class("mix", name).model_validate({"name": name, **options})
    mix: Mix = registry.load("mix", name)(chosen)
    return mix


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, 12])


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(COUNT, 3, HEIGHT, WIDTH, generator=generator)
    target = (torch.rand(COUNT, LABELS, generator=generator) > 0.6).float()
    target[torch.rand(COUNT, LABELS, generator=generator) > 0.8] = NAN
    return image.to(memory_format=torch.channels_last), target


def source(found: Tensor, image: Tensor) -> list[int]:
    """For each pixel of an image ``(3, H, W)`` the position of the image of the batch that holds it there."""
    return [
        next(n for n in range(COUNT) if torch.equal(image[n, :, y, x], found[:, y, x]))
        for y in range(HEIGHT)
        for x in range(WIDTH)
    ]


def mixture(one: float, other: float, share: float) -> float:
    return NAN if math.isnan(one) or math.isnan(other) else share * one + (1 - share) * other


@pytest.mark.parametrize("name", registry.names("mix"))
def test_a_mix_depends_on_its_draws_alone_and_leaves_what_it_was_given(name: str, batch: tuple[Tensor, Tensor]) -> None:
    image, target = batch
    kept = image.clone(), target.clone()
    torch.manual_seed(1)
    first = build(name)(image, target, draws())
    torch.manual_seed(2)
    again = build(name)(image, target, draws())
    assert torch.equal(kept[0], image)
    assert torch.equal(kept[1].nan_to_num(9.0), target.nan_to_num(9.0))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].nan_to_num(9.0), again[1].nan_to_num(9.0))
    other = build(name)(image, target, draws(1))
    assert torch.equal(first[0], other[0]) == (name == "none")
    assert len(first[0]) == len(first[1])


def test_mixup_is_the_sum_of_two_images_and_of_their_targets(batch: tuple[Tensor, Tensor]) -> None:
    image, target = batch
    mixed, targets = build("mixup", alpha=1.0)(image, target, draws())
    rng = draws()
    rng.random()
    share, order = rng.beta(1, 1), rng.permutation(COUNT)
    assert 0.05 < share < 0.95
    for n, other in enumerate(order):
        torch.testing.assert_close(mixed[n], image[n] * share + image[int(other)] * (1 - share))
        expected = [mixture(float(a), float(b), share) for a, b in zip(target[n], target[int(other)], strict=True)]
        assert targets[n].tolist() == pytest.approx(expected, nan_ok=True)
    assert bool(((targets > 0) & (targets < 1)).any())


def test_mixup_mixes_every_feature_map_alike() -> None:
    maps = [torch.eye(COUNT).view(COUNT, COUNT, 1, 1), 3 * torch.eye(COUNT).view(COUNT, COUNT, 1, 1)]
    target = torch.eye(COUNT)
    mixed, targets = build("mixup", alpha=1.0)(maps, target, draws())
    assert isinstance(mixed, list)
    torch.testing.assert_close(mixed[0][:, :, 0, 0], targets)
    torch.testing.assert_close(mixed[1], 3 * mixed[0])


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_targets_have_the_shares_of_the_pixels(batch: tuple[Tensor, Tensor], seed: int) -> None:
    image, target = batch
    mixed, targets = build("cutmix")(image, target, draws(seed))
    for n in range(COUNT):
        sources = source(mixed[n], image)
        others = set(sources) - {n}
        assert len(others) <= 1
        share = sources.count(n) / len(sources)
        other = others.pop() if others else None
        if other is not None:
            expected = [mixture(float(a), float(b), share) for a, b in zip(target[n], target[other], strict=True)]
            assert targets[n].tolist() == pytest.approx(expected, nan_ok=True)
            box = np.array([place != n for place in sources]).reshape(HEIGHT, WIDTH)
            ys, xs = np.nonzero(box)
            assert box[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].all()


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_micro_batch_is_mixed_as_often_as_asked(name: str, batch: tuple[Tensor, Tensor]) -> None:
    image, target = batch
    mix = build(name, probability=0.3)
    left = sum(mix(image, target, draws(seed))[0] is image for seed in range(400))
    assert left == pytest.approx(280, abs=4 * math.sqrt(400 * 0.3 * 0.7))  # four standard deviations


def union(values: list[float]) -> float:
    return 1.0 if 1.0 in values else NAN if any(map(math.isnan, values)) else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_splicemix_adds_grids_whose_labels_are_those_of_their_images(seed: int) -> None:
    flat = torch.arange(1.0, COUNT + 1).view(COUNT, 1, 1, 1).expand(COUNT, 3, HEIGHT, WIDTH)  # one colour each
    generator = torch.Generator().manual_seed(seed)
    target = torch.tensor([0.0, 1.0, NAN])[torch.randint(3, (COUNT, LABELS), generator=generator)]
    mixed, targets = build("splicemix", share=0.5)(flat, target, draws(seed))
    assert (mixed.shape, targets.shape) == ((COUNT + 4, 3, HEIGHT, WIDTH), (COUNT + 4, LABELS))
    assert torch.equal(mixed[:COUNT], flat)
    assert torch.equal(targets[:COUNT].nan_to_num(9.0), target.nan_to_num(9.0))
    for grid, labels in zip(mixed[COUNT:], targets[COUNT:], strict=True):
        inside = [int(value) - 1 for value in grid[0].round().unique()]
        assert len(inside) in (2, 4)
        counts = torch.unique(grid[0].round(), return_counts=True)[1]
        assert counts.sum() == HEIGHT * WIDTH
        assert counts.min() >= (HEIGHT // 2) * (WIDTH // 2)
        expected = [union([float(target[n, label]) for n in inside]) for label in range(LABELS)]
        assert labels.tolist() == pytest.approx(expected, nan_ok=True)


def test_a_cell_of_a_grid_is_its_image_made_smaller() -> None:
    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.random((4, 3, 32, 32), np.float32))
    mixed, _ = build("splicemix")(image, torch.eye(4), draws())
    grid = mixed[4]
    halves = [
        np.stack([np.array(Image.fromarray(channel).resize((16, 16), Image.Resampling.BILINEAR)) for channel in each])
        for each in image.numpy()
    ]
    cells = [grid[:, y : y + 16, x : x + 16].numpy() for y in (0, 16) for x in (0, 16)]
    found = [min(np.abs(cell - half).max() for half in halves) for cell in cells]
    assert max(found) < 1e-5


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_soft_targets_and_a_loss_of_sets_are_refused_with_the_settings(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"optim\.mix {name} makes targets between 0 and 1.*two_way"):
        load_settings({"optim": {"mix": name}, "loss": "two_way"})
    load_settings({"optim": {"mix": "splicemix"}, "loss": "two_way"})
    load_settings({"optim": {"mix": name}, "loss": "asl"})


@pytest.mark.parametrize("name", ["mixup", "cutmix", "splicemix"])
def test_a_micro_batch_of_one_image_is_refused_as_it_has_no_partner(name: str) -> None:
    with pytest.raises(ConfigError, match="mixes the images of a micro-batch, which holds one"):
        load_settings({"optim": {"mix": name, "accumulate": 8}, "data": {"batch_size": 8}})
    load_settings({"optim": {"mix": name, "accumulate": 4}, "data": {"batch_size": 8}})
    load_settings({"optim": {"accumulate": 8}, "data": {"batch_size": 8}})


@pytest.mark.parametrize("name", ["cutmix", "splicemix"])
def test_features_in_place_of_images_are_refused_where_pixels_are_mixed(name: str) -> None:
    cached = {"data": {"feature_cache": "features", "augment": "none"}, "model": {"freeze": -1}}
    with pytest.raises(ConfigError, match=f"optim.mix {name} mixes pixels"):
        load_settings({**cached, "optim": {"mix": name}})
    load_settings({**cached, "optim": {"mix": "mixup"}})
