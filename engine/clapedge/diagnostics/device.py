"""This device: its hardware, the time that a window takes, and the recommended options of `clapedge listen`."""

import os
import platform
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clapedge.diagnostics.benchmark import peak_memory
from clapedge.engine import Engine
from clapedge.errors import ClapEdgeWarning, ParityError, ProviderError
from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.cpu import usable_cores
from clapedge.model.providers import ProviderWish

HOPS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Hops in seconds among which one is recommended."""

MAX_LOAD = 0.25
"""Share of the hop that a window may take: the rest is for other programs, for a hot day and for catching up."""

WINDOWS = 8
"""Windows that are timed after the first one."""

MEGABYTE = 1e6


@dataclass(frozen=True)
class Measured:
    """How long a window takes in `clapedge listen`: front end and tower, idle threads asleep.

    Attributes:
        variant: precision of the audio tower.
        threads: threads of an operator.
        window_ms: median milliseconds of a window.
        real_time_factor: seconds of work for a second of sound, with a hop of one second.
    """

    variant: str
    threads: int
    window_ms: float
    real_time_factor: float


@dataclass(frozen=True)
class Advice:
    """Recommended options of `clapedge listen` on this device.

    Attributes:
        variant: precision of the audio tower.
        threads: threads of an operator.
        hop: seconds from one window to the next.
        share: share of the time that the work takes.
        keeps_up: whether it runs in real time.
    """

    variant: str
    threads: int
    hop: float
    share: float
    keeps_up: bool


@dataclass(frozen=True)
class DeviceReport:
    """A device and its speed.

    Attributes:
        machine: instruction set.
        processor: its name, as far as the system reports it.
        cores: those that a session uses.
        logical_cores: those of the system.
        memory_mb: memory of the machine, in MB; None if the system does not report it.
        memory_available_mb: free memory, or None.
        peak_mb: peak memory of this process while measuring, or None.
        governor: policy of the system for the clock rate, or None.
        provider: where the tower ran.
        model: model id of the bundle.
        weights: `pretrained`, `random` or `demo`.
        measured: every variant with every tried number of threads.
        advice: recommended options of `clapedge listen`.
    """

    machine: str
    processor: str
    cores: int
    logical_cores: int
    memory_mb: int | None
    memory_available_mb: int | None
    peak_mb: float | None
    governor: str | None
    provider: str
    model: str
    weights: str
    measured: tuple[Measured, ...]
    advice: Advice


def measure(bundle: str | None = None, *, provider: ProviderWish = "auto") -> DeviceReport:
    """Measure every variant of a bundle on this device; takes some seconds.

    Args:
        bundle: its directory; None means that of `Engine.load`.
        provider: where to run.

    Raises:
        BundleError: the bundle cannot be used.
        ProviderError: none of its variants runs.
    """
    opened = Bundle.open(bundle)
    measured, failure, used = [], "", ""
    for variant in opened.variants("audio"):
        for threads in sorted({1, 2, usable_cores()} & {*range(1, usable_cores() + 1)}):
            try:
                used, figures = _measure(bundle, provider, variant, threads)
            except (ParityError, ProviderError) as error:
                failure = str(error)
                break
            measured.append(figures)
    if not measured:
        raise ProviderError(failure or "the bundle has no audio tower; export it again")
    memory, available = _memory()
    return DeviceReport(
        machine=platform.machine(),
        processor=_processor(),
        cores=usable_cores(),
        logical_cores=os.cpu_count() or 1,
        memory_mb=memory,
        memory_available_mb=available,
        peak_mb=peak_memory(),
        governor=_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        provider=used,
        model=opened.manifest.model,
        weights=opened.manifest.weights,
        measured=tuple(measured),
        advice=advise(measured),
    )


def advise(measured: list[Measured]) -> Advice:
    """Recommend the variant that is fastest with one thread, and as few threads and as short a hop as is possible."""
    fastest = min((one for one in measured if one.threads == 1), key=lambda one: one.window_ms, default=measured[0])
    own = sorted((one for one in measured if one.variant == fastest.variant), key=lambda one: one.threads)
    for hop in HOPS[1:]:
        for one in own:
            if one.window_ms <= 1e3 * MAX_LOAD * hop:
                shortest = next(hop for hop in HOPS if one.window_ms <= 1e3 * MAX_LOAD * hop)
                return _advice(one, shortest)
    return _advice(min(own, key=lambda one: one.window_ms), HOPS[-1])


def _advice(one: Measured, hop: float) -> Advice:
    """Return a recommendation with its load."""
    share = one.window_ms / 1e3 / hop
    return Advice(one.variant, one.threads, hop, round(share, 4), keeps_up=share < 1)


def _measure(bundle: str | None, provider: ProviderWish, variant: Variant, threads: int) -> tuple[str, Measured]:
    """Embed some windows of noise as a live source yields them; return the provider and the time of a window."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)  # the report names the weights
        engine = Engine.load(bundle, provider=provider, precision=variant, threads=threads, spinning=False)
    with engine:
        maker = ClipMaker(engine.bundle.manifest.front_end)
        sample_rate, seconds = maker.front_end.sample_rate, round(maker.front_end.clip_seconds) + WINDOWS
        noise = np.random.default_rng(0).normal(0.0, 0.1, seconds * sample_rate).astype(np.float32)
        times, began = [], time.perf_counter()
        for clips in maker.stream([noise], ClipOptions("slide", hop=1.0, fusion=engine.fusion), batch=1):
            engine.audio_tower.embed(clips.features, clips.is_longer)
            now = time.perf_counter()
            times.append(now - began)
            began = now
        window = float(np.median(times[1:]))  # the first one computes ten seconds of frames, and wakes the session
        return engine.provider_config.provider, Measured(variant, threads, round(1e3 * window, 2), round(window, 5))


def _processor() -> str:
    """Return the name of the processor, or of the board, which is more specific on ARM."""
    board = _line(Path("/proc/device-tree/model"))
    if board:
        return board.rstrip("\0")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _memory() -> tuple[int | None, int | None]:
    """Return the total and the free memory of the machine in MB, as far as the system reports them."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return None, None
    kilobytes = {line.partition(":")[0]: line.partition(":")[2].split()[0] for line in text.splitlines() if ":" in line}
    total, free = (round(int(kilobytes.get(name, 0)) * 1024 / MEGABYTE) for name in ("MemTotal", "MemAvailable"))
    return total or None, free or None


def _line(path: Path) -> str | None:
    """Return the content of a one-line system file, or None."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
