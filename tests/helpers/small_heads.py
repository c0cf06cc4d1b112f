"""Every head, small enough for a test, and the variants of those whose options leave a part out."""

from __future__ import annotations

from typing import Any

from msrn import registry

SMALL: dict[str, dict[str, Any]] = {
    "msrn": {"width": 16},
    "ml_gcn": {"width": 6},
    "add_gcn": {"width": 8},
    "query2label": {"width": 16},
    "ml_decoder": {"width": 16, "hidden": 24},
}
"""Options that make a head small; a head that is not here is small by itself."""

_VARIANTS: dict[str, dict[str, Any]] = {
    "msrn per label": {"name": "msrn", "output_layer": "per_label"},
    "msrn without groups": {"name": "msrn", "group_ratio": 0, "maps": 2},
    "msrn of learned vectors": {
        "name": "msrn",
        "output_layer": "per_label",
        "maps": 1,
        "label_embeddings": "learned",
        "label_graph": "none",
    },
    "query2label of one layer": {
        "name": "query2label",
        "encoder_layers": 0,
        "decoder_layers": 1,
        "self_attention": False,
    },
    "ml_decoder of two groups": {"name": "ml_decoder", "groups": 2},
    "ml_decoder of words": {"name": "ml_decoder", "queries": "words"},
}


def small(name: str) -> dict[str, Any]:
    """The ``head`` section of a head, or of a variant, with small options."""
    section = _VARIANTS.get(name, {"name": name})
    return {**SMALL.get(section["name"], {}), **section}


CASES = (*registry.names("head"), *_VARIANTS)
