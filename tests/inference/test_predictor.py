"""Prediction: the same numbers through every door, in order, however many pictures there are."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from msrn.bundle.files import read_bundle
from msrn.data.transforms import eval_transform, open_image
from msrn.errors import BundleError, ConfigError, DataError
from msrn.inference.predictor import Picture, Prediction, Predictor, pictures_in
from msrn.ops import semantic_attention
from msrn.visualize.prediction_grid import contact_sheet


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> Predictor:
    return Predictor.load(tiny_run / "bundle")


@pytest.fixture
def folder(scenes: Path) -> Path:
    """Twelve pictures."""
    return scenes / "images" / "test"


@pytest.fixture
def picture(folder: Path) -> Path:
    return folder / "000003.jpg"


def test_a_prediction_ranks_every_label_by_the_networks_probability(
    predictor: Predictor, tiny_run: Path, picture: Path
) -> None:
    bundle = read_bundle(tiny_run, fold=False)
    with torch.inference_mode():
        image = eval_transform(bundle.preprocessing)(open_image(picture))[None]
        expected = bundle.model(image).logits.double().sigmoid()[0].tolist()
    found = predictor(picture)
    assert [pair[0] for pair in found.ranked] != list(bundle.labels)
    assert {name: found[name] for name in bundle.labels} == pytest.approx(
        dict(zip(bundle.labels, expected, strict=True))
    )
    values = [value for _, value in found.ranked]
    assert values == sorted(values, reverse=True)
    limits = dict(zip(bundle.labels, bundle.thresholds, strict=True))
    assert found.labels == tuple(name for name, value in found.ranked if value > limits[name])
    assert found.source == str(picture)
    assert found.error is None


def test_a_predictor_for_few_pictures_leaves_the_fused_kernel_out(
    predictor: Predictor, tiny_run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = sorted(folder.iterdir())[:4]
    expected = [dict(prediction.ranked) for prediction in predictor.predict(pictures)]
    asked: list[str] = []
    load = semantic_attention._loaded
    monkeypatch.setattr(semantic_attention, "_loaded", lambda form: asked.append(form) or load(form))
    few = [dict(prediction.ranked) for prediction in Predictor.load(tiny_run, few=True).predict(pictures)]
    assert not asked
    for found, wanted in zip(few, expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)
    list(Predictor.load(tiny_run).predict(pictures))
    assert asked  # so that the first half of this test can fail


def test_every_door_gives_the_same_probabilities(predictor: Predictor, picture: Path) -> None:
    opened = Image.open(picture)
    array = np.asarray(opened.convert("RGB"))
    doors: list[Picture] = [picture, str(picture), picture.read_bytes(), opened, opened.convert("RGBA"), array]
    expected = predictor(picture).ranked
    for door in doors:
        assert predictor(door).ranked == expected, type(door)
    together = [prediction.ranked for prediction in predictor.predict(doors)]
    for ranked in together:
        assert dict(ranked) == pytest.approx(dict(expected), abs=1e-6)  # float32 sums in batches of another size
    grey = np.full((20, 30), 128, np.uint8)
    assert predictor(grey).ranked == predictor(np.stack([grey] * 3, axis=2)).ranked


def test_one_picture_need_not_be_put_into_a_list(predictor: Predictor, picture: Path, folder: Path) -> None:
    expected = predictor(picture).ranked
    opened = open_image(picture)
    for door in (picture, str(picture), picture.read_bytes(), opened, np.asarray(opened)):
        assert [prediction.ranked for prediction in predictor.predict(door)] == [expected], type(door)
    assert len(list(predictor.predict(str(folder)))) == 12


def test_a_folder_is_not_taken_for_one_picture(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    for place in (folder, tmp_path):
        with pytest.raises(DataError, match=r"expected one picture, got a folder(?s:.*)predict"):
            predictor(place)


def test_pictures_are_turned_upright_as_their_exif_says(predictor: Predictor, tmp_path: Path, picture: Path) -> None:
    upright = Image.open(picture).convert("RGB").resize((64, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise when shown
    upright.save(tmp_path / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png")
    found = [predictor(tmp_path / f"{name}.png").ranked for name in ("upright", "turned", "lying")]
    assert found[0] == found[1] != found[2]


def test_folders_are_looked_into_in_order_of_names(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    paths = sorted(folder.iterdir())
    (tmp_path / "b").mkdir()
    for path, name in zip(paths, ("c.JPG", "b/z.jpg", "b/a.jpeg", "a.jpg"), strict=False):
        shutil.copy(path, tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "loop").symlink_to(tmp_path)
    names = ["a.jpg", "b/a.jpeg", "b/z.jpg", "c.JPG"]
    assert [path.relative_to(tmp_path).as_posix() for path in pictures_in(tmp_path)] == names
    found = [prediction.source for prediction in predictor.predict([paths[0], tmp_path])]
    assert found == [str(paths[0]), *(str(tmp_path / name) for name in names)]


def test_a_broken_picture_gives_a_row_with_its_error_and_the_rest_goes_on(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    paths = sorted(folder.iterdir())[:4]
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "cut.jpg").write_bytes(paths[0].read_bytes()[:600])
    floats = np.zeros((4, 4, 3), np.float32)
    mixed: list[Picture] = [
        paths[0], tmp_path / "broken.jpg", paths[1], tmp_path / "gone.jpg", b"", floats, tmp_path / "cut.jpg", paths[2]
    ]  # fmt: skip
    found = list(predictor.predict(mixed, batch_size=3))
    assert [prediction.error is None for prediction in found] == [True, False, True, False, False, False, False, True]
    assert "got something else" in (found[1].error or "")
    assert "found no file" in (found[3].error or "")
    assert found[5].source == "a picture in memory"
    assert "float32 (4, 4, 3)" in (found[5].error or "")
    assert found[1].labels == found[1].ranked == ()
    clean = list(predictor.predict([paths[0], paths[1], paths[2]], batch_size=3))
    assert [p.labels for p in found if not p.error] == [p.labels for p in clean]


def test_only_broken_pictures_are_told_one_by_one(predictor: Predictor, tmp_path: Path) -> None:
    found = list(predictor.predict([tmp_path / f"{n}.jpg" for n in range(5)], batch_size=2))
    assert [Path(prediction.source).name for prediction in found if prediction.error] == [f"{n}.jpg" for n in range(5)]


def test_a_single_broken_picture_is_an_error(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no file(?s:.*)gone\.jpg"):
        predictor(tmp_path / "gone.jpg")


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 16), (1.0, 0)])
def test_a_threshold_stands_in_for_those_of_the_bundle(
    tiny_run: Path, picture: Path, threshold: float, count: int
) -> None:
    assert len(Predictor.load(tiny_run, threshold=threshold)(picture).labels) == count


def test_what_cannot_be_is_refused(tiny_run: Path, tmp_path: Path, predictor: Predictor, picture: Path) -> None:
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            Predictor.load(tiny_run, threshold=threshold)
    with pytest.raises(BundleError):
        Predictor.load(tmp_path)
    with pytest.raises(ConfigError, match="at least 1"):
        list(predictor.predict([picture], batch_size=0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_a_device_that_is_not_there_is_named(tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match="no CUDA device was found"):
        Predictor.load(tiny_run, device="cuda")


def test_three_hundred_pictures_stream_at_most_two_batches_ahead(predictor: Predictor, picture: Path) -> None:
    content = picture.read_bytes()
    asked = 0

    def endless() -> Iterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield content

    batch = 16
    for done, prediction in enumerate(itertools.islice(predictor.predict(endless(), batch_size=batch), 300), start=1):
        assert prediction.error is None
        assert asked - (done - 1) <= 2 * batch
    assert asked < 300 + 2 * batch


def test_nothing_is_read_before_it_is_asked_for(predictor: Predictor) -> None:
    def never() -> Iterator[Picture]:
        raise AssertionError
        yield b""

    predictor.predict(never())
    assert list(predictor.predict([])) == []


def test_an_error_of_the_source_reaches_the_caller(predictor: Predictor, picture: Path) -> None:
    def short() -> Iterator[Picture]:
        yield picture
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(predictor.predict(short(), batch_size=1))


def test_worker_threads_keep_the_order(predictor: Predictor, folder: Path) -> None:
    paths: list[Any] = sorted(folder.iterdir()) * 3
    for workers in (0, 1, 8):
        found = [prediction.source for prediction in predictor.predict(paths, batch_size=5, workers=workers)]
        assert found == [str(path) for path in paths]


def test_a_contact_sheet_is_a_picture_of_pictures(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    predictions = list(predictor.predict([folder]))[:5]
    contact_sheet(predictions, [("sun",)] * 5, tmp_path / "sheet.png", columns=3)
    wide, high = open_image(tmp_path / "sheet.png").size
    assert wide > 600
    assert high > 400


def test_a_label_is_asked_for_by_name() -> None:
    prediction = Prediction("a.jpg", ("sun",), (("sun", 0.75), ("moon", 0.25)))
    assert prediction["moon"] == 0.25
    with pytest.raises(KeyError):
        prediction["star"]


def test_an_animation_counts_as_its_first_frame(predictor: Predictor, picture: Path) -> None:
    first = Image.open(picture).convert("P")
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=[Image.new("P", first.size)])
    assert predictor(content.getvalue()).ranked == predictor(first).ranked
