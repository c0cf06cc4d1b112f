"""Prediction: the same numbers for every form of input, in order, however many images there are."""

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

from msrn.bundle.read import read_bundle
from msrn.data.decode import open_image
from msrn.data.image_files import image_files
from msrn.data.transforms import eval_transform
from msrn.errors import BundleError, ConfigError, DataError
from msrn.inference.predictor import ImageSource, Prediction, Predictor


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> Predictor:
    return Predictor.load(tiny_run / "bundle")


@pytest.fixture
def folder(scenes: Path) -> Path:
    """Twelve images."""
    return scenes / "images" / "test"


@pytest.fixture
def image(folder: Path) -> Path:
    return folder / "000003.jpg"


def test_a_prediction_ranks_every_label_by_the_networks_probability(
    predictor: Predictor, tiny_run: Path, image: Path
) -> None:
    bundle = read_bundle(tiny_run, precompute=False)
    with torch.inference_mode():
        tensor = eval_transform(bundle.preprocessing)(open_image(image))[None]
        expected = bundle.model(tensor).logits.double().sigmoid()[0].tolist()
    found = predictor(image)
    assert [pair[0] for pair in found.ranked] != list(bundle.labels)
    assert {name: found[name] for name in bundle.labels} == pytest.approx(
        dict(zip(bundle.labels, expected, strict=True))
    )
    values = [value for _, value in found.ranked]
    assert values == sorted(values, reverse=True)
    limits = dict(zip(bundle.labels, bundle.thresholds, strict=True))
    assert found.labels == tuple(name for name, value in found.ranked if value > limits[name])
    assert found.source == str(image)
    assert found.error is None


def test_a_predictor_leaves_the_bundle_as_it_is(tiny_run: Path, image: Path) -> None:
    bundle = read_bundle(tiny_run)
    before = {name: (value, value.stride()) for name, value in bundle.model.state_dict().items()}
    Predictor(bundle, optimize=True)(image)
    for name, value in bundle.model.state_dict().items():
        assert value.stride() == before[name][1]
        assert torch.equal(value, before[name][0])


def test_every_form_of_input_gives_the_same_probabilities(predictor: Predictor, image: Path) -> None:
    opened = Image.open(image)
    array = np.asarray(opened.convert("RGB"))
    forms: list[ImageSource] = [image, str(image), image.read_bytes(), opened, opened.convert("RGBA"), array]
    expected = predictor(image).ranked
    for form in forms:
        assert predictor(form).ranked == expected, type(form)
    together = [prediction.ranked for prediction in predictor.predict(forms)]
    for ranked in together:
        assert dict(ranked) == pytest.approx(dict(expected), abs=1e-6)  # float32 sums in batches of another size
    grey = np.full((20, 30), 128, np.uint8)
    assert predictor(grey).ranked == predictor(np.stack([grey] * 3, axis=2)).ranked


def test_one_image_need_not_be_put_into_a_list(predictor: Predictor, image: Path, folder: Path) -> None:
    expected = predictor(image).ranked
    opened = open_image(image)
    for form in (image, str(image), image.read_bytes(), opened, np.asarray(opened)):
        assert [prediction.ranked for prediction in predictor.predict(form)] == [expected], type(form)
    assert len(list(predictor.predict(str(folder)))) == 12


def test_a_folder_is_not_taken_for_one_image(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    for place in (folder, tmp_path):
        with pytest.raises(DataError, match=r"expected one image, got a folder(?s:.*)predict"):
            predictor(place)


def test_images_are_turned_upright_as_their_exif_says(predictor: Predictor, tmp_path: Path, image: Path) -> None:
    upright = Image.open(image).convert("RGB").resize((64, 40))
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
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "loop").symlink_to(tmp_path)
    names = ["a.jpg", "b/a.jpeg", "b/z.jpg", "c.JPG"]
    assert [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)] == names
    found = [prediction.source for prediction in predictor.predict([paths[0], tmp_path])]
    assert found == [str(paths[0]), *(str(tmp_path / name) for name in names)]


