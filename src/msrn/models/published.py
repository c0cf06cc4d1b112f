"""Released MSRN checkpoints (``.pth.tar``), bound to the model's labels by name.

A checkpoint holds no label names: its output columns, its per-label weights and the blocks of its first flatten layer
stand in the order of the label list it was trained with. That order is known for the four published vocabularies; for
any other it must be given. Loading permutes everything with a label axis into the model's own order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from msrn.errors import LabelError
from msrn.labels.published import published_label_order
from msrn.models.state_files import load_matching, read_state

if TYPE_CHECKING:
    from msrn.models.heads.msrn import MSRN

__all__ = ["load_published", "published_key_map"]

UNUSED = re.compile(r"^(resnet_101\.conv_buffer\d+\.|resnet_101\.fc\.|fc1\.|fc2\.|W$|B$)")
"""What the published program stores without using it: a third buffer, the output layer that is not chosen."""


def load_published(head: MSRN, backbone: nn.Module, path: str | Path, *, order: Sequence[str] | None = None) -> None:
    """Load a released checkpoint into a head and a ResNet backbone in the published layout.

    Args:
        head: keeps its own label embeddings and graph, which a checkpoint does not hold.
        backbone: a ResNet; the names of its entries decide what is looked for.
        path: the checkpoint.
        order: label names in the order that the checkpoint was trained with; None: the order of the published
            vocabulary that has the same labels.

    Raises:
        WeightsError: as ``read_state``; or entries are missing, unknown or of other shapes, all in one message.
        LabelError: the order is unknown, or names other labels than the model's.
    """
    path = Path(path)
    columns = _columns(head.names, order, str(path))
    state = read_state(path)
    pair = nn.ModuleDict({"head": head, "backbone": backbone})
    names = published_key_map(pair)
    renamed = {
        names.get(key, f"?{key}"): value for key, value in state.items() if key in names or not UNUSED.match(key)
    }
    load_matching(
        pair,
        _reordered(renamed, columns),
        where=str(path),
        entry_names={ours: theirs for theirs, ours in names.items()},
    )


def published_key_map(model: nn.Module) -> dict[str, str]:
    """Entry names of a released checkpoint to those of a model with an MSRN head and a ResNet backbone.

    Args:
        model: has ``head`` and ``backbone``; its own entries say which buffers and which output layer it has.
    """
    fixed = {
        "fc_label": "head.semantics.embed",
        "label_embed.layers": "head.semantics.label_layers",
        "group_embed.layers.0.embed": "head.semantics.group_layer",
        "group_embed.layers.0.assign_mat": "head.semantics.assignment_layer",
        "ProjectM": "head.projections",
        "fc1": "head.output_layer.hidden",
        "fc2": "head.output_layer.output",
    }
    per_label = {"head.output_layer.weight": "W", "head.output_layer.bias": "B"}
    strides = tuple(getattr(model.get_submodule("backbone"), "strides", ()))
    stage_of_map = {index: stride.bit_length() - 2 for index, stride in enumerate(strides)}
    names: dict[str, str] = {}
    for ours in model.state_dict():
        theirs = ours
        for published, prefix in fixed.items():
            if ours.startswith(prefix + "."):
                theirs = published + ours.removeprefix(prefix)
        theirs = re.sub(r"(layers\.\d+|embed|assign_mat)\.weight$", r"\1.W", theirs)
        theirs = re.sub(r"(layers\.\d+|embed|assign_mat)\.attention$", r"\1.a", theirs)
        theirs = re.sub(
            r"^head\.extra_convs\.(\d+)", lambda m: f"resnet_101.conv_buffer{stage_of_map[int(m[1])] - 1}", theirs
        )
        theirs = re.sub(r"^backbone\.body\.", "resnet_101.", theirs)
        names[per_label.get(ours, theirs)] = ours
    return names


def _columns(names: Sequence[str], order: Sequence[str] | None, where: str) -> list[int]:
    """For each of the model's labels, its place in the checkpoint."""
    found = order if order is not None else published_label_order(names)
    if found is None:
        raise LabelError(
            f"the order of the labels that the checkpoint was trained with is unknown: the {len(names)} labels are "
            "none of the published vocabularies",
            where,
            "name the order with --model.head.checkpoint_labels FILE, one label a line",
        )
    if sorted(found) != sorted(names):
        strange = sorted(set(found) ^ set(names))
        raise LabelError(
            f"the checkpoint's labels and the model's differ in {len(strange)}: {', '.join(strange[:10])}", where
        )
    places = {name: place for place, name in enumerate(found)}
    return [places[name] for name in names]


def _reordered(state: Mapping[str, Tensor], columns: list[int]) -> dict[str, Tensor]:
    """The state with every label axis in the order of the model; entries of other sizes are left for the check."""
    count, index = len(columns), torch.tensor(columns)
    ordered = dict(state)
    for name in ("output.weight", "output.bias", "weight", "bias"):
        key = f"head.output_layer.{name}"
        if key in ordered and ordered[key].ndim and len(ordered[key]) == count:
            ordered[key] = ordered[key][index]
    key, assignment = "head.output_layer.hidden.weight", "head.semantics.assignment_layer.weight"
    if key in ordered and assignment in ordered and ordered[assignment].ndim == 2:
        hidden = ordered[key]  # (2048, K T D): a block of T D inputs for each of the K vectors
        blocks = count + ordered[assignment].shape[1]
        if hidden.ndim == 2 and hidden.shape[1] % blocks == 0:
            parts = hidden.view(len(hidden), blocks, -1)
            ordered[key] = torch.cat((parts[:, index], parts[:, count:]), dim=1).flatten(1)
    return ordered
