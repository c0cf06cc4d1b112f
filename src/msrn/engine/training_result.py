"""What a finished run gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["TrainingResult"]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run gives."""

    folder: Path
    bundle: Path
    best_epoch: int
    """Whose weights are in the bundle, from 1."""
    val_map: float | None
    """Validation mAP of that epoch, 0 to 1; None without a validation split."""
    minutes: float
    peak_memory_bytes: int
    """Of the device on CUDA, resident in this process on a CPU."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"folder": str(self.folder), "bundle": str(self.bundle)}
