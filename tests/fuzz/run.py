"""Feed damaged and hostile files to everything that reads files: ``run.py CASES SEED FOLDER [--workers N]``.

What must hold in each case: the result is right, or one of our errors comes out; nothing is read outside the folder;
memory and time are bounded; nothing is printed. A table follows, and for each fault the case that shows it, whose files
are kept in FOLDER. ``--kind NAME --case N`` runs one case in this process. The exit code is 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

warnings.simplefilter("always")  # before msrn is imported, whose own filters come before this one
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the default one reserves address space that is not used

from drive import drive, save  # noqa: E402
from kinds import all_kinds  # noqa: E402
from watch import case_files, write_files  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kind", default="")
    parser.add_argument("--case", type=int)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    logging.getLogger("msrn").setLevel(logging.CRITICAL)
    kinds = [kind for kind in all_kinds() if kind.name.startswith(args.kind)]
    if args.case is not None:
        place = args.folder / f"{kinds[0].name}-{args.case}"
        write_files(place, case_files(kinds[0], args.seed, args.case))
        (place / "out").mkdir(exist_ok=True)
        print(kinds[0].read(place))
        return 0
    heaviness = sum(kind.share for kind in kinds)
    shares = [(kind, kind.fixed or max(1, round(args.cases * kind.share / heaviness))) for kind in kinds]
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="msrn-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        figures, findings = drive(shares, seed=args.seed, scratch=scratch, workers=args.workers)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{'kind':24} {'cases':>7} {'refused':>8} {'ms each':>8} {'slowest s':>9} {'case':>6} {'MiB':>6}")
    for name, each in figures.items():
        mean = 1000 * each.seconds / max(1, each.cases)
        print(
            f"{name:24} {each.cases:7,} {each.refused:8,} {mean:8.1f} {each.slowest:9.2f} {each.at:6} {each.mib:6.0f}"
        )
    total = sum(each.cases for each in figures.values())
    minutes = (time.monotonic() - began) / 60
    print(f"{total:,} cases of {len(kinds)} kinds, seed {args.seed}, {minutes:.1f} minutes, {len(findings)} faults")
    by_name = {kind.name: kind for kind in kinds}
    for finding in findings:
        save(finding, by_name[finding.kind], args.seed, args.folder)
        print(f"\n{finding.kind} case {finding.number} ({finding.times} times): {finding.fault}")
        print(f"  {finding.size:,} bytes in {finding.folder}")
        print(f"  again: {sys.argv[0]} 1 {args.seed} FOLDER --kind {finding.kind} --case {finding.number}")
    return int(bool(findings))


if __name__ == "__main__":
    raise SystemExit(main())
