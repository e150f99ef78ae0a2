"""The sound of events, kept as FLAC in a directory of limited size."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from clapedge.arrays import Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.audio import SAMPLE_RATE
from clapedge.errors import StorageError
from clapedge.live.clip_files import ClipFiles, words_of
from clapedge.live.records import EventRecord
from clapedge.live.voices import DEFAULT_VOICE_MODE, VoiceDetector, VoiceMode

logger = logging.getLogger("clapedge.live")

LONGEST_SECONDS = 30.0
"""Kept of an event: enough to recognise it, and what bounds the memory (2.9 MB)."""

PAD_SECONDS = 1.0
"""Kept before and after it."""

FULL_SCALE = 32767

Int16Array = npt.NDArray[np.int16]


class SampleHistory:
    """The latest samples of a segment, in a ring of 16-bit integers."""

    def __init__(self, seconds: float) -> None:
        """Make room for so many seconds."""
        self._samples = np.zeros(round(seconds * SAMPLE_RATE), np.int16)
        self._count = 0

    def push(self, samples: Float32Array) -> None:
        """Add samples (n,) at 48 kHz."""
        scaled = np.round(np.clip(samples, -1.0, 1.0) * FULL_SCALE).astype(np.int16)
        for first in range(0, len(scaled), len(self._samples)):
            part = scaled[first : first + len(self._samples)]
            self._samples[np.arange(self._count, self._count + len(part)) % len(self._samples)] = part
            self._count += len(part)

    def between(self, start: float, end: float) -> Int16Array:
        """Return what is still held of [start, end), in seconds of the segment."""
        oldest = max(0, self._count - len(self._samples))
        low, high = max(oldest, round(start * SAMPLE_RATE)), min(self._count, round(end * SAMPLE_RATE))
        return np.asarray(self._samples[np.arange(low, max(low, high)) % len(self._samples)])


@dataclass(frozen=True)
class KeptClip:
    """What became of the sound of an event.

    Attributes:
        name: of its file; None without one.
        voice: whether a voice was found in it; None where nobody looked.
    """

    name: str | None = None
    voice: bool | None = None


class ClipStore:
    """A directory of clips, of which some are deleted when it is full. Other users cannot read them."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_bytes: int,
        voices: VoiceMode = DEFAULT_VOICE_MODE,
        days: Mapping[str | None, float] | None = None,
    ) -> None:
        """Open or make the directory; clips of earlier runs count.

        Args:
            directory: where clips lie.
            max_bytes: how much disk they may take.
            voices: what is done with a clip that holds a voice: it is not written (`drop`), without its voice (`mute`),
                or as it is, and nobody looks for voices (`keep`).
            days: for how many days they are kept, see `clip_files.parse_days`; None is for ever.

        Raises:
            MissingExtraError: the extra `privacy`, which finds voices, is not installed.
            StorageError: it cannot be written to.
        """
        self._directory = Path(directory)
        self._detector, self._mutes = None if voices == "keep" else VoiceDetector(), voices == "mute"
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._files = ClipFiles(self._directory, max_bytes=max_bytes, days=days)
        except OSError as error:
            raise StorageError(f"{directory} cannot hold clips ({error.strerror}); name another directory") from error

    def expire(self, now: float) -> None:
        """Delete clips that are too old at a time, in seconds since 1970."""
        self._files.expire(now)

    def keep(self, stamp: str, label: str, event: str, samples: Int16Array) -> KeptClip:
        """Write a clip, unless it holds a voice that is not to be kept; a disk that is full is logged.

        Args:
            stamp: when the event began, as in its record.
            label: the event's.
            event: the event's id.
            samples: (n,) at 48 kHz.
        """
        if self._detector is None:
            return KeptClip(self._write(stamp, label, event, samples))
        spans = self._detector.spans(samples.astype(np.float32) / np.float32(FULL_SCALE))
        if not spans:
            return KeptClip(self._write(stamp, label, event, samples), voice=False)
        if not self._mutes:
            return KeptClip(voice=True)
        for start, end in spans:
            samples[start:end] = 0
        return KeptClip(self._write(stamp, label, event, samples), voice=True)

    def _write(self, stamp: str, label: str, event: str, samples: Int16Array) -> str | None:
        """Write a clip and return its name; None if it cannot be written, which is logged."""
        path = self._directory / f"{re.sub(r'[^0-9TZ]', '', stamp)}-{words_of(label)}-{event}.flac"
        try:
            with atomic_write(path) as unfinished:
                unfinished.touch(mode=0o600)
                soundfile.write(unfinished, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            self._files.add(path)
        except (OSError, soundfile.LibsndfileError) as error:
            logger.warning("a clip is lost: %s; make room", error)
            return None
        return path.name


class ClipRecorder:
    """Cuts the sound of events out of a segment, each as soon as enough of it is there."""

    def __init__(self, clip_store: ClipStore, start: float, *, lag: float) -> None:
        """Begin at the beginning of a segment.

        Args:
            clip_store: where clips go.
            start: where the segment begins, in seconds of sound.
            lag: seconds from the beginning of an event to its first record, at most.
        """
        self._clip_store, self._start = clip_store, start
        self._history = SampleHistory(LONGEST_SECONDS + 2 * PAD_SECONDS + lag)
        self._open: dict[str, EventRecord] = {}
        self._kept: dict[str, KeptClip] = {}

    def push(self, samples: Float32Array) -> None:
        """Add samples (n,) at 48 kHz."""
        self._history.push(samples)

    def cut_long(self, reached: float, now: float) -> None:
        """Write the clips of events that have lasted for `LONGEST_SECONDS`, and delete those that are too old.

        Args:
            reached: where the windows end, in seconds of sound.
            now: the time of that, in seconds since 1970.
        """
        self._clip_store.expire(now)
        for event, begin in self._open.items():
            if event not in self._kept and reached >= begin.start + LONGEST_SECONDS + PAD_SECONDS:
                self._kept[event] = self._cut(begin, begin.start + LONGEST_SECONDS)

    def clip_of(self, record: EventRecord) -> KeptClip:
        """Return the clip of a record's event, once there is one; the end of an event makes it."""
        if record.kind == "begin":
            self._open[record.id] = record
        if record.kind != "end":
            return self._kept.get(record.id, KeptClip())
        begin = self._open.pop(record.id)
        if record.id not in self._kept:
            self._kept[record.id] = self._cut(begin, record.end)
        return self._kept.pop(record.id)

    def _cut(self, begin: EventRecord, end: float) -> KeptClip:
        """Keep the sound of an event, and a little around it."""
        low, high = begin.start - PAD_SECONDS - self._start, end + PAD_SECONDS - self._start
        return self._clip_store.keep(begin.at, begin.label, begin.id, self._history.between(low, high))
