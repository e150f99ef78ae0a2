"""The files of kept clips: which are deleted when they take too much room, or are too old."""

import logging
import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from clapedge.errors import UsageError

logger = logging.getLogger("clapedge.live")

NAMES = re.compile(r"(\d{8}T\d{9}Z)-(.*)-[0-9a-f]+-\d+\.flac(\.tmp)?")
"""Names of the files that may be deleted: when the event began, its label, its id."""

DAY_SECONDS = 86_400.0


def words_of(label: str) -> str:
    """Return a label as it stands in the name of a file."""
    return re.sub(r"[^\w]+", "-", label).strip("-")[:40]


def parse_days(texts: Iterable[str]) -> dict[str | None, float]:
    """Read for how many days clips are kept: `30`, or `siren=365` for a label; None is for all others.

    Raises:
        UsageError: one is something else.
    """
    found: dict[str | None, float] = {}
    for text in texts:
        label, named, days = text.rpartition("=")
        try:
            found[words_of(label) if named else None] = float(days)
        except ValueError as error:
            raise UsageError(f"keep_days is {text!r}; give days, such as 30, or siren=365 for a label") from error
    for kept in found.values():
        if not 0 < kept < math.inf:
            raise UsageError(f"keep_days is {kept:g}; give a number of days above 0")
    return found


@dataclass(frozen=True)
class _Clip:
    """A file.

    Attributes:
        path: where it lies.
        size: its bytes.
        began: when the event began, in seconds since 1970.
        number: its place in the order in which clips came, which is not that of stamps where a clock was set.
    """

    path: Path
    size: int
    began: float
    number: int


class ClipFiles:
    """Clips by label, oldest first.

    Too many bytes cost the oldest clip of the label that takes most: a dog that barks all night does not push out the
    one clip of breaking glass.
    """

    def __init__(self, directory: Path, *, max_bytes: int, days: Mapping[str | None, float] | None = None) -> None:
        """Find the clips of earlier runs, and delete what one left unfinished.

        Args:
            directory: where they lie.
            max_bytes: how much disk they may take.
            days: see `parse_days`; without, age deletes none.

        Raises:
            OSError: the directory cannot be read.
        """
        self._max_bytes, self._days = max_bytes, dict(days or {})
        self._clips: dict[str, deque[_Clip]] = {}
        self._due, self._count = -math.inf, 0
        for path in sorted(directory.iterdir()):
            found = NAMES.fullmatch(path.name)
            if found and found[3]:
                path.unlink()
            elif found:
                self._put(path, found)

    def add(self, path: Path) -> None:
        """Count a clip that was written, and delete others if they take too much room.

        Raises:
            OSError: it cannot be read.
        """
        if found := NAMES.fullmatch(path.name):
            self._put(path, found)
        while self._bytes() > self._max_bytes and (fullest := self._fullest()):
            self._delete(self._clips[fullest].popleft())

    def expire(self, now: float) -> None:
        """Delete what is too old at a time, in seconds since 1970."""
        if now < self._due or not self._days:
            return
        self._due = math.inf
        for label, clips in self._clips.items():
            seconds = DAY_SECONDS * self._days.get(label, self._days.get(None, math.inf))
            while clips and clips[0].began + seconds <= now:
                self._delete(clips.popleft())
            if clips:
                self._due = min(self._due, clips[0].began + seconds)

    def _put(self, path: Path, name: "re.Match[str]") -> None:
        """Count a clip; a file that has the name of one and no possible date is somebody else's."""
        try:
            began = datetime.strptime(name[1], "%Y%m%dT%H%M%S%fZ").replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            return
        self._clips.setdefault(name[2], deque()).append(_Clip(path, path.stat().st_size, began, self._count))
        self._count += 1
        self._due = -math.inf

    def _bytes(self) -> int:
        """Return what all clips take."""
        return sum(clip.size for clips in self._clips.values() for clip in clips)

    def _fullest(self) -> str | None:
        """Return the label that takes most, of those whose latest clip is not its only one; None if all have one."""
        several = [label for label, clips in self._clips.items() if len(clips) > 1]
        if not several:  # then the oldest of all, but for the latest
            oldest = sorted((clips[0].number, label) for label, clips in self._clips.items() if clips)
            return oldest[0][1] if len(oldest) > 1 else None
        return max(several, key=lambda label: sum(clip.size for clip in self._clips[label]))

    def _delete(self, clip: _Clip) -> None:
        """Delete a clip; listening goes on if that fails."""
        try:
            clip.path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("the clip %s cannot be deleted (%s); delete it", clip.path.name, error.strerror)
