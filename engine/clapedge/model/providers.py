"""A wish (`auto`, `cpu`, `cuda`, …) to an ONNX Runtime provider with its options, and the reasons.

ONNX Runtime falls back to the CPU with a warning, lists providers whose libraries are missing, and can crash when CUDA
is asked for without a GPU. Here the device is probed first, and a wish that cannot be honoured is an error.
"""

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, TypeAlias

import onnxruntime

from clapedge.errors import ProviderError, UsageError
from clapedge.model import plugins

Provider = Literal["cpu", "cuda", "tensorrt", "openvino", "qnn", "tensorrt-rtx", "webgpu", "plugin"]
ProviderWish = Literal["auto", "cpu", "cuda", "tensorrt", "openvino", "qnn", "tensorrt-rtx", "webgpu", "plugin"]
ProviderOptions: TypeAlias = Mapping[str, str]

GPU_PROVIDERS: frozenset[Provider] = frozenset({"cuda", "tensorrt"})

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
"""The distribution that was built with each provider. They overwrite each other's files: only one may be installed."""

AUTO_ORDER: tuple[Provider, ...] = ("cuda", "cpu")
"""What `auto` tries. TensorRT takes a minute to build an engine and OpenVINO is a matter of measuring: ask for them."""

CUDA_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

COMPUTE_CAPABILITY_ATTRIBUTES = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of the CUDA driver API."""

NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE of the CUDA driver API."""

DEFAULT_OPTIONS: dict[Provider, dict[str, str]] = {
    "cpu": {},
    "cuda": {
        # exhaustive search only costs cold start, and TF32 would cost parity
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
        "enable_cuda_graph": "1",
        # older ones add half precision up in half without it, newer ones never do and ignore it
        "enable_skip_layer_norm_strict_mode": "1",
        "gpu_mem_limit": str(4 << 30),
    },
    "tensorrt": {
        # without it TensorRT keeps to the types of the graph, so that half precision is where the export put it
        "trt_fp16_enable": "0",
        "trt_engine_cache_enable": "1",
        "trt_timing_cache_enable": "1",
        "trt_builder_optimization_level": "3",
        "trt_cuda_graph_enable": "1",
    },
    "openvino": {plugins.DEVICE_TYPE: "CPU"},
    "qnn": {},
    "tensorrt-rtx": {},
    "webgpu": {},
    "plugin": {},
}


@dataclass(frozen=True)
class ProviderConfig:
    """The provider that sessions shall be opened on.

    Attributes:
        provider: our name of it.
        options: ONNX Runtime's options for it.
        fallback_reasons: why providers that `auto` prefers were not taken, and options with them; each a sentence.
    """

    provider: Provider
    options: ProviderOptions = field(default_factory=dict)
    fallback_reasons: tuple[str, ...] = ()

    @property
    def onnx_runtime_name(self) -> str:
        """ONNX Runtime's name of the provider."""
        if self.is_plugin:
            return str(plugins.device(self.provider, self.options).ep_name)
        return ONNX_RUNTIME_NAMES[self.provider]

    @property
    def is_plugin(self) -> bool:
        """Whether it is a library that ONNX Runtime loads, see `clapedge.model.plugins`."""
        return plugins.is_plugin(self.provider, self.options)

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on an NVIDIA GPU."""
        return self.provider in GPU_PROVIDERS

    @property
    def device_id(self) -> int:
        """Number of the GPU among those that `CUDA_VISIBLE_DEVICES` leaves.

        Raises:
            ProviderError: the option of that name is no number.
        """
        value = self.options.get("device_id", "0")
        if not value.isdecimal():
            raise ProviderError(f'provider_options={{"device_id": "{value}"}} is not a number; see nvidia-smi')
        return int(value)


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU, as its driver describes it.

    Attributes:
        name: product name.
        compute_capability: major and minor version of its instruction set.
        memory: bytes.
    """

    name: str
    compute_capability: tuple[int, int]
    memory: int


