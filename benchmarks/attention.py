"""Time and memory of semantic attention alone, in each of its forms, and their growth with its sizes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timing import Times, mebibytes, peak_memory, ratio, seconds, side_by_side
from torch import Tensor

from msrn.ops.semantic_attention import Form, semantic_attention

COCO = {"labels": 84, "width": 512, "positions": (784, 196, 49)}
"""K, D and N of the three feature maps at 448 px, as published."""
FORMS: tuple[Form, ...] = ("numba", "chunked", "reference")
PLAIN_LIMIT = 8 * 2**30
"""The plain form is not started where its product alone, which it holds several times over, needs more bytes."""


def draw(images: int, positions: int, vectors: int, width: int) -> tuple[Tensor, Tensor]:
    """Random features as a convolution leaves them, ``(B, N, D)`` over a contiguous ``(B, D, N)``, and vectors."""
    generator = torch.Generator().manual_seed(positions + vectors)
    features = torch.randn(images, width, positions, generator=generator).transpose(1, 2)
    return features, torch.randn(vectors, width, generator=generator)


def forward(form: Form, features: Tensor, vectors: Tensor) -> Tensor:
    """Without gradients."""
    with torch.inference_mode():
        return semantic_attention(features, vectors, form=form)


def both_ways(form: Form, features: Tensor, vectors: Tensor) -> tuple[Tensor, ...]:
    """Forward, and gradients of features and vectors."""
    leaves = features.detach().requires_grad_(), vectors.detach().requires_grad_()
    return torch.autograd.grad(semantic_attention(*leaves, form=form).sum(), leaves)


def measure() -> list[dict[str, Any]]:
    """Rows for the published COCO sizes, B = 4."""
    rows = []
    for positions in COCO["positions"]:
        inputs = draw(4, positions, COCO["labels"], COCO["width"])
        once = side_by_side({form: partial(forward, form, *inputs) for form in FORMS})
        what = f"operator, B=4, K=84, D=512, N={positions}"
        rows.append(_row(f"{what}: forward, numba vs plain", once["reference"], once["numba"], 20))
        rows.append(_row(f"{what}: forward, numba vs chunked", once["chunked"], once["numba"], 5))
        calls = {form: partial(both_ways, form, *inputs) for form in ("numba", "reference")}
        twice = side_by_side(calls)
        rows.append(_row(f"{what}: forward + backward, numba vs plain", twice["reference"], twice["numba"], 10))
        memory = {form: peak_memory(call) for form, call in calls.items()}
        rows.append(
            {
                "what": f"{what}: forward + backward, extra memory of plain over numba",
                "slow": mebibytes(memory["reference"]),
                "fast": mebibytes(memory["numba"]),
                "ratio": memory["reference"] / max(memory["numba"], 2**20),
                "min_ratio": 20,
            }
        )
    return rows


def _row(what: str, slow: Times, fast: Times, min_ratio: float) -> dict[str, Any]:
    return {"what": what, "slow": str(slow), "fast": str(fast), "ratio": ratio(slow, fast), "min_ratio": min_ratio}


def growth() -> list[dict[str, Any]]:
    """Seconds, forward and backward together, over K, image size and B; None where the plain form is too large."""
    sweeps = {
        "labels": [(1, 784, k, 512) for k in (10, 20, 50, 100, 200, 500, 1000, 2000)],
        "image side": [(1, (side // 16) ** 2, 84, 512) for side in (224, 320, 448, 640, 896)],
        "images": [(b, 784, 84, 512) for b in (1, 2, 4, 8, 16, 32, 64)],
    }
    points = []
    for sweep, shapes in sweeps.items():
        for shape in shapes:
            inputs = draw(*shape)
            images, positions, vectors, width = shape
            forms: list[Form] = ["numba", "chunked"]
            product = 4 * images * positions * vectors * width
            if 4 * product < PLAIN_LIMIT:
                forms.append("reference")
            work = images * positions * vectors * width
            runs = 9 if work < 5e7 else 3 if work < 3e8 else 1
            times = side_by_side({form: partial(both_ways, form, *inputs) for form in forms}, runs=runs)
            points.append(
                {
                    "sweep": sweep,
                    "images": images,
                    "positions": positions,
                    "labels": vectors,
                    "product_bytes": product,
                    **{
                        form: times[form].median if form in times else None
                        for form in ("numba", "chunked", "reference")
                    },
                }
            )
    return points


def growth_table(points: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| B | N | K | product | numba | chunked | plain |", "|---|---|---|---|---|---|---|"]
    for point in points:
        times = " | ".join(seconds(point[form]) if point[form] is not None else "not run: too large" for form in FORMS)
        sizes = f"{point['images']} | {point['positions']:,} | {point['labels']:,}"
        lines.append(f"| {sizes} | {mebibytes(point['product_bytes'])} | {times} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for row in measure():
        print(f"{row['what']}: {row['fast']} against {row['slow']}, {row['ratio']:.1f} x (at least {row['min_ratio']})")
