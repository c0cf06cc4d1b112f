"""The section ``optim``: optimizer, schedule, and what a training step does beside."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from msrn.config.section import DEFAULT_PARTS, PositiveInt, Section, chosen
from msrn.registry import Options, PathText

__all__ = ["DistillSettings", "OptimSettings"]

LARGE = 1e30
"""The largest number that torch's float32 takes with room to multiply."""

Mix = Annotated[SerializeAsAny[Options], chosen("mix")]


class DistillSettings(Section):
    """A teacher: a trained classifier whose probabilities are trained on, too."""

    bundle: PathText = Field("", description="bundle or run folder of the teacher; empty: none")
    weight: Annotated[float, Field(gt=0, le=LARGE)] = Field(
        1.0, description="of the divergence; the loss itself weighs 1"
    )
    temperature: Annotated[float, Field(gt=0, le=1000)] = Field(
        1.0, description="both divide their logits by it: above 1, less certain probabilities are compared"
    )


class OptimSettings(Section):
    """The optimizer and its schedule."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0, le=LARGE)] = Field(0.05, description="learning rate of the head")
    backbone_lr_multiplier: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.1, description="learning-rate multiplier of the backbone"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="factor of the rate from a part of the backbone (model.freeze counts them) to the one before it",
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="SGD only")
    weight_decay: Annotated[float, Field(ge=0, le=LARGE)] = Field(
        1e-4, description="AdamW applies it to no bias and no norm"
    )
    schedule: Literal["constant", "step", "cosine", "onecycle"] = "step"
    step_epochs: tuple[PositiveInt, ...] = Field((), description="step: epochs after which the rate is multiplied")
    step_factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="step: the factor")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(0, description="linear rise of the rate, epochs")
    epochs: PositiveInt = 40
    accumulate: PositiveInt = Field(1, description="micro-batches per optimizer step; batch_size is divided by it")
    clip_norm: Annotated[float, Field(ge=0, le=LARGE)] = Field(0.0, description="largest gradient norm; 0: no clipping")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="EMA decay of the weights per step; 0: no EMA")
    sam: Annotated[float, Field(ge=0, le=LARGE)] = Field(
        0.0, description="rho of sharpness-aware minimisation, which takes two passes a step; usual: 0.05; 0: none"
    )
    mix: Mix = Field(DEFAULT_PARTS["mix"], description="how images of a micro-batch are mixed")  # type: ignore[assignment]
    distill: DistillSettings = Field(default_factory=DistillSettings)

    @model_validator(mode="after")
    def _schedule_fits(self) -> OptimSettings:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) must be shorter than the run ({self.epochs} epochs)"
            )
        if self.schedule == "step" and list(self.step_epochs) != sorted(set(self.step_epochs)):
            raise ValueError(f"step_epochs must increase, got {list(self.step_epochs)}")
        return self
