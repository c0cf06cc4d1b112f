"""Devices, processes, and batch statistics over all processes."""

from __future__ import annotations

import functools
import os
import resource
from datetime import timedelta

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from timm.layers import convert_sync_batchnorm
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from msrn.config import RunSettings, Settings
from msrn.engine.processes import end_with_first, start_others
from msrn.errors import ConfigError
from msrn.models.classifier import MultiLabelClassifier

__all__ = ["launch", "make_fabric", "peak_memory", "share_norms"]

PATIENCE = timedelta(days=7)
"""How long a process waits for the others, which may be filling a cache; one that has ended is noticed otherwise."""


def make_fabric(settings: Settings) -> Fabric:
    """Devices and processes for training.

    Raises:
        ConfigError: the batch size cannot be divided evenly, or as ``launch``.
    """
    devices, nodes = _numbers(settings.run)
    processes = devices * nodes
    if settings.data.batch_size % (settings.optim.accumulate * processes):
        raise ConfigError(
            f"data.batch_size ({settings.data.batch_size}) must be divisible by optim.accumulate x processes "
            f"({settings.optim.accumulate} x {processes})",
            where="data.batch_size",
        )
    return launch(settings.run)


def launch(run: RunSettings) -> Fabric:
    """Devices and processes; torchrun's own numbers win over the settings.

    Raises:
        ConfigError: there is no CUDA device where one is needed.
    """
    if run.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device was found", where="run.device", hint="use cpu or auto")
    on_cpu = run.device == "cpu" or not torch.cuda.is_available()
    if run.precision == "16-mixed" and on_cpu:
        raise ConfigError("16-mixed needs a CUDA device", where="run.precision", hint="use bf16-mixed or 32-true")
    devices, nodes = _numbers(run)
    processes = devices * nodes
    together = DDPStrategy(timeout=PATIENCE) if processes > 1 else None
    fabric = Fabric(
        accelerator=run.device,
        devices=devices,
        num_nodes=nodes,
        strategy=together or "auto",
        precision=run.precision,
    )
    environment = together and together.cluster_environment
    if environment and not environment.creates_processes_externally:
        start_others(processes, port=environment.main_port)
    end_with_first()
    fabric.launch()
    return fabric


def _numbers(run: RunSettings) -> tuple[int, int]:
    """Devices of this machine, and machines."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", run.devices)), int(os.environ.get("GROUP_WORLD_SIZE", 1))


def share_norms(model: MultiLabelClassifier, fabric: Fabric) -> MultiLabelClassifier:
    """Make batch norms in training use the statistics of the whole global batch, as one process would.

    On CUDA this is torch's SyncBatchNorm (timm's form of it, which keeps activations inside norms). SyncBatchNorm runs
    on CUDA alone; on a CPU the norms' ``forward`` is replaced, weights and names stay. With one process nothing is
    done.
    """
    if fabric.world_size == 1:
        return model
    if fabric.device.type == "cuda":
        converted: MultiLabelClassifier = convert_sync_batchnorm(model)
        return converted
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.forward = functools.partial(_shared_norm, module)  # type: ignore[method-assign]
    return model


def _shared_norm(module: _BatchNorm, features: Tensor) -> Tensor:
    """The module's own ``forward`` with mean and variance over all processes: ``(B, C, ...)``."""
    if not module.training or module.running_mean is None or module.running_var is None:
        return type(module).forward(module, features)
    axes = [axis for axis in range(features.ndim) if axis != 1]
    shape = [1, -1] + [1] * (features.ndim - 2)
    values = features.float()
    count = values.numel() // values.shape[1] * dist.get_world_size()
    mean = _OverProcesses.apply(values.sum(axes)) / count  # (C,)
    centred = values - mean.view(shape)
    variance = _OverProcesses.apply(centred.square().sum(axes)) / count
    momentum = 0.1 if module.momentum is None else module.momentum
    with torch.no_grad():
        module.running_mean.lerp_(mean, momentum)
        module.running_var.lerp_(variance * count / max(1, count - 1), momentum)
        if module.num_batches_tracked is not None:
            module.num_batches_tracked.add_(1)
    normed = centred * torch.rsqrt(variance + module.eps).view(shape)
    if module.affine:
        normed = normed * module.weight.view(shape) + module.bias.view(shape)
    normed = normed.to(features.dtype)
    for name in ("drop", "act"):  # timm's norms carry their activation
        normed = getattr(module, name)(normed) if hasattr(module, name) else normed
    return normed


def peak_memory(fabric: Fabric) -> int:
    """Largest use so far, bytes: of the device on CUDA, of this process (resident) on a CPU."""
    if fabric.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(fabric.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _OverProcesses(torch.autograd.Function):
    """Sum over processes, forward and backward."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
