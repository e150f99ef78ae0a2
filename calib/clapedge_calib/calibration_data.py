"""Recordings to what calibration hears: the engine's own front end, windows of long files, fused and not."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.audio import ReadOptions
from clapedge.errors import AudioError, UsageError
from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.features.front_end import FrontEnd
from clapedge_calib.dataset import Example
from clapedge_calib.progress import Progress
from clapedge_calib.workers import side_by_side

SILENT = -90.0
"""dB that no frame of a silent recording exceeds; the front end's floor is −100."""

FUSED_EVERY = 4
"""Of so many short recordings one is heard as a long one too, so that both paths of a fusion tower are calibrated."""

TEST_SHARE = 4
"""One recording in so many is held out to judge by, where no fold is named."""


@dataclass(frozen=True, eq=False)
class Sound:
    """One input of the audio tower.

    Attributes:
        mels: (4, 1001, 64) float32 dB, or (1, 1001, 64) that stands for all four.
        is_longer: whether the tower is to fuse.
        example: the recording.
        heard_first: whether this is what the engine hears of the recording by default.
    """

    mels: Float32Array
    is_longer: bool
    example: Example
    heard_first: bool = True

    def features(self, channels: int) -> Float32Array:
        """Return the tower's input (1, channels, 1001, 64)."""
        return np.ascontiguousarray(np.broadcast_to(self.mels, (channels, *self.mels.shape[1:]))[None])


@dataclass
class Coverage:
    """What was read: the sounds, and one sentence for each recording that could not be used."""

    sounds: list[Sound] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def recordings(self) -> int:
        """How many recordings the sounds come from."""
        return sum(sound.heard_first for sound in self.sounds)


def split(
    examples: Sequence[Example], *, samples: int, seed: int, test_folds: Sequence[str] = ()
) -> tuple[list[Example], list[Example]]:
    """Part recordings into those to calibrate with and those to judge by, at most `samples` each.

    Both are stratified: the classes take turns, each in an order drawn with `seed`.

    Args:
        examples: all recordings, in an order that does not depend on the machine.
        samples: how many of each part are kept at most.
        seed: of the order.
        test_folds: folds to judge by; without any, every fourth recording of a class.

    Raises:
        UsageError: no recording belongs to a fold to judge by.
    """
    present = {each.fold for each in examples}
    if unknown := [fold for fold in test_folds if fold not in present]:
        known = f"the folds {', '.join(sorted(present))}" if present - {""} else "no folds; name a CSV that does"
        raise UsageError(f"no recording is in fold {unknown[0]}; the recordings have {known}")
    by_class: dict[str, list[Example]] = {}
    for example in examples:
        by_class.setdefault(example.label or "", []).append(example)
    generator = random.Random(seed)  # noqa: S311 - it must be repeatable, not secret
    parts: tuple[list[list[Example]], list[list[Example]]] = ([], [])
    for name in sorted(by_class):
        drawn = generator.sample(by_class[name], len(by_class[name]))
        held = [each for each in drawn if each.fold in test_folds] if test_folds else drawn[::TEST_SHARE]
        parts[0].append([each for each in drawn if each not in held])
        parts[1].append(held)
    calibration, test = (_in_turns(part)[:samples] for part in parts)
    return calibration, test


def hear(examples: Sequence[Example], front_end: FrontEnd, *, windows: int, progress: Progress, step: str) -> Coverage:
    """Read recordings.

    Args:
        examples: the recordings.
        front_end: of the bundle.
        windows: clips that are taken of a long recording, spread evenly over it.
        progress: takes how far it is.
        step: what to call it.
    """
    maker = ClipMaker(front_end)

    def read(place: int) -> list[Sound] | str:
        fuse = front_end.fusion and place % FUSED_EVERY == 0
        try:
            sounds = _sounds(examples[place], maker, windows=windows, fuse=fuse)
        except AudioError as error:
            return str(error)
        if max(float(sound.mels.max()) for sound in sounds) < SILENT:
            return f"{examples[place].path}: it is silent; record it again"
        return sounds

    heard = Coverage()
    for found in side_by_side(read, range(len(examples)), progress=progress, step=step):
        if isinstance(found, str):
            heard.left_out.append(found)
        else:
            heard.sounds += found
    return heard


def _sounds(example: Example, maker: ClipMaker, *, windows: int, fuse: bool) -> list[Sound]:
    """Make the inputs of one recording: its windows, and the fused one where it is long or `fuse` says so."""
    front_end = maker.front_end
    with audio.opened(example.path) as stream:
        length = stream.duration
    is_long = math.isfinite(length) and length > front_end.clip_seconds
    count = min(windows, math.ceil(length / front_end.clip_seconds)) if is_long else 1
    starts = np.linspace(0, length - front_end.clip_seconds, count) if is_long else np.zeros(1)
    sounds = []
    for place, start in enumerate(starts):
        samples = audio.read(example.path, ReadOptions(start=float(start), duration=front_end.clip_seconds)).samples
        mels = maker(samples).features[0, :1]
        sounds.append(Sound(mels, is_longer=False, example=example, heard_first=place == 0))
    if is_long and front_end.fusion:
        with audio.opened(example.path) as stream:
            (clips,) = maker.stream(stream, ClipOptions(window="fuse"), samples=stream.samples)
        sounds.append(Sound(clips.features[0], bool(clips.is_longer[0]), example, heard_first=False))
    elif fuse:
        sounds.append(Sound(sounds[0].mels, is_longer=True, example=example, heard_first=False))
    return sounds


def _in_turns(parts: Sequence[Sequence[Example]]) -> list[Example]:
    """Take one of each part, then the next of each, until all are taken."""
    longest = max(map(len, parts), default=0)
    return [part[i] for i in range(longest) for part in parts if i < len(part)]
