"""Recordings that teach a label: which of them can be used, and which part of a long one they have in common."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.audio import SAMPLE_RATE, AudioSource, ReadOptions
from clapedge.audio.level_meter import SILENCE_PEAK
from clapedge.errors import AudioError, ClapEdgeWarning

SHORTEST_SECONDS = 0.1
"""A shorter clip is a click: repeated to fill 10 s, it is another sound."""

LONGEST_SECONDS = 600.0
"""Of a recording that is searched for what it has in common with the others: 115 MB of samples."""

WHOLE_SECONDS = 10.0
"""A clip up to this length is taken as it is, as `score` takes it; a longer one is searched."""

PART_SECONDS, PART_HOP = 5.0, 1.0
"""Length and distance of the parts of a long recording."""

EmbedParts = Callable[[Float32Array, float, float], Float32Array]
"""Takes samples, and the seconds of parts and between them; returns the unit embedding (N, E) of each part."""


@dataclass(frozen=True, eq=False)
class TaughtClip:
    """A recording that can be used.

    Attributes:
        name: of the recording.
        parts: (N, E) float32, unit embeddings: one of a short clip, one a second of a long one.
        digest: of its samples, the same for the same recording alone.
    """

    name: str
    parts: Float32Array
    digest: bytes


def read_clips(sources: Iterable[AudioSource], embed: EmbedParts) -> list[TaughtClip]:
    """Embed clips; one that cannot be used is left out, with a warning that names it.

    Args:
        sources: the clips.
        embed: embeds parts of samples.

    Raises:
        AudioError: none of them can be used.
    """
    found: list[TaughtClip] = []
    for source in sources:
        name = audio.source_name(source)
        try:
            clip = _read(source, name, embed)
        except AudioError as error:
            _warn(f"{error}; it teaches nothing")
            continue
        twin = next((one.name for one in found if one.digest == clip.digest), None)
        if twin is None:
            found.append(clip)
        else:
            _warn(f"{name} is the same sound as {twin}; it is left out")
    if not found:
        raise AudioError("none of the clips can be used; give recordings in which the sound is audible")
    return found


def common_parts(clips: Sequence[TaughtClip]) -> list[tuple[str, Float32Array]]:
    """Return the embedding of each clip; of a long one, that of the part which repeats across the others.

    A part is the better, the nearer it is to the nearest part of each other clip, and the less to the rest of its own.
    """
    chosen = []
    for at, clip in enumerate(clips):
        best = 0
        if len(clip.parts) > 1:
            others = [one.parts for number, one in enumerate(clips) if number != at]
            if not others:
                _warn(f"{clip.name} is long and alone: the part that differs most from the rest is taken; cut it out")
            near = np.mean([(clip.parts @ one.T).max(axis=1) for one in others], axis=0) if others else 0.0
            best = int(np.argmax(near - (clip.parts @ clip.parts.T).mean(axis=1)))
        chosen.append((clip.name, clip.parts[best]))
    return chosen


def _read(source: AudioSource, name: str, embed: EmbedParts) -> TaughtClip:
    """Read and embed a clip.

    Raises:
        AudioError: it is silent, too short, or cannot be read; the message names it.
    """
    recording = audio.read(source, ReadOptions(duration=LONGEST_SECONDS))
    seconds = len(recording.samples) / SAMPLE_RATE
    if seconds < SHORTEST_SECONDS:
        raise AudioError(f"{name} lasts {seconds:.3f} s, and {SHORTEST_SECONDS} s are needed")
    silent = float(np.abs(recording.samples).max()) < SILENCE_PEAK
    for sentence in recording.warnings:
        if not silent:
            _warn(f"{name}: {sentence}")
    if silent:
        causes = [sentence for sentence in recording.warnings if not sentence.startswith("it is silent")]
        raise AudioError("; ".join([f"{name} is silent: nothing exceeds -80 dBFS", *causes]))
    if recording.end < recording.duration:
        _warn(f"{name} is searched for {LONGEST_SECONDS:g} s, not to its end")
    step = (WHOLE_SECONDS, WHOLE_SECONDS) if seconds <= WHOLE_SECONDS else (PART_SECONDS, PART_HOP)
    return TaughtClip(name, embed(recording.samples, *step), hashlib.sha256(recording.samples.tobytes()).digest())


def _warn(sentence: str) -> None:
    """Warn of a clip."""
    warnings.warn(sentence, ClapEdgeWarning, stacklevel=4)
