"""The settings: one frozen tree, checked as a whole.

Unknown keys, bounds and relations between fields are reported together. The resolved tree is what ``--print_config``
prints, what run folder and bundle keep, and all that the program reads. Sources in order: preset, file, flags.

Four sections choose a part by name: ``data.reader``, ``model.head``, ``loss`` and ``optim.mix``. Their other keys are
the options of that part, checked by the part's own ``Options`` class; ``head: csra`` is short for
``head: {name: csra}``.
"""

from msrn.config.idle import idle_settings
from msrn.config.optim import DistillSettings, OptimSettings
from msrn.config.section import PARTS
from msrn.config.settings import (
    DataSettings,
    DifficultPolicy,
    LabelSettings,
    ModelSettings,
    RunSettings,
    Settings,
    ThresholdSettings,
)
from msrn.config.tree import load_settings, merge, nest, section_model, setting_fields, validate, without_unknown
from msrn.config.yaml_text import parse_yaml

__all__ = [
    "PARTS",
    "DataSettings",
    "DifficultPolicy",
    "DistillSettings",
    "LabelSettings",
    "ModelSettings",
    "OptimSettings",
    "RunSettings",
    "Settings",
    "ThresholdSettings",
    "idle_settings",
    "load_settings",
    "merge",
    "nest",
    "parse_yaml",
    "section_model",
    "setting_fields",
    "validate",
    "without_unknown",
]
