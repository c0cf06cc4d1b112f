"""How fast is semantic attention on this GPU, in which memory, and how far from what the GPU could do at best?

    python benchmarks/gpu_operator.py --out results

First every form is held against the definition in float64; a wrong one ends the run. Then two ceilings are measured: a
large copy, and exponentials that wait for nothing. They give the floor of a size: the larger of two times, that of
reading the features once for each pass and writing their gradient, and that of one exponential for each image, vector,
channel and position in each pass. Sizes are those of the published networks at 448 pixels; a form that runs out of
memory is a result. Results go to ``gpu_operator.json`` in the folder; a table is printed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.testing import do_bench

from msrn.ops.semantic_attention import semantic_attention, semantic_attention_reference

WIDTH = 512
LABEL_SETS = {"COCO": 84, "VOC": 24}
"""Labels and groups: K."""
POSITIONS = (784, 196, 49)
BATCHES = (64, 16)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PASSES = ("forward", "forward + backward")
SIZE = ("labels", "dtype", "positions", "images", "passes")
"""What names a row of the results, beside its form."""
CHECKED = ((784, 24), (196, 84), (49, 84))
"""N and K."""
BOUNDS = {"fp32": 1e-5, "bf16": 1e-2}
"""Of the norm of the true result."""
FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "triton": functools.partial(semantic_attention, form="triton"),
    "triton, channels last": functools.partial(semantic_attention, form="triton"),
    "chunked": functools.partial(semantic_attention, form="chunked"),
    "plain": semantic_attention_reference,
    "compiled": lambda features, vectors: compiled_reference()(features, vectors),
}
"""Channels last is what the network gives."""


@dataclass(frozen=True)
class Ceilings:
    """What this GPU can do: ``bytes_per_second`` read plus written, ``exponentials_per_second``."""

    bytes_per_second: float
    exponentials_per_second: float

    def floor_ms(self, images: int, positions: int, count: int, width: int, item_bytes: int, passes: str) -> float:
        """Milliseconds under which no form that stores no product can come, by these ceilings."""
        features, results = images * positions * width, images * count * width
        exponentials, moved = features * count, (features + results) * item_bytes
        if passes == "forward + backward":  # features twice and their gradient once; the result and its gradient
            exponentials, moved = 2 * exponentials, (3 * features + 2 * results) * item_bytes
        return 1e3 * max(moved / self.bytes_per_second, exponentials / self.exponentials_per_second)


def main(arguments: list[str] | None = None) -> None:
    """Checks, measures, writes, prints. Ends with 2 without a GPU, with 1 after a wrong result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu_operator.json; made if missing")
    parser.add_argument("--minutes", type=float, default=7.0, help="after this long only triton is measured")
    options = parser.parse_args(arguments)
    need_gpu("gpu_operator")
    deadline = time.monotonic() + 60 * options.minutes
    errors = check()
    ceilings = Ceilings(copy_rate(), exponential_rate())
    print(
        f"{machine()['gpu']}: {ceilings.bytes_per_second / 1e12:.2f} TB/s copied, "
        f"{ceilings.exponentials_per_second / 1e12:.2f} T exponentials/s\n",
        flush=True,
    )
    rows = []
    sizes = list(itertools.product(LABEL_SETS, DTYPES, POSITIONS, BATCHES, PASSES))
    for form in FORMS:  # one form at a time, the rivals last: if time runs out, it is theirs
        for size in sizes:
            late = not form.startswith("triton") and time.monotonic() > deadline
            rows.append(describe(form, size, {"failed": "not measured: out of time"} if late else {}, ceilings))
    document = {"machine": machine(), "ceilings": asdict(ceilings), "errors": errors, "rows": rows}
    write(options.out / "gpu_operator.json", document)
    print(table(rows))


def need_gpu(name: str) -> None:
    """Ends with 2, and says why, where there is no GPU."""
    if not torch.cuda.is_available():
        print(
            f"{name} measures on a GPU, and this torch finds none: run it where torch.cuda.is_available() is true "
            "(nvidia-smi shows the GPUs of a machine; a torch built for CPUs shows none of them).",
            file=sys.stderr,
        )
        raise SystemExit(2)


def describe(
    form: str, size: tuple[str, str, int, int, str], result: dict[str, Any], ceilings: Ceilings
) -> dict[str, Any]:
    """One row of the results; measured here unless ``result`` is given."""
    labels, dtype, positions, images, passes = size
    result = result or measure(form, images, positions, LABEL_SETS[labels], DTYPES[dtype], passes)
    floor = ceilings.floor_ms(images, positions, LABEL_SETS[labels], WIDTH, DTYPES[dtype].itemsize, passes)
    share = {"share_of_floor": floor / result["ms"]} if "ms" in result else {}
    return {"form": form, **dict(zip(SIZE, size, strict=True)), **result, "floor_ms": floor, **share}


@functools.cache
def compiled_reference() -> Callable[[Tensor, Tensor], Tensor]:
    """The plain form under torch.compile, which takes seconds to load: not before it is measured."""
    return torch.compile(semantic_attention_reference, dynamic=False)


def draw(
    form: str, images: int, positions: int, count: int, dtype: torch.dtype, width: int = WIDTH
) -> tuple[Tensor, Tensor, Tensor]:
    """Features as a convolution leaves them, vectors, and a gradient of the result."""
    if form.endswith("channels last"):
        features = torch.randn(images, positions, width, device="cuda", dtype=dtype)
    else:
        features = torch.randn(images, width, positions, device="cuda", dtype=dtype).transpose(1, 2)
    vectors = torch.randn(count, width, device="cuda", dtype=dtype)
    grad = torch.randn(images, count, width, device="cuda", dtype=dtype)
    return features.requires_grad_(), vectors.requires_grad_(), grad


