"""Does training on cached features learn what training on pictures would, and is its bundle whole?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msrn.bundle.files import read_bundle
from msrn.config import Settings
from msrn.data.array_store import ArrayStore
from msrn.engine.evaluate import evaluate_bundle
from msrn.engine.trainer import train
from msrn.errors import ConfigError

FROZEN = {"model": {"freeze": -1}}


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["event"] == "epoch"]


def test_losses_and_bundle_are_those_of_training_on_pictures(tiny: Callable[..., Settings], tmp_path: Path) -> None:
    train(tiny(tmp_path / "pictures", **FROZEN))
    train(tiny(tmp_path / "features", data={"feature_cache": str(tmp_path / "cache")}, **FROZEN))
    # float16 keeps 11 bits of a feature.
    np.testing.assert_allclose(losses(tmp_path / "features"), losses(tmp_path / "pictures"), rtol=1e-3)
    ours, theirs = (read_bundle(tmp_path / name / "bundle").model for name in ("features", "pictures"))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for (name, mine), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        if name.startswith("backbone"):
            assert torch.equal(mine, other), name
    # The command reads the files: what was judged on features holds on pictures.
    settings = tiny(tmp_path / "features", **FROZEN)
    metrics, _ = evaluate_bundle(tmp_path / "features", settings, out=tmp_path / "metrics.json")
    judged = json.loads((tmp_path / "features" / "metrics-val.json").read_text())
    assert metrics["mAP"] == pytest.approx(judged["mAP"], abs=0.01)


def test_a_second_run_computes_no_feature_again(
    tiny: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"feature_cache": str(tmp_path / "cache"), "augment": "flip"}
    train(tiny(tmp_path / "first", data=data, **FROZEN))
    pictures = 48 * 2 + 13  # both orientations of the training split, one of the other
    assert len(ArrayStore(tmp_path / "cache", np.float16)) == 3 * pictures
    added: list[bytes] = []
    monkeypatch.setattr(ArrayStore, "add", lambda self, key, array: added.append(key))
    train(tiny(tmp_path / "second", data=data, **FROZEN))
    assert not added
    assert losses(tmp_path / "first") == losses(tmp_path / "second")


def test_flipped_features_are_those_of_the_mirrored_picture(tiny: Callable[..., Settings], tmp_path: Path) -> None:
    from msrn.engine.feature_cache import FeatureDataset
    from msrn.engine.setup import build_task

    data = {"feature_cache": str(tmp_path / "cache"), "augment": "flip"}
    settings = tiny(tmp_path / "run", data=data, **FROZEN)
    train(settings)
    task = build_task(settings)
    task.model.load_state_dict(read_bundle(tmp_path / "run", fold=False).model.state_dict())
    task.model.eval()
    images = FeatureDataset(
        task.train, task.train.targets("negative"), data["feature_cache"], task.model.backbone, task.preprocessing,
        (False, True),
    )  # fmt: skip
    from msrn.data.transforms import eval_transform, open_image

    picture = eval_transform(task.preprocessing)(open_image(task.train.path(0)))
    with torch.inference_mode():
        plain, mirrored = (task.model.backbone(image[None]) for image in (picture, picture.flip(2)))
    seen = set()
    for seed in range(20):
        taps = images[0, seed]["image"]
        for number, expected in enumerate((plain, mirrored)):
            if all(torch.allclose(a.float(), b[0], rtol=2e-3, atol=2e-3) for a, b in zip(taps, expected, strict=True)):
                seen.add(number)
    assert seen == {0, 1}


def test_unknown_targets_stay_unknown_on_cached_features(tiny: Callable[..., Settings], tmp_path: Path) -> None:
    from msrn.engine.distributed import make_fabric
    from msrn.engine.feature_cache import training_pictures
    from msrn.engine.setup import build_task

    settings = tiny(tmp_path / "run", data={"feature_cache": str(tmp_path / "cache")}, **FROZEN)
    task = build_task(settings)
    records = [replace(record, positives=(), unknown=task.labels.names[:3]) for record in task.train.records[:9]]
    task = replace(task, train=replace(task.train, records=tuple(records)))
    images, _ = training_pictures(task, settings, task.model.backbone, make_fabric(settings))
    for index in range(9):
        assert images[index]["target"].isnan().tolist() == [True] * 3 + [False] * 13


@pytest.mark.parametrize(("model", "data"), [({"freeze": 0}, {}), ({"freeze": -1}, {"augment": "light"})])
def test_features_that_would_change_are_refused(
    tiny: Callable[..., Settings], tmp_path: Path, model: dict[str, int], data: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"model\.freeze -1"):
        tiny(tmp_path, model=model, data={"feature_cache": "cache", **data})
