"""What `clapedge listen` finds and costs over hours: planted events, memory, lost samples, share of a core, outages.

    python bench/bench_listen.py                  all of it, a quarter of an hour
    python bench/bench_listen.py --hours 0.1 --outage 20 --real-time 20   a rehearsal of two minutes

Two hours of sound are made as they are processed, 20 times as fast as real time; nothing of them is kept. Meanwhile
another listener runs in real time while its broker and its web server are down for ten minutes.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import clapedge
from clapedge import audio
from listen_outage import Outage
from material import SMALL, make

ROOT = Path(__file__).parents[1]
CLIPS = Path(clapedge.__file__).parent / "demo_clips"
RESULTS = ROOT / "bench" / "results" / "listen.json"
RATE, CHANNELS = 16_000, 2
LABELS = ("bird chirping", "church bell", "door knock", "siren", "smoke alarm", "telephone ringing")
NOISE = 0.03
"""Root mean square of the noise around the events, full scale being 1: -30 dBFS. The faintest events drown in it."""
GAP_SECONDS = (20, 60)
"""Quiet between two events."""
EVENT_SECONDS = (4, 9)
FOUND_SHARE = 0.5
"""Share of a planted event that one of its label must cover, and of itself that it must, to count as found."""
MEGABYTE = 2**20
PARTS = 20
"""Pieces of a second in real time, as a sound card delivers it."""

LISTEN = (sys.executable, "-m", "clapedge.cli", "listen")
RAW = ("-", "--rate", str(RATE), "--channels", str(CHANNELS))
RULE = ("--window", "2", "--hop", "1", "--merge-gap", "1.5", "--min-duration", "1")
LABEL_SET = "labels"
"""Ten labels that the full-size bundle holds, embedded: it has no text tower."""


@dataclass(frozen=True)
class Planted:
    """A demo sound at a known time, in seconds."""

    label: str
    start: float
    end: float
    gain: float


def plan(seconds: float, *, seed: int) -> list[Planted]:
    """Draw when which sound is played."""
    random = np.random.default_rng(seed)
    events: list[Planted] = []
    at = 5.0
    while True:
        length = float(random.integers(*EVENT_SECONDS))
        if at + length + 5 > seconds:
            return events
        events.append(Planted(str(random.choice(LABELS)), at, at + length, float(random.uniform(0.3, 1.0))))
        at += length + float(random.uniform(*GAP_SECONDS))


def sound(events: Sequence[Planted], seconds: float, *, seed: int) -> Iterator[bytes]:
    """Yield the sound second by second, as 16-bit stereo."""
    clips = {label: _clip(label) for label in {event.label for event in events}}
    random = np.random.default_rng(seed)
    waiting = list(reversed(events))
    for second in range(int(seconds)):
        samples = random.normal(0.0, NOISE, RATE)
        while waiting and waiting[-1].end <= second:
            waiting.pop()
        for event in reversed(waiting):
            if event.start >= second + 1:
                break
            places = second * RATE + np.arange(RATE) - round(event.start * RATE)
            inside = (places >= 0) & (places < round((event.end - event.start) * RATE))
            clip = clips[event.label]
            samples[inside] += event.gain * clip[places[inside] % len(clip)]
        whole = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
        yield np.repeat(whole[:, None], CHANNELS, axis=1).tobytes()


def _clip(label: str) -> npt.NDArray[np.float64]:
    """Return a demo sound at the rate of the feed."""
    import soxr

    samples = audio.read(CLIPS / f"{label.replace(' ', '-')}.flac").samples
    return np.asarray(soxr.resample(samples, audio.SAMPLE_RATE, RATE), np.float64)


@dataclass
class Run:
    """A listener that is fed, and what was observed of it."""

    process: "subprocess.Popen[bytes]"
    records: list[dict[str, Any]] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def watch(self) -> list[threading.Thread]:
        """Start to read what it writes, and to measure its memory."""
        threads = [
            threading.Thread(target=target, daemon=True) for target in (self._lines, self._notes, self._resident)
        ]
        for thread in threads:
            thread.start()
        return threads

    def feed(self, pieces: Iterator[bytes], *, speed: float, pauses: dict[int, float] | None = None) -> float:
        """Feed it second by second, and return by how many seconds it was late at most."""
        pipe = self.process.stdin
        if pipe is None:
            raise RuntimeError("the listener was started without a pipe")
        parts = 1 if speed > 1 else PARTS
        due, late = time.monotonic(), 0.0
        for second, piece in enumerate(pieces):
            due += pauses.get(second, 0.0) if pauses else 0.0
            for part in range(parts):
                behind = time.monotonic() - due
                if behind > 0:
                    late = max(late, behind)
                    due += behind  # this machine was busy; live sound would not come faster for that
                time.sleep(max(0.0, -behind))
                pipe.write(piece[part * len(piece) // parts : (part + 1) * len(piece) // parts])
                pipe.flush()
                due += 1 / parts / speed
        pipe.close()
        return late

    def _lines(self) -> None:
        """Keep the records."""
        for line in self.process.stdout or ():
            self.records.append(json.loads(line))

    def _notes(self) -> None:
        """Keep its notes."""
        for line in self.process.stderr or ():
            self.notes.append(line.decode().rstrip())

    def _resident(self) -> None:
        """Measure its memory every two seconds."""
        path = Path(f"/proc/{self.process.pid}/statm")
        while self.process.poll() is None:
            try:
                self.memory.append(int(path.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / MEGABYTE)
            except (OSError, IndexError):
                return
            time.sleep(2.0)


def start(*words: str, cores: str | None = None) -> Run:
    """Start a listener."""
    pinned = ("taskset", "-c", cores) if cores else ()
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*pinned, *LISTEN, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return Run(process)


def finish(run: Run, threads: list[threading.Thread]) -> None:
    """Wait for the end of a listener and of its output."""
    if run.process.wait() != 0:
        raise RuntimeError("\n".join(run.notes[-10:]))
    for thread in threads:
        thread.join()


def hours_at_speed(hours: float, speed: float, scratch: Path) -> dict[str, Any]:
    """Feed hours of sound, and compare what is found with what was planted."""
    seconds = 3600 * hours
    events = plan(seconds, seed=1)
    status = scratch / "hours.json"
    words = ("--labels", str(_label_file(scratch)), "--status", str(status), "--began", "2026-01-01T00:00:00Z")
    run = start(*RAW, *RULE, *words, "--buffer", "120")
    threads = run.watch()
    late = run.feed(sound(events, seconds, seed=2), speed=speed)
    finish(run, threads)
    counts = json.loads(status.read_text())
    fed = int(seconds) * RATE
    return {
        "hours": hours,
        "speed": speed,
        "planted": len(events),
        **agreement(events, [record for record in run.records if record["kind"] == "end"]),
        "samples_fed": fed,
        "samples_read": counts["samples_read"],
        "samples_heard": counts["samples_heard"],
        "samples_dropped": counts["samples_dropped"],
        "samples_lost": fed - counts["samples_heard"],
        "feed_late_s": round(late, 2),
        "windows": counts["windows"],
        "core_share": round(counts["cpu_s"] / counts["uptime_s"], 3),
        **drift(run.memory),
        "window_ms": counts["window_ms"],
    }


def _label_file(scratch: Path) -> Path:
    """Write the labels of what is planted, and the noise around it as a hidden one."""
    path = scratch / "labels.toml"
    shown = "".join(f'[[label]]\nname = "{label}"\n' for label in LABELS)
    hidden = '[[label]]\nname = "noise"\nprompts = ["white noise"]\nhidden = true\n'
    path.write_text(f'template = "This is a sound of {{}}."\n{shown}{hidden}')
    return path


def agreement(events: Sequence[Planted], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return precision, recall and F1 of events, each planted one being found once, and how far their ends are off."""
    left = list(found)
    offsets = []
    for event in events:
        for record in left:
            common = min(event.end, record["end"]) - max(event.start, record["start"])
            longest = max(event.end - event.start, record["end"] - record["start"])
            if record["label"] == event.label and common >= FOUND_SHARE * longest:
                offsets += [abs(event.start - record["start"]), abs(event.end - record["end"])]
                left.remove(record)
                break
    hits = len(found) - len(left)
    precision, recall = hits / max(1, len(found)), hits / max(1, len(events))
    return {
        "found": len(found),
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(1e-9, precision + recall), 4),
        "off_s": round(statistics.median(offsets), 3) if offsets else None,
    }