def run(form: str, passes: str, features: Tensor, vectors: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """The result and, with ``forward + backward`` the two gradients."""
    if passes == "forward":
        with torch.no_grad():
            return (FORMS[form](features, vectors),)
    pooled = FORMS[form](features, vectors)
    return pooled, *torch.autograd.grad(pooled, (features, vectors), grad)


def check() -> list[dict[str, Any]]:
    """Each form against the definition in float64, and triton against itself, bit by bit."""
    rows, wrong = [], []
    for (name, dtype), (positions, count) in itertools.product(DTYPES.items(), CHECKED):
        for form in FORMS:
            torch.compiler.reset()
            inputs = draw(form, 2, positions, count, dtype)
            row: dict[str, Any] = {"form": form, "dtype": name, "positions": positions, "vectors": count}
            rows.append(row)
            try:
                results = run(form, PASSES[1], *inputs)
            except Exception as failure:
                if form.startswith("triton"):
                    raise
                row["failed"] = type(failure).__name__  # a rival that cannot run is a result, as in ``measure``
                continue
            true_inputs = [tensor.detach().double().requires_grad_() for tensor in inputs[:2]]
            pooled = semantic_attention_reference(*true_inputs)
            truth = (pooled, *torch.autograd.grad(pooled, true_inputs, inputs[2].double()))
            row["error"] = max(
                ((ours.double() - true).norm() / true.norm()).item() for ours, true in zip(results, truth, strict=True)
            )
            if form.startswith("triton"):
                again = run(form, PASSES[1], *inputs)
                row["same_bits"] = all(torch.equal(one, other) for one, other in zip(results, again, strict=True))
            # The plain form in bfloat16 rounds its sums: that is reported, not refused.
            exact = form.startswith("triton") or name == "fp32"
            if not row.get("same_bits", True) or (exact and not row["error"] <= BOUNDS[name]):  # NaN is wrong
                wrong.append(row)
    if wrong:
        print("wrong results:", *wrong, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)
    return rows


def measure(form: str, images: int, positions: int, count: int, dtype: torch.dtype, passes: str) -> dict[str, Any]:
    """Median milliseconds, and MiB held at the peak beyond the inputs; or why there are none."""
    torch.cuda.empty_cache()
    torch.compiler.reset()  # after eight sizes of one function it would give up, silently
    try:
        inputs = draw(form, images, positions, count, dtype)
        run(form, passes, *inputs)  # compiles, and fills caches that stay
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run(form, passes, *inputs)
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        ms = do_bench(lambda: run(form, passes, *inputs), warmup=25, rep=150, return_mode="median")
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    except Exception as error:  # a rival's compiler may refuse a size: that too is a result
        if form.startswith("triton"):
            raise
        return {"failed": type(error).__name__, "message": str(error)[:500]}
    return {"ms": ms, "peak_mib": peak / 2**20}


def copy_rate() -> float:
    """Bytes read plus bytes written in a second, in a copy far larger than any cache."""
    free = torch.cuda.mem_get_info()[0]
    source = torch.randn(min(2**30, free // 16), device="cuda")
    target = torch.empty_like(source)
    ms = do_bench(lambda: target.copy_(source), warmup=25, rep=200, return_mode="median")
    return 2 * source.nbytes / ms * 1e3


def exponential_rate(turns: int = 4096, programs: int = 132 * 64) -> float:
    """Exponentials in a second: 8 chains in every thread, in registers."""
    start = torch.rand(1024, device="cuda")
    target = torch.empty(programs, device="cuda")
    ms = do_bench(
        lambda: chains[(programs,)](start, target, turns, num_warps=4), warmup=25, rep=200, return_mode="median"
    )
    return programs * 1024 * turns / ms * 1e3


@triton.jit(do_not_specialize=["turns"])  # type: ignore[untyped-decorator]
def chains(start_ptr, target_ptr, turns):  # type: ignore[no-untyped-def]
    """``x = 2 ** -x`` again and again, which stays between 0 and 1."""
    x = tl.load(start_ptr + tl.arange(0, 1024))
    for _ in tl.range(0, turns, 8):
        for _ in tl.static_range(8):
            x = tl.exp2(-x)
    tl.store(target_ptr + tl.program_id(0), tl.sum(x))


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    return {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
    }


def write(path: Path, document: dict[str, Any]) -> None:
    """JSON, written beside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each size, a column for each form; ``ms / MiB at the peak``."""
    sizes = list(dict.fromkeys(tuple(row[key] for key in SIZE) for row in rows))
    found = {(row["form"], *(row[key] for key in SIZE)): row for row in rows}
    lines = [
        "| " + " | ".join([*SIZE, "floor, ms", *FORMS, "triton: floor / time", "plain / triton"]) + " |",
        "|" + "---|" * (len(SIZE) + len(FORMS) + 3),
    ]
    for size in sizes:
        triton_row, plain = found["triton", *size], found["plain", *size]
        cells = [
            f"{row['ms']:.3f} / {row['peak_mib']:,.0f}" if "ms" in row else row["failed"]
            for row in (found[form, *size] for form in FORMS)
        ]
        share = f"{triton_row['share_of_floor']:.0%}" if "ms" in triton_row else "-"
        faster = f"{plain['ms'] / triton_row['ms']:.1f} x" if "ms" in plain and "ms" in triton_row else "-"
        names = [str(part) for part in size]
        lines.append("| " + " | ".join([*names, f"{triton_row['floor_ms']:.3f}", *cells, share, faster]) + " |")
    return "\n".join([*lines, "", "Cells of forms: median ms / MiB held at the peak beyond the inputs."])


if __name__ == "__main__":
    main()
