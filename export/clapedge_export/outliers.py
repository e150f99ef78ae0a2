"""Outlier channels are folded into the weights that read them, from the weights alone.

Trained transformers have channels that are hundreds of times as large as their neighbours, and weights behind them
that are as much smaller. Eight bits with one scale for all channels see only the outliers then, and half precision
comes near its ends. Here such a channel is divided, and the weights that read it multiplied, by the same power of two:
float32 computes the same, to the last bit.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from clapedge_export.layers import Original, linear
from clapedge_export.smoothing import smoothing_logarithms

ALPHA = 0.75
"""More than SmoothQuant's own 0.5, as weights have a scale an output channel and activations one for all: with a small
random model 0.5 left a least cosine of 0.9990, 0.7 and 1 leave 0.9994. Larger models do not tell them apart."""

REACH = 3.0
"""Standard deviations that a LayerNorm's channel is taken to reach: its input has a deviation of 1."""

MOST = 16
"""Largest power of two by which a channel is divided or multiplied: 65536, as far as half precision reaches."""

LEAST = 1e-30
"""Magnitude that a channel of zeros counts as: any will do that has a logarithm."""


def fold_norm(norm: nn.LayerNorm, readers: Sequence[nn.Linear]) -> tuple[nn.LayerNorm, tuple[nn.Linear, ...]]:
    """Return copies of a LayerNorm and of all the layers that read it, without outliers between them."""
    reach = norm.bias.abs() + REACH * norm.weight.abs()
    factors = _factors(reach, torch.cat([reader.weight for reader in readers]))
    folded = nn.LayerNorm(norm.normalized_shape, eps=norm.eps)
    folded.weight, folded.bias = _constant(norm.weight / factors), _constant(norm.bias / factors)
    return folded, tuple(linear(reader.weight * factors, reader.bias) for reader in readers)


def fold_pair(first: Original, second: Original, *, activation: nn.Module | None = None) -> tuple[Original, Original]:
    """Return two layers without outliers between them, or as they are where that would not compute the same.

    Args:
        first: its outputs are what the second reads, channel by channel.
        second: reads nothing else.
        activation: what lies between them: None, which attention is to its values, too; of others only ReLU leaves a
            positive factor as it is.
    """
    if activation is not None and not isinstance(activation, nn.ReLU):
        return first, second
    factors = _factors(first.weight.norm(dim=1), second.weight)
    return _divided(first, factors), linear(second.weight * factors, second.bias)


def fold_projection(projection: Original) -> Original:
    """Return a copy of a projection (linear, activation, linear) without outliers within it."""
    folded = copy.deepcopy(projection)
    folded.linear1, folded.linear2 = fold_pair(folded.linear1, folded.linear2, activation=folded.activation)
    return folded


def fold_opposed(query: Original, key: Original) -> tuple[nn.Linear, nn.Linear]:
    """Return copies of the layers of q and k, whose channels are multiplied by one another, with channels alike."""
    factors = _factors(query.weight.norm(dim=1), key.weight.norm(dim=1)[None])
    return _divided(query, factors), _divided(key, 1 / factors)


def _divided(layer: Original, factors: Tensor) -> nn.Linear:
    """Return a layer whose outputs are divided by a factor each."""
    return linear(layer.weight / factors[:, None], None if layer.bias is None else layer.bias / factors)


@torch.no_grad()
def _factors(reach: Tensor, weight: Tensor) -> Tensor:
    """Return the divisor of each channel, a power of two: (channels,) float32, 1 for the median channel.

    Args:
        reach: magnitude of each channel, (channels,).
        weight: of all that read them, (outputs, channels).
    """
    largest = weight.abs().amax(dim=0)
    logarithms = smoothing_logarithms(reach.numpy(), largest.numpy(), alpha=ALPHA, least=LEAST)
    powers = np.clip(np.rint(logarithms - np.median(logarithms)), -MOST, MOST)
    return torch.from_numpy(np.exp2(powers).astype(np.float32))


def _constant(values: Tensor) -> nn.Parameter:
    """Return a parameter that is not trained."""
    return nn.Parameter(values.detach(), requires_grad=False)
