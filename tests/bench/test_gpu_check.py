"""`make gpu-check` without a GPU: its checks find planted faults, and its report outlives whatever happens."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gpu_check
from clapedge.arrays import BoolArray, Float32Array
from clapedge.errors import ProviderError
from clapedge.features.front_end import FrontEnd
from gpu import signals
from gpu.checks import MIXED_BATCHES, Embed, Subject, memory_growth, tower_checks
from gpu.phases import Phase
from gpu.report import Check, Report
from gpu.steps import CheckStep, Deadline, Figure, RowStep, Step, run_steps
from gpu.table import table

CLIPS = np.random.default_rng(0).normal(size=(16, 1, 5, 4)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(20, 32)).astype(np.float32)
LONG = np.arange(len(CLIPS)) % 2 == 1


def honest(features: Float32Array, is_longer: BoolArray) -> Float32Array:
    """Embed each clip by itself."""
    rows = np.stack([clip.ravel() @ WEIGHTS + longer for clip, longer in zip(features, is_longer, strict=True)])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def wrong(features: Float32Array, is_longer: BoolArray) -> Float32Array:
    """Leave out what half precision of a small weight would lose."""
    return honest(np.where(np.abs(features) < 0.05, 0, features), is_longer)


def overflowing_at_batch_1(features: Float32Array, is_longer: BoolArray) -> Float32Array:
    """Give no numbers for one clip, and only where it is alone."""
    return np.asarray(
        honest(features, is_longer) * (np.nan if len(features) == 1 and features[0, 0, 0, 0] > 1 else 1), np.float32
    )


def raising_at_batch_1(features: Float32Array, is_longer: BoolArray) -> Float32Array:
    """Refuse one clip, as a tower does that finds no numbers."""
    if len(features) == 1 and features[0, 0, 0, 0] > 1:
        raise ProviderError("no numbers; use --precision fp32")
    return honest(features, is_longer)


def not_of_unit_norm(features: Float32Array, is_longer: BoolArray) -> Float32Array:
    """Leave the last norm out by a little."""
    return np.asarray(honest(features, is_longer) * np.float32(1.001), np.float32)


def leaning_on_neighbours(features: Float32Array, is_longer: BoolArray) -> Float32Array:
    """Let the last bits depend on the batch."""
    return np.asarray(honest(features, is_longer) + np.float32(1e-7) * features.mean(), np.float32)


class Drifting:
    """Gives other last bits at every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        self.calls += 1
        return np.asarray(honest(features, is_longer) + np.float32(1e-8 * self.calls), np.float32)


def coarse_in_large_batches(features: Float32Array, is_longer: BoolArray) -> Float32Array:
    """Compute batches of more than 8 with too few bits, near enough for the cosine."""
    found = honest(features, is_longer)
    return found if len(found) <= 8 else found + np.float32(5e-5) * np.sign(found)


def another_in_threads(features: Float32Array, is_longer: BoolArray) -> Float32Array:
    """Give something else outside the thread that began."""
    found = honest(features, is_longer)
    return found if threading.current_thread() is threading.main_thread() else found[:, ::-1]


def lost_in_threads(features: Float32Array, is_longer: BoolArray) -> Float32Array:
    """Fail outside the thread that began, as copies do while another thread captures a graph."""
    if threading.current_thread() is not threading.main_thread():
        raise ProviderError("error 900; use one thread")
    return honest(features, is_longer)


def subject_of(embed: Embed) -> Subject:
    """Return the checks' view of a tower."""
    return Subject("fp32", "fp32", embed, CLIPS, LONG, honest(CLIPS, LONG))


def failed_checks(embed: Embed, tmp_path: Path) -> list[str]:
    """Run the checks of a tower and return the names of those that fail, as the file tells them."""
    path = tmp_path / "gpu.json"
    run_steps(tower_checks(subject_of(embed)), Report(path), Deadline.after(60))
    checks = json.loads(path.read_text())["checks"]
    assert len(checks) == 11
    return [check["name"] for check in checks if not check["holds"]]


