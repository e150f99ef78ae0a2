"""The sound of events, kept as FLAC in a directory that grows to a bound; beyond it the oldest go."""

import os
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from clapedge.arrays import Float32Array
from clapedge.audio import SAMPLE_RATE
from clapedge.errors import StorageError
from clapedge.live.records import Record

LONGEST_SECONDS = 30.0
"""Kept of an event: enough to tell what it was, and what bounds the memory (2.9 MB)."""

PAD_SECONDS = 1.0
"""Kept before and behind it."""

OWN_NAMES = re.compile(r"\d{8}T\d{9}Z-.*-[0-9a-f]+-\d+\.flac(\.part)?")
"""Names of the files that are ours to delete."""

FULL_SCALE = 32767

Int16Array = npt.NDArray[np.int16]


class SampleHistory:
    """The latest samples of a segment, 16 bits each."""

    def __init__(self, seconds: float) -> None:
        """Make room for so many seconds."""
        self._samples = np.zeros(round(seconds * SAMPLE_RATE), np.int16)
        self._count = 0

    def hear(self, samples: Float32Array) -> None:
        """Take samples (n,) at 48 kHz."""
        whole = np.round(np.clip(samples, -1.0, 1.0) * FULL_SCALE).astype(np.int16)
        for first in range(0, len(whole), len(self._samples)):
            part = whole[first : first + len(self._samples)]
            places = np.arange(self._count, self._count + len(part)) % len(self._samples)
            self._samples[places] = part
            self._count += len(part)

    def between(self, start: float, end: float) -> Int16Array:
        """Return what is still there of [start, end), in seconds of the segment."""
        oldest = max(0, self._count - len(self._samples))
        low, high = max(oldest, round(start * SAMPLE_RATE)), min(self._count, round(end * SAMPLE_RATE))
        return np.asarray(self._samples[np.arange(low, max(low, high)) % len(self._samples)])


class ClipStore:
    """A directory of clips, the oldest of which are deleted beyond its bound."""

    def __init__(self, directory: str | os.PathLike[str], most_bytes: int, *, say: Callable[[str], None]) -> None:
        """Open or make the directory; clips of earlier runs count.

        Args:
            directory: where clips lie.
            most_bytes: how much they may take.
            say: tells people.

        Raises:
            StorageError: it cannot be written to.
        """
        self._directory, self._most, self._say = Path(directory), most_bytes, say
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            own = sorted(path for path in self._directory.iterdir() if OWN_NAMES.fullmatch(path.name))
            for path in own:
                if path.suffix == ".part":
                    path.unlink()
            self._kept = deque((path, path.stat().st_size) for path in own if path.suffix != ".part")
        except OSError as error:
            raise StorageError(f"{directory} cannot keep clips ({error.strerror}); name another --keep") from error
        self._total = sum(size for _, size in self._kept)
        self.written = self.deleted = 0

    def keep(self, stamp: str, label: str, event: str, samples: Int16Array) -> str | None:
        """Write a clip and return its name; None where it cannot be written, which is said.

        Args:
            stamp: when the event began, as in its record.
            label: the event's.
            event: the event's id.
            samples: (n,) at 48 kHz.
        """
        words = re.sub(r"[^\w]+", "-", label).strip("-")[:40]
        path = self._directory / f"{re.sub(r'[^0-9TZ]', '', stamp)}-{words}-{event}.flac"
        part = path.with_name(path.name + ".part")
        try:
            soundfile.write(part, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            part.replace(path)
            self._kept.append((path, path.stat().st_size))
        except (OSError, soundfile.LibsndfileError) as error:
            part.unlink(missing_ok=True)
            self._say(f"a clip cannot be kept ({error}); make room")
            return None
        self.written += 1
        self._total += self._kept[-1][1]
        while self._total > self._most and len(self._kept) > 1:
            oldest, size = self._kept.popleft()
            self._total -= size
            self.deleted += self._deleted(oldest)
        return path.name

    def _deleted(self, path: Path) -> bool:
        """Delete a clip, and tell whether that worked; listening goes on if it does not."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._say(f"the clip {path.name} cannot be deleted ({error.strerror}); delete it")
            return False
        return True


class ClipRecorder:
    """Cuts the sound of events out of a segment, each as soon as enough of it was heard."""

    def __init__(self, clip_store: ClipStore, start: float, *, lag: float) -> None:
        """Begin at the beginning of a segment.

        Args:
            clip_store: where clips go.
            start: where the segment begins, in seconds of sound.
            lag: seconds by which an event is told later than it begins, at most.
        """
        self._clip_store, self._start = clip_store, start
        self._trail = SampleHistory(LONGEST_SECONDS + 2 * PAD_SECONDS + lag)
        self._open: dict[str, Record] = {}
        self._names: dict[str, str | None] = {}

    def hear(self, samples: Float32Array) -> None:
        """Take samples (n,) at 48 kHz."""
        self._trail.hear(samples)

    def settle(self, reached: float) -> None:
        """Cut events out that have gone on for as long as is kept of one."""
        for event, begun in self._open.items():
            if event not in self._names and reached >= begun.start + LONGEST_SECONDS + PAD_SECONDS:
                self._names[event] = self._cut(begun, begun.start + LONGEST_SECONDS)

    def take(self, record: Record) -> str | None:
        """Take a record of an event, and return the name of its clip, once there is one."""
        if record.kind == "begin":
            self._open[record.id] = record
        if record.kind != "end":
            return self._names.get(record.id)
        begun = self._open.pop(record.id)
        if record.id not in self._names:
            self._names[record.id] = self._cut(begun, record.end)
        return self._names.pop(record.id)

    def _cut(self, begun: Record, end: float) -> str | None:
        """Keep the sound of an event, and a little around it."""
        low, high = begun.start - PAD_SECONDS - self._start, end + PAD_SECONDS - self._start
        return self._clip_store.keep(begun.at, begun.label, begun.id, self._trail.between(low, high))
