"""Check and time a bundle on this machine's GPU: first whether it does what it should, then how fast; one JSON file.

Make the bundle with `clapedge export random:clap-htsat-fused -o bundles/random --precision fp32,fp16 --no-text`.
Exits with 0 if every check holds, 1 if one fails, 4 without a usable GPU.
"""

import argparse
import ctypes
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from clapedge.arrays import Float32Array
from clapedge.engine import Engine
from clapedge.errors import ClapEdgeError, ProviderError
from clapedge.model.bundle import Bundle
from clapedge.model.gpu_session import DeviceSession
from clapedge.model.gpu_tower import BUCKETS, GpuAudioTower
from clapedge.model.providers import (
    CUDA_DRIVER,
    ProviderConfig,
    choose,
    describe_gpu,
    installed_packages,
    unavailable_reason,
)
from clapedge.model.towers import AudioTower

BATCHES = (1, 8, 32, 64, 128)
CLIPS = 32
"""Clips that the checks compare: as many as the largest batch."""
LEAST_COSINE = 0.9999
SAME = 1e-6
"""Two runs of the same kernels may differ by this much in an element of a unit embedding."""
SECONDS = 10
RECORDINGS = 64
SHORTEST_TIMING = 2.0
"""Seconds that a timing lasts at least, so that the clock of the GPU has settled."""

Check = tuple[str, bool, float]


def drawn_clips(count: int) -> dict[str, Any]:
    """Return log-mels that look like sound (a level, a tilt over the bands, noise), every second clip a long one."""
    draw = np.random.default_rng(0)
    level = draw.uniform(-60, -20, (count, 4, 1, 1))
    features = level + np.linspace(10, -20, 64) + draw.normal(0, 6, (count, 4, 1001, 64))
    return {"input_features": features.clip(min=-100).astype(np.float32), "is_longer": np.arange(count) % 2 == 1}


def worst_cosine(found: Float32Array, expected: Float32Array) -> float:
    """Return the least cosine between rows of unit norm."""
    return float((found * expected).sum(axis=1).min())


def farthest(found: Float32Array, expected: Float32Array) -> float:
    """Return the greatest difference of an element."""
    return float(np.abs(found - expected).max())


def checks(bundle: Bundle, provider_config: ProviderConfig) -> Iterator[Check]:
    """Yield each check: its name, whether it holds, and the figure that it rests on.

    That every node runs on the GPU needs no check here: a session of which one does not is never opened.
    """
    clips = drawn_clips(CLIPS)
    features, is_longer = clips["input_features"], clips["is_longer"]
    reference = AudioTower(bundle.path(bundle.file("audio", "fp32"))).embed(features, is_longer)
    plain = replace(provider_config, options={**provider_config.options, "enable_cuda_graph": "0"})
    for variant in ("fp32", "fp16"):
        model = bundle.path(bundle.file("audio", variant))
        found = GpuAudioTower(model, provider_config=provider_config).embed(features, is_longer)
        cosine = worst_cosine(found, reference)
        yield f"{variant}: cosine to fp32 on the CPU", cosine >= LEAST_COSINE, cosine
        for batch in BUCKETS:
            own = {name: values[:batch] for name, values in clips.items()}
            graph, without = (
                DeviceSession(model, provider_config, batch=batch),
                DeviceSession(model, plain, batch=batch),
            )
            first = graph.run(own)
            difference = farthest(first, without.run(own))
            yield f"{variant}, batch {batch}: CUDA graph as without", difference <= SAME, difference
            mates = {name: np.concatenate([values[:1], values[:0:-1]]) for name, values in own.items()}
            difference = farthest(graph.run(mates)[:1], first[:1])
            yield f"{variant}, batch {batch}: a clip beside other clips", difference <= SAME, difference
            graph.run(mates)
            difference = farthest(graph.run(own), first)
            yield f"{variant}, batch {batch}: the same clips again", difference <= SAME, difference


def timings(call: Callable[[], object]) -> dict[str, float]:
    """Call again and again; return median and 99th percentile in ms."""
    for _ in range(5):
        call()
    taken: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < SHORTEST_TIMING or len(taken) < RECORDINGS:
        start = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - start))
    return {"p50_ms": round(float(np.median(taken)), 4), "p99_ms": round(float(np.percentile(taken, 99)), 4)}


