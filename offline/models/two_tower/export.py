"""The user tower as ONNX, so that the last click moves the user's vector online without torch.

Inputs, for histories oldest first and filled up at the end: `vectors` (B, L, d), the items' raw
vectors; `salience` (B, L), their log weights; `strength` (B, L), how much the user had of each, 0
for no item; and, where the tower takes any, `context` (B, K) int64, filled up with -1. Output
`user` (B, d) float32, length 1. The item tables are not in it: they are columns beside it, which
processes share and which products that come later get rows in. Affinities are not in it: they are
sums over what the item has, for whoever scores the candidates that the vector found.
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
from offline.models.two_tower.model import TwoTower

TOLERANCE: Final = 1e-5
ABSENT: Final = -1
SMALLEST: Final = 1e-9

Inputs = dict[str, NDArray[np.generic]]


class ServedUserTower(nn.Module):
    """The padded form of `TwoTower.users`."""

    def __init__(self, model: TwoTower) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, vectors: Tensor, salience: Tensor, strength: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Padded histories to unit vectors (B, d)."""
        model, present = self.model, strength > 0
        logits = salience + strength.clamp(min=SMALLEST).log()
        if model.query is not None:
            logits = logits + vectors @ model.query * model.config.dim**-0.5
        if model.recency is not None:
            ages = present.sum(1, keepdim=True) - 1 - torch.arange(strength.shape[1])
            logits = logits + model.place(ages.clamp(min=0))
        weights = torch.softmax(logits.masked_fill(~present, -1e9), 1) * present
        pooled = torch.bmm(weights.unsqueeze(1), vectors).squeeze(1) + model.prior
        if model.context is not None and context is not None:
            described = model.context[context.clamp(min=0)]
            pooled = pooled + (described * (context >= 0).unsqueeze(2)).sum(1)
        return nn.functional.normalize(pooled, dim=1)


def export_user_tower(
    towers: FittedTowers, histories: Ragged, context: Ragged | None = None
) -> bytes:
    """The ONNX bytes; ValueError when they disagree with torch on the given users."""
    inputs = inputs_of(towers, histories, context)
    exported = _export(ServedUserTower(towers.model).eval(), inputs)
    served = run_user_tower(exported, inputs)
    difference = float(np.abs(served - towers.embed(histories, context)).max(initial=0.0))
    if difference > TOLERANCE:
        raise ValueError(f"the exported user tower differs from torch by {difference:.1e}")
    return exported


def inputs_of(towers: FittedTowers, histories: Ragged, context: Ragged | None = None) -> Inputs:
    """What the exported tower takes of these users."""
    items = pad(histories)
    strength = (items != ABSENT).astype(np.float32)
    if histories.weights is not None:
        strength[items != ABSENT] = histories.weights
    known = np.maximum(items, 0)
    inputs: Inputs = {
        "vectors": towers.vectors.numpy()[known],
        "salience": towers.salience.numpy()[known],
        "strength": strength,
    }
    return inputs if context is None else inputs | {"context": pad(context)}


def _export(tower: ServedUserTower, inputs: Inputs) -> bytes:
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
            dynamic_axes={
                name: {0: "users", 1: "described" if name == "context" else "history"}
                for name in inputs
            },
            dynamo=False,
        )
    return buffer.getvalue()


def run_user_tower(onnx: bytes, inputs: Inputs) -> NDArray[np.float32]:
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
