"""A grid of runs: shared settings, what is varied, and seeds, read from a YAML file.

base:                        # settings of every run: a preset, sections, dotted paths
  preset: voc2007_lite
  data: {root: VOCdevkit, feature_cache: features, augment: flip}
  model.freeze: -1
vary:                        # every combination is a variant
  model.head: [average_pool, csra]           # a setting and its values
  recipe:                                    # or a name of your own, with names of settings
    soft margin: {}
    asl: {loss: asl, optim.lr: 0.002}
seeds: [0, 1, 2]
reference: {model.head: average_pool}        # what the others are compared with; default: the first of each
evaluate: test                               # the split that reports
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from msrn.config import Settings, load_settings, merge, nest, validate
from msrn.errors import ConfigError, MsrnError, Problem, did_you_mean
from msrn.presets import preset, read_yaml

__all__ = ["Cell", "Grid", "Variants", "read_grid", "variant_name"]

Axes = dict[str, dict[str, dict[str, Any]]]


def variant_name(choices: Mapping[str, str]) -> str:
    """The value of each axis in one line."""
    return " · ".join(choices.values())


class Variants(BaseModel):
    """Shared settings and what is varied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: dict[str, Any] = Field(default_factory=dict, description="settings that all runs share")
    vary: Annotated[dict[str, list[Any] | dict[str, dict[str, Any] | None]], Field(min_length=1)] = Field(
        description="a setting with its values, or a name with named settings"
    )

    def axes(self, where: str) -> Axes:
        """For each axis the settings that each of its values, as text, stands for.

        Raises:
            ConfigError: an axis has no value, or one twice.
        """
        return {axis: _values(axis, values, where) for axis, values in self.vary.items()}

    def trees(self, where: str) -> list[tuple[dict[str, str], dict[str, Any], dict[str, Any]]]:
        """Every combination: the value of each axis, the settings these stand for, and those over the shared ones."""
        base, axes = nest(self.base), self.axes(where)
        if base.get("preset"):
            base = merge(preset(str(base["preset"]), where), base)
        found = []
        for names in itertools.product(*axes.values()):
            choices = dict(zip(axes, names, strict=True))
            own: dict[str, Any] = {}
            for axis, name in choices.items():
                own = merge(own, nest(axes[axis][name]))
            found.append((choices, own, merge(base, own)))
        return found


class GridFile(Variants):
    """What a grid file holds."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    reference: dict[str, Any] = Field(default_factory=dict, description="one value or name for each axis")
    evaluate: Literal["val", "test"] = Field("test", description="the split that the comparison reports")


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: the value of each axis, as text, its seed, and its settings without a folder."""

    choices: Mapping[str, str]
    seed: int
    settings: Settings

    @property
    def variant(self) -> str:
        """The choices in one line."""
        return variant_name(self.choices)

    @property
    def digest(self) -> str:
        """Of the settings that shape the result."""
        tree = self.settings.model_dump(mode="json")
        tree["run"] = {name: tree["run"][name] for name in ("seed", "precision", "evaluate_every")}
        tree["data"].pop("workers")
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """Readable, and different for different settings."""
        words = re.sub(r"[^\w.-]+", "-", self.variant).strip("-.")[:60]
        return f"{words}-seed{self.seed}-{self.digest[:8]}"


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells in order, the variant that the others are compared with, and the split that reports."""

    cells: tuple[Cell, ...]
    reference: str
    evaluate: Literal["val", "test"]


def read_grid(path: str | Path) -> Grid:
    """The runs that a grid file asks for.

    Raises:
        ConfigError: the file is absent or no YAML, a key is unknown, or the settings of a run are wrong; all problems
            together, each once.
    """
    where = str(path)
    file = validate(GridFile, read_yaml(path), where)
    reference = _reference(file.reference, file.axes(where), where)
    cells: list[Cell] = []
    problems: dict[str, Problem] = {}
    for choices, _, tree in file.trees(where):
        for seed in file.seeds:
            try:
                settings = load_settings(merge(tree, {"run": {"seed": seed, "folder": ""}}), where)
                cells.append(Cell(choices, seed, settings))
            except MsrnError as error:
                for problem in error.problems:
                    variant = f"{where}, {variant_name(choices)}"
                    problems.setdefault(problem.message, Problem(problem.message, variant, problem.hint))
    if problems:
        raise ConfigError.of(list(problems.values()), "invalid settings in the grid")
    _require_split(cells[0].settings, file.evaluate, where)
    return Grid(tuple(cells), variant_name(reference), file.evaluate)


def _values(axis: str, values: list[Any] | dict[str, dict[str, Any] | None], where: str) -> dict[str, dict[str, Any]]:
    """Name of each value of an axis to the settings it stands for."""
    if isinstance(values, dict):
        named = {str(name): tree or {} for name, tree in values.items()}
    else:
        named = {value if isinstance(value, str) else json.dumps(value): {axis: value} for value in values}
    if len(named) != len(values) or not named:
        raise ConfigError(f"vary.{axis}: expected different values, got {values}", where)
    return named


def _reference(given: Mapping[str, Any], axes: Axes, where: str) -> dict[str, str]:
    reference = {axis: next(iter(values)) for axis, values in axes.items()}
    for axis, value in given.items():
        if axis not in axes:
            raise ConfigError(f"reference: there is no axis {axis!r}", where, did_you_mean(axis, axes))
        name = value if isinstance(value, str) else json.dumps(value)
        if name not in axes[axis]:
            known = f"known: {', '.join(axes[axis])}"
            raise ConfigError(
                f"reference: {axis} has no value {name!r}", where, did_you_mean(name, axes[axis]) or known
            )
        reference[axis] = name
    return reference


def _require_split(settings: Settings, split: str, where: str) -> None:
    """The reporting split must be there before hours of training."""
    if split == "test" and not settings.data.test:
        raise ConfigError(
            "evaluate: test needs images that chose nothing: data.test is not set",
            where,
            "set data.test in base, or evaluate: val; msrn data split SOURCE OUT --parts val=0.5,test=0.5 makes halves",
        )
