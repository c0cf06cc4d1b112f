"""Which labels does a picture carry? A bundle, and pictures in whatever form they come."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from msrn.bundle.files import Bundle, read_bundle
from msrn.data.archives.containers import is_container, pictures_inside
from msrn.data.transforms import eval_transform, open_image
from msrn.errors import ConfigError, DataError
from msrn.inference.autotune import Optimization, optimize
from msrn.labels.space import LabelSpace
from msrn.models.heads.msrn import MSRN

__all__ = ["IMAGE_SUFFIXES", "Picture", "Prediction", "Predictor", "pictures_in"]

_log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

Picture = str | Path | bytes | Image.Image | np.ndarray


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a picture shows.

    ``ranked`` holds every label with its probability, best first; ``labels`` those whose probability is above their
    threshold, in the same order. A picture that cannot be read has ``error`` set instead.
    """

    source: str
    labels: tuple[str, ...] = ()
    ranked: tuple[tuple[str, float], ...] = ()
    error: str | None = None

    def __getitem__(self, label: str) -> float:
        """Probability of a label, 0 to 1."""
        return dict(self.ranked)[label]


class Predictor:
    """A bundle, ready for use.

    Args:
        bundle: as ``read_bundle`` gives it.
        device: ``auto`` (CUDA if there is one), ``cpu`` or ``cuda``.
        threshold: one probability for all labels; None: the bundle's, tuned per label on validation data.
        optimize: choose the fastest form of the network by running all of them on the first batch that comes (or the
            first picture). On random input before that, neither the time nor the probabilities would be those of use.
            It takes the time of up to 250 pictures, once; the bounds of ``inference.autotune`` are kept.
        few: a handful of pictures will come, in a process that then ends. The fused kernel, whose loading takes half a
            second and saves it on some ten pictures, is left out; probabilities change by a rounding, 1e-6 at most.

    Example:
        >>> predictor = Predictor.load("runs/voc/bundle")           # doctest: +SKIP
        >>> predictor("street.jpg").labels                          # doctest: +SKIP
        ('person', 'car')
    """

    optimization: Optimization | None = None
    """What ``optimize`` has measured and chosen, once a picture has come."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        threshold: float | None = None,
        optimize: bool = False,
        few: bool = False,
    ) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"expected a threshold between 0 and 1, got {threshold}", "threshold")
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("no CUDA device was found", "device", "use cpu or auto")
        self.device = torch.device(
            "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
        )
        self.labels: LabelSpace = bundle.labels
        self.thresholds = np.asarray(bundle.thresholds if threshold is None else [threshold] * len(bundle.labels))
        self.facts = bundle.facts
        if few and isinstance(bundle.model, MSRN):
            bundle.model.attention = "chunked"
        self._model: nn.Module = bundle.model.to(self.device).to(memory_format=torch.channels_last)
        self._undecided = bundle.model if optimize else None
        self._deciding = Lock()
        self._transform = eval_transform(bundle.preprocessing)
        self._least_side = bundle.preprocessing.least_side

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        threshold: float | None = None,
        optimize: bool = False,
        few: bool = False,
    ) -> Predictor:
        """A predictor from a bundle's folder, or from a run folder that holds one.

        Raises:
            BundleError: as ``read_bundle``. ConfigError: as the class.
        """
        return cls(read_bundle(folder), device=device, threshold=threshold, optimize=optimize, few=few)

    def __call__(self, picture: Picture) -> Prediction:
        """One picture: a path, encoded bytes, a PIL image, or an ``(H, W, 3)`` or ``(H, W)`` uint8 array.

        Raises:
            DataError: the picture cannot be read.
        """
        if isinstance(picture, str | Path) and (Path(picture).is_dir() or is_container(picture)):
            told = f"expected one picture, got a {'folder' if Path(picture).is_dir() else 'file of many'}"
            raise DataError(told, str(picture), "use predict, which gives one for each")
        prediction = next(self.predict([picture]))
        if prediction.error:
            raise DataError(prediction.error, prediction.source)
        return prediction

    def predict(
        self, pictures: Picture | Iterable[Picture], *, batch_size: int = 32, workers: int = 2
    ) -> Iterator[Prediction]:
        """Many pictures (or one), one prediction each, in order.

        Memory does not grow with their number: they are read a batch ahead, by ``workers`` threads. Folders, tar files
        and parquet files are looked into. A picture that cannot be read gives a prediction with ``error``.

        Raises:
            ConfigError: ``batch_size`` is below 1. DataError: a tar or parquet file is damaged.
        """
        if batch_size < 1:
            raise ConfigError(f"expected a batch size of at least 1, got {batch_size}", "batch_size")
        sources = _each([pictures] if isinstance(pictures, Picture) else pictures)
        with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
            coming = [pool.submit(self._read, source) for source in islice(sources, batch_size)]
            while coming:
                read = [future.result() for future in coming]
                coming = [pool.submit(self._read, source) for source in islice(sources, batch_size)]
                yield from self._predict_batch(read)

    def probabilities(self, images: Tensor) -> np.ndarray:
        """Preprocessed images ``(B, 3, S, S)`` to probabilities ``(B, L)`` in the order of ``labels``."""
        images = images.to(self.device, memory_format=torch.channels_last)
        if self._undecided is not None and len(images):
            self._decide(images)
        with torch.inference_mode():
            return self._model(images).logits.double().sigmoid().cpu().numpy()

    def _decide(self, images: Tensor) -> None:
        with self._deciding:  # two threads would disturb each other's measurements
            if self._undecided is not None:
                self.optimization = optimize(self._undecided, images)
                self._model, self._undecided = self.optimization.form, None
                _log.info("%s", self.optimization)

    def _read(self, picture: Picture) -> tuple[str, Tensor | str]:
        name = str(picture) if isinstance(picture, str | Path) else "a picture in memory"
        try:
            return name, self._transform(open_image(_as_source(picture), least_side=self._least_side))
        except DataError as error:
            return name, error.message

    def _predict_batch(self, read: Sequence[tuple[str, Tensor | str]]) -> Iterator[Prediction]:
        images = [image for _, image in read if isinstance(image, Tensor)]
        rows = iter(self.probabilities(torch.stack(images)) if images else ())
        for name, image in read:
            yield Prediction(name, error=image) if isinstance(image, str) else self._prediction(name, next(rows))

    def _prediction(self, name: str, row: np.ndarray) -> Prediction:
        order = np.argsort(-row, kind="stable")
        names = self.labels.names
        return Prediction(
            name,
            labels=tuple(names[column] for column in order if row[column] > self.thresholds[column]),
            ranked=tuple((names[column], float(row[column])) for column in order),
        )


def pictures_in(folder: Path) -> Iterator[Path]:
    """Picture files of a folder and its subfolders, in the order of their names; links to folders are not followed."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from pictures_in(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            yield path


def _each(pictures: Iterable[Picture]) -> Iterator[Picture]:
    for picture in pictures:
        if isinstance(picture, str | Path) and Path(picture).is_dir():
            yield from pictures_in(Path(picture))
        elif isinstance(picture, str | Path) and is_container(picture) and Path(picture).is_file():
            yield from pictures_inside(picture)
        else:
            yield picture


def _as_source(picture: Picture) -> str | Path | bytes | Image.Image:
    if not isinstance(picture, np.ndarray):
        return picture
    grey_or_colour = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4))
    if picture.dtype != np.uint8 or not grey_or_colour:
        raise DataError(
            f"expected a uint8 array (H, W), (H, W, 3) or (H, W, 4), got {picture.dtype} {picture.shape}",
            "a picture in memory",
            "scale to 0..255 and put channels last",
        )
    return Image.fromarray(picture)