def test_a_broken_image_gives_a_row_with_its_error_and_the_rest_goes_on(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    paths = sorted(folder.iterdir())[:4]
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "cut.jpg").write_bytes(paths[0].read_bytes()[:600])
    floats = np.zeros((4, 4, 3), np.float32)
    mixed: list[ImageSource] = [
        paths[0], tmp_path / "broken.jpg", paths[1], tmp_path / "gone.jpg", b"", floats, tmp_path / "cut.jpg", paths[2]
    ]  # fmt: skip
    found = list(predictor.predict(mixed, batch_size=3))
    assert [prediction.error is None for prediction in found] == [True, False, True, False, False, False, False, True]
    assert "got something else" in (found[1].error or "")
    assert "found no file" in (found[3].error or "")
    assert found[5].source == "an image in memory"
    assert "float32 (4, 4, 3)" in (found[5].error or "")
    assert found[1].labels == found[1].ranked == ()
    clean = list(predictor.predict([paths[0], paths[1], paths[2]], batch_size=3))
    assert [p.labels for p in found if not p.error] == [p.labels for p in clean]


def test_only_broken_images_are_reported_one_by_one(predictor: Predictor, tmp_path: Path) -> None:
    found = list(predictor.predict([tmp_path / f"{n}.jpg" for n in range(5)], batch_size=2))
    assert [Path(prediction.source).name for prediction in found if prediction.error] == [f"{n}.jpg" for n in range(5)]


def test_a_single_broken_image_is_an_error(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no file(?s:.*)gone\.jpg"):
        predictor(tmp_path / "gone.jpg")


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 16), (1.0, 0)])
def test_a_threshold_stands_in_for_those_of_the_bundle(
    tiny_run: Path, image: Path, threshold: float, count: int
) -> None:
    assert len(Predictor.load(tiny_run, threshold=threshold)(image).labels) == count


def test_what_cannot_be_is_refused(tiny_run: Path, tmp_path: Path, predictor: Predictor, image: Path) -> None:
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            Predictor.load(tiny_run, threshold=threshold)
    with pytest.raises(BundleError):
        Predictor.load(tmp_path)
    with pytest.raises(ConfigError, match="at least 1"):
        list(predictor.predict([image], batch_size=0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_a_device_that_is_not_there_is_named(tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match="no CUDA device was found"):
        Predictor.load(tiny_run, device="cuda")


def test_three_hundred_images_stream_at_most_two_batches_ahead(predictor: Predictor, image: Path) -> None:
    content = image.read_bytes()
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
    def never() -> Iterator[ImageSource]:
        raise AssertionError
        yield b""

    predictor.predict(never())
    assert list(predictor.predict([])) == []


def test_an_error_of_the_source_reaches_the_caller(predictor: Predictor, image: Path) -> None:
    def short() -> Iterator[ImageSource]:
        yield image
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(predictor.predict(short(), batch_size=1))


def test_worker_threads_keep_the_order(predictor: Predictor, folder: Path) -> None:
    paths: list[Any] = sorted(folder.iterdir()) * 3
    for workers in (0, 1, 8):
        found = [prediction.source for prediction in predictor.predict(paths, batch_size=5, workers=workers)]
        assert found == [str(path) for path in paths]


def test_a_label_is_asked_for_by_name() -> None:
    prediction = Prediction("a.jpg", ("sun",), (("sun", 0.75), ("moon", 0.25)))
    assert prediction["moon"] == 0.25
    with pytest.raises(KeyError):
        prediction["star"]


def test_an_animation_counts_as_its_first_frame(predictor: Predictor, image: Path) -> None:
    first = Image.open(image).convert("P")
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=[Image.new("P", first.size)])
    assert predictor(content.getvalue()).ranked == predictor(first).ranked
