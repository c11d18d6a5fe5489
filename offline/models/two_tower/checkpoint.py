"""A training run on disk: parameters, optimiser state and the step reached, whole or absent.

No generator state is kept: batches are seeded by step, so that the step is enough to go on as if
never stopped, bit by bit. It does not know what a step does.
"""

import io
from pathlib import Path
from typing import Final

import torch
from torch import nn

from feature_store.durable import replace_file

FILE: Final = "checkpoint.pt"


def save(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the checkpoint by rename; `step` is the next step to run."""
    buffer = io.BytesIO()
    state = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, buffer)
    replace_file(folder / FILE, buffer.getvalue())


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore in place and return the next step; 0 when the folder holds no checkpoint."""
    path = folder / FILE
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
