"""Sounds to log-mels, computed once and kept in a file: recorded clips at several speeds, and synthesised ones."""

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from clapedge import audio
from clapedge.errors import UsageError
from clapedge.features.log_mel import LogMel
from clapedge_demo import synth

Mel: TypeAlias = npt.NDArray[np.float16]

SPEEDS = (1.0, 0.84, 0.9, 0.95, 1.06, 1.12, 1.19)
"""Speeds (and pitches) at which every recorded training clip is kept; the first one is the clip as it is."""

TRAINING_SEEDS = 0
UNSEEN_SEEDS = 1_000_000
"""First seeds of the synthesised sounds to train with and of those that only tests hear."""


@dataclass(frozen=True)
class Recording:
    """One row of `clips.csv`.

    Attributes:
        path: the audio file.
        label: name of its class.
        fold: number of its fold.
        credit: title, author, source and licence.
    """

    path: Path
    label: str
    fold: int
    credit: tuple[str, str, str, str]


@dataclass(frozen=True)
class Sounds:
    """Log-mels of one source.

    Attributes:
        mels: one (T, 64) float16 dB for every sound and speed.
        labels: the kind of each.
    """

    mels: tuple[Mel, ...]
    labels: tuple[str, ...]


def read_table(folder: Path) -> list[Recording]:
    """Read `clips.csv` of an ESC-10 folder (columns file, label, fold, title, source, author, licence).

    Raises:
        UsageError: the folder holds none.
    """
    table = folder / "clips.csv"
    if not table.is_file():
        raise UsageError(f"{folder} holds no clips.csv; name the folder of ESC-10, for example: --esc10 data/esc10")
    with table.open(encoding="utf-8", newline="") as stream:
        return [
            Recording(
                folder / row["file"],
                row["label"],
                int(row["fold"]),
                (row["title"], row["author"], row["source"], row["licence"]),
            )
            for row in csv.DictReader(stream)
        ]


def recorded(recordings: Iterable[Recording], cache: Path, *, speeds: tuple[float, ...] = SPEEDS) -> Sounds:
    """Return the log-mels of recordings at the given speeds."""
    chosen = list(recordings)
    labels = [recording.label for recording in chosen for _ in speeds]
    jobs = [(recording.path, speed) for recording in chosen for speed in speeds]
    key = repr([(path.name, speed) for path, speed in jobs])
    return Sounds(_cached(cache, "recorded", key, _mel_of_file, jobs), tuple(labels))


def synthesised(kinds: Iterable[str], cache: Path, *, count: int, first_seed: int = TRAINING_SEEDS) -> Sounds:
    """Return the log-mels of `count` synthesised sounds of every kind."""
    jobs = [(kind, first_seed + number) for kind in kinds for number in range(count)]
    sources = sorted(Path(synth.__file__).parent.glob("*.py"))
    key = repr(jobs) + "".join(source.read_text(encoding="utf-8") for source in sources)
    return Sounds(_cached(cache, "synthesised", key, _mel_of_kind, jobs), tuple(kind for kind, _ in jobs))


def _mel_of_file(job: tuple[Path, float]) -> Mel:
    """Read a recording, change its speed by resampling, and transform it."""
    path, speed = job
    samples = audio.read(path).samples
    if speed != 1.0:
        samples = soxr.resample(samples, synth.RATE * speed, synth.RATE)
    return LogMel()(samples.astype(np.float32)).astype(np.float16)


def _mel_of_kind(job: tuple[str, int]) -> Mel:
    """Synthesise a sound of 3 to 8 seconds and transform it."""
    kind, seed = job
    seconds = float(np.random.default_rng([seed, 1]).choice([3.0, 5.0, 5.0, 8.0]))
    return LogMel()(synth.render(kind, seed, seconds=seconds)).astype(np.float16)


def _cached(cache: Path, name: str, key: str, transform: Callable[..., Mel], jobs: Sequence[object]) -> tuple[Mel, ...]:
    """Return the transformed jobs from the cache, after computing them in parallel if they are not there."""
    path = cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor() as pool:
            mels = list(pool.map(transform, jobs, chunksize=8))
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, frames=[len(mel) for mel in mels], mels=np.concatenate(mels))
        temporary.replace(path)
    with np.load(path) as stored:
        frames, mels = stored["frames"], stored["mels"]
    return tuple(np.split(mels, np.cumsum(frames)[:-1]))
