"""What the training of both towers shares: which parameters decay, and states that are written whole or not at all."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters for AdamW: matrices decay; biases, norms, embeddings and position biases do not."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in named:
        plain = parameter.ndim < 2 or "embeddings" in name or "position_bias" in name
        (others if plain else matrices).append(parameter)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a state of tensors and numbers."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state
