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
        # a product, since CUDA reduces with cuDNN, which nothing else of a tower needs
        squared = rows[:, None] @ rows[:, :, None]
        return rows / squared.squeeze(-1).sqrt().clamp_min(SMALLEST_NORM)


class Mean(nn.Module):
    """The mean over tokens as a product with a column of 1 / tokens.

    A reduction in half precision adds in half: silence alone exceeds its range over 4096 tokens. A product adds in
    float32, and powers of two are exact in half.
    """

    column: Tensor

    def __init__(self, tokens: int) -> None:
        """Make the column for so many tokens."""
        super().__init__()
        self.register_buffer("column", torch.full((tokens, 1), 1.0 / tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn (batch, tokens, width) into (batch, width)."""
        return (tokens.transpose(1, 2) @ self.column).squeeze(-1)


def qkv(attention: Original) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Return q, k and v of an attention, with the scale of the scores folded into q."""
    scale = 1.0 / math.sqrt(attention.attention_head_size)
    query, bias = attention.query, attention.query.bias
    scaled = linear(query.weight * scale, None if bias is None else bias * scale)
    return scaled, attention.key, attention.value


def side_by_side(*parts: Original) -> nn.Linear:
    """Return layers that read the same as one, whose outputs follow one another; all have a bias, or none has."""
    weight = torch.cat([part.weight for part in parts])
    return linear(weight, None if parts[0].bias is None else torch.cat([part.bias for part in parts]))


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a layer that holds copies of `weight` (out, in) and `bias` (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer
