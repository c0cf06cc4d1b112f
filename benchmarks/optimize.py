"""What does each form of a trained network cost and change on VOC 2007? Speed, mAP, largest change of a probability.

    python benchmarks/optimize.py --bundle runs/voc/bundle --root VOCdevkit [--split val] [--limit 500]

Every form is timed in turns on one batch and on single pictures, decoding left out. Those that ``optimize`` would
refuse are measured too, to show why.
"""

from __future__ import annotations

import argparse
import platform

import numpy as np
import torch

from msrn.bundle.files import read_bundle
from msrn.config import load_settings, merge
from msrn.data.transforms import eval_transform, open_image
from msrn.engine.distributed import make_fabric
from msrn.engine.evaluate import judge, score_split
from msrn.engine.setup import read_named_split
from msrn.inference.autotune import TIMED_ON_CPU, _seconds, optimize
from msrn.inference.variants import forms


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="bundle or run folder, trained on VOC 2007")
    parser.add_argument("--root", required=True, help="VOCdevkit")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--limit", type=int, help="only so many pictures of the split")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()

    bundle = read_bundle(args.bundle)
    tree = merge(
        bundle.settings.model_dump(mode="json"),
        {"data": {"root": args.root, args.split: args.split}, "run": {"device": args.device}},
    )
    settings = load_settings(tree, "benchmark")
    manifest = read_named_split(settings, args.split, bundle.labels)
    manifest = manifest.first(args.limit or len(manifest))
    fabric = make_fabric(settings)
    bundle.model.to(fabric.device)
    transform = eval_transform(bundle.preprocessing)
    images = torch.stack([transform(open_image(manifest.path(row))) for row in range(min(32, len(manifest)))])
    images = images.to(fabric.device)

    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{args.bundle}: {bundle.settings.model.name} on {bundle.settings.model.backbone}, {images.shape[-1]} px")
    print(f"{optimize(bundle.model, images)}\n")

    candidates = forms(bundle.model, images)
    alone = _seconds(candidates, images[:1])
    together = _seconds(candidates, images[:TIMED_ON_CPU])
    print(f"{manifest.source}, {len(manifest):,} pictures")
    print(f"{'form':64} ms, 1  ms, {TIMED_ON_CPU}    mAP  change of mAP  largest change of p  99.9 %")
    loaded: tuple[np.ndarray, float] | None = None
    for form, single, batch in zip(candidates, alone, together, strict=True):
        scores = score_split(form, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)
        mean_ap = 100 * judge(scores, manifest, difficult=settings.data.difficult)["mAP"]
        loaded = loaded or (scores, mean_ap)
        change = np.abs(scores - loaded[0])
        print(
            f"{form.name:64}{1e3 * single:6.1f}{1e3 * batch:7.1f}{mean_ap:7.2f}{mean_ap - loaded[1]:15.3f}"
            f"{change.max():21.1e}{np.quantile(change, 0.999):8.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
