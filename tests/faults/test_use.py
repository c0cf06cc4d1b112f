"""A predictor wherever programs put one: threads, event loops, other processes, copies; and for a long time."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import pickle
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from many_predictions import choosing, predicting

from msrn.bundle.read import read_bundle
from msrn.inference.predictor import Prediction, Predictor

LONG = "MSRN_KILLS" in os.environ
"""``make faults`` runs it for a quarter of an hour, the suite for seconds."""

PREDICTIONS, CHOICES, GROWTH_MB = (200_000, 2_000, 20) if LONG else (600, 6, 20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored run of a small network, with its images."""
    folder = tmp_path_factory.mktemp("stored")
    newest = max((Path(__file__).parents[1] / "fixtures").glob("format-*.tar.xz"))
    with tarfile.open(newest) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def predictor(place: Path) -> Predictor:
    return Predictor.load(place / "run", device="cpu")


@pytest.fixture(scope="module")
def images(place: Path) -> list[Path]:
    return sorted((place / "data").rglob("*.png"))


@pytest.fixture(scope="module")
def serial(predictor: Predictor, images: list[Path]) -> list[Prediction]:
    return [predictor(image) for image in images]


def test_eight_threads_share_a_predictor(predictor: Predictor, images: list[Path], serial: list[Prediction]) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predictor, images * 3)) == serial * 3


def test_eight_threads_share_one_choice_of_the_fastest_variant(
    place: Path, images: list[Path], serial: list[Prediction]
) -> None:
    predictor = Predictor.load(place / "run", device="cpu", optimize=True)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(predictor, images))
    for one, expected in zip(found, serial, strict=True):
        assert dict(one.ranked) == pytest.approx(dict(expected.ranked), abs=0.02)  # a variant in bfloat16


def test_an_event_loop_predicts_in_threads(predictor: Predictor, images: list[Path], serial: list[Prediction]) -> None:
    async def every() -> list[Prediction]:
        return await asyncio.gather(*(asyncio.to_thread(predictor, image) for image in images))

    assert asyncio.run(every()) == serial


def test_copies_predict_the_same(predictor: Predictor, images: list[Path], serial: list[Prediction]) -> None:
    for other in (copy.deepcopy(predictor), copy.copy(predictor), pickle.loads(pickle.dumps(predictor))):
        assert [other(image) for image in images] == serial


def pools() -> Iterator[str]:
    yield "fork"
    yield from ("spawn", "forkserver", "loky") if LONG else ()  # each starts Python and loads torch


@pytest.mark.parametrize("kind", list(pools()))
def test_other_processes_predict_the_same(
    predictor: Predictor, images: list[Path], serial: list[Prediction], kind: str
) -> None:
    if kind == "loky":
        joblib = pytest.importorskip("joblib")
        found = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(predictor)(image) for image in images)
    else:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(kind)) as pool:
            found = list(pool.map(partial(Predictor.__call__, predictor), images))
    assert found == serial


def test_memory_does_not_grow_with_the_number_of_predictions(place: Path, images: list[Path]) -> None:
    bundle, image = read_bundle(place / "run"), images[0].read_bytes()
    grown = predicting(bundle, image, PREDICTIONS)
    print(f"{grown:.1f} MB over {PREDICTIONS:,} predictions")
    assert grown < GROWTH_MB


def test_memory_does_not_grow_with_the_number_of_choices(place: Path, images: list[Path]) -> None:
    bundle, image = read_bundle(place / "run"), images[0].read_bytes()
    grown = choosing(bundle, image, CHOICES)
    print(f"{grown:.1f} MB over {CHOICES:,} choices of the fastest variant")
    assert grown < GROWTH_MB
