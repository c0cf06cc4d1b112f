"""What can be chosen by name: one line per part, imported when it is used.

A part is a class or a function whose first parameter, ``options``, is annotated with its own ``Options`` class. That
annotation is all the settings, ``--help`` and ``--print_config`` need to know about it. This module imports no part
and no torch.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from msrn.errors import ConfigError, did_you_mean
from msrn.files import expand_home

__all__ = ["KINDS", "Options", "PathText", "load", "names", "options_class"]

HEADS = {
    "msrn": "msrn.models.heads.msrn:MSRN",
    "average_pool": "msrn.models.heads.average_pool:AveragePool",
    "max_pool": "msrn.models.heads.max_pool:MaxPool",
    "csra": "msrn.models.heads.csra:CSRA",
    "ml_gcn": "msrn.models.heads.ml_gcn:MLGCN",
    "add_gcn": "msrn.models.heads.add_gcn:ADDGCN",
    "query2label": "msrn.models.heads.query2label:Query2Label",
    "ml_decoder": "msrn.models.heads.ml_decoder:MLDecoder",
}

LOSSES = {
    "soft_margin": "msrn.losses.soft_margin:SoftMargin",
    "focal": "msrn.losses.focal:Focal",
    "asl": "msrn.losses.asl:ASL",
    "hill": "msrn.losses.hill:Hill",
    "splc": "msrn.losses.splc:SPLC",
    "two_way": "msrn.losses.two_way:TwoWay",
    "zlpr": "msrn.losses.zlpr:ZLPR",
    "distribution_balanced": "msrn.losses.distribution_balanced:DistributionBalanced",
}

MIXES = {
    "none": "msrn.data.mixes.none:NoMix",
    "mixup": "msrn.data.mixes.mixup:Mixup",
    "cutmix": "msrn.data.mixes.cutmix:CutMix",
    "splicemix": "msrn.data.mixes.splicemix:SpliceMix",
}

READERS = {
    "table": "msrn.data.readers.table:read",
    "manifest": "msrn.data.readers.manifest:read",
    "folders": "msrn.data.readers.folders:read",
    "textfiles": "msrn.data.readers.textfiles:read",
    "parquet": "msrn.data.readers.parquet:read",
    "webdataset": "msrn.data.readers.webdataset:read",
    "labelme": "msrn.data.readers.labelme:read",
    "yolo": "msrn.data.readers.yolo:read",
    "voc": "msrn.data.readers.voc:read",
    "coco": "msrn.data.readers.coco:read",
    "nuswide": "msrn.data.readers.nuswide:read",
    "apparel": "msrn.data.readers.apparel:read",
}

WRITERS = {
    "manifest": "msrn.data.writers.manifest:write",
    "table": "msrn.data.writers.table:write",
    "coco": "msrn.data.writers.coco:write",
    "webdataset": "msrn.data.writers.webdataset:write",
}

COMMANDS = {
    "demo": "msrn.cli.demo:COMMAND",
    "train": "msrn.cli.train:COMMAND",
    "evaluate": "msrn.cli.evaluate:COMMAND",
    "predict": "msrn.cli.predict:COMMAND",
    "thresholds": "msrn.cli.thresholds:COMMAND",
    "calibrate": "msrn.cli.calibrate:COMMAND",
    "soup": "msrn.cli.soup:COMMAND",
    "compare": "msrn.cli.compare:COMMAND",
    "search": "msrn.cli.search:COMMAND",
    "labels": "msrn.cli.labels:COMMAND",
    "summary": "msrn.cli.summary:COMMAND",
    "data check": "msrn.cli.data_check:COMMAND",
    "data show": "msrn.cli.data_show:COMMAND",
    "data convert": "msrn.cli.data_convert:COMMAND",
    "data split": "msrn.cli.data_split:COMMAND",
}

KINDS: Mapping[str, Mapping[str, str]] = {
    "head": HEADS,
    "loss": LOSSES,
    "mix": MIXES,
    "reader": READERS,
    "writer": WRITERS,
    "command": COMMANDS,
}


PathText = Annotated[str, AfterValidator(expand_home)]
"""A setting that may name a file or folder; ``~/`` is the home folder wherever it is written."""


class Options(BaseModel):
    """Base of every part's options: frozen, and an unknown option is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="which part; the other options of the section are those of this part")


def names(kind: str) -> tuple[str, ...]:
    """Names of a kind, in the order of its table."""
    return tuple(KINDS[kind])


def load(kind: str, name: str) -> Any:
    """The class or function of a part; its module is imported now.

    Raises:
        ConfigError: the kind has no such part.
    """
    table = KINDS[kind]
    if name not in table:
        known = f"known: {', '.join(table)}"
        near = did_you_mean(name, table)
        raise ConfigError(f"there is no {kind} named {name!r}", kind, f"{near} {known}".strip())
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def options_class(kind: str, name: str) -> type[Options]:
    """The ``Options`` class of a part.

    Raises:
        ConfigError: the kind has no such part.
    """
    part = load(kind, name)
    function = part.__init__ if inspect.isclass(part) else part
    annotation = function.__annotations__["options"]
    found: type[Options] = (
        getattr(sys.modules[function.__module__], annotation) if isinstance(annotation, str) else annotation
    )
    return found
