"""The parts of a run, the most important first; each is a process of its own, so that a crash ends no other."""

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import clapedge
from clapedge import Engine, LabelSet
from clapedge.arrays import Float32Array
from clapedge.labels import EmbeddedLabels
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.providers import choose
from gpu import machine, signals
from gpu.checks import (
    BATCHES,
    COSINE_DISTANCE,
    SAME_KERNELS,
    Subject,
    embeddings_apart,
    like,
    memory_growth,
    tower_checks,
)
from gpu.end_to_end import time_end_to_end, time_processes
from gpu.front_end import check_front_end, time_front_end
from gpu.run import Run
from gpu.steps import CheckStep, Figure, RowStep, Step
from gpu.timing import timings

TOWER_BATCHES = (1, 8, 32, 64, 128)
SESSION_BATCHES = (1, 8, 32, 128, 2, 4, 16, 64)
SCORE_DIFFERENCE = 0.01
"""How much a probability may differ from the CPU's FP32."""


def check_tower(run: Run, variant: Variant) -> Iterator[Step]:
    """Yield the checks of one variant, and of its CUDA graphs."""
    features, is_longer = run.clips()
    with run.reference() as reference:
        expected = reference.audio_tower.embed(features, is_longer)
    with run.engine(variant) as engine:
        subject = Subject(variant, variant, engine.audio_tower.embed, features, is_longer, expected)
        yield from tower_checks(subject)
        if run.provider == "cuda":
            yield CheckStep(f"{variant}: memory of the GPU", partial(memory_growth, subject, machine.memory_in_use))
            with run.engine(variant, options=machine.NO_GRAPH) as plain:
                launched = Subject(variant, variant, plain.audio_tower.embed, features, is_longer, expected)
                for batch in BATCHES:
                    rows = subject.rows(batch)
                    ways = partial(subject.embedded, rows), partial(launched.embedded, rows)
                    name = f"{variant}, batch {batch}: CUDA graph as without"
                    yield CheckStep(name, partial(like, *ways, SAME_KERNELS))


def check_engine(run: Run, variant: Variant) -> Iterator[Step]:
    """Yield the checks from WAV files to embeddings and scores."""
    with TemporaryDirectory() as name, run.reference() as reference, run.engine(variant) as engine:
        warnings.simplefilter("ignore")
        paths = signals.write_recordings(Path(name))
        limit = COSINE_DISTANCE[variant]
        for window in ("first", "fuse", "slide"):
            expected = partial(reference.embed_audio, paths, window=window)
            found = partial(engine.embed_audio, paths, window=window)
            yield CheckStep(
                f"engine {variant}: {len(paths)} files, {window}: like FP32 on the CPU (1 - cosine)",
                partial(embeddings_apart, found, expected, limit),
            )
        together = partial(engine.embed_audio, paths)
        one_by_one = partial(alone, engine, paths)
        yield CheckStep(
            f"engine {variant}: files side by side as one by one (1 - cosine)",
            partial(embeddings_apart, together, one_by_one, limit),
        )
        labels = drawn_labels(run.bundle)
        yield CheckStep(
            f"engine {variant}: probabilities of a file", partial(scores_apart, engine, reference, paths[6], labels)
        )


def alone(engine: Engine, paths: list[Path]) -> Float32Array:
    """Embed files one call each."""
    return np.concatenate([engine.embed_audio([path]) for path in paths])


def drawn_labels(bundle: Bundle) -> EmbeddedLabels:
    """Return ten labels at random places of a bundle's space: a random model has no words."""
    draw = np.random.default_rng(0).normal(size=(10, bundle.manifest.embedding_size)).astype(np.float32)
    draw /= np.linalg.norm(draw, axis=1, keepdims=True)
    label_set = LabelSet.of([f"label {number}" for number in range(len(draw))])
    return EmbeddedLabels(label_set, draw, bundle.manifest.text_tower or "")


def scores_apart(engine: Engine, reference: Engine, path: Path, labels: EmbeddedLabels) -> Figure:
    """Return the greatest difference of a label's probability."""
    results = (one.score(path, labels) for one in (engine, reference))
    found, expected = ({label.name: label.probability for label in result.labels} for result in results)
    return Figure(max(abs(found[name] - expected[name]) for name in expected), SCORE_DIFFERENCE)


def check_demo(run: Run) -> Iterator[Step]:
    """Yield a check of trained weights: the built-in model's words for its own clips."""
    from clapedge.model.bundle import demo_directory

    directory = demo_directory()
    clips = sorted((Path(clapedge.__file__).parent / "demo_clips").glob("*.flac"))
    if not (directory / "audio.fp32.onnx").exists() or not clips:
        yield RowStep("demo", {}, lambda: {"not_run": f"no demo model in {directory}"})
        return
    demo = Run(Bundle.open(directory), run.provider)
    words = LabelSet.from_file(clips[0].with_name("labels.toml"))
    with demo.reference() as reference, demo.engine("fp32") as engine:
        for clip in clips:
            yield CheckStep(
                f"demo model fp32: {clip.stem}: probabilities",
                partial(scores_apart, engine, reference, clip, reference.embed_labels(words)),
            )


