"""Training batches: sounds arranged as the engine arranges recordings, short and long, varied and mixed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clapedge.arrays import Float32Array
from clapedge.features.fusion import shrink
from clapedge_demo import augment
from clapedge_demo.anchors import CLASSES
from clapedge_demo.data import Mel, Sounds
from clapedge_demo.tower import clip_frames
from clapedge_demo.wordings import RECORDED, SYNTHESISED

Item = TypeVar("Item")

LONGEST_FRAMES = 6000
"""Frames of the longest recording made for the fusion path: one minute."""

STYLES = {"joined": 0.3, "repeatpad": 0.4, "repeat": 0.15, "zero": 0.15}
"""How short clips are filled, and how often: with several sounds of a kind, or as each padding of the engine does."""


@dataclass(frozen=True)
class Recipe:
    """What batches hold.

    Attributes:
        batch: rows of a batch.
        longer: rows at its end that take the fusion path.
        recorded: share of recorded sounds once pretraining is over.
        imitated: share of imitations of recorded classes.
        pretraining: steps, the first ones, with synthesised sounds alone.
        imitated_first: share of imitations in these.
        halved: steps, the first ones, in which half a clip is heard, at half the cost.
        seed: of all that is random.
    """

    batch: int = 32
    longer: int = 6
    recorded: float = 0.6
    imitated: float = 0.06
    pretraining: int = 500
    imitated_first: float = 0.3
    halved: int = 4200
    seed: int = 0

    def quarters(self, step: int) -> int:
        """Return how many quarters of a clip the tower hears at a step."""
        return 2 if step < self.halved else 4


@dataclass(frozen=True)
class Batch:
    """One batch: whole (B, T, 64), crops of its last rows (K, 3, T, 64), targets (B, classes)."""

    whole: Tensor
    crops: Tensor
    targets: Tensor

    def split(self, count: int) -> Iterator["Batch"]:
        """Yield `count` parts, each with its share of the rows that are longer at its end."""
        rows, longer = len(self.whole), len(self.crops)
        short = rows - longer
        for part in range(count):
            some = slice(short * part // count, short * (part + 1) // count)
            ends = slice(longer * part // count, longer * (part + 1) // count)
            last = slice(short + ends.start, short + ends.stop)
            yield Batch(
                torch.cat([self.whole[some], self.whole[last]]),
                self.crops[ends],
                torch.cat([self.targets[some], self.targets[last]]),
            )


class Batches(Dataset[Batch]):
    """Batch number n is a function of the recipe's seed and n alone."""

    def __init__(self, recorded: Sounds, synthesised: Sounds, *, recipe: Recipe, steps: int) -> None:
        """Group sounds by kind; `recorded` holds every clip at several speeds."""
        self.recipe = recipe
        self.steps = steps
        self._recorded = _by_kind(recorded)
        self._synthesised = _by_kind(synthesised)

    def __len__(self) -> int:
        """Return the number of steps."""
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        """Make batch number `step`."""
        rng = np.random.default_rng([self.recipe.seed, step])
        short = self.recipe.batch - self.recipe.longer
        frames = clip_frames(self.recipe.quarters(step))
        drawn = [self._draw(rng, step) for _ in range(self.recipe.batch)]
        targets = np.zeros((self.recipe.batch, len(CLASSES)), np.float32)
        targets[np.arange(len(drawn)), [CLASSES.index(kind) for kind, _ in drawn]] = 1.0
        clips = [self._short(pool, frames, rng) for _, pool in drawn[:short]]
        clips, targets[:short] = _mixup(clips, targets[:short], rng)
        longer = [self._longer(pool, frames, rng) for _, pool in drawn[short:]]
        whole = np.stack([_finish(clip, rng) for clip in clips] + [row[0] for row in longer])
        crops = np.stack([row[1:] for row in longer])
        return Batch(torch.from_numpy(whole), torch.from_numpy(crops), torch.from_numpy(targets))

    def _draw(self, rng: np.random.Generator, step: int) -> tuple[str, Sequence[Mel]]:
        """Draw a kind and the pool of its sounds."""
        pretraining = step < self.recipe.pretraining
        dice = rng.random()
        if not pretraining and dice < self.recipe.recorded:
            kind = _choice(tuple(RECORDED), rng)
            return kind, self._recorded[kind]
        imitated = self.recipe.imitated_first if pretraining else self.recipe.imitated
        kind = _choice(tuple(RECORDED if dice > 1 - imitated else SYNTHESISED), rng)
        return kind, self._synthesised[kind]

    def _short(self, pool: Sequence[Mel], frames: int, rng: np.random.Generator) -> Float32Array:
        """Fill a clip as one of the paddings does, or with several sounds of the kind."""
        style = rng.choice(list(STYLES), p=list(STYLES.values()))
        if style == "joined":
            return self._joined(pool, frames, rng)
        sound = self._sound(pool, rng)
        if len(sound) >= frames:
            start = rng.integers(len(sound) - frames + 1)
            return sound[start : start + frames]
        sound = np.roll(sound, rng.integers(len(sound)), axis=0)
        if style == "repeat":
            return np.resize(sound, (frames, augment.BANDS))
        copies = frames // len(sound) if style == "repeatpad" else 1
        clip = np.full((frames, augment.BANDS), augment.FLOOR_DB, np.float32)
        clip[: copies * len(sound)] = np.tile(sound, (copies, 1))
        return clip

    def _longer(self, pool: Sequence[Mel], frames: int, rng: np.random.Generator) -> Float32Array:
        """Make the four mels (4, frames, 64) of a long recording, or of a short one that is fused all the same."""
        if rng.random() < 0.25:
            return np.repeat(_finish(self._short(pool, frames, rng), rng)[None], 4, axis=0)
        total = int(np.exp(rng.uniform(np.log(frames + 4), np.log(LONGEST_FRAMES))))
        mel = _finish(self._joined(pool, total, rng), rng)
        thirds = np.array_split(np.arange(total - frames + 1), 3)
        crops = [mel[start : start + frames] for start in (rng.choice(third) for third in thirds)]
        return np.stack([shrink(mel, frames), *crops])

    def _joined(self, pool: Sequence[Mel], frames: int, rng: np.random.Generator) -> Float32Array:
        """Put sounds of one kind one after the other until there are enough frames."""
        parts: list[Float32Array] = []
        total = 0
        own = self._sound(pool, rng)
        while total < frames:
            parts.append(own if parts and rng.random() < 0.5 else self._sound(pool, rng))
            total += len(parts[-1])
        return np.concatenate(parts)[:frames]

    @staticmethod
    def _sound(pool: Sequence[Mel], rng: np.random.Generator) -> Float32Array:
        """Draw one sound, sometimes only a part of it, and vary it."""
        mel = _choice(pool, rng).astype(np.float32)
        if rng.random() < 0.25:
            count = int(len(mel) * rng.uniform(0.4, 1.0))
            start = rng.integers(len(mel) - count + 1)
            part = mel[start : start + count]
            if part.max() > mel.max() - 15.0:  # else it may be the pause between two barks
                mel = part
        return augment.vary(mel, rng)


