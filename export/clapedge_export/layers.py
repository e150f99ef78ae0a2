"""Layers that both towers are made of."""

import math
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Original: TypeAlias = Any
"""A module of a checkpoint; what it holds carries no types."""

SMALLEST_NORM = 1e-12
"""Norms below this count as this, so that a zero vector stays zero (as in `torch.nn.functional.normalize`)."""


class UnitNorm(nn.Module):
    """Scales rows to unit length; a layer of its own, so that a half-precision graph can keep it in float32."""

    def forward(self, rows: Tensor) -> Tensor:
        """Scale (batch, width) to float32 rows of unit norm."""
        rows = rows.float()
        return rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(SMALLEST_NORM)


def fused_qkv(attention: Original) -> nn.Linear:
    """Return q, k and v of an attention as one layer, with the scale of the scores folded into q."""
    scale = 1.0 / math.sqrt(attention.attention_head_size)
    parts = (attention.query, attention.key, attention.value)
    scales = (scale, 1.0, 1.0)
    weight = torch.cat([part.weight * factor for part, factor in zip(parts, scales, strict=True)])
    if attention.query.bias is None:
        return linear(weight, None)
    return linear(weight, torch.cat([part.bias * factor for part, factor in zip(parts, scales, strict=True)]))


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a layer that holds copies of `weight` (out, in) and `bias` (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer
