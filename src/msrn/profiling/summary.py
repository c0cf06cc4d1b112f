"""What does a model cost? `msrn summary`: parameters, FLOPs and memory by part, before or after there is a run."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, safe_open

from msrn.bundle.files import bundle_folder, read_facts
from msrn.config import Settings
from msrn.engine.setup import read_labels_and_train
from msrn.errors import BundleError, ConfigError, DataError, LabelError, reason
from msrn.labels.embeddings import vector_width
from msrn.labels.space import LabelSpace
from msrn.profiling.memory import BETWEEN
from msrn.profiling.model_cost import Part, Use, cost_of

__all__ = ["Summary", "short_count", "summarize", "summary_json", "summary_text"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model costs, by part and by use."""

    model: str
    head: str
    """Empty for a model that has no choice of heads."""
    backbone: str
    image_size: int
    labels: int
    precision: str
    """Of training; prediction is in float32."""
    optimiser: str
    parts: tuple[Part, ...]
    uses: tuple[Use, ...]


def summarize(settings: Settings, *, bundle: str | Path | None = None, num_labels: int | None = None) -> Summary:
    """What the model of a bundle, or of settings alone, costs to predict and to train with.

    Args:
        settings: the whole tree. ``data.batch_size``, shared out as ``optim.accumulate`` and ``run.devices`` say, and
            ``data.eval_batch_size`` are the numbers of images. No picture is read.
        bundle: takes the number of labels and the width of their vectors from there.
        num_labels: L, before any data is at hand; None: counts them in ``data.labels`` or in the training split.

    Raises:
        ConfigError: the number of labels is not known, or is given for a bundle; or as ``build_model``.
        BundleError, LabelError, DependencyError, ShapeError: as reading the bundle, the vectors and the model do.
    """
    if bundle is not None:
        if num_labels is not None:
            raise ConfigError("a bundle has its own labels", "--num_labels", "leave it out")
        num_labels, width = _bundle_labels(bundle)
    else:
        num_labels = _label_count(settings) if num_labels is None else num_labels
        if num_labels < 1:
            raise ConfigError(f"expected at least one label, got {num_labels}", "--num_labels")
        width = vector_width(settings.labels.vectors, num_labels)
    parts, uses = cost_of(settings, num_labels=num_labels, vector_width=width)
    return Summary(
        model=settings.model.name,
        head=settings.model.head if any(part.name == "head" for part in parts) else "",
        backbone=settings.model.backbone,
        image_size=settings.data.image_size,
        labels=num_labels,
        precision=settings.run.precision,
        optimiser=settings.optim.name,
        parts=parts,
        uses=uses,
    )


def summary_json(summary: Summary) -> str:
    """One JSON object: the fields of ``Summary``, ``Part`` and ``Use``; memory in bytes."""
    return json.dumps(asdict(summary), indent=1, ensure_ascii=False)


def summary_text(summary: Summary) -> str:
    """Two tables: by part, and by use."""
    by_part = _table("part", "parameters", "trainable", "weights", "FLOPs an image", "kept for backward, an image")
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
    by_use = _table("at most", *images)
    rows = {
        "weights": [_size(use.weights) for use in summary.uses],
        f"state of {summary.optimiser}": [_size(use.optimiser_state) for use in summary.uses],
        "weight average": [_size(use.weight_average) for use in summary.uses],
        "gradients": [_size(use.gradients) for use in summary.uses],
        "activations": [_size(use.activations) for use in summary.uses],
        "memory": [_size(use.memory) for use in summary.uses],
        "reached in": [use.peak_in for use in summary.uses],
        "FLOPs": [short_count(use.flops) for use in summary.uses],
    }
    for name, values in rows.items():
        by_use.add_row(name, *values)
    head = f", head {summary.head}" if summary.head else ""
    title = f"{summary.model}{head}, on {summary.backbone}: {summary.labels} labels, images of {summary.image_size} px"
    notes = (
        "FLOPs of products (convolutions, linear layers, attention); a multiply-add counts as two. once: whatever the "
        "number of images;\nfor the label side, nothing once a bundle is loaded. "
        f"{BETWEEN}: images, pooling, joining, loss.\n"
        f"Memory is that of tensors, in one process; training in {summary.precision}. Workspace of libraries and the "
        "program itself come on top."
    )
    return "\n\n".join([title, _drawn(by_part), _drawn(by_use), notes])


def short_count(number: int) -> str:
    """A number with three digits and k, M, G or T.

    Example:
        >>> short_count(264_241_152), short_count(20), short_count(0)
        ('264 M', '20', '-')
    """
    return _scaled(number, 1000, ("", " k", " M", " G", " T", " P"))


# ---- how many labels, and how wide their vectors


def _label_count(settings: Settings) -> int:
    try:
        if settings.data.labels:
            return len(LabelSpace.read(Path(settings.data.labels)))
        return len(read_labels_and_train(settings).labels)
    except (ConfigError, DataError, LabelError) as error:
        raise ConfigError(
            f"the number of labels is not known: {error.message}",
            error.where,
            "pass --num_labels N (VOC has 20, COCO 80), or name the data with --data.*",
        ) from error


def _bundle_labels(bundle: str | Path) -> tuple[int, int]:
    """L, and E as the bundle's weights have it (1 where a model reads no vectors)."""
    labels, path = read_facts(bundle)["labels"], bundle_folder(bundle) / "model.safetensors"
    name = "semantics.label_vectors"
    try:
        with safe_open(path, "pt") as weights:
            return len(labels), weights.get_slice(name).get_shape()[1] if name in list(weights.keys()) else 1
    except (OSError, SafetensorError) as error:
        hint = "copy the whole folder again"
        raise BundleError(f"cannot read the weights: {reason(error)}", str(path), hint) from error


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
