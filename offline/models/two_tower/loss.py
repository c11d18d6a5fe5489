"""Softmax over shared sampled candidates, forward and backward in one pass over row blocks.

The plain form writes (users x candidates) logits, probabilities and gradients several times; on a
CPU those passes over memory, not the products, are the cost. Here a block of rows stays in cache
from product to gradient, and the products run in bfloat16. It knows no towers or histories.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor

EXCLUDED: Final = -1e4


@dataclass(frozen=True, slots=True)
class Targets:
    """Which candidates are right, and which must not count as wrong; rows ascend in both pairs.

    `rows`, `columns`, `weights` (T,) are the positives, weights sum to 1; `excluded_rows`,
    `excluded_columns` (X,) known items of the same user; `log_inclusion` (C,) the log probability
    that the candidate is in the sample.
    """

    rows: Tensor
    columns: Tensor
    weights: Tensor
    excluded_rows: Tensor
    excluded_columns: Tensor
    log_inclusion: Tensor


def sampled_softmax(
    users: Tensor,
    items: Tensor,
    targets: Targets,
    low_precision: bool,
    block_rows: int = 128,
    added: Tensor | None = None,
) -> Tensor:
    """Weighted cross-entropy of users (U, d) against candidates (C, d), a scalar.

    `added` (U, C) are further terms of the logits.

    logQ correction (Yi et al. 2019) over a mix of batch and uniform candidates (Yang et al.
    2020): each candidate counts 1 / P(it is in the sample), so that the sum estimates the full
    softmax's (Horvitz and Thompson 1952).
    """
    loss: Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        users, items, targets, low_precision, block_rows, added
    )
    return loss


class _SampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        targets: Targets,
        low: bool,
        block: int,
        added: Tensor | None,
    ) -> Tensor:
        kind = torch.bfloat16 if low else torch.float32
        narrow = items.detach().to(kind)
        user_grad, item_grad = torch.empty_like(users), torch.zeros_like(items)
        added_grad = None if added is None else torch.empty_like(added)
        mass = users.new_zeros(len(users)).index_add_(0, targets.rows, targets.weights)
        loss = users.new_zeros(())
        for part in _blocks(targets, len(users), block):
            rows = users[part.start : part.start + block].detach().to(kind)
            logits = (rows @ narrow.T).float()
            if added is not None:
                logits += added[part.start : part.start + block].detach()
            loss += _softmax_gradient_(logits, targets, part, mass)
            if added_grad is not None:
                added_grad[part.start : part.start + block] = logits
            error = logits.to(kind)
            user_grad[part.start : part.start + block] = (error @ narrow).float()
            item_grad += (error.T @ rows).float()
        ctx.save_for_backward(user_grad, item_grad, added_grad)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None, None, None, Tensor | None]:
        user_grad, item_grad, added_grad = ctx.saved_tensors
        added = None if added_grad is None else added_grad * grads[0]
        return user_grad * grads[0], item_grad * grads[0], None, None, None, added


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows from `start` on, with the entries of `Targets` that lie in them."""

    start: int
    target: slice
    excluded: slice


def _blocks(targets: Targets, num_rows: int, block: int) -> list[_Block]:
    starts = list(range(0, num_rows, block))
    edges = torch.tensor([*starts, num_rows], device=targets.rows.device)
    target = torch.searchsorted(targets.rows, edges).tolist()
    excluded = torch.searchsorted(targets.excluded_rows, edges).tolist()
    spans = zip(starts, pairwise(target), pairwise(excluded), strict=True)
    return [_Block(start, slice(*right), slice(*known)) for start, right, known in spans]


def _softmax_gradient_(logits: Tensor, targets: Targets, part: _Block, mass: Tensor) -> Tensor:
    """Turns logits (R, C) into d loss / d logits in place; returns the block's loss."""
    rows, columns = targets.rows[part.target] - part.start, targets.columns[part.target]
    weights = targets.weights[part.target]
    positive = logits[rows, columns]
    logits.sub_(targets.log_inclusion)
    known_rows = targets.excluded_rows[part.excluded] - part.start
    known = (known_rows, targets.excluded_columns[part.excluded])
    logits.index_put_(known, logits.new_tensor(EXCLUDED))
    peak = logits.amax(1, keepdim=True)
    total = logits.sub_(peak).exp_().sum(1, keepdim=True)
    log_total = (peak + total.log()).squeeze(1)
    logits.mul_(mass[part.start : part.start + len(logits), None] / total)
    logits.index_put_((rows, columns), -weights, accumulate=True)
    return ((log_total[rows] - positive) * weights).sum()
