"""The predictor: a bundle, and images in whatever form they come."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from msrn.bundle.metadata import Metadata
from msrn.bundle.read import Bundle, read_bundle
from msrn.data.archives.members import images_in_archive
from msrn.data.archives.names import is_archive
from msrn.data.decode import one_line, open_image
from msrn.data.image_files import image_files
from msrn.data.transforms import VIEWS, eval_transform
from msrn.errors import ConfigError, DataError
from msrn.inference.autotune import Optimization, optimize
from msrn.labels.space import LabelSpace
from msrn.models.classifier import probabilities
from msrn.models.fuse import with_tensors

__all__ = ["ImageSource", "Prediction", "Predictor"]

logger = logging.getLogger(__name__)

ImageSource = str | Path | bytes | Image.Image | np.ndarray

# A forked process has none of the threads that torch's pool counts on, and would wait for them for ever.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@dataclass(frozen=True, slots=True)
class Prediction:
    """The labels of one image.

    ``ranked`` holds every label with its probability, best first; ``labels`` those whose probability is above their
    threshold, in the same order. An image that cannot be read has ``error`` set instead.
    """

    source: str
    labels: tuple[str, ...] = ()
    ranked: tuple[tuple[str, float], ...] = ()
    error: str | None = None

    def __getitem__(self, label: str) -> float:
        """Probability of a label, 0 to 1."""
        return dict(self.ranked)[label]


class Predictor:
    """A bundle, ready for use. The bundle itself is not changed.

    Args:
        bundle: as ``read_bundle`` gives it.
        device: ``auto`` (CUDA if there is one), ``cpu`` or ``cuda``.
        threshold: one probability for all labels; None: the bundle's, tuned per label on validation data.
        optimize: choose the fastest variant of the network by running all of them on the first batch that comes (or
            the first image). It takes the time of up to 250 images, once, and keeps the bounds of
            ``inference.autotune``.

    Example:
        >>> predictor = Predictor.load("runs/voc/bundle")           # doctest: +SKIP
        >>> predictor("street.jpg").labels                          # doctest: +SKIP
        ('person', 'car')
    """

    optimization: Optimization | None = None
    """What ``optimize`` has measured and chosen, once an image has come."""

    def __init__(
        self, bundle: Bundle, *, device: str = "auto", threshold: float | None = None, optimize: bool = False
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
        self.metadata: Metadata = bundle.metadata
        model = with_tensors(bundle.model, lambda _, tensor: _placed(tensor, self.device)).eval()
        self._model: nn.Module = model
        self._undecided = model if optimize else None
        self._deciding = Lock()
        views = VIEWS[bundle.preprocessing.views]
        self._transforms = [eval_transform(bundle.preprocessing, view) for view in views]
        self._min_side = bundle.preprocessing.min_side

    @classmethod
    def load(
        cls, folder: str | Path, *, device: str = "auto", threshold: float | None = None, optimize: bool = False
    ) -> Predictor:
        """A predictor from a bundle's folder, or from a run folder that holds one.

        Raises:
            BundleError: as ``read_bundle``. ConfigError: as the class.
        """
        return cls(read_bundle(folder), device=device, threshold=threshold, optimize=optimize)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_deciding"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._deciding = Lock()

    def __call__(self, image: ImageSource) -> Prediction:
        """One image: a path, encoded bytes, a PIL image, or an ``(H, W, 3)`` or ``(H, W)`` uint8 array.

        Raises:
            DataError: the image cannot be read.
        """
        if isinstance(image, str | Path) and (os.path.isdir(image) or is_archive(image)):
            kind = "folder" if os.path.isdir(image) else "file of many"
            raise DataError(f"expected one image, got a {kind}", str(image), "use predict, which gives one for each")
        prediction = next(self.predict([image]))
        if prediction.error:
            raise DataError(prediction.error, prediction.source)
        return prediction

    def predict(
        self, images: ImageSource | Iterable[ImageSource], *, batch_size: int = 32, workers: int = 2
    ) -> Iterator[Prediction]:
        """Many images (or one), one prediction each, in order.

        Memory does not grow with their number: they are read a batch ahead, by ``workers`` threads. Folders, tar files
        and parquet files are searched for images. An image that cannot be read gives a prediction with ``error``.

        Raises:
            ConfigError: ``batch_size`` is below 1, or ``workers`` below 0. DataError: a tar or parquet file is damaged.
        """
        if batch_size < 1:
            raise ConfigError(f"expected a batch size of at least 1, got {batch_size}", "batch_size")
        if workers < 0:
            raise ConfigError(f"expected a number of threads of at least 0, got {workers}", "workers")
        sources = _each([images] if isinstance(images, ImageSource) else images)
        with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
            coming = [pool.submit(self._read, source) for source in islice(sources, batch_size)]
            while coming:
                read = [future.result() for future in coming]
                coming = [pool.submit(self._read, source) for source in islice(sources, batch_size)]
                yield from self._predict_batch(read)

    def probabilities(self, images: Tensor) -> np.ndarray:
        """Preprocessed images ``(B, 3, S, S)`` to probabilities ``(B, L)`` in the order of ``labels``.

        ``(V, B, 3, S, S)`` are taken for V views of the images, whose logits are averaged.
        """
        views = [
            view.to(self.device, memory_format=torch.channels_last)
            for view in (images if images.ndim == 5 else images[None])
        ]
        if self._undecided is not None and len(views[0]):
            self._decide(views[0])
        with torch.inference_mode():
            logits = torch.stack([self._model(view).logits for view in views]).mean(dim=0)
            return probabilities(logits).cpu().numpy()

    def _decide(self, images: Tensor) -> None:
        with self._deciding:  # two threads would disturb each other's measurements
            if self._undecided is not None:
                self.optimization = optimize(self._undecided, images)
                self._model, self._undecided = self.optimization.variant, None
                logger.info("%s", self.optimization)

    def _read(self, image: ImageSource) -> tuple[str, Tensor | str]:
        """A name, and the image's views ``(V, 3, S, S)`` or the reason why it cannot be read."""
        name = str(image) if isinstance(image, str | Path) else "an image in memory"
        try:
            decoded = open_image(_as_source(image), min_side=self._min_side)
            return name, torch.stack([transform(decoded) for transform in self._transforms])
        except DataError as error:
            return name, one_line(error)

    def _predict_batch(self, read: Sequence[tuple[str, Tensor | str]]) -> Iterator[Prediction]:
        images = [image for _, image in read if isinstance(image, Tensor)]
        rows = iter(self.probabilities(torch.stack(images, dim=1)) if images else ())
        for name, image in read:
            yield Prediction(name, error=image) if isinstance(image, str) else self._prediction(name, next(rows))

    def _prediction(self, name: str, row: np.ndarray) -> Prediction:
        if not np.isfinite(row).all():
            return Prediction(name, error="the model's scores of it are not finite; the weights may have diverged")
        order = np.argsort(-row, kind="stable")
        names = self.labels.names
        return Prediction(
            name,
            labels=tuple(names[column] for column in order if row[column] > self.thresholds[column]),
            ranked=tuple((names[column], float(row[column])) for column in order),
        )


def _placed(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device; convolution weights with channels last in memory."""
    moved = tensor.to(device)
    return moved.contiguous(memory_format=torch.channels_last) if moved.ndim == 4 else moved


def _each(images: Iterable[ImageSource]) -> Iterator[ImageSource]:
    for image in images:
        if isinstance(image, str | Path) and os.path.isdir(image):
            yield from image_files(Path(image))
        elif isinstance(image, str | Path) and is_archive(image) and os.path.isfile(image):
            yield from images_in_archive(image)
        else:
            yield image


def _as_source(image: ImageSource) -> str | Path | bytes | Image.Image:
    if isinstance(image, str) and not image:
        raise DataError("expected the path of an image, got an empty text", "images")
    if not isinstance(image, np.ndarray):
        return image
    grey_or_rgb = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if image.dtype != np.uint8 or not grey_or_rgb:
        raise DataError(
            f"expected a uint8 array (H, W), (H, W, 3) or (H, W, 4), got {image.dtype} {image.shape}",
            "an image in memory",
            "scale to 0..255 and put channels last",
        )
    return Image.fromarray(image)
