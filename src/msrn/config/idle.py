"""Settings that have no effect, given what other settings choose."""

from __future__ import annotations

from collections.abc import Collection

from msrn.config.settings import Settings

__all__ = ["idle_settings"]

EMBEDDING_FIELDS = ("embeddings", "aliases", "template")
GRAPH_FIELDS = ("graph", "graph_file", "threshold", "direction", "smoothing", "reweight")


def idle_settings(settings: Settings, *, needs: Collection[str]) -> dict[str, str]:
    """Paths of the settings that nothing reads, each with the reason.

    Presets and files may hold such settings, as they are written for more than one choice. A flag for one is a mistake.

    Args:
        settings: the whole tree.
        needs: the label inputs that the head reads, of ``embeddings`` and ``graph``.
    """
    data, labels, optim = settings.data, settings.labels, settings.optim
    head = settings.model.head.name
    idle: dict[str, str] = {}
    if data.val:
        idle["data.val_fraction"] = f"data.val is {data.val}, so nothing is held out"
    if data.val == "none":
        idle["run.evaluate_every"] = "data.val is none, so nothing is evaluated"
    if data.sampling == "shuffle":
        idle["data.repeat_threshold"] = "data.sampling is shuffle, so no image is repeated"
    if data.feature_cache:
        idle["data.cache"] = "data.feature_cache keeps the features, and no image is decoded again"
    if optim.name != "sgd":
        idle["optim.momentum"] = f"optim.name is {optim.name}"
    if not optim.distill.bundle:
        idle |= {f"optim.distill.{name}": "optim.distill.bundle names no teacher" for name in ("weight", "temperature")}
    if settings.model.freeze == -1:
        idle["optim.layer_decay"] = "model.freeze is -1, so no weight of the backbone is trained"
    if optim.schedule != "step":
        idle |= dict.fromkeys(("optim.step_epochs", "optim.step_factor"), f"optim.schedule is {optim.schedule}")
    if labels.graph == "identity":
        idle |= {f"labels.{name}": "labels.graph is identity: there are no edges" for name in GRAPH_FIELDS[2:]}
    for need, fields in (("embeddings", EMBEDDING_FIELDS), ("graph", GRAPH_FIELDS)):
        if need not in needs:
            idle |= {f"labels.{name}": f"the head {head} reads no label {need}" for name in fields}
    return idle
