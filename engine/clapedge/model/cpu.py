"""The processor: the cores that this process may use, control groups included, which psutil ignores, and its kind."""

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

SPARE_WORKERS = 1
"""Workers beside one for each core: 8 to 11 % more clips a second on four cores."""

MOST_GPU_WORKERS = 4
"""Recordings at once beside a GPU: with more, threads wait for the interpreter (162 a second with 4 workers, 109 with
17, on 16 cores beside an H200)."""


PROCESSOR_LINES = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU implementer", "CPU part", "Features")
"""Lines of Linux's /proc/cpuinfo that say what a processor computes, on x86 and on ARM."""

FIRST_CORE = 8192
"""Bytes of /proc/cpuinfo that hold the first core: the others are alike, and hundreds of them take milliseconds."""


def usable_cores() -> int:
    """Return how many threads this process can keep busy: the cores of its affinity, cut by the container's CPU quota.

    Two hardware threads of one core count once: ONNX Runtime's products fill a core with one thread.
    """
    if sys.platform == "linux":
        cores = _physical_cores(os.sched_getaffinity(0), Path("/sys/devices/system/cpu"))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota(Path("/sys/fs/cgroup"), _own_cgroup(Path("/proc/self/cgroup")))
    return max(1, min(cores, int(quota))) if quota else cores


def usable_workers(threads: int | None = None, *, on_gpu: bool = False) -> int:
    """Return how many recordings to work on at once: as many as threads were asked for, else one more than cores.

    One computes while another reads or waits for the interpreter; a single core gains nothing by it.

    Args:
        threads: threads that were asked for.
        on_gpu: whether the tower runs on a GPU, so that only reading and log-mels take the cores.
    """
    cores = usable_cores()
    workers = threads or (cores + SPARE_WORKERS if cores > 1 else 1)
    return min(workers, MOST_GPU_WORKERS) if on_gpu else workers


def processor_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return what distinguishes this processor from those that compute otherwise: model and instruction sets."""
    try:
        with cpuinfo.open("rb") as stream:
            first = stream.read(FIRST_CORE).decode(errors="replace").partition("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {os.environ.get('PROCESSOR_IDENTIFIER', '')}".strip()
    kept = [line for line in first.splitlines() if line.partition(":")[0].strip() in PROCESSOR_LINES]
    return "\n".join((platform.machine(), *kept))


def _physical_cores(usable: Iterable[int], root: Path) -> int:
    """Return how many physical cores a set of logical ones lies on; Linux names each by its group of siblings."""
    groups = set()
    for cpu in usable:
        try:
            groups.add((root / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            groups.add(str(cpu))
    return len(groups)


def _own_cgroup(listing: Path) -> str:
    """Return the path of this process's cgroup (version 2), which a container without its own namespace shows."""
    try:
        lines = listing.read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")


def _cgroup_quota(root: Path, group: str = "") -> float | None:
    """Return the CPU quota in cores, the least of a cgroup and those above it (version 2, else 1), or None."""
    own = PurePosixPath(group)
    quotas = []
    for directory in (root / own, *(root / above for above in own.parents)):
        try:
            quotas.append((directory / "cpu.max").read_text().split())
        except OSError:
            continue
    if not quotas:
        try:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quotas = [[(root / "cpu" / name).read_text().strip() for name in names]]
        except OSError:
            return None
    return min((int(quota) / int(period) for quota, period in quotas if quota not in {"max", "-1"}), default=None)
