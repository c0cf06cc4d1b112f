"""Runs as users met them in public reports: folders that hold something, data that changed, odd networks.

Cases that are tested elsewhere: a renamed label between stop and resume (r04), moved data (r22) in
``engine/test_resume.py``; ``model.freeze n`` (r05) in ``models/test_backbone.py``; a process that forks (r06) in
``faults``.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.nn import BatchNorm2d

from msrn.bundle.read import read_bundle
from msrn.bundle.write import write_bundle
from msrn.models.backbone import Backbone
from msrn.models.classifier import memory_layout

Run = Callable[..., Any]


@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0", "fastvit_t8"])
def test_r01_networks_that_corrupt_memory_in_channels_last_are_kept_from_it(name: str) -> None:
    backbone = Backbone(name, stages=(-1,), weights="none")
    assert memory_layout(backbone) is torch.contiguous_format
    assert memory_layout(Backbone("test_resnet", stages=(-1,), weights="none")) is torch.channels_last


def test_r02_a_folder_of_the_user_is_not_written_to(small: Run) -> None:
    Path("bundle").mkdir()
    Path("bundle/app.js").write_text("precious")
    Path("settings.yaml").write_text("mine: 1\n")
    said = small("--run.folder=.")
    assert said.code == 2
    assert "expected an empty or new folder for the run, found bundle, data, settings.yaml" in said.err
    assert Path("bundle/app.js").read_text() == "precious"
    assert Path("settings.yaml").read_text() == "mine: 1\n"


def test_r03_a_finished_run_without_its_checkpoint_is_not_replaced(small: Run) -> None:
    assert small("--run.folder=run").code == 0
    Path("run/last.pt").unlink()
    kept = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    said = small("--model.head=average_pool", "--run.folder=run")
    assert said.code == 2
    assert "expected an empty or new folder" in said.err
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == kept


def test_r08_every_file_of_a_bundle_may_be_read_as_the_umask_allows(tiny_run: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o044 for path in (tiny_run / "bundle").iterdir()}
    assert set(modes.values()) == {0o044}, modes


def test_r09_weights_that_share_memory_become_a_bundle_that_comes_back(tiny_run: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_run, precompute=False)
    norms = [name for name, module in bundle.model.named_modules() if isinstance(module, BatchNorm2d)]
    first, second = (
        norms[0],
        next(name for name in norms[1:] if width(bundle.model, name) == width(bundle.model, norms[0])),
    )
    bundle.model.get_submodule(second).weight = bundle.model.get_submodule(first).weight
    write_bundle(tmp_path / "tied", bundle.model, bundle.inputs, bundle.metadata)
    state = read_bundle(tmp_path / "tied", precompute=False).model.state_dict()
    assert torch.equal(state[f"{first}.weight"], state[f"{second}.weight"])


def width(model: nn.Module, name: str) -> int:
    return len(model.get_submodule(name).weight)


def may_mount() -> bool:
    """Whether this process may give a child a /dev/shm of its own."""
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=4m tmpfs /dev/shm"]
    return bool(which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs the right to mount a small /dev/shm")
def test_r11_a_small_dev_shm_is_named_with_the_setting_that_avoids_it(small: Run) -> None:
    command = [sys.executable, "-m", "msrn", "train", "--preset=tiny", "--data.root=data", "--data.train=few.csv"]
    command += [
        "--data.val=none",
        "--data.image_size=448",
        "--data.batch_size=16",
        "--data.workers=2",
        "--run.folder=run",
    ]
    script = f"mount -t tmpfs -o size=4m tmpfs /dev/shm && exec {shlex.join(command)}"
    said = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=200
    )
    assert said.returncode == 2, said.stderr
    assert "ran out of shared memory (/dev/shm)" in said.stderr
    assert "--data.workers 0" in said.stderr
    assert "Traceback" not in said.stderr
    assert not Path("run").exists()


def test_r14_a_preset_in_a_settings_file_is_applied(msrn: Run) -> None:
    Path("c.yaml").write_text("preset: tiny\ndata: {train: data/train.csv}\n")
    said = msrn("train", "--config", "c.yaml", "--print_config")
    found = yaml.safe_load(said.out)
    assert (found["preset"], found["model"]["backbone"], found["data"]["image_size"]) == ("tiny", "test_resnet", 64)


def test_r16_labels_that_no_training_image_shows_are_named(small: Run) -> None:
    names = Path("data/labels.txt").read_text().split()
    Path("data/more.txt").write_text("\n".join([*names, "zeppelin"]) + "\n")
    said = small("--data.labels=data/more.txt", "--run.folder=run")
    assert said.code == 0
    assert re.search(r"training split: no known positive for .*zeppelin", said.err)
    assert json.loads(Path("run/bundle/bundle.json").read_text())["thresholds"]["zeppelin"] == 0.5


def test_r20_sizes_that_a_network_takes_are_named_and_are_taken(small: Run) -> None:
    chosen = ["--model.backbone=levit_128s", "--model.head=max_pool", "--data.batch_size=4"]
    said = small(*chosen, "--data.image_size=100", "--run.folder=run")
    assert said.code == 2
    found = re.search(r"levit_128s cannot be trained on images of 100 px(?s:.*)sizes that fit: ([\d, ]+)", said.err)
    assert found, said.err
    assert not Path("run").exists()
    assert small(*chosen, f"--data.image_size={found[1].split(', ')[0]}", "--run.folder=run").code == 0


def test_r22_a_run_that_does_not_find_its_data_says_how_to_name_it_and_how_to_train_longer(
    small: Run, msrn: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small("--run.folder=run").code == 0
    run = Path("run").resolve()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    said = msrn("train", "--resume", str(run))
    assert said.code == 2
    assert "say where: --data.root" in said.err
    data = run.parent / "data"
    moved = [f"--data.root={data}", f"--data.labels={data / 'labels.txt'}"]
    assert msrn("train", "--resume", str(run), *moved).code == 0
    said = msrn("train", "--resume", str(run), *moved, "--optim.epochs=9")
    assert said.code == 2
    assert "optim.epochs was 1 in this run and is now 9" in said.err
    assert "start a new run" in said.err


def test_r27_16_mixed_on_a_cpu_is_refused_before_anything_is_written(small: Run) -> None:
    said = small("--run.precision=16-mixed", "--run.folder=run")
    assert said.code == 2
    assert "16-mixed needs a CUDA device" in said.err
    assert not Path("run").exists()


def test_r29_a_validation_label_that_training_lacks_comes_with_a_way_to_add_it(small: Run) -> None:
    Path("data/unseen.csv").write_text("image,labels\nimages/val/000000.jpg,cat|sun\nimages/val/000001.jpg,-\n")
    said = small("--data.val=unseen.csv", "--data.labels=", "--run.folder=run")
    assert said.code == 2
    assert "the validation split has labels that the training split lacks: cat" in said.err
    assert "--data.labels FILE" in said.err
