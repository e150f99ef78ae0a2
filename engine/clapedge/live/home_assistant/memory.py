"""What was switched in Home Assistant, in a file: a source that was silenced stays so after a power cut."""

import logging
import threading
import uuid
from collections.abc import Collection
from pathlib import Path

import msgspec

from clapedge.atomic_file import atomic_write, check_folder
from clapedge.errors import StorageError, UsageError
from clapedge.validation import describe_mismatch

logger = logging.getLogger("clapedge.live")


class _Source(msgspec.Struct, forbid_unknown_fields=True):
    """What was switched for a source.

    Attributes:
        paused: whether it is not to be heard.
        labels: name of the label set that was selected; None for what its settings say.
    """

    paused: bool = False
    labels: str | None = None


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    """The file.

    Attributes:
        id: tells this post from others at the same broker.
        sources: those that Home Assistant was told of, by name.
    """

    id: str
    sources: dict[str, _Source] = {}


class Memory:
    """A file that remembers what was switched, and under which id Home Assistant knows this post."""

    def __init__(self, path: Path) -> None:
        """Read the file, or begin it.

        Raises:
            UsageError: it is another file.
            StorageError: it cannot be written.
        """
        self._path, self._lock = path, threading.RLock()
        try:
            self._content = msgspec.json.decode(path.read_bytes(), type=_Content)
        except FileNotFoundError:
            self._content = _Content(uuid.uuid4().hex[:8])
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror}); give --home-assistant-state FILE") from error
        except msgspec.MsgspecError as error:
            raise UsageError(
                f"{path} is not what --home-assistant remembers ({describe_mismatch(error)}); delete it, or name "
                "another file with --home-assistant-state"
            ) from error
        check_folder(path.resolve().parent, bytes_needed=0)
        self._write()

    @property
    def id(self) -> str:
        """What tells this post from others at the same broker."""
        return self._content.id

    @property
    def paused(self) -> list[str]:
        """Names of the sources that are not to be heard."""
        with self._lock:
            return [name for name, source in self._content.sources.items() if source.paused]

    @property
    def known(self) -> list[str]:
        """Names of the sources that Home Assistant was told of."""
        with self._lock:
            return list(self._content.sources)

    def labels(self, name: str) -> str | None:
        """Return the label set that was selected for a source; None for what its settings say."""
        source = self._content.sources.get(name)
        return source.labels if source else None

    def pause(self, name: str, *, paused: bool) -> None:
        """Remember whether a source is not to be heard."""
        with self._lock:
            self._source(name).paused = paused
            self._save()

    def select(self, name: str, labels: str | None) -> None:
        """Remember the label set of a source."""
        with self._lock:
            self._source(name).labels = labels
            self._save()

    def give_up(self, name: str, labels: str) -> None:
        """Forget that a label set was selected, unless another one has been since."""
        with self._lock:
            if self.labels(name) == labels:
                self.select(name, None)

    def keep(self, names: Collection[str]) -> list[str]:
        """Remember these sources, forget the others, and return those."""
        with self._lock:
            gone = [name for name in self.known if name not in names]
            if gone or any(name not in self._content.sources for name in names):
                for name in gone:
                    del self._content.sources[name]
                for name in names:
                    self._source(name)
                self._save()
        return gone

    def _source(self, name: str) -> _Source:
        """Return what is remembered of a source."""
        return self._content.sources.setdefault(name, _Source())

    def _save(self) -> None:
        """Write the file; what is switched counts until the end of the process if that fails."""
        try:
            self._write()
        except StorageError as error:
            logger.warning("%s; what is switched in Home Assistant will not outlast this run", error)

    def _write(self) -> None:
        """Write the file."""
        with atomic_write(self._path) as path:
            path.write_bytes(msgspec.json.format(msgspec.json.encode(self._content)) + b"\n")
