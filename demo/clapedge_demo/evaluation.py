"""Accuracy of an audio tower in training, on sounds that it has not heard."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import ClapModel

from clapedge.arrays import Float32Array
from clapedge_demo.anchors import CLASSES, make_anchors
from clapedge_demo.augment import FLOOR_DB
from clapedge_demo.data import Mel, Sounds
from clapedge_demo.tower import TrainingTower, clip_frames

ROWS_AT_ONCE = 32


@torch.no_grad()
def accuracy(model: ClapModel, sounds: Sounds, kinds: Sequence[str]) -> float:
    """Return the share of sounds whose embedding is nearest to the anchor of their own kind among `kinds`."""
    anchors = make_anchors(model.config.projection_dim)[[CLASSES.index(kind) for kind in kinds]]
    truth = torch.tensor([list(kinds).index(label) for label in sounds.labels])
    best = (embed_mels(model.eval(), sounds.mels) @ anchors.T).argmax(1)
    return float((best == truth).float().mean())


def embed_mels(model: ClapModel, mels: Sequence[Mel]) -> Tensor:
    """Return unit embeddings (N, E) of sounds, each as one repeatpad clip."""
    tower = TrainingTower(model).eval()
    clips = torch.from_numpy(np.stack([repeat_pad(mel.astype(np.float32)) for mel in mels]))
    none = clips.new_zeros(0, 3, *clips.shape[1:])
    return torch.cat([tower(part, none) for part in clips.split(ROWS_AT_ONCE)])


def repeat_pad(mel: Float32Array) -> Float32Array:
    """Fill a clip (1001, 64) with whole copies of a mel and then silence; of a longer one keep the beginning."""
    frames = clip_frames()
    clip = np.full((frames, mel.shape[1]), FLOOR_DB, np.float32)
    filled = np.tile(mel, (max(1, frames // len(mel)), 1))[:frames]
    clip[: len(filled)] = filled
    return clip
