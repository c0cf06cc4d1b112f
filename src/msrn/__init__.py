"""MSRN: multi-label image classification that reads label meaning.

The names below are the public interface; each is loaded at first use, so that ``import msrn`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msrn.config import Settings, load_settings, preset
    from msrn.data.manifest import Manifest, Record
    from msrn.engine.evaluate import evaluate_bundle
    from msrn.engine.trainer import train
    from msrn.errors import MsrnError
    from msrn.inference.predictor import Prediction, Predictor
    from msrn.labels.space import LabelSpace

__version__ = "0.1.0"

__all__ = [
    "LabelSpace",
    "Manifest",
    "MsrnError",
    "Prediction",
    "Predictor",
    "Record",
    "Settings",
    "evaluate_bundle",
    "load_settings",
    "preset",
    "train",
]

_HOMES = {
    "LabelSpace": "labels.space",
    "Manifest": "data.manifest",
    "MsrnError": "errors",
    "Prediction": "inference.predictor",
    "Predictor": "inference.predictor",
    "Record": "data.manifest",
    "Settings": "config",
    "evaluate_bundle": "engine.evaluate",
    "load_settings": "config",
    "preset": "config",
    "train": "engine.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'msrn' has no attribute {name!r}")
    return getattr(importlib.import_module(f"msrn.{_HOMES[name]}"), name)
