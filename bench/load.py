"""Clients and a served process, for `bench_serve.py`: how many answers, how fast, and what the service holds on to."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 120.0
"""Seconds after which an answer does not count as one."""


@dataclass
class Tally:
    """What clients got.

    Attributes:
        statuses: how many answers had each HTTP status.
        lost: requests that were sent and never answered, by reason.
        refused: connections that were not accepted.
        seconds: how long each answered request took.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    seconds: list[float] = field(default_factory=list)


class Process:
    """A service in a process of its own."""

    def __init__(self, arguments: Sequence[str], temporary: Path) -> None:
        """Start it, with a directory of its own for temporary files, and wait until it answers."""
        self.temporary = temporary
        command = [sys.executable, "-m", "clapedge.cli", "serve", "--port", "0", "--no-page", *arguments]
        environment = {**os.environ, "TMPDIR": str(temporary)}
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)  # noqa: S603 - ours
        self.log: list[str] = []
        self._answers = threading.Event()
        self._address: tuple[str, int] = ("", 0)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._answers.wait(PATIENCE) or self._process.poll() is not None:
            raise RuntimeError("\n".join(self.log))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self._address

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, which is made when it is first needed."""
        return http.client.HTTPConnection(*self._address, timeout=PATIENCE)

    def holds(self) -> dict[str, float]:
        """Return what it holds: resident MB, open descriptors, temporary files, threads."""
        pid = self._process.pid
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        found = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
        return {
            "memory_mb": round(int(found["VmRSS"]) / 1024, 1),
            "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
            "temporary_files": len(list(self.temporary.iterdir())),
            "threads": int(found["Threads"]),
        }

    def terminate(self) -> float:
        """Send SIGTERM, wait for the end, and return how long it took in seconds."""
        began = time.perf_counter()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return time.perf_counter() - began

    @property
    def exit_status(self) -> int | None:
        """Status with which it ended, or None."""
        return self._process.poll()

    def _read(self) -> None:
        """Keep its log, and find its address there."""
        for line in self._process.stderr or ():
            self.log.append(line.rstrip())
            found = re.search(r"answering at http://(.+):(\d+)", line)
            if found:
                self._address = (found[1], int(found[2]))
                self._answers.set()
        self._answers.set()


@contextmanager
def served(arguments: Sequence[str], temporary: Path) -> Iterator[Process]:
    """Yield a service that ends with the block."""
    temporary.mkdir(parents=True, exist_ok=True)
    process = Process(arguments, temporary)
    try:
        yield process
    finally:
        if process.exit_status is None:
            process.terminate()


def ask(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str], tally: Tally) -> bool:
    """Send one request and count what came of it; return whether an answer came."""
    began = time.perf_counter()
    try:
        if connection.sock is None:
            connection.connect()
    except OSError:
        tally.refused += 1
        return False
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        tally.lost[type(error).__name__] += 1
        connection.close()
        return False
    tally.statuses[response.status] += 1
    tally.seconds.append(time.perf_counter() - began)
    return True


@contextmanager
def loaded(process: Process, clients: int, path: str, body: bytes) -> Iterator[Tally]:
    """Let clients ask one request after the other while the block runs; its tally is complete afterwards."""
    total, tallies = Tally(), [Tally() for _ in range(clients)]
    ended = threading.Event()

    def client(tally: Tally) -> None:
        connection = process.connect()
        while not ended.is_set() and not tally.refused:
            ask(connection, path, body, {}, tally)
        connection.close()

    threads = [threading.Thread(target=client, args=(tally,)) for tally in tallies]
    for thread in threads:
        thread.start()
    try:
        yield total
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        for tally in tallies:
            total.statuses += tally.statuses
            total.lost += tally.lost
            total.refused += tally.refused
            total.seconds += tally.seconds


def spread(count: int, workers: int, work: Callable[[int], None]) -> None:
    """Do some work for each number below `count`, by so many threads."""
    numbers, lock = iter(range(count)), threading.Lock()

    def go() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            work(number)

    threads = [threading.Thread(target=go) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def percentile(values: Sequence[float], q: float) -> float:
    """Return the q-th percentile: the least value that q % of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * q // 100) - 1)]
