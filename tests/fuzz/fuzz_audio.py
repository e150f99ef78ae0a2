"""Feed damaged recordings to `clapedge.audio` and report whatever is neither samples nor one of our errors.

    python tests/fuzz/fuzz_audio.py SEED_FILE... [--mutants N] [--seed S] [--keep DIR]

A worker process reads one mutant after another, under a limit on its memory; it is watched, and replaced when it
crashes, hangs or grows too large. The same arguments give the same mutants.
"""

import argparse
import itertools
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

MOST_SECONDS = 5.0
MOST_BYTES = 2**30
HEADER_BYTES = 256
LARGEST_SEED = 2**17

Mutation = Callable[[bytearray, np.random.Generator], bytearray]
Read = Callable[[bytes, int], str]
"""Reads mutant number N and returns `ok`, the name of the user's error, or a finding that begins with two capitals."""


def flip_bits(data: bytearray, random: np.random.Generator) -> bytearray:
    """Flip 1 to 64 bits anywhere."""
    for at in random.integers(0, len(data) * 8, random.integers(1, 65)):
        data[at // 8] ^= 1 << (at % 8)
    return data


def truncate(data: bytearray, random: np.random.Generator) -> bytearray:
    """Cut off the end."""
    return data[: int(random.integers(1, len(data) + 1))]


def edit_header(data: bytearray, random: np.random.Generator) -> bytearray:
    """Overwrite 1 to 4 fields of the header with extreme or random numbers."""
    for _ in range(random.integers(1, 5)):
        code = str(random.choice(["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"]))
        size = struct.calcsize(code)
        most = 2 ** (8 * size) - 1
        values = (0, 1, most, most >> 1, (most >> 1) + 1, int(random.integers(0, most, dtype=np.uint64)))
        value = values[random.integers(len(values))]
        at = int(random.integers(0, max(1, min(HEADER_BYTES, len(data)) - size)))
        data[at : at + size] = struct.pack(code, value)
    return data


def overwrite(data: bytearray, random: np.random.Generator) -> bytearray:
    """Overwrite a stretch with random bytes."""
    at = int(random.integers(0, len(data)))
    count = int(random.integers(1, 4096))
    data[at : at + count] = random.bytes(min(count, len(data) - at))
    return data


def duplicate(data: bytearray, random: np.random.Generator) -> bytearray:
    """Insert a copy of one stretch somewhere else."""
    low, high = sorted(random.integers(0, len(data), 2))
    at = int(random.integers(0, len(data)))
    return data[:at] + data[low : min(high, low + 2**16)] + data[at:]


def remove(data: bytearray, random: np.random.Generator) -> bytearray:
    """Leave out a stretch."""
    at = int(random.integers(0, len(data)))
    return data[:at] + data[at + int(random.integers(1, 2048)) :]


def append_noise(data: bytearray, random: np.random.Generator) -> bytearray:
    """Replace everything behind a point of the header by random bytes."""
    at = int(random.integers(min(4, len(data) - 1), min(len(data), HEADER_BYTES)))
    return data[:at] + random.bytes(int(random.integers(1, 2**14)))


MUTATIONS: tuple[Mutation, ...] = (flip_bits, truncate, edit_header, overwrite, duplicate, remove, append_noise)


def mutant(seeds: list[bytes], seed: int, number: int) -> bytes:
    """Return one damaged recording: one to three mutations of one of the seeds."""
    random = np.random.default_rng([seed, number])
    data = bytearray(seeds[number % len(seeds)])
    for mutation in random.choice(len(MUTATIONS), random.integers(1, 4)):
        data = MUTATIONS[mutation](data, random) or bytearray(b"\0")
    return bytes(with_checksums(data) if data[:4] == b"OggS" and number % 2 else data)


def checksum_table() -> list[int]:
    """Return the table of the CRC of Ogg: polynomial 0x04C11DB7, highest bit first (RFC 3533)."""
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


CHECKSUMS = checksum_table()


def with_checksums(data: bytearray) -> bytearray:
    """Make the checksum of every Ogg page right, so that damage gets past it to the codecs."""
    starts = [at for at in range(len(data) - 27) if data[at : at + 4] == b"OggS"]
    for start, stop in itertools.pairwise([*starts, len(data)]):
        data[start + 22 : start + 26] = bytes(4)
        value = 0
        for byte in data[start:stop]:
            value = ((value << 8) & 0xFFFFFFFF) ^ CHECKSUMS[(value >> 24) ^ byte]
        data[start + 22 : start + 26] = value.to_bytes(4, "little")
    return data


def read_as_a_user_would(data: bytes, number: int) -> str:
    """Read a mutant in one of four ways; return `ok` or the name of the error that a user would see."""
    from clapedge import audio
    from clapedge.audio import ReadOptions
    from clapedge.errors import ClapEdgeError

    options: dict[str, float] = ({}, {"duration": 10.0}, {"start": 1.5, "duration": 1.0}, {"trim_silence": -60.0})[
        number % 4
    ]
    try:
        with audio.opened(data, ReadOptions(**options)) as stream:  # type: ignore[arg-type]  # only floats are given
            finite = [bool(np.isfinite(block).all()) for block in stream]
            if not all(finite):
                return "NOT FINITE"
            if not stream.start < stream.end <= stream.duration + 1e-9 or "" in stream.warnings:
                return "NOT CONSISTENT"
    except ClapEdgeError as error:
        return type(error).__name__
    return "ok"


def work(connection: Connection, read: Read) -> None:
    """Read what comes through a connection and answer each with the outcome and the most memory used so far."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (4 * MOST_BYTES, hard))  # address space, of which libraries reserve a lot
    while True:
        number, data = connection.recv()
        outcome = read(data, number)  # any other error ends the worker, which is the finding
        connection.send((outcome, most_memory()))


def most_memory() -> int:
    """Return the most bytes that this program has held.

    Linux counts `ru_maxrss` through the start of another program: in a worker of a large process it is that one's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclass
class Report:
    """What came of a run: how often each outcome, and the mutants that must not be."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


class Worker:
    """A process that reads mutants, started anew after each one that it does not survive."""

    def __init__(self, read: Read) -> None:
        """Start the process."""
        context = get_context("spawn")
        self._mine, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, read), daemon=True)
        self._process.start()
        theirs.close()
        self.answer(0, b"warm up: imports are not part of the measurement", limit=60.0)

    def answer(self, number: int, data: bytes, limit: float = MOST_SECONDS) -> tuple[str, int]:
        """Return the outcome and the memory for one mutant."""
        try:
            self._mine.send((number, data))
            if not self._mine.poll(limit):
                return f"HANG over {limit:g} s", 0
            outcome, used = self._mine.recv()
        except (EOFError, OSError):
            self._process.join(1)
            return f"CRASH with status {self._process.exitcode}", 0
        return (f"MEMORY {used >> 20} MB" if used > MOST_BYTES else outcome), used

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def fuzz(
    seeds: list[bytes], mutants: range, seed: int, keep: Path | None = None, read: Read = read_as_a_user_would
) -> Report:
    """Read mutants and report; those that are findings are kept in a directory if one is given."""
    report = Report()
    worker = Worker(read)
    for number in mutants:
        data = mutant(seeds, seed, number)
        began = time.perf_counter()
        outcome, used = worker.answer(number, data)
        report.slowest = max(report.slowest, time.perf_counter() - began)
        report.largest = max(report.largest, used)
        report.outcomes[outcome.split(" ")[0]] += 1
        if outcome[:2].isupper():
            report.findings.append((number, outcome))
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{number}.bin").write_bytes(data)
            if outcome.startswith(("HANG", "CRASH", "MEMORY")):
                worker.stop()
                worker = Worker(read)
    worker.stop()
    return report


def lines(report: Report, mutants: int) -> Iterator[str]:
    """Yield the report as text."""
    counts = ", ".join(f"{name} {count}" for name, count in report.outcomes.most_common())
    yield f"{mutants} mutants: {counts}"
    yield f"slowest {report.slowest:.2f} s, most memory {report.largest / 2**20:.0f} MB"
    yield from (f"mutant {number}: {outcome}" for number, outcome in report.findings)


def main() -> int:
    """Run from the command line; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("seeds", nargs="+", type=Path, metavar="SEED_FILE", help="whole recordings, below 128 kB")
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="directory for the mutants that are findings")
    arguments = parser.parse_args()
    seeds = [path.read_bytes()[:LARGEST_SEED] for path in arguments.seeds]
    report = fuzz(seeds, range(arguments.mutants), arguments.seed, arguments.keep)
    for line in lines(report, arguments.mutants):
        print(line)  # noqa: T201 - a script
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