def time_tower(run: Run, variant: Variant, *, wide: bool) -> Iterator[Step]:
    """Yield start-up and the times of the tower.

    Args:
        run: the bundle and its provider.
        variant: of the tower.
        wide: whether all batch sizes are timed, with and without CUDA graph, or the three that the engine opens.
    """
    yield RowStep("start_up", {"variant": variant, "process": "new"}, partial(start_up, run, variant))
    yield RowStep("start_up", {"variant": variant, "process": "warm"}, partial(start_up, run, variant))
    for graph in (True, False):
        options: Mapping[str, str] = {} if graph else machine.NO_GRAPH
        with run.engine(variant, options=options) as engine:
            for batch in TOWER_BATCHES if wide else TOWER_BATCHES[:3]:
                labels = {"variant": variant, "batch": batch, "cuda_graph": graph}
                yield RowStep("tower", labels, partial(time_embed, run, engine, batch))
        if not wide:
            return
    for graph, own in ((True, True), (True, False), (False, True)):
        for batch in SESSION_BATCHES if graph and own else SESSION_BATCHES[:3]:
            labels = {"variant": variant, "batch": batch, "cuda_graph": graph, "for_cuda_alone": own}
            yield RowStep("device", labels, partial(time_session, run, variant, batch, graph=graph, own=own))


def start_up(run: Run, variant: Variant) -> dict[str, Any]:
    """Time the opening of an engine, captures included, and its first two clips."""
    features, is_longer = run.clips()
    began = time.perf_counter()
    with run.engine(variant) as engine:
        opened = time.perf_counter()
        engine.audio_tower.embed(features[:1], is_longer[:1])
        first = time.perf_counter()
        engine.audio_tower.embed(features[1:2], is_longer[1:2])
        second = time.perf_counter()
    return {
        "open_s": round(opened - began, 3),
        "first_clip_ms": round(1e3 * (first - opened), 3),
        "second_clip_ms": round(1e3 * (second - first), 3),
    }


def time_embed(run: Run, engine: Engine, batch: int) -> dict[str, Any]:
    """Time calls of a tower with so many clips, from and to the memory of the host."""
    features, is_longer = (np.resize(rows, (batch, *rows.shape[1:])) for rows in run.clips())
    taken = timings(partial(engine.audio_tower.embed, features, is_longer))
    return {"with_copies": taken, "clips_per_second": round(1e3 * batch / taken["p50_ms"], 1)}


def time_session(run: Run, variant: Variant, batch: int, *, graph: bool, own: bool) -> dict[str, Any]:
    """Time the device alone, without copies, in one session of a batch size."""
    session = machine.open_session(run.bundle, variant, choose("cuda"), batch=batch, graph=graph, own=own)
    features, is_longer = (np.resize(rows, (batch, *rows.shape[1:])) for rows in run.clips())
    inputs = {"input_features": features, "is_longer": is_longer}
    session.run({name: inputs[name] for name in session.input_shapes})
    taken = timings(session.replay, seconds=0.5)
    return {"device": taken, "clips_per_second": round(1e3 * batch / taken["p50_ms"], 1)}


def tensorrt(run: Run) -> Iterator[Step]:
    """Yield what TensorRT takes to build its engines, what it gives and how fast; or why it did not run."""

    def build_and_time() -> dict[str, Any]:
        began = time.perf_counter()
        with Run(run.bundle, "tensorrt").engine("fp16") as engine, run.reference() as reference:
            built = round(time.perf_counter() - began, 1)
            features, is_longer = run.clips()
            expected = reference.audio_tower.embed(features, is_longer)
            found = engine.audio_tower.embed(features, is_longer)
            apart = float(np.max(1 - (found * expected).sum(axis=1)))
            rows = {f"batch_{batch}": time_embed(run, engine, batch) for batch in (1, 8, 32)}
        return {"seconds_to_build_or_load": built, "cosine_distance": apart, **rows}

    missing = importlib.util.find_spec("tensorrt") is None
    yield RowStep("tensorrt", {}, (lambda: {"not_run": "tensorrt is not installed"}) if missing else build_and_time)


def torch_peers(run: Run, *, compiled: bool) -> Iterator[Step]:
    """Yield the times of the same model in PyTorch."""
    from gpu import peers

    features, is_longer = run.clips()
    whole = "fp32" in run.bundle.variants("audio")
    with run.reference() if whole else run.engine("fp16") as reference:
        expected = reference.audio_tower.embed(features, is_longer)
    yield from peers.steps(run.bundle.manifest.model, peers.Inputs(features, is_longer, expected), compiled=compiled)


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        name: as the command line takes it.
        steps: what it does.
        share: seconds that it may take at most.
        gpu: whether it means something only on a GPU.
        needed: whether it fails the run if it cannot begin, or ends before its end.
        late: what is said of it, with its seconds, if it is killed.
    """

    name: str
    steps: Callable[[Run], Iterator[Step]]
    share: float
    gpu: bool = True
    needed: bool = False
    late: str = "it was still in one step after {:.0f} s, and was killed"


PHASES = (
    Phase("checks-fp16", partial(check_tower, variant="fp16"), 60, needed=True),
    Phase("checks-fp32", partial(check_tower, variant="fp32"), 60, gpu=False, needed=True),
    Phase("engine-fp16", partial(check_engine, variant="fp16"), 40, needed=True),
    Phase("engine-fp32", partial(check_engine, variant="fp32"), 40, gpu=False, needed=True),
    Phase("timings-fp16", partial(time_tower, variant="fp16", wide=True), 70),
    Phase("front-end", partial(check_front_end, variant="fp16"), 60, needed=True),
    Phase("samples", partial(time_front_end, variant="fp16"), 40),
    Phase("end-to-end", partial(time_end_to_end, variant="fp16"), 60),
    Phase("processes", partial(time_processes, variant="fp16"), 120),
    Phase("torch", partial(torch_peers, compiled=False), 60),
    Phase("timings-fp32", partial(time_tower, variant="fp32", wide=False), 30),
    Phase("demo", check_demo, 20, gpu=False),
    Phase("tensorrt", tensorrt, 120),
    Phase("torch-compile", partial(torch_peers, compiled=True), 60, late="did not compile within {:.0f} s"),
)
"""In the order of their weight: what is right comes before how fast it is, and peers come last."""