def drift(memory: Sequence[float]) -> dict[str, float]:
    """Return the peak of resident memory, and its growth from the second tenth to the last, in MB."""
    tenth = max(1, len(memory) // 10)
    early, late = statistics.median(memory[tenth : 2 * tenth] or memory), statistics.median(memory[-tenth:])
    return {"memory_peak_mb": round(max(memory), 1), "memory_drift_mb": round(late - early, 2)}


def real_time(seconds: float, bundle: Path, scratch: Path) -> dict[str, Any]:
    """Listen in real time on one core with a full-size model."""
    figures = {}
    for hop in ("1", "0.5"):
        status = scratch / f"real-{hop}.json"
        words = ("--hop", hop, "--labels", LABEL_SET, "--bundle", str(bundle), "--status", str(status))
        run = start(*RAW, *words, cores=str(max(os.sched_getaffinity(0))))
        threads = run.watch()
        run.feed(sound(plan(seconds, seed=3), seconds, seed=4), speed=1.0)
        finish(run, threads)
        counts = json.loads(status.read_text())
        figures[f"hop {hop} s"] = {
            "seconds": seconds,
            "windows": counts["windows"],
            "core_share": round(counts["cpu_s"] / counts["uptime_s"], 3),
            "samples_dropped": counts["samples_dropped"],
            "window_ms": counts["window_ms"],
            "latency_ms": counts["latency_ms"],
            "memory_peak_mb": round(max(run.memory), 1),
        }
    return figures


def stall(scratch: Path) -> dict[str, Any]:
    """Let the source pause for longer than is waited for."""
    status = scratch / "stall.json"
    run = start(*RAW, *RULE, "--labels", str(_label_file(scratch)), "--stall", "2", "--status", str(status))
    threads = run.watch()
    run.feed(sound(plan(40, seed=5), 40, seed=6), speed=10.0, pauses={12: 5.0, 25: 5.0})
    finish(run, threads)
    counts = json.loads(status.read_text())
    return {"stalls": counts["stalls"], "gaps": counts["gaps"], "samples_lost": 40 * RATE - counts["samples_heard"]}


def main() -> None:
    """Run what was asked for and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--outage", type=float, default=600.0, help="seconds for which broker and server are down")
    parser.add_argument("--real-time", type=float, default=120.0, help="seconds of the full-size model")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    figures: dict[str, Any] = {
        "about": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    }
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        labels = _label_file(scratch)
        outage = Outage(scratch, [*LISTEN, *RAW, *RULE, "--labels", str(labels)], seconds=asked.outage)
        feeding = threading.Thread(target=outage.run, args=(sound,), daemon=True)
        if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"):
            feeding.start()
        else:
            print(
                "mosquitto is not installed, so no broker will be down; on Debian: apt install mosquitto",
                file=sys.stderr,
            )
        figures["stall"] = stall(scratch)
        bundle = ROOT / "build" / "bench" / SMALL
        if not bundle.is_dir():
            make(bundle.parent)
        figures["real_time"] = real_time(asked.real_time, bundle, scratch)
        figures["hours"] = hours_at_speed(asked.hours, asked.speed, scratch)
        if feeding.ident:
            feeding.join()
            figures["outage"] = outage.figures
    unfinished = asked.out.with_suffix(".tmp")
    unfinished.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(asked.out)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