def test_an_honest_tower_passes_every_check(tmp_path: Path) -> None:
    assert failed_checks(honest, tmp_path) == []


@pytest.mark.parametrize(
    ("planted", "found_by"),
    [
        (wrong, "fp32, batch 8: like FP32 on the CPU"),
        (overflowing_at_batch_1, "fp32, batch 1: like FP32 on the CPU"),
        (raising_at_batch_1, "fp32, batch 1: like FP32 on the CPU"),
        (not_of_unit_norm, "fp32, batch 32: like FP32 on the CPU"),
        (leaning_on_neighbours, "fp32, batch 8: a clip beside other clips"),
        (Drifting(), "fp32, batch 1: the same 20 times"),
        (coarse_in_large_batches, "fp32: a clip in other batch sizes"),
        (another_in_threads, "fp32: 16 threads, mixed batches"),
        pytest.param(
            lost_in_threads,
            "fp32: 16 threads, mixed batches",
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
        ),
    ],
)
def test_a_planted_fault_is_found(planted: Embed, found_by: str, tmp_path: Path) -> None:
    assert any(name.startswith(found_by) for name in failed_checks(planted, tmp_path))


def test_memory_that_grows_with_every_thread_is_found() -> None:
    threads: set[threading.Thread] = set()

    def embed(features: Float32Array, is_longer: BoolArray) -> Float32Array:
        threads.add(threading.current_thread())
        return honest(features, is_longer)

    subject = subject_of(embed)
    grows = memory_growth(subject, lambda: len(threads) << 20)
    assert grows.figure > grows.limit
    stays = memory_growth(subject, lambda: 7 << 30)
    assert stays.figure == 0


def test_the_batches_of_the_threads_are_mixed() -> None:
    assert {len(subject_of(honest).rows(batch)) for batch in MIXED_BATCHES} == {1, 3, 8, 20, 32}


def test_the_clips_hold_silence_full_scale_and_long_recordings() -> None:
    sounds = signals.recordings()
    assert not sounds["silence"].any()
    assert np.abs(sounds["square at full scale"]).max() == 1
    assert np.count_nonzero(sounds["click"]) == 1
    for level in (0, -20, -60):
        peak = np.abs(sounds[f"noise at {level} dBFS"]).max()
        assert 20 * np.log10(peak) == pytest.approx(level, abs=0.1)
    features, is_longer = signals.clips(FrontEnd(fusion=True, mel_scale="htk"))
    assert features.shape == (16, 4, 1001, 64)
    assert is_longer.sum() == 6


def failing(error: Exception) -> Callable[[], Figure]:
    """Return a check that ends with an error."""

    def run() -> Figure:
        raise error

    return run


