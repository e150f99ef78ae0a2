"""Anchors: one fixed direction for every kind of sound, which both towers learn.

Trained against each other from nothing, small towers settle on one embedding for everything; anchors that are
orthogonal from the start keep the kinds apart, and each tower can be trained alone.
"""

import torch
from torch import Tensor

from clapedge_demo.wordings import WORDINGS

CLASSES = tuple(WORDINGS)
"""Every kind, in the order of the anchors and of the training targets."""

SEED = 0
"""Of the directions; towers that are to work together share it."""


def make_anchors(size: int) -> Tensor:
    """Return one unit vector for every kind, orthogonal to all others: (kinds, size)."""
    generator = torch.Generator().manual_seed(SEED)
    basis: Tensor = torch.linalg.qr(torch.randn(size, len(CLASSES), generator=generator))[0]
    return basis.T.contiguous()
