"""The machine under a run, and the places where this script looks below `Engine`: memory, clocks, single sessions."""

import importlib.metadata
import platform
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import clapedge
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.cpu import usable_cores
from clapedge.model.gpu_session import DeviceSession
from clapedge.model.providers import ProviderConfig, describe_gpu

if TYPE_CHECKING:
    from collections.abc import Mapping

SMI_FIELDS = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit"
PACKAGES = (
    *("numpy", "onnxruntime-gpu", "onnxruntime", "soxr", "soundfile", "torch", "transformers", "triton", "tensorrt"),
    *("nvidia-cublas", "nvidia-cuda-runtime", "nvidia-cudnn-cu13"),
)
NO_GRAPH = {"enable_cuda_graph": "0"}


def describe(provider_config: ProviderConfig) -> dict[str, Any]:
    """Return what the figures depend on; what a bare machine does not say is left out or empty."""
    import onnxruntime

    found: dict[str, Any] = {
        "clapedge": clapedge.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": usable_cores(),
        "packages": {name: version for name in PACKAGES if (version := installed_version(name))},
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_build": onnxruntime.get_build_info(),
        "provider_options": dict(provider_config.options),
    }
    if provider_config.on_gpu:
        found["gpu"] = asdict(describe_gpu(provider_config.device_id))
        found["nvidia_smi"] = nvidia_smi()
        found["libraries"] = loaded_libraries()
    return found


def installed_version(name: str) -> str:
    """Return the version of an installed distribution, empty where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def loaded_libraries() -> list[str]:
    """Return the paths of NVIDIA's libraries that this process has loaded."""
    if not sys.platform.startswith("linux"):
        return []
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    return sorted(path for path in paths if Path(path).name.startswith(("libcu", "libnv")))


def nvidia_smi() -> dict[str, str]:
    """Return what `nvidia-smi` says of the first GPU.

    Raises:
        OSError: there is no such program.
        subprocess.SubprocessError: it failed.
    """
    command = ["nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader,nounits", "--id=0"]
    line = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout  # noqa: S603
    return dict(zip(SMI_FIELDS.split(","), map(str.strip, line.split(",")), strict=True))


def memory_in_use() -> int:
    """Return the bytes in use on the first GPU, all processes together."""
    return int(nvidia_smi()["memory.used"]) << 20


def open_session(
    bundle: Bundle,
    variant: Variant,
    provider_config: ProviderConfig,
    *,
    batch: int,
    graph: bool,
    own: bool = True,
    front_end: bool = False,
) -> DeviceSession:
    """Open the session of one batch size, for what `Engine` does not tell: a run without the copies.

    The thread that opens it has to run it, see `DeviceSession`.

    Args:
        bundle: holds the tower.
        variant: its precision.
        provider_config: CUDA.
        batch: clips of every run.
        graph: whether a CUDA graph is captured.
        own: whether the file for CUDA alone is taken, where there is one, or the one for every provider.
        front_end: whether it takes samples too.
    """
    options: Mapping[str, str] = provider_config.options if graph else {**provider_config.options, **NO_GRAPH}
    model = bundle.path(bundle.file("audio", variant, provider="cuda" if own else None))
    log_mels = bundle.path(bundle.file("frontend", provider="cuda")) if front_end else None
    return DeviceSession(model, replace(provider_config, options=options), batch=batch, front_end=log_mels)
