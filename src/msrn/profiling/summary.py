"""The cost of a model by part, as a value, as text and as JSON, for ``msrn summary``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter
from rich import box
from rich.console import Console
from rich.table import Table

from msrn.config import Settings
from msrn.json_results import ResultFormat
from msrn.profiling.memory import BETWEEN
from msrn.profiling.model_cost import Part, Use, cost_of

__all__ = ["Summary", "short_count", "summarize", "summary_json", "summary_text"]


FORMAT = ResultFormat("a summary", 1, "run msrn summary --json again")


@dataclass(frozen=True, slots=True)
class Summary:
    """The cost of a model, by part and by use."""

    head: str
    backbone: str
    image_size: int
    labels: int
    precision: str
    """Of training; prediction is in float32."""
    optimizer: str
    parts: tuple[Part, ...]
    uses: tuple[Use, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; memory in bytes."""
        return {"format_version": FORMAT.version, **asdict(self)}

    @classmethod
    def from_json(cls, tree: Any, where: str = "") -> Summary:
        """The summary of a tree from ``to_json``.

        Raises:
            DataError: the tree is of another format version, or a value is missing or of the wrong type.
        """
        return FORMAT.read(_SUMMARY, FORMAT.require(tree, where), where)


_SUMMARY = TypeAdapter(Summary)


def summarize(settings: Settings, *, num_labels: int, embedding_width: int) -> Summary:
    """The cost of predicting and training with the model of the settings.

    Args:
        settings: the whole tree. Images at a time are ``data.eval_batch_size`` and, in training, ``data.batch_size``
            over ``optim.accumulate`` and ``run.devices``.
        num_labels: L.
        embedding_width: E; not used by heads without label embeddings.

    Raises:
        ConfigError, ShapeError: as ``create_model`` and the model itself.
    """
    parts, uses = cost_of(settings, num_labels=num_labels, embedding_width=embedding_width)
    return Summary(
        head=settings.model.head.name,
        backbone=settings.model.backbone,
        image_size=settings.data.image_size,
        labels=num_labels,
        precision=settings.run.precision,
        optimizer=settings.optim.name,
        parts=parts,
        uses=uses,
    )


def summary_json(summary: Summary) -> str:
    """One JSON object with the fields of ``Summary``, ``Part`` and ``Use``; memory in bytes."""
    return json.dumps(summary.to_json(), indent=1, ensure_ascii=False)


def summary_text(summary: Summary) -> str:
    """Two tables: by part, and by use."""
    by_part = _table("part", "parameters", "trainable", "weights", "FLOPs per image", "kept for backward, per image")
    columns = [value for value in asdict(summary.parts[0]) if value != "name"]
    total = Part("all", **{name: sum(getattr(part, name) for part in summary.parts) for name in columns})
    for part in (*summary.parts, total):
        by_part.add_row(
            part.name,
            short_count(part.parameters),
            short_count(part.trainable),
            _size(part.weight_bytes),
            _with_once(part.flops_per_image, part.flops_once, short_count),
            _with_once(part.saved_bytes_per_image, part.saved_bytes_once, _size),
        )
    images = [f"{use.name}, {use.images} image{'s' * (use.images > 1)}" for use in summary.uses]
    by_use = _table("peak", *images)
    rows = {
        "weights": [_size(use.weights) for use in summary.uses],
        f"state of {summary.optimizer}": [_size(use.optimizer_state) for use in summary.uses],
        "EMA": [_size(use.ema) for use in summary.uses],
        "gradients": [_size(use.gradients) for use in summary.uses],
        "activations": [_size(use.activations) for use in summary.uses],
        "memory": [_size(use.memory) for use in summary.uses],
        "reached in": [use.peak_in for use in summary.uses],
        "FLOPs": [short_count(use.flops) for use in summary.uses],
    }
    for name, values in rows.items():
        by_use.add_row(name, *values)
    title = f"head {summary.head} on {summary.backbone}: {summary.labels} labels, images of {summary.image_size} px"
    notes = (
        "FLOPs are those of products (convolutions, linear layers, attention); a multiply-add counts as two.\n"
        "once: per step, whatever the number of images. A loaded bundle does not compute label semantics.\n"
        f"{BETWEEN}: images, pooling, concatenation, loss.\n"
        f"Memory is that of tensors, in one process; training in {summary.precision}. "
        "Workspaces of libraries and the program are not included."
    )
    return "\n\n".join([title, _drawn(by_part), _drawn(by_use), notes])


def short_count(number: int) -> str:
    """A number with three digits and k, M, G or T.

    Example:
        >>> short_count(264_241_152), short_count(20), short_count(0)
        ('264 M', '20', '-')
    """
    return _scaled(number, 1000, ("", " k", " M", " G", " T", " P"))


# ---- text


def _table(*titles: str) -> Table:
    table = Table(box=box.MARKDOWN, header_style="")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    return table


def _drawn(table: Table) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get().strip()


def _with_once(per_image: int, once: int, shown: Callable[[int], str]) -> str:
    parts = [shown(per_image)] if per_image or not once else []
    return " + ".join(parts + ([f"{shown(once)} once"] if once else []))


def _size(number: int) -> str:
    return _scaled(number, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def _scaled(number: float, base: int, units: tuple[str, ...]) -> str:
    if not number:
        return "-"
    place = 0
    while abs(number) >= (999.5 if base == 1000 or place else base) and place < len(units) - 1:
        number, place = number / base, place + 1
    digits = 0 if place == 0 else max(0, 2 - len(str(int(abs(number)))) + 1)
    return f"{number:.{digits}f}{units[place]}"
