"""Speed, mAP and largest change of a probability of each variant of a trained network on VOC 2007.

    python benchmarks/optimize.py --bundle runs/voc/bundle --root VOCdevkit [--split val] [--limit 500]

The variants are timed in turn on one batch and on single images, without decoding. Those that ``optimize`` would
refuse are measured too, to show why.
"""

from __future__ import annotations

import argparse
import platform

import numpy as np
import torch

from msrn.bundle.read import read_bundle
from msrn.config import load_settings, merge
from msrn.data.decode import open_image
from msrn.data.transforms import eval_transform
from msrn.engine.distributed import make_fabric
from msrn.engine.evaluate import evaluate_scores
from msrn.engine.scoring import score_split
from msrn.engine.setup import read_named_split
from msrn.inference.autotune import TIMED_ON_CPU, _seconds, optimize
from msrn.inference.variants import variants


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="bundle or run folder, trained on VOC 2007")
    parser.add_argument("--root", required=True, help="VOCdevkit")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--limit", type=int, help="maximum number of images of the split")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()

    bundle = read_bundle(args.bundle)
    chosen = {"data": {"root": args.root, args.split: args.split}, "run": {"device": args.device}}
    settings = load_settings(merge(bundle.metadata.settings, chosen), "benchmark")
    manifest = read_named_split(settings, args.split, bundle.labels)
    manifest = manifest.first(args.limit or len(manifest))
    fabric = make_fabric(settings)
    bundle.model.to(fabric.device)
    transform = eval_transform(bundle.preprocessing)
    images = torch.stack([transform(open_image(manifest.path(row))) for row in range(min(32, len(manifest)))])
    images = images.to(fabric.device)

    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{args.bundle}: {settings.model.head.name} on {settings.model.backbone}, {images.shape[-1]} px")
    print(f"{optimize(bundle.model, images)}\n")

    candidates = variants(bundle.model, images)
    alone = _seconds(candidates, images[:1])
    together = _seconds(candidates, images[:TIMED_ON_CPU])
    print(f"{manifest.source}, {len(manifest):,} images")
    print(f"{'variant':64} ms, 1  ms, {TIMED_ON_CPU}    mAP  change of mAP  largest change of p  99.9 %")
    loaded: tuple[np.ndarray, float] | None = None
    for variant, single, batch in zip(candidates, alone, together, strict=True):
        scores = score_split(variant, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)
        mean_ap = 100 * evaluate_scores(scores, manifest, difficult=settings.data.difficult).metrics.mean_ap
        loaded = loaded or (scores, mean_ap)
        change = np.abs(scores - loaded[0])
        print(
            f"{variant.name:64}{1e3 * single:6.1f}{1e3 * batch:7.1f}{mean_ap:7.2f}{mean_ap - loaded[1]:15.3f}"
            f"{change.max():21.1e}{np.quantile(change, 0.999):8.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