def tower_timings(bundle: Bundle, provider_config: ProviderConfig) -> Iterator[dict[str, Any]]:
    """Yield the times of each variant and batch, with and without CUDA graph, with and without the copies."""
    for variant in ("fp16", "fp32"):
        model = bundle.path(bundle.file("audio", variant))
        for batch in BATCHES:
            clips = drawn_clips(batch)
            for graph in ("1", "0"):
                session = DeviceSession(
                    model,
                    replace(provider_config, options={**provider_config.options, "enable_cuda_graph": graph}),
                    batch=batch,
                )
                row: dict[str, Any] = {"variant": variant, "batch": batch, "cuda_graph": graph == "1"}
                row["device"] = timings(session.replay)
                row["with_copies"] = timings(partial(session.run, clips))
                row["clips_per_second"] = round(1e3 * batch / row["with_copies"]["p50_ms"], 1)
                yield row


def tensorrt(bundle: Bundle) -> dict[str, Any]:
    """Build TensorRT's engines for FP16, compare and time them; or say why that did not run."""
    model, clips = bundle.path(bundle.file("audio", "fp16")), drawn_clips(CLIPS)
    reference = AudioTower(bundle.path(bundle.file("audio", "fp32"))).embed(*clips.values())
    began = time.perf_counter()
    try:
        tower = GpuAudioTower(model, provider_config=choose("tensorrt"))
        for batch in BUCKETS:
            tower.embed(*drawn_clips(batch).values())
    except ProviderError as error:
        return {"not_run": str(error)}
    report: dict[str, Any] = {"seconds_to_build_or_load": round(time.perf_counter() - began, 1)}
    report["cosine"] = worst_cosine(tower.embed(*clips.values()), reference)
    report["holds"] = report["cosine"] >= LEAST_COSINE
    return report | {f"batch_{batch}": timings(partial(tower.embed, *drawn_clips(batch).values())) for batch in BUCKETS}


def end_to_end(bundle: Bundle) -> dict[str, Any]:
    """Time samples to embeddings, front end in NumPy included: one recording, and many side by side."""
    noise = np.random.default_rng(0).normal(0, 0.1, (RECORDINGS, SECONDS * 48_000)).astype(np.float32)
    with Engine.load(bundle.directory, provider="cuda") as engine:
        one = timings(lambda: engine.embed_audio([noise[0]]))
        engine.embed_audio(list(noise[:16]))
        began = time.perf_counter()
        engine.embed_audio(list(noise))
        many = RECORDINGS / (time.perf_counter() - began)
        return {"variant": engine.variant, "one_recording": one, "recordings_per_second": round(many, 1)}


def machine(provider_config: ProviderConfig) -> dict[str, Any]:
    """Return what the figures depend on."""
    driver = ctypes.c_int()
    ctypes.CDLL(CUDA_DRIVER).cuDriverGetVersion(ctypes.byref(driver))
    return {
        "gpu": asdict(describe_gpu(provider_config.device_id)),
        "driver_supports_cuda": f"{driver.value // 1000}.{driver.value % 1000 // 10}",
        "onnxruntime_cuda": getattr(onnxruntime, "cuda_version", ""),
        "onnxruntime": installed_packages(),
        "clapedge": version("clapedge"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "provider_options": dict(provider_config.options),
    }


def save(report: dict[str, Any], path: Path) -> None:
    """Write what is known so far: a crash of a driver may not cost what was measured before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(report, indent=2) + "\n")
    temporary.replace(path)


def main() -> int:
    """Run the checks, then the timings; write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="bundles/random", help="bundle with fp32 and fp16 [default: %(default)s]")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    reason = unavailable_reason("cuda")
    if reason:
        print(f"nothing was checked: provider cuda cannot be used here: {reason}", file=sys.stderr)
        return ProviderError.exit_code
    warnings.simplefilter("ignore")
    bundle, provider_config = Bundle.open(arguments.bundle), choose("cuda")
    report: dict[str, Any] = {
        "machine": machine(provider_config),
        "bundle": bundle.manifest.model,
        "checks": [],
        "tower": [],
    }
    failed = 0
    for name, holds, figure in checks(bundle, provider_config):
        failed += not holds
        print(f"{'ok' if holds else 'FAILED':6} {name}: {figure:.3g}")
        report["checks"].append({"name": name, "holds": holds, "figure": figure})
    save(report, arguments.out)
    for row in tower_timings(bundle, provider_config):
        print(json.dumps(row))
        report["tower"].append(row)
    save(report, arguments.out)
    report |= {"end_to_end": end_to_end(bundle), "tensorrt": tensorrt(bundle)}
    failed += not report["tensorrt"].get("holds", True)
    save(report, arguments.out)
    for part in ("end_to_end", "tensorrt"):
        print(json.dumps({part: report[part]}))
    print(f"{failed} checks failed; the figures are in {arguments.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ClapEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
