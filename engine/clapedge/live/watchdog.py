"""Word to systemd that listening goes on: with `WatchdogSec=` it starts a listener again that hangs.

The protocol is that of sd_notify(3): a datagram to the socket that `NOTIFY_SOCKET` names.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from clapedge.live.status import Status


class Watchdog:
    """Tells systemd of a start, and of progress; does nothing where there is no systemd."""

    def __init__(self) -> None:
        """Find the socket, if there is one."""
        self._path = os.environ.get("NOTIFY_SOCKET", "")
        self._heard: dict[str, int] = {}

    def ready(self) -> None:
        """Tell that listening began."""
        self._send("READY=1")

    def look(self, statuses: Mapping[str, Status]) -> bool:
        """Return whether every source got on since the last look, or had nothing to do, and tell it if so."""
        hangs = [
            name
            for name, status in statuses.items()
            if status.state == "listening" and status.samples_waiting and self._heard.get(name) == status.samples_heard
        ]
        self._heard = {name: status.samples_heard for name, status in statuses.items()}
        if not hangs:
            self._send("WATCHDOG=1")
        return not hangs

    def _send(self, message: str) -> None:
        """Send a datagram; nobody listens where it fails."""
        if not self._path or not hasattr(socket, "AF_UNIX"):
            return
        path = f"\0{self._path[1:]}" if self._path.startswith("@") else self._path
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), path)