@pytest.mark.parametrize("error", [RuntimeError("CUDA failure 719"), ProviderError("lost"), MemoryError(), KeyError(0)])
def test_the_report_is_complete_after_an_error_midway(error: Exception, tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    seen: list[int] = []

    def steps() -> Iterator[Step]:
        yield CheckStep("before", lambda: Figure(0, 1))
        yield CheckStep("broken", failing(error))
        seen.append(len(json.loads(path.read_text())["checks"]))  # what is known is on the disk before the next step
        yield RowStep("tower", {"batch": 1}, failing(error))  # type: ignore[arg-type]
        yield CheckStep("no number", lambda: Figure(float("nan"), 1))
        yield CheckStep("after", lambda: Figure(2, 1))

    run_steps(steps(), Report(path), Deadline.after(60))
    content = json.loads(path.read_text())
    assert seen == [2]
    assert [(check["name"], check["holds"]) for check in content["checks"]] == [
        ("before", True),
        ("broken", False),
        ("no number", False),
        ("after", False),
    ]
    assert type(error).__name__ in content["checks"][1]["note"]
    assert content["tower"] == [{"batch": 1, "not_run": content["checks"][1]["note"]}]


def test_what_comes_too_late_is_told_and_not_run(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu.json")
    late: list[Step] = [CheckStep("late", failing(AssertionError())), RowStep("tower", {"batch": 1}, dict)]
    run_steps(late, report, Deadline.after(0))
    assert report.content["checks"][0]["note"] == "not run: no time was left"
    assert report.content["tower"] == [{"batch": 1, "not_run": "no time was left"}]
    assert report.failed == 1


def phase(*, needed: bool) -> Phase:
    """Return a phase of which only the name counts."""
    return Phase("checks-fp32", lambda _: iter(()), 10, needed=needed)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "its process ended with -11"),
        ("import sys; sys.exit(3)", "its process ended with 3"),
        ("while True: pass", "was killed"),
    ],
)
def test_a_crash_or_a_hang_ends_its_phase_alone(
    program: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(gpu_check, "LEAST_SECONDS", 0.0)
    out = tmp_path / "gpu.json"
    Report(out).check(Check("before", holds=True))
    command = [sys.executable, "-c", program]
    assert gpu_check.supervise(phase(needed=True), command, out, 0.5).failed == 1
    assert gpu_check.supervise(phase(needed=False), command, out, 0.5).failed == 1  # what is only timed fails no run
    content = json.loads(out.read_text())
    assert content["checks"][0]["name"] == "before"
    assert told in content["checks"][1]["note"]
    assert told in content["phases"][0]["not_run"]


def test_a_phase_without_time_is_not_begun(tmp_path: Path) -> None:
    report = gpu_check.supervise(phase(needed=True), ["/no/such/program"], tmp_path / "gpu.json", 1)
    assert report.content["checks"][0]["note"] == "not run: no time was left"


def test_the_script_runs_on_a_cpu_from_a_source_tree(tmp_path: Path) -> None:
    root, out = Path(__file__).parents[2], tmp_path / "gpu.json"
    command = [sys.executable, "bench/gpu_check.py", "--provider", "cpu", "--only", "demo", "--out", str(out)]
    bundle = ["--bundle", str(root / "engine/clapedge/demo_model")]
    paths = os.pathsep.join([str(root / "engine"), str(root / "export")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [*command, *bundle], cwd=root, env=environment, capture_output=True, check=False, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(out.read_text())
    assert len(content["checks"]) == 6
    assert content["machine"]["onnxruntime"]
    printed = subprocess.run(
        [*command[:2], "--table", str(out)], cwd=root, env=environment, capture_output=True, check=True, text=True
    ).stdout
    assert "6 of 6 checks hold." in printed


def test_the_tables_hold_what_was_measured_and_leave_out_the_rest() -> None:
    taken = {"p50_ms": 1.25, "p99_ms": 1.5, "calls": 20}
    row = {"variant": "fp16", "batch": 8, "cuda_graph": True, "clips_per_second": 6400.0}
    report = {
        "checks": [{"name": "fp16", "holds": False, "figure": 0.5, "limit": 0.1, "note": "clip 3"}],
        "tower": [row | {"with_copies": taken}, row | {"batch": 32, "not_run": "out of memory"}],
        "device": [row | {"for_cuda_alone": True, "device": taken | {"p50_ms": 0.75}}],
        "torch": [{"way": "versions", "torch": "2.11"}, {"way": "eager", "batch": 1, "not_run": "no torch"}],
    }
    lines = table(report).splitlines()
    assert "0 of 1 checks hold." in lines
    assert "| fp16 | 0.5 | 0.1 | clip 3 |" in lines
    assert "| fp16 | 8 | yes | 0.75 | 1.25 | 1.5 | 6400.0 |" in lines
    assert not any("32" in line or "eager" in line for line in lines)


def test_the_subject_of_another_variant_has_its_own_limits() -> None:
    half = replace(subject_of(honest), variant="fp16")
    limits = {step.run().limit for step in tower_checks(half)}
    assert limits == {0.0, 1e-4, 2e-3}
