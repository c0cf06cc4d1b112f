"""msrn: multi-label image classification that reads label meaning.

The names below are the public interface; each is loaded at first use, so that ``import msrn`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msrn.bundle.read import read_bundle
    from msrn.config import ModelSettings, Settings, load_settings
    from msrn.data.manifest import Manifest, Record
    from msrn.engine.evaluate import evaluate
    from msrn.engine.evaluation import Evaluation
    from msrn.engine.trainer import train
    from msrn.errors import MsrnError
    from msrn.inference.predictor import Prediction, Predictor
    from msrn.labels.space import LabelSpace
    from msrn.metrics import multilabel_metrics
    from msrn.models.classifier import MultiLabelClassifier, create_model
    from msrn.models.heads.base import Head, HeadOutput, LabelInputs
    from msrn.ops.semantic_attention import semantic_attention
    from msrn.presets import preset
    from msrn.registry import Options, load

__version__ = "0.1.0"

_HOMES = {
    "Evaluation": "engine.evaluation",
    "Head": "models.heads.base",
    "HeadOutput": "models.heads.base",
    "LabelInputs": "models.heads.base",
    "LabelSpace": "labels.space",
    "Manifest": "data.manifest",
    "ModelSettings": "config",
    "MsrnError": "errors",
    "MultiLabelClassifier": "models.classifier",
    "Options": "registry",
    "Prediction": "inference.predictor",
    "Predictor": "inference.predictor",
    "Record": "data.manifest",
    "Settings": "config",
    "create_model": "models.classifier",
    "evaluate": "engine.evaluate",
    "load": "registry",
    "load_settings": "config",
    "multilabel_metrics": "metrics",
    "preset": "presets",
    "read_bundle": "bundle.read",
    "semantic_attention": "ops.semantic_attention",
    "train": "engine.trainer",
}

__all__ = [  # noqa: RUF022 - by use: data, model, run
    "LabelSpace", "Manifest", "Record",
    "Head", "HeadOutput", "LabelInputs", "ModelSettings", "MultiLabelClassifier", "Options", "create_model", "load",
    "semantic_attention",
    "Evaluation", "MsrnError", "Prediction", "Predictor", "Settings", "evaluate", "load_settings",
    "multilabel_metrics", "preset", "read_bundle", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'msrn' has no attribute {name!r}")
    return getattr(importlib.import_module(f"msrn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