def choose(wish: ProviderWish = "auto", *, options: ProviderOptions | None = None) -> ProviderConfig:
    """Decide on which provider sessions are opened.

    Args:
        wish: a provider, or `auto` for the first of `AUTO_ORDER` that is usable.
        options: options of ONNX Runtime that override the defaults of the chosen provider.

    Raises:
        ProviderError: the provider asked for cannot be used here; the message says why and what to do.
        UsageError: options are given for the CPU, which has none.
    """
    if wish == "cpu" and options:
        raise UsageError(f"provider cpu takes no options, found {', '.join(options)}; leave provider_options out")
    if wish != "auto":
        config = _provider_config(wish, options, ())
        reason = plugins.unavailable_reason(wish, config.options) if config.is_plugin else unavailable_reason(wish)
        if reason:
            raise ProviderError(f"provider {wish} cannot be used: {reason}")
        return config
    fallback_reasons: list[str] = []
    for provider in AUTO_ORDER:
        reason = unavailable_reason(provider)
        if not reason:
            if provider == "cpu" and options:
                fallback_reasons.append(
                    f"provider cpu takes no options: {', '.join(options)} of provider_options not used"
                )
                options = None
            return _provider_config(provider, options, tuple(fallback_reasons))
        # a CPU package on a machine without a GPU is what most people want: nothing to report
        if _compiled_in(provider) or _gpu_present():
            fallback_reasons.append(f"provider {provider} passed over: {reason}")
    raise ProviderError("no provider can be used; reinstall ONNX Runtime: pip install --force-reinstall onnxruntime")


def unavailable_reason(provider: Provider) -> str | None:
    """Return why a provider cannot be used here, with the fix, or None where nothing is known to stand against it."""
    config = _provider_config(provider, None, ())
    if config.is_plugin or (provider in plugins.PLUGINS and not _compiled_in(provider)):
        return plugins.unavailable_reason(provider, config.options)
    if provider in GPU_PROVIDERS and (reason := _cuda_unavailable_reason()):
        return reason
    if not _compiled_in(provider):
        found = ", ".join(installed_packages()) or "none"
        wanted = "'clapedge[gpu]'" if provider in GPU_PROVIDERS else PACKAGES[provider]
        return (
            f"the installed ONNX Runtime (package {found}) does not contain it; "
            f"run: pip uninstall -y {found.replace(',', '')} && pip install {wanted}"
        )
    return None


def installed_packages() -> dict[str, str]:
    """Return the installed distributions that provide the module `onnxruntime`, with their versions."""
    import importlib.metadata

    found = {}
    for name in sorted({*PACKAGES.values(), "onnxruntime-directml", "ort-nightly", "ort-nightly-gpu"}):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe_gpu(device: int = 0, *, driver: ctypes.CDLL | None = None) -> Gpu:
    """Ask the CUDA driver what a GPU is, without opening a context on it.

    Args:
        device: number of the GPU among those that `CUDA_VISIBLE_DEVICES` leaves.
        driver: the driver's library; None loads it.

    Raises:
        ProviderError: there is no such GPU.
    """
    try:
        driver = driver or ctypes.CDLL(CUDA_DRIVER)
    except OSError as error:
        raise ProviderError(f'no NVIDIA driver was found ({error}); install it, or use provider="cpu"') from error
    handle, total, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), device):
        raise ProviderError(f"the NVIDIA driver has no GPU {device}; check nvidia-smi and provider_options")
    driver.cuDeviceGetName(name, len(name), handle)
    driver.cuDeviceTotalMem_v2(ctypes.byref(total), handle)
    version = []
    for attribute in COMPUTE_CAPABILITY_ATTRIBUTES:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        version.append(value.value)
    return Gpu(name.value.decode(), (version[0], version[1]), total.value)


def _provider_config(
    provider: Provider, options: ProviderOptions | None, fallback_reasons: tuple[str, ...]
) -> ProviderConfig:
    """Join the defaults of a provider and the user's options."""
    return ProviderConfig(provider, {**DEFAULT_OPTIONS[provider], **(options or {})}, fallback_reasons)


def _compiled_in(provider: Provider) -> bool:
    """Tell whether the installed ONNX Runtime was built with a provider (it may still be unusable)."""
    return ONNX_RUNTIME_NAMES[provider] in onnxruntime.get_available_providers()


@cache
def _cuda_unavailable_reason() -> str | None:
    """Ask the CUDA driver for a device without opening a context: ONNX Runtime would crash or fall back instead."""
    try:
        driver = ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return f'no NVIDIA driver was found ({CUDA_DRIVER}); install it, or use provider="cpu"'
    status = driver.cuInit(0)
    if status and status != NO_DEVICE:
        return f'the NVIDIA driver does not start (cuInit returned {status}); check nvidia-smi, or use provider="cpu"'
    count = ctypes.c_int()
    if status or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        return 'the NVIDIA driver sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES, or use provider="cpu"'
    return None


def _gpu_present() -> bool:
    """Tell whether the machine has an NVIDIA GPU with a working driver."""
    return _cuda_unavailable_reason() is None
