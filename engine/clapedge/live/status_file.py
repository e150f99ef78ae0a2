"""The status of a run as a file of JSON, which is replaced whole."""

import logging
from pathlib import Path

import msgspec

from clapedge.atomic_file import atomic_write
from clapedge.errors import StorageError
from clapedge.live.backoff import is_power_of_two
from clapedge.live.disk import lacks_room

logger = logging.getLogger("clapedge.live")


class StatusFile:
    """Where a status is written now and then."""

    def __init__(self, path: Path | None) -> None:
        """Write to a file, or to none."""
        self._path, self._lost = path, 0

    def write(self, status: object) -> None:
        """Write a status, if the disk has room for it; else that is logged.

        Raises:
            StorageError: it cannot be written for another reason.
        """
        if self._path is None:
            return
        try:
            with atomic_write(self._path) as path:
                path.write_bytes(msgspec.json.format(msgspec.json.encode(status)) + b"\n")
        except StorageError as error:
            if not lacks_room(error):
                raise
            self._lost += 1
            if is_power_of_two(self._lost):
                logger.warning("%s", error)
