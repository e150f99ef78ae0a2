"""Log-mels on the GPU: whether they are those of NumPy, and what a tower takes that makes them itself."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from clapedge import Engine
from clapedge.arrays import Float32Array
from clapedge.features.clips import ClipMaker
from clapedge.model.bundle import Variant
from clapedge.model.providers import choose
from clapedge.model.sessions import open_session
from gpu import machine, signals
from gpu.checks import COSINE_DISTANCE, Subject, embeddings_apart, like, memory_growth, tower_checks
from gpu.run import Run
from gpu.steps import CheckStep, Figure, RowStep, Step
from gpu.timing import timings

MOST_DECIBELS = 1e-4
"""How much a log-mel of the GPU may differ."""

BATCHES = (1, 8, 32, 64, 128)
ENGINE_BATCHES = (1, 8, 32)
CALLERS = 32
"""Threads that embed one clip after another, so that four runs of 8 are full."""
CALLS_OF_A_CALLER = 40


def check_front_end(run: Run, variant: Variant) -> Iterator[Step]:
    """Yield the checks of log-mels on the GPU, of the tower that takes them there, and of files."""
    yield CheckStep("front end on the GPU: log-mels like those of the CPU, in dB", partial(log_mels_apart, run))
    samples = clip_samples(run)
    flags = np.zeros(len(samples), np.bool_)
    with run.engine(variant, frontend="numpy") as host, run.engine(variant, frontend="device") as device:
        features = np.concatenate([host.clip_maker(clip).features for clip in samples])
        expected = host.audio_tower.embed(features, flags)
        subject = Subject(f"{variant} from samples", variant, device.audio_tower.embed, samples, flags, expected)
        yield from tower_checks(subject)
        alone, shared = (partial(by_shares, engine, samples) for engine in (device, device))
        yield CheckStep(f"{variant} from samples: shared runs, the same again", partial(like, alone, shared, 0.0))
        yield CheckStep(
            f"{variant} from samples: memory of the GPU", partial(memory_growth, subject, machine.memory_in_use)
        )
        with TemporaryDirectory() as name:
            paths = signals.write_recordings(Path(name))
            for window in ("first", "slide", "fuse"):
                found, wanted = (partial(engine.embed_audio, paths, window=window) for engine in (device, host))
                yield CheckStep(
                    f"engine {variant}: {len(paths)} files, {window}: log-mels of the GPU like NumPy's (1 - cosine)",
                    partial(embeddings_apart, found, wanted, COSINE_DISTANCE[variant]),
                )


def clip_samples(run: Run) -> Float32Array:
    """Return the first clip of every recording of the checks as samples, (16, 480000)."""
    maker = ClipMaker(run.bundle.manifest.front_end, frontend="device")
    return np.concatenate([maker(sound).features for sound in signals.recordings().values()])


def by_shares(engine: Engine, samples: Float32Array) -> Float32Array:
    """Embed clips from a thread each, so that they share runs as they happen to come."""
    rows = np.empty((len(samples), engine.bundle.manifest.embedding_size), np.float32)

    def work(number: int) -> None:
        rows[number] = engine.shared_tower().embed(samples[number : number + 1], np.zeros(1, np.bool_))[0]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(samples))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rows


def log_mels_apart(run: Run) -> Figure:
    """Return how far the log-mels of the GPU lie from those of NumPy."""
    file = run.bundle.file("frontend", provider="cuda")
    session = open_session(run.bundle.path(file), choose("cuda", options=machine.NO_GRAPH), threads=1)
    samples, log_mel = clip_samples(run), ClipMaker(run.bundle.manifest.front_end).log_mel
    most = 0.0
    for clip in samples:
        (found,) = session.run(None, {"samples": clip[None]})
        most = float(np.maximum(most, np.abs(found[0] - log_mel(clip)).max()))  # NaN stays
    return Figure(most, MOST_DECIBELS)


def time_front_end(run: Run, variant: Variant) -> Iterator[Step]:
    """Yield the times of samples to embeddings and of log-mels to embeddings, with copies, and without."""
    for frontend in ("device", "numpy"):
        with run.engine(variant, frontend=frontend) as engine:
            for batch in BATCHES:
                labels = {"variant": variant, "batch": batch, "frontend": frontend}
                yield RowStep("clips", labels, partial(time_clips, engine, batch))
            yield RowStep("callers", {"variant": variant, "frontend": frontend}, partial(time_callers, engine))
    for batch in ENGINE_BATCHES:
        yield RowStep(
            "samples_on_device", {"variant": variant, "batch": batch}, partial(time_replays, run, variant, batch)
        )
    yield RowStep("numpy_front_end", {}, partial(time_numpy, run))


def time_clips(engine: Engine, batch: int) -> dict[str, Any]:
    """Time calls of a tower with so many clips as the engine makes them, from and to the memory of the host."""
    features = np.resize(engine.clip_maker(signals.noise(10, -20, 1)).features, (batch, *feature_shape(engine)))
    taken = timings(partial(engine.audio_tower.embed, features, np.zeros(batch, np.bool_)), seconds=0.5)
    return {"with_copies": taken, "clips_per_second": round(1e3 * batch / taken["p50_ms"], 1)}


def feature_shape(engine: Engine) -> tuple[int, ...]:
    """Return the shape of a clip as an engine makes it."""
    return engine.clip_maker(np.zeros(480_000, np.float32)).features.shape[1:]


def time_callers(engine: Engine) -> dict[str, Any]:
    """Return the clips a second of many threads that embed one clip after another."""
    clip = engine.clip_maker(signals.noise(10, -20, 1)).features
    tower, flag = engine.shared_tower(), np.zeros(1, np.bool_)

    def work() -> None:
        for _ in range(CALLS_OF_A_CALLER):
            tower.embed(clip, flag)

    threads = [threading.Thread(target=work) for _ in range(CALLERS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    return {"callers": CALLERS, "clips_per_second": round(CALLERS * CALLS_OF_A_CALLER / seconds, 1)}


def time_replays(run: Run, variant: Variant, batch: int) -> dict[str, Any]:
    """Time the front end and the tower on the device alone, and the tower beside it."""
    session = machine.open_session(run.bundle, variant, choose("cuda"), batch=batch, graph=True, front_end=True)
    both = timings(partial(session.replay, front_end=True), seconds=0.4)
    tower = timings(session.replay, seconds=0.4)
    session.close()
    return {"front_end_and_tower": both, "tower": tower}


def time_numpy(run: Run) -> dict[str, Any]:
    """Time NumPy's log-mels of 10 s in one thread."""
    maker, samples = ClipMaker(run.bundle.manifest.front_end), signals.noise(10, -20, 1)
    return timings(lambda: maker(samples), seconds=0.5)
