"""Try timm networks of every family: ``make backbones`` writes the table of ``docs/reference/backbones.md``.

Each network is tried in a process of its own, with limits on time and memory, so that a crash is a row of the table.
Rows are kept in ``backbones.jsonl`` as they come: a scan that was stopped continues, and a row is made again once it is
deleted, or named on the command line. A scan takes about 20 minutes of processor time.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch
from backbone_trial import Fault, examine, train_and_predict
from timing import machine

from msrn.files import write_atomically

ROWS = Path(__file__).with_name("backbones.jsonl")
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "backbones.md"
LARGEST = 200e6
"""Networks with more parameters are not tried."""
LARGEST_SIDE, SMALLER_SIDE = 384, 256
"""Networks for larger images are tried at the smaller side: they would take minutes."""
SECONDS, BYTES = 400, 12 * 2**30
"""Limits of one network: processor time, and memory beyond what Python and torch take."""
ODD = 13
"""Pixels beyond the native size: no multiple of 14 or 16."""

MARK = "<!-- what follows is written by make backbones -->\n"
"""In the page, between what was written by hand and the table."""


def main() -> None:
    """Try what has no row yet, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="networks to try again; none: those without a row; page: none")
    parser.add_argument("--jobs", type=int, default=1, help="networks that are tried at the same time")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if args.names != ["page"]:
        scan(args.names, args.jobs)
    rows = read_rows()
    written = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    write_atomically(PAGE, f"{written}{MARK}\n{table(rows)}")
    faults = [f"{row['name']}: {row['fault']}" for row in rows if row["fault"]]
    print("\n".join([f"{len(rows)} networks, {len(faults)} faults", *faults]))
    raise SystemExit(bool(faults))


def read_rows() -> list[dict[str, Any]]:
    """The rows so far, by family; of two rows for one network the later."""
    lines = ROWS.read_text().splitlines() if ROWS.exists() else []
    rows = {row["name"]: row for row in map(json.loads, lines) if "name" in row}
    return sorted(rows.values(), key=lambda row: (row["family"], row["name"]))


# ---- choosing


