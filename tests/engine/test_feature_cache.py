"""Training on cached features gives what training on images gives, and a complete bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msrn.bundle.read import read_bundle
from msrn.config import Settings
from msrn.data.array_store import ArrayStore
from msrn.data.decode import open_image
from msrn.data.transforms import VIEWS, eval_transform
from msrn.engine.evaluate import evaluate
from msrn.engine.trainer import train
from msrn.errors import ConfigError
from msrn.inference.predictor import Predictor

FROZEN = {"model": {"freeze": -1}}


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["event"] == "epoch"]


def test_losses_and_bundle_are_those_of_training_on_images(tiny: Callable[..., Settings], tmp_path: Path) -> None:
    train(tiny(tmp_path / "images", **FROZEN))
    train(tiny(tmp_path / "features", data={"feature_cache": str(tmp_path / "cache")}, **FROZEN))
    # float16 keeps 11 bits of a feature.
    np.testing.assert_allclose(losses(tmp_path / "features"), losses(tmp_path / "images"), rtol=1e-3)
    ours, theirs = (read_bundle(tmp_path / name / "bundle").model for name in ("features", "images"))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for (name, mine), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        if name.startswith("backbone"):
            assert torch.equal(mine, other), name
    # The command reads the files: what holds on features holds on images.
    settings = tiny(tmp_path / "features", **FROZEN)
    evaluation, _ = evaluate(tmp_path / "features", settings, out=tmp_path / "metrics.json")
    expected = json.loads((tmp_path / "features" / "metrics-val.json").read_text())
    assert evaluation.metrics.mean_ap == pytest.approx(expected["mAP"], abs=0.01)


def test_a_second_run_computes_no_feature_again(
    tiny: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"feature_cache": str(tmp_path / "cache"), "augment": "flip"}
    train(tiny(tmp_path / "first", data=data, **FROZEN))
    images = 48 * 2 + 13  # both orientations of the training split, one of the other
    assert len(ArrayStore(tmp_path / "cache", np.float16)) == 3 * images
    added: list[bytes] = []
    monkeypatch.setattr(ArrayStore, "add", lambda self, key, array: added.append(key))
    train(tiny(tmp_path / "second", data=data, **FROZEN))
    assert not added
    assert losses(tmp_path / "first") == losses(tmp_path / "second")


def test_flipped_features_are_those_of_the_mirrored_image(tiny: Callable[..., Settings], tmp_path: Path) -> None:
    from msrn.engine.feature_cache import FeatureDataset, feature_recipe
    from msrn.engine.setup import build_setup

    data = {"feature_cache": str(tmp_path / "cache"), "augment": "flip"}
    settings = tiny(tmp_path / "run", data=data, **FROZEN)
    train(settings)
    setup = build_setup(settings)
    setup.model.load_state_dict(read_bundle(tmp_path / "run", precompute=False).model.state_dict())
    setup.model.eval()
    recipe = feature_recipe(setup.model.backbone, setup.preprocessing, settings.run.precision)
    images = FeatureDataset(
        setup.train, setup.train.targets("negative"), data["feature_cache"], recipe, maps=3, views=VIEWS["flip"]
    )
    images.open()
    assert not torch.equal(images[0]["image"][0], images.each_view()[1][0]["image"][0])
    image = eval_transform(setup.preprocessing)(open_image(setup.train.path(0)))
    with torch.inference_mode():
        plain, mirrored = (setup.model.backbone(image[None]) for image in (image, image.flip(2)))
    seen = set()
    for seed in range(20):
        maps = images[0, seed]["image"]
        for number, expected in enumerate((plain, mirrored)):
            if all(torch.allclose(a.float(), b[0], rtol=2e-3, atol=2e-3) for a, b in zip(maps, expected, strict=True)):
                seen.add(number)
    assert seen == {0, 1}


def test_views_are_averaged_alike_on_features_on_images_and_by_the_predictor(
    tiny: Callable[..., Settings], tmp_path: Path
) -> None:
    data = {"feature_cache": str(tmp_path / "cache"), "augment": "crops", "views": "crops"}
    settings = tiny(tmp_path / "run", data=data, optim={"epochs": 1}, **FROZEN)
    train(settings)
    cached = json.loads((tmp_path / "run" / "metrics-val.json").read_text())
    files = settings.model_copy(update={"data": settings.data.model_copy(update={"feature_cache": ""})})
    evaluation, path = evaluate(tmp_path / "run", files, out=tmp_path / "metrics.json")
    assert evaluation.metrics.mean_ap == pytest.approx(cached["mAP"], abs=0.01)
    with np.load(path.with_name("metrics-scores.npz")) as arrays:
        scores, image = arrays["scores"][3], str(arrays["images"][3])
    bundle = read_bundle(tmp_path / "run")
    decoded = open_image(Path(settings.data.root) / image)
    shown = torch.stack([eval_transform(bundle.preprocessing, view)(decoded) for view in VIEWS["crops"]])
    with torch.inference_mode():
        by_hand = bundle.model(shown).logits.mean(dim=0).double().sigmoid().numpy()  # of twelve views
    np.testing.assert_allclose(scores, by_hand, atol=1e-5)
    ranked = dict(Predictor(bundle)(Path(settings.data.root) / image).ranked)
    np.testing.assert_allclose([ranked[name] for name in bundle.labels.names], by_hand, atol=1e-5)


def test_unknown_targets_stay_unknown_on_cached_features(tiny: Callable[..., Settings], tmp_path: Path) -> None:
    from msrn.engine.distributed import make_fabric
    from msrn.engine.feature_cache import training_images
    from msrn.engine.setup import build_setup

    settings = tiny(tmp_path / "run", data={"feature_cache": str(tmp_path / "cache")}, **FROZEN)
    setup = build_setup(settings)
    records = [replace(record, positives=(), unknown=setup.labels.names[:3]) for record in setup.train.records[:9]]
    setup = replace(setup, train=replace(setup.train, records=tuple(records)))
    images, _ = training_images(setup, settings, setup.model.backbone, make_fabric(settings))
    for index in range(9):
        assert images[index]["target"].isnan().tolist() == [True] * 3 + [False] * 13


@pytest.mark.parametrize(("model", "data"), [({"freeze": 0}, {}), ({"freeze": -1}, {"augment": "light"})])
def test_features_that_would_change_are_refused(
    tiny: Callable[..., Settings], tmp_path: Path, model: dict[str, int], data: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"model\.freeze -1"):
        tiny(tmp_path, model=model, data={"feature_cache": "cache", **data})


def test_features_of_another_precision_are_not_taken(tiny: Callable[..., Settings], tmp_path: Path) -> None:
    data = {"feature_cache": str(tmp_path / "cache")}
    train(tiny(tmp_path / "full", data=data, optim={"epochs": 1}, **FROZEN))
    count = len(ArrayStore(tmp_path / "cache", np.float16))
    train(tiny(tmp_path / "mixed", data=data, optim={"epochs": 1}, run={"precision": "bf16-mixed"}, **FROZEN))
    assert len(ArrayStore(tmp_path / "cache", np.float16)) == 2 * count
