"""A wish (`auto`, `cpu`, `cuda`, …) to an ONNX Runtime provider with its options, and the reasons.

ONNX Runtime falls back to the CPU with a warning, lists providers whose libraries are missing, and can crash when CUDA
is asked for without a GPU. Here the device is probed first, and a wish that cannot be honoured is an error.
"""

import ctypes
import importlib.metadata
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import onnxruntime

from clapedge.errors import ProviderError

Provider = Literal["cpu", "cuda", "tensorrt", "openvino"]
ProviderWish = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
ProviderOptions: TypeAlias = Mapping[str, str]

ONNX_RUNTIME_NAMES: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}

PACKAGES: dict[Provider, str] = {
    "cpu": "onnxruntime",
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "openvino": "onnxruntime-openvino",
}
"""The distribution that carries each provider. They overwrite each other's files: only one may be installed."""

AUTO_ORDER: tuple[Provider, ...] = ("cuda", "cpu")
"""What `auto` tries. TensorRT takes a minute to build an engine and OpenVINO is a matter of measuring: ask for them."""

DEFAULT_OPTIONS: dict[Provider, dict[str, str]] = {
    "cpu": {},
    "cuda": {
        # exhaustive search only costs cold start, and TF32 would cost parity
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
    },
    "tensorrt": {"trt_fp16_enable": "0", "trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"},
    "openvino": {"device_type": "CPU"},
}


@dataclass(frozen=True)
class Plan:
    """The provider that sessions shall be opened on.

    Attributes:
        provider: our name of it.
        options: ONNX Runtime's options for it.
        passed_over: why providers that `auto` prefers were not taken; each a sentence.
    """

    provider: Provider
    options: ProviderOptions = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()

    @property
    def onnx_runtime_name(self) -> str:
        """ONNX Runtime's name of the provider."""
        return ONNX_RUNTIME_NAMES[self.provider]


def choose(wish: ProviderWish = "auto", *, options: ProviderOptions | None = None) -> Plan:
    """Decide on which provider sessions are opened.

    Args:
        wish: a provider, or `auto` for the first of `AUTO_ORDER` that is usable.
        options: options of ONNX Runtime that override the defaults of the chosen provider.

    Raises:
        ProviderError: the provider asked for cannot be used here; the message says why and what to do.
    """
    if wish != "auto":
        reason = obstacle(wish)
        if reason:
            raise ProviderError(f"provider {wish} cannot be used: {reason}")
        return _plan(wish, options, ())
    passed_over: list[str] = []
    for provider in AUTO_ORDER:
        reason = obstacle(provider)
        if not reason:
            return _plan(provider, options, tuple(passed_over))
        # a CPU package on a machine without a GPU is what most people want: nothing to report
        if _compiled_in(provider) or _gpu_present():
            passed_over.append(f"provider {provider} passed over: {reason}")
    raise ProviderError("no provider can be used; reinstall ONNX Runtime: pip install --force-reinstall onnxruntime")


def obstacle(provider: Provider) -> str | None:
    """Return why a provider cannot be used here, with the fix, or None where nothing is known to stand against it."""
    if not _compiled_in(provider):
        found = ", ".join(installed_packages()) or "none"
        return (
            f"the installed ONNX Runtime (package {found}) does not contain it; "
            f"run: pip uninstall -y {found.replace(',', '')} && pip install {PACKAGES[provider]}"
        )
    if provider in {"cuda", "tensorrt"}:
        return _cuda_obstacle()
    return None


def installed_packages() -> dict[str, str]:
    """Return the installed distributions that provide the module `onnxruntime`, with their versions."""
    found = {}
    for name in sorted({*PACKAGES.values(), "onnxruntime-directml", "ort-nightly", "ort-nightly-gpu"}):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, cut by the container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = _cgroup_quota(Path("/sys/fs/cgroup"))
    return max(1, min(cores, int(quota))) if quota else cores


def _plan(provider: Provider, options: ProviderOptions | None, passed_over: tuple[str, ...]) -> Plan:
    """Join the defaults of a provider and the user's options."""
    return Plan(provider, {**DEFAULT_OPTIONS[provider], **(options or {})}, passed_over)


def _compiled_in(provider: Provider) -> bool:
    """Tell whether the installed ONNX Runtime was built with a provider (it may still be unusable)."""
    return ONNX_RUNTIME_NAMES[provider] in onnxruntime.get_available_providers()


@cache
def _cuda_obstacle() -> str | None:
    """Ask the CUDA driver for a device without opening a context: ONNX Runtime would crash or fall back instead."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return f"no NVIDIA driver was found ({library}); install it, or use --provider cpu"
    status = driver.cuInit(0)
    if status:
        return f"the NVIDIA driver does not start (cuInit returned {status}); check nvidia-smi, or use --provider cpu"
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        return "the NVIDIA driver sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --provider cpu"
    return None


def _gpu_present() -> bool:
    """Tell whether the machine has an NVIDIA GPU with a working driver."""
    return _cuda_obstacle() is None


def _cgroup_quota(root: Path) -> float | None:
    """Return the CPU quota of this container in cores (cgroup v2, then v1), or None where there is none."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return None if quota in {"max", "-1"} else int(quota) / int(period)