def choose() -> list[tuple[int, str, str]]:
    """The smallest networks of every family: parameters, family and name; first one of each, then the others.

    timm keeps a family in a module. In a module whose networks have several kinds of names (``mobileone``, ``repvgg``),
    the smallest of up to six kinds are chosen, more the more networks there are. Counting takes minutes, so the choice
    is the first line of the rows.
    """
    lines = ROWS.read_text().splitlines() if ROWS.exists() else []
    if lines and json.loads(lines[0]).get("chosen_from") == timm.__version__:
        return [(count, family, name) for count, family, name in json.loads(lines[0])["chosen"]]
    chosen: list[tuple[int, str, str]] = []
    for family in timm.list_modules():
        names = timm.list_models(module=family)
        kinds: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        for name in names:
            kind = re.match("[a-z]+", name)
            if kind and kind[0] != "test":  # timm's own tests use those
                kinds[kind[0]].append((parameters(name), family, name))
        smallest = sorted(min(each) for each in kinds.values())
        chosen += smallest[: min(6, max(2, len(names) // 10))]
    first_of = {family: place for place, (_, family, _) in reversed(list(enumerate(chosen)))}
    chosen = sorted(chosen[place] for place in first_of.values()) + sorted(
        each for place, each in enumerate(chosen) if first_of[each[1]] != place
    )
    first = json.dumps({"chosen_from": timm.__version__, "chosen": chosen})
    ROWS.write_text("\n".join([first, *(line for line in lines if "chosen" not in json.loads(line)), ""]))
    return chosen


def parameters(name: str) -> int:
    """Of a whole network, counted without content."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in timm.create_model(name, pretrained=False).parameters())


# ---- trying


def scan(names: list[str], jobs: int) -> None:
    """Try networks, ``jobs`` at a time, each in a forked process; append their rows."""
    families = {name: family for family in timm.list_modules() for name in timm.list_models(module=family)}
    if names:
        waiting = [(parameters(name), families[name], name) for name in names]
    else:
        done = {row["name"] for row in read_rows()}
        waiting = [each for each in choose() if each[2] not in done]
    running: dict[int, tuple[dict[str, Any], Path, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        while waiting or running:
            while waiting and len(running) < jobs:
                count, family, name = waiting.pop(0)
                row = {"family": family, "name": name, "parameters": count}
                row["native"] = timm.get_pretrained_cfg(name).input_size[-1]
                place = Path(scratch) / name
                place.mkdir()
                running[_start(row, place)] = row, place, time.monotonic()
            pid, status, used = os.wait4(-1, 0)
            row, place, began = running.pop(pid)
            row = _finished(row, place, os.waitstatus_to_exitcode(status), used)
            with ROWS.open("a") as file:
                file.write(json.dumps(row) + "\n")
            spent = f"{time.monotonic() - began:.0f} s, {row['cpu_seconds']} s of processor time"
            print(f"{row['name']}: {spent}, {row['fault'] or 'done'}", flush=True)


def _start(row: dict[str, Any], place: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_AS, (held + BYTES, held + BYTES))
        found = attempt(row, place) if row["parameters"] <= LARGEST else {"fault": "", "skipped": True}
        (place / "row.json").write_text(json.dumps(found))
        code = 0
    finally:
        os._exit(code)  # not through the parent's own exit handlers


def _finished(row: dict[str, Any], place: Path, code: int, used: resource.struct_rusage) -> dict[str, Any]:
    crash = f"{signal.Signals(-code).name}" if code < 0 else f"the process ended with {code}"
    found = json.loads((place / "row.json").read_text()) if code == 0 else {"fault": crash}
    for file in sorted(place.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    measured = {"cpu_seconds": round(used.ru_utime + used.ru_stime, 1), "peak_mib": used.ru_maxrss // 1024}
    return row | measured | {"timm": timm.__version__, "torch": torch.__version__.split("+")[0]} | found


def attempt(row: dict[str, Any], place: Path) -> dict[str, Any]:
    """What the network does at its native size and at an odd one; where that is refused, at a size said to fit."""
    name, native = row["name"], row["native"] if row["native"] <= LARGEST_SIDE else SMALLER_SIDE
    found: dict[str, Any] = {"fault": ""}
    doing = "contract"
    try:
        contract = examine(name, native)
        found["contract"] = asdict(contract)
        doing = f"training at {native} px"
        first = train_and_predict(name, native, contract.stages, place)
        found["sizes"] = [asdict(first)]
        if not first.works and first.fits:
            raise Fault(first.refused)
        if not first.works:  # at any size: refused before anything was written, with the reason
            return found
        doing = f"training at {native + ODD} px"
        odd = train_and_predict(name, native + ODD, contract.stages, place, "average_pool")
        found["sizes"].append(asdict(odd))
        if others := [size for size in odd.fits if size != native]:
            near = min(others, key=lambda size: abs(size - native - ODD))
            doing = f"training at {near} px, which is said to fit"
            fitting = train_and_predict(name, near, contract.stages, place)
            found["sizes"].append(asdict(fitting))
            if not fitting.works:
                raise Fault(fitting.refused)
        elif not odd.works and not odd.fits:
            raise Fault(f"refused without sizes that fit: {odd.refused}")
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}, line {frame.lineno}"
        found["fault"] = f"{doing}: {type(error).__name__}: {str(error)[:300]} ({where})"
    return found


# ---- the page


def table(rows: list[dict[str, Any]]) -> str:
    """Counts, the machine, and the table."""
    tried = [row for row in rows if row.get("sizes")]
    odd = [row["sizes"][1]["works"] for row in tried if len(row["sizes"]) > 1]
    refused, faults = len(odd) - sum(odd), sum(bool(row["fault"]) for row in rows)
    never = sum(not row["sizes"][0]["works"] for row in tried)
    families = {row["family"] for row in tried}
    known = machine()
    versions = ", ".join(f"{name} {known[name]}" for name in ("python", "torch", "timm"))
    head = (
        "family",
        "network",
        "parameters, M",
        "native size",
        "maps: channels / stride",
        "parts",
        "native",
        "odd size",
    )
    head += ("seconds", "memory, MiB", "notes")
    lines = [
        f"{len(tried)} networks of {len(families)} of timm's {len(timm.list_modules())} families were tried; "
        f"{faults} broke a promise. {sum(odd)} take the odd size; {refused} refuse it and name sizes that fit; {never} "
        "cannot be trained and is refused with the reason.",
        "",
        f"*{known['processor']}, {known['instructions']}; {versions}.*",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(_cells(row))} |" for row in rows),
        "",
        "Next: [Heads](../guides/heads.md), [Speed and memory](../guides/speed.md).",
    ]
    return "\n".join([*lines, ""])


def _cells(row: dict[str, Any]) -> list[str]:
    contract, sizes = row.get("contract"), row.get("sizes", [])
    cells = [row["family"], f"`{row['name']}`", f"{row['parameters'] / 1e6:.1f}", f"{row['native']} px"]
    notes = [row["fault"]] if row["fault"] else []
    if row.get("skipped"):
        notes.append("not tried: the smallest network of its family is too large for this machine")
    if contract:
        cells += [
            ", ".join(f"{channels} / {stride}" for channels, stride, _ in contract["maps"]),
            str(contract["parts"]),
        ]
        if contract["stages"] < 3:
            notes.append(f"{contract['stages']} stages")
        if contract["layout"] == "first":
            notes.append("channels first in memory")
        notes += contract["notes"][:1]
    else:
        cells += ["", ""]
    if sizes and not sizes[0]["works"]:
        notes.append(f"refused: {sizes[0]['refused'].partition(';')[0]}")
    elsewhere = f" at {sizes[0]['size']} px" if sizes and sizes[0]["size"] != row["native"] else ""
    cells.append(f"works{elsewhere}" if sizes and sizes[0]["works"] else "")
    odd = f"{sizes[1]['size']} works" if len(sizes) > 1 else ""
    if odd and not sizes[1]["works"]:
        fit = (
            f"{', '.join(map(str, sizes[1]['fits']))} fit; {sizes[2]['size']} works"
            if len(sizes) > 2
            else "no other fits"
        )
        odd = f"{sizes[1]['size']} is refused; {fit}"
    cells.append(odd)
    seconds = sizes[0]["seconds"] if sizes and sizes[0]["works"] else 0
    return [*cells, f"{seconds:.2g}" if seconds else "", f"{row['peak_mib']:,}" if contract else "", "; ".join(notes)]


if __name__ == "__main__":
    main()
