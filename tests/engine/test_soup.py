"""Weight soups: means of weights, of bundles that belong together, without what belonged to one of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from msrn.bundle.metadata import Metadata, read_metadata
from msrn.bundle.read import read_bundle
from msrn.bundle.split_images import read_split_images
from msrn.bundle.write import write_bundle, write_metadata
from msrn.cli import main
from msrn.config import Settings
from msrn.engine.evaluate import evaluate
from msrn.engine.soup import average, make_soup
from msrn.engine.trainer import train
from msrn.errors import BundleError, ConfigError

Tiny = Callable[..., Settings]


@pytest.fixture
def bundles(tiny_run: Path, tmp_path: Path) -> list[str]:
    """A trained one; one close to it; and one whose weights are drawn anew."""
    folders = [str(tmp_path / name) for name in ("trained", "near", "spoiled")]
    for folder, noise in zip(folders, (0.0, 1e-3, 3.0), strict=True):
        shutil.copytree(tiny_run / "bundle", folder)
        if noise:
            change(folder, noise)
    return folders


def change(folder: str, noise: float) -> None:
    bundle, metadata = read_bundle(folder, precompute=False), read_metadata(folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in bundle.model.parameters():
            weight.add_(noise * torch.randn(weight.shape, generator=generator))
    images = read_split_images(Path(folder), metadata)
    write_bundle(Path(folder), bundle.model, bundle.inputs, metadata, split_images=images)


def states(folders: list[str]) -> list[dict[str, np.ndarray]]:
    return [
        {name: value.numpy() for name, value in read_bundle(folder, precompute=False).model.state_dict().items()}
        for folder in folders
    ]


def test_the_weights_of_a_soup_are_the_means_and_nothing_of_one_bundle_is_left(
    bundles: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_metadata(bundles[0])
    assert before.thresholds_split is not None
    assert main(["soup", *bundles, "--out", str(tmp_path / "soup")]) == 0
    out = capsys.readouterr().out
    assert "no tuned thresholds and no calibration" in out
    soup, parts = states([str(tmp_path / "soup")])[0], states(bundles)
    for name, value in soup.items():
        each = [part[name].astype(np.float64) for part in parts]
        np.testing.assert_allclose(value, sum(each) / 3, rtol=1e-6, atol=1e-7, err_msg=name)
    found = read_metadata(tmp_path / "soup")
    assert set(found.thresholds.values()) == {0.5}
    assert (found.thresholds_split, found.threshold_support, found.calibration, found.metrics) == (None, {}, None, {})
    assert found.soup == tuple(read_metadata(each).files["model.safetensors"] for each in bundles)
    assert found.splits == before.splits
    images = read_split_images(tmp_path / "soup", found)
    assert all(np.array_equal(images[name], own) for name, own in read_split_images(Path(bundles[0]), before).items())


def test_whole_numbers_are_not_averaged() -> None:
    found = average(
        [{"steps": torch.tensor(7), "x": torch.tensor([1.0])}, {"steps": torch.tensor(4), "x": torch.tensor([2.0])}]
    )
    assert (int(found["steps"]), float(found["x"])) == (7, 1.5)


def test_a_greedy_soup_leaves_out_what_makes_it_worse(
    bundles: list[str], tiny: Tiny, tmp_path: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data.root", str(scenes), "--data.val", "val"]
    order = [bundles[2], bundles[0], bundles[1]]
    assert main(["soup", *order, "--out", str(tmp_path / "soup"), "--greedy", "--run.device", "cpu", *data]) == 0
    out = capsys.readouterr().out

    def val_map(folder: str | Path, name: str) -> float:
        return evaluate(folder, tiny("unused"), out=tmp_path / name)[0].metrics.mean_ap

    alone = {folder: val_map(folder, f"{number}.json") for number, folder in enumerate(order)}
    whole = val_map(tmp_path / "soup", "soup.json")
    assert f"out   validation mAP {100 * alone[bundles[2]]:6.2f} %   {bundles[2]}" in out
    assert f"soup  validation mAP {100 * whole:6.2f} %" in out
    assert whole >= max(alone.values())
    assert bundles[2] not in [line.split()[-1] for line in out.splitlines() if line.startswith("in ")]
    assert read_metadata(tmp_path / "soup").metrics["mAP"] == pytest.approx(whole)


def test_bundles_that_do_not_belong_together_are_refused_by_what_differs(
    tiny: Tiny, tiny_run: Path, scenes: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(reversed((scenes / "labels.txt").read_text().splitlines())) + "\n")
    train(tiny(tmp_path / "other", data={"labels": str(labels)}, model={"head": "max_pool"}, optim={"epochs": 1}))
    with pytest.raises(BundleError) as caught:
        make_soup([str(tiny_run), str(tmp_path / "other")], tmp_path / "soup")
    told = " ".join(problem.message for problem in caught.value.problems)
    for what in ("labels", "network settings", "images of training", "label embeddings"):
        assert f"its {what}" in told
    assert not (tmp_path / "soup").exists()


@pytest.mark.parametrize(
    ("what", "edit"),
    [
        ("preprocessing", lambda old: {"preprocessing": old.preprocessing.model_copy(update={"resize": "crop"})}),
        ("images", lambda old: {"splits": {**old.splits, "val": old.splits["train"]}}),
    ],
)
def test_another_preprocessing_or_split_alone_is_refused(
    bundles: list[str], tmp_path: Path, what: str, edit: Callable[[Metadata], dict[str, object]]
) -> None:
    old = read_metadata(bundles[1])
    write_metadata(Path(bundles[1]), old.model_copy(update=edit(old)))
    with pytest.raises(BundleError, match=f"its {what}.* are not those of"):
        make_soup(bundles[:2], tmp_path / "soup")


def test_a_soup_of_one_or_over_something_or_with_data_that_it_does_not_read_is_refused(
    bundles: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="two or more different bundles"):
        make_soup([bundles[0], bundles[0]], tmp_path / "soup")
    with pytest.raises(ConfigError, match="expected a new folder"):
        make_soup(bundles, bundles[0])
    assert main(["soup", *bundles, "--out", str(tmp_path / "soup"), "--data.val", "val"]) == 2
    assert "--data.val is read with --greedy alone" in capsys.readouterr().err