def _choice(options: Sequence[Item], rng: np.random.Generator) -> Item:
    """Draw one of the options."""
    return options[int(rng.integers(len(options)))]


def _by_kind(sounds: Sounds) -> Mapping[str, Sequence[Mel]]:
    """Group mels by their labels."""
    groups: dict[str, list[Mel]] = {}
    for mel, label in zip(sounds.mels, sounds.labels, strict=True):
        groups.setdefault(label, []).append(mel)
    return groups


def _mixup(
    clips: list[Float32Array], targets: Float32Array, rng: np.random.Generator
) -> tuple[list[Float32Array], Float32Array]:
    """Mix two thirds of the rows with another row each, by shares from Beta(0.2, 0.2)."""
    partner = rng.permutation(len(clips))
    mixed, shares = list(clips), np.ones((len(clips), 1), np.float32)
    for row, other in enumerate(partner):
        if rng.random() < 0.67:
            share = rng.beta(0.2, 0.2)
            shares[row] = max(share, 1 - share)
            mixed[row] = augment.mix(clips[row], clips[other], float(shares[row, 0]))
    return mixed, shares * targets + (1 - shares) * targets[partner]


def _finish(mel: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Add noise sometimes, set the level, mask."""
    if rng.random() < 0.35:
        mel = augment.add_noise(mel, rng)
    return augment.mask(augment.change_level(mel, rng), rng)
