"""Recordings to clips to calibrate and evaluate with, made by the engine's own front end."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.audio import ReadOptions
from clapedge.errors import AudioError, UsageError
from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.features.front_end import FrontEnd
from clapedge_calib.dataset import Example
from clapedge_calib.progress import Steps, gather
from clapedge_calib.workers import side_by_side

SILENT = -90.0
"""dB that no frame of a silent recording exceeds; the front end's floor is −100."""

FUSED_EVERY = 4
"""One short recording in so many also gives a fused clip, so that both paths of a fusion tower are calibrated."""

TEST_SHARE = 4
"""One recording in so many is held out for evaluation, unless folds are named."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One input of the audio tower.

    Attributes:
        log_mels: (4, 1001, 64) float32 dB, or (1, 1001, 64) that stands for all four.
        is_longer: whether the tower fuses.
        example: the recording.
        is_default: whether this is the clip that the engine makes of the recording by default.
    """

    log_mels: Float32Array
    is_longer: bool
    example: Example
    is_default: bool = True

    def features(self, channels: int) -> Float32Array:
        """Return the tower's input (1, channels, 1001, 64)."""
        return np.ascontiguousarray(np.broadcast_to(self.log_mels, (channels, *self.log_mels.shape[1:]))[None])


@dataclass(frozen=True)
class CalibrationData:
    """Clips, and one sentence for each recording that could not be used."""

    clips: tuple[Clip, ...]
    left_out: tuple[str, ...]

    @property
    def recordings(self) -> int:
        """How many recordings the clips come from."""
        return sum(clip.is_default for clip in self.clips)


def split(
    examples: Sequence[Example], *, samples: int, seed: int, test_folds: Sequence[str] = ()
) -> tuple[list[Example], list[Example]]:
    """Split recordings into those to calibrate with and those to evaluate with, at most `samples` each.

    Both are stratified: the classes take turns, each in an order drawn with `seed`.

    Args:
        examples: all recordings, in an order that does not depend on the machine.
        samples: how many of each part are kept at most.
        seed: of the order.
        test_folds: folds to evaluate with; without any, every fourth recording of a class.

    Raises:
        UsageError: no recording belongs to one of these folds.
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
        held_out = [each for each in drawn if each.fold in test_folds] if test_folds else drawn[::TEST_SHARE]
        parts[0].append([each for each in drawn if each not in held_out])
        parts[1].append(held_out)
    calibration, test = (_in_turns(part)[:samples] for part in parts)
    return calibration, test


def split_by_time(
    examples: Sequence[Example], *, samples: int, clip_seconds: float
) -> tuple[list[Example], list[Example]]:
    """Split few long recordings into windows: the last quarter of each is held out, see `split`.

    Windows beside each other in time are alike, so they are not dealt out in turns as recordings are.

    Args:
        examples: all recordings; one that cannot be read is left as it is.
        samples: how many windows of each part are kept at most, spread evenly.
        clip_seconds: of a window.
    """
    parts: tuple[list[list[Example]], list[list[Example]]] = ([], [])
    for example in examples:
        windows = _windows(example, clip_seconds)
        first_test = len(windows) - len(windows) // TEST_SHARE
        parts[0].append(windows[:first_test])
        parts[1].append(windows[first_test:])
    calibration, test = (_in_turns([_spread(windows, samples) for windows in part])[:samples] for part in parts)
    return calibration, test


def _windows(example: Example, clip_seconds: float) -> list[Example]:
    """Return the windows of a recording, each as an example."""
    try:
        with audio.opened(example.path) as stream:
            length = stream.duration
    except AudioError:
        return [example]  # reading it gives the reason
    count = int(length // clip_seconds) if math.isfinite(length) else 0
    places = (place * clip_seconds for place in range(count))
    return [
        replace(example, name=f"{example.name} from {start:g} s", start=start, seconds=clip_seconds) for start in places
    ] or [example]


def _spread(windows: Sequence[Example], most: int) -> list[Example]:
    """Return at most so many windows, spread evenly over all of them."""
    return [windows[i * len(windows) // min(most, len(windows))] for i in range(min(most, len(windows)))]


def read_clips(examples: Sequence[Example], front_end: FrontEnd, *, windows: int, step: str) -> Steps[CalibrationData]:
    """Read recordings.

    Args:
        examples: the recordings.
        front_end: of the bundle.
        windows: clips of a long recording, spread evenly over it.
        step: what the progress is called.
    """
    clip_maker = ClipMaker(front_end)

    def read(place: int) -> list[Clip] | str:
        fuse = front_end.fusion and place % FUSED_EVERY == 0
        try:
            clips = _clips(examples[place], clip_maker, windows=windows, fuse=fuse)
        except AudioError as error:
            return str(error)
        if max(float(clip.log_mels.max()) for clip in clips) < SILENT:
            return f"{audio.source_name(examples[place].path)}: it is silent; record it again"
        return clips

    found = yield from gather(side_by_side(read, range(len(examples))), step, len(examples))
    return CalibrationData(
        clips=tuple(clip for each in found if not isinstance(each, str) for clip in each),
        left_out=tuple(each for each in found if isinstance(each, str)),
    )


def _clips(example: Example, clip_maker: ClipMaker, *, windows: int, fuse: bool) -> list[Clip]:
    """Make the clips of one recording: its windows, and a fused one if it is long or `fuse` is set."""
    front_end = clip_maker.front_end
    if example.seconds is None:
        with audio.opened(example.path) as stream:
            length = stream.duration
    else:
        length = example.seconds
    is_long = math.isfinite(length) and length > front_end.clip_seconds
    count = min(windows, math.ceil(length / front_end.clip_seconds)) if is_long else 1
    starts = np.linspace(0, length - front_end.clip_seconds, count) if is_long else np.zeros(1)
    starts += example.start
    clips = []
    for place, start in enumerate(starts):
        samples = audio.read(example.path, ReadOptions(start=float(start), duration=front_end.clip_seconds)).samples
        log_mels = clip_maker(samples).features[0, :1]
        clips.append(Clip(log_mels, is_longer=False, example=example, is_default=place == 0))
    if is_long and front_end.fusion:
        with audio.opened(example.path) as stream:
            (fused,) = clip_maker.stream(stream, ClipOptions(window="fuse"), samples=stream.samples)
        clips.append(Clip(fused.features[0], bool(fused.is_longer[0]), example, is_default=False))
    elif fuse:
        clips.append(Clip(clips[0].log_mels, is_longer=True, example=example, is_default=False))
    return clips


def _in_turns(parts: Sequence[Sequence[Example]]) -> list[Example]:
    """Take one of each part, then the next of each, until all are taken."""
    most = max(map(len, parts), default=0)
    return [part[i] for i in range(most) for part in parts if i < len(part)]
