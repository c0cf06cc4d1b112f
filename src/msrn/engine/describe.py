"""What do the labels of a data set mean to the network? A page of text: words found, counts, edges, groups."""

from __future__ import annotations

import torch

from msrn.config import ModelSettings, Settings
from msrn.engine.summary import short_count
from msrn.engine.task import label_side, read_labels_and_train
from msrn.models.msrn import FlattenHead, PerLabelHead
from msrn.models.semantics import num_groups_for

__all__ = ["describe_labels"]


def describe_labels(settings: Settings) -> str:
    """How each label's word vector was found, how often it occurs, and which labels the graph joins.

    Raises:
        DataError, LabelError, DependencyError: as reading the training split and the vectors does.
    """
    train = read_labels_and_train(settings)
    vectors, graph = label_side(train, settings.labels, settings.run.seed)
    totals = (train.codes() == 1).sum(axis=0)
    width = max(len(name) for name in train.labels)
    lines = [f"{len(train.labels)} labels, {len(train):,} pictures ({train.source}); vectors: {vectors.source}", ""]
    for found, total in zip(vectors.resolved, totals, strict=True):
        words = " + ".join(found.words) or "-"
        missing = f"   missing: {', '.join(found.missing)}" if found.missing else ""
        lines.append(f"{found.label:{width}}  {int(total):7,} pictures   {found.how:8}  {words}{missing}")
    lines += ["", f"edges (at least {settings.labels.threshold:g} of the pictures with A also show B)"]
    lines += [f"  {source:{width}} -> {target:{width}}  {share:.2f}" for source, target, share in graph.edges()]
    if graph.isolated:
        lines += ["", f"without any edge: {', '.join(graph.isolated)}"]
    if settings.model.name == "msrn":
        lines += ["", _head_line(settings.model, len(train.labels))]
    return "\n".join(lines)


def _head_line(settings: ModelSettings, labels: int) -> str:
    """How many weights the head takes for this number of labels, and how many the other would."""
    channels = settings.width * len(settings.taps)
    with torch.device("meta"):  # shapes alone: the flatten head may take gigabytes
        heads = {
            "flatten": FlattenHead(
                num_labels=labels, num_groups=num_groups_for(labels, settings.group_ratio), channels=channels
            ),
            "per_label": PerLabelHead(num_labels=labels, channels=channels),
        }
    counts = {name: short_count(sum(weight.numel() for weight in head.parameters())) for name, head in heads.items()}
    other = next(name for name in counts if name != settings.head)
    return f"head: {settings.head}, {counts[settings.head]} weights; --model.head {other} has {counts[other]}"
