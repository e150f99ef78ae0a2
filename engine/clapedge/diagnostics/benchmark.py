"""The cost of a bundle on this device: cold start, latency by stage, throughput and memory.

The recording is synthesised and the embeddings of labels are random: neither content nor words change the time.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clapedge.engine import Engine
    from clapedge.labels import EmbeddedLabels
    from clapedge.model.proof import Reproduction

SECONDS = 10
SAMPLE_RATE = 44_100
"""Ten seconds at a sample rate that needs resampling, as most recordings do."""
LABELS = 5
COLD_RUNS = 3
THROUGHPUT_FILES = 32
STAGES = ("decode", "frontend", "tower", "total")


@dataclass(frozen=True)
class Setting:
    """What to measure: arguments of `Engine.load`; None means its default."""

    bundle: str | None = None
    provider: str = "auto"
    precision: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        model: model id of the bundle.
        variant: precision of the audio tower.
        provider: where it ran.
        threads: threads of an operator.
        cold_ms: of a fresh process: `process` until the first score (all included), of which `import`, `load`, `first`.
        steady_ms: per stage of one score, file to labels: `p50`, `p90` and `p99` over `runs`.
        runs: scores behind `steady_ms`.
        files_per_second: of `Engine.embed_audio` over a list of files.
        memory_mb: peak resident memory of a process that scored, in MB; None if the system does not report it.
        reproduction: how near the variant comes to the bundle's model here; None for a bundle that does not say.
    """

    model: str
    variant: str
    provider: str
    threads: int
    cold_ms: dict[str, float]
    steady_ms: dict[str, dict[str, float]]
    runs: int
    files_per_second: float
    memory_mb: float | None
    reproduction: "Reproduction | None" = None


def measure(setting: Setting, *, runs: int = 50) -> Report:
    """Measure one setting on this device; takes some seconds.

    Args:
        setting: the bundle, and how to run it.
        runs: number of scores to time.

    Raises:
        ClapEdgeError: the engine cannot be loaded.
    """
    from clapedge.model.cpu import usable_cores

    with tempfile.TemporaryDirectory() as directory:
        recording = Path(directory) / "recording.wav"
        write_recording(recording)
        with load(setting) as engine:
            steady = _steady(engine, recording, runs)
            files_per_second = _throughput(engine, recording)
            reproduction = engine.check_variant()
            model, variant, provider = engine.bundle.manifest.model, engine.variant, engine.provider_config.provider
        holds = reproduction is None or reproduction.holds  # or else a cold start would be refused
        colds = [_cold(setting, recording, self_check=holds) for _ in range(COLD_RUNS)]
    memory = [cold.pop("memory_mb") for cold in colds]
    return Report(
        model=model,
        variant=variant,
        provider=provider,
        threads=setting.threads or usable_cores(),
        cold_ms={key: round(_percentile([cold[key] for cold in colds], 50), 1) for key in colds[0]},
        steady_ms=steady,
        runs=runs,
        files_per_second=round(files_per_second, 1),
        memory_mb=round(max(memory), 1) if all(memory) else None,
        reproduction=reproduction,
    )


def load(setting: Setting, *, self_check: bool = False) -> "Engine":
    """Load the engine of a setting, without its notes about the model; whether it reproduces it is a figure.

    A cold start asks what is known of that, as every other does.
    """
    from clapedge.engine import Engine

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments: dict[str, Any] = asdict(setting)
        return Engine.load(arguments.pop("bundle"), **arguments, self_check=self_check)


def write_recording(path: Path) -> None:
    """Write the recording to score: stereo, a sweep in noise."""
    import numpy as np
    import soundfile

    seconds = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    sweep = 0.3 * np.sin(2 * np.pi * (200 * seconds + 150 * seconds**2))
    noise = np.random.default_rng(0).normal(0, 0.02, (len(seconds), 2))
    soundfile.write(path, sweep[:, None] + noise, SAMPLE_RATE)


def random_labels(engine: "Engine") -> "EmbeddedLabels":
    """Return labels with random embeddings, so that a bundle is measured alike with and without a text tower."""
    import numpy as np

    from clapedge.labels import EmbeddedLabels, LabelSet

    manifest = engine.bundle.manifest
    rows = np.random.default_rng(0).normal(size=(LABELS, manifest.embedding_size))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    words = LabelSet.of([f"label {number}" for number in range(LABELS)])
    return EmbeddedLabels(words, rows.astype(np.float32), manifest.text_tower or "")


def cold_start(request: str) -> None:
    """Load, score once, and print the times as JSON; the entry point of a fresh process.

    Args:
        request: JSON with the fields of a `Setting` under `setting`, the path under `recording`, and `self_check`.
    """
    began = time.perf_counter()
    import clapedge.engine  # noqa: F401 - this import is what is timed

    imported = time.perf_counter()
    arguments = json.loads(request)
    engine = load(Setting(**arguments["setting"]), self_check=arguments["self_check"])
    loaded = time.perf_counter()
    engine.score(arguments["recording"], random_labels(engine))
    scored = time.perf_counter()
    times = {"import": imported - began, "load": loaded - imported, "first": scored - loaded}
    print(json.dumps({key: value * 1e3 for key, value in times.items()} | {"memory_mb": peak_memory()}))  # noqa: T201


def _cold(setting: Setting, recording: Path, *, self_check: bool) -> dict[str, Any]:
    """Return the times of a fresh process, its own duration included."""
    request = json.dumps({"setting": asdict(setting), "recording": str(recording), "self_check": self_check})
    code = "import sys; from clapedge.diagnostics.benchmark import cold_start; cold_start(sys.argv[1])"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, request], capture_output=True, check=True, text=True)  # noqa: S603 - our own code
    process = (time.perf_counter() - began) * 1e3
    times: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"process": process, **times}


def _steady(engine: "Engine", recording: Path, runs: int) -> dict[str, dict[str, float]]:
    """Score repeatedly and return percentiles by stage."""
    labels = random_labels(engine)
    times = [engine.score(recording, labels).timing for _ in range(runs + 2)][2:]  # the first two warm the caches
    return {
        stage: {f"p{q}": round(_percentile([getattr(time, stage) for time in times], q), 2) for q in (50, 90, 99)}
        for stage in STAGES
    }


def _throughput(engine: "Engine", recording: Path) -> float:
    """Return how many files per second `embed_audio` embeds."""
    files = [recording] * THROUGHPUT_FILES
    engine.embed_audio(files[:8])
    began = time.perf_counter()
    engine.embed_audio(files)
    return THROUGHPUT_FILES / (time.perf_counter() - began)


def _percentile(values: Sequence[float], q: int) -> float:
    """Return the q-th percentile: the least value that q % of all do not exceed."""
    import numpy as np

    return float(np.percentile(values, q, method="inverted_cdf"))


def peak_memory() -> float | None:
    """Return the peak resident memory of this process in MB."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
