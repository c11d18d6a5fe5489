"""The user tower as ONNX, so that the last click moves the user's vector online without torch.

Input `history` (B, L) int64, item indexes oldest first, filled up with -1 at the end, and, where
the tower takes any, `context` (B, K) int64, likewise. Output `user` (B, d) float32, length 1. The
item tables are constants of the graph. Affinities are not in it: they are sums over what the
item has, for whoever scores the candidates that the vector found.
"""

import io
import warnings
from typing import Final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from offline.models.two_tower.data import Ids, Ragged
from offline.models.two_tower.fitted import FittedTowers

TOLERANCE: Final = 1e-5
ABSENT: Final = -1


class ServedUserTower(nn.Module):
    """The padded form of `TwoTower.users`."""

    vectors: Tensor
    logits: Tensor

    def __init__(self, towers: FittedTowers) -> None:
        super().__init__()
        self.model = towers.model
        self.register_buffer("vectors", towers.vectors)
        logits = self.model.attend(towers.vectors, towers.salience)
        self.register_buffer("logits", logits.detach())

    def forward(self, history: Tensor, context: Tensor | None = None) -> Tensor:
        """Padded item indexes (B, L) to unit vectors (B, d)."""
        present = history >= 0
        known = history.clamp(min=0)
        logits = self.logits[known]
        if self.model.recency is not None:
            ages = present.sum(1, keepdim=True) - 1 - torch.arange(history.shape[1])
            logits = logits + self.model.place(ages.clamp(min=0))
        weights = torch.softmax(logits.masked_fill(~present, -1e9), 1) * present
        pooled = (weights.unsqueeze(2) * self.vectors[known]).sum(1) + self.model.prior
        if self.model.context is not None and context is not None:
            described = self.model.context[context.clamp(min=0)]
            pooled = pooled + (described * (context >= 0).unsqueeze(2)).sum(1)
        return nn.functional.normalize(pooled, dim=1)


def export_user_tower(
    towers: FittedTowers, histories: Ragged, context: Ragged | None = None
) -> bytes:
    """The ONNX bytes; ValueError when they disagree with torch on the given users.

    Histories have no weights here: the served tower takes sequences.
    """
    inputs = {"history": pad(histories)}
    if context is not None:
        inputs["context"] = pad(context)
    exported = _export(ServedUserTower(towers).eval(), inputs)
    served = run_user_tower(exported, inputs)
    difference = float(np.abs(served - towers.embed(histories, context)).max())
    if difference > TOLERANCE:
        raise ValueError(f"the exported user tower differs from torch by {difference:.1e}")
    return exported


def _export(tower: ServedUserTower, inputs: dict[str, Ids]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that needs no onnxscript says that it is the old one.
        warnings.simplefilter("ignore", (DeprecationWarning))
        torch.onnx.export(
            tower,
            tuple(torch.from_numpy(values) for values in inputs.values()),
            buffer,  # type: ignore[arg-type]
            input_names=list(inputs),
            output_names=["user"],
            dynamic_axes={name: {0: "users", 1: f"{name}_length"} for name in inputs},
            dynamo=False,
        )
    return buffer.getvalue()


def run_user_tower(onnx: bytes, inputs: dict[str, Ids]) -> NDArray[np.float32]:
    """Unit vectors (B, d), by ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    users: NDArray[np.float32] = session.run(["user"], inputs)[0]
    return users


def pad(rows: Ragged) -> Ids:
    """Ragged rows side by side, shape (rows, longest), filled up with -1 at the end."""
    lengths = np.diff(rows.starts)
    padded = np.full((len(rows), max(1, lengths.max(initial=0))), ABSENT, np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = rows.ids
    return padded
