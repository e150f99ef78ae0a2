"""Providers that come as a library of their own, which ONNX Runtime loads into itself: its plug-ins.

Their packages follow one convention: a module with `get_library_path()` and `get_ep_name()`. Any other library can be
named by its path, see `LIBRARY`.
"""

import importlib
import os
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import onnxruntime

from clapedge.errors import ProviderError, ProviderWarning
from clapedge.model.runtime_errors import ONNX_RUNTIME_ERRORS

LIBRARY, EP_NAME, DEVICE_TYPE = "library", "ep_name", "device_type"
"""Options of every plug-in, which are ours: path of its library, ONNX Runtime's name of a provider in it (a library may
have several), and the kind of device: CPU, GPU or NPU. Others go to the plug-in."""

OWN_OPTIONS = frozenset({LIBRARY, EP_NAME, DEVICE_TYPE})

OPENVINO_OPTIONS = frozenset({"load_config"})
"""What OpenVINO's plug-in reads: it passes over the others with no more than a line of its log."""


@dataclass(frozen=True)
class Plugin:
    """A package with a plug-in.

    Attributes:
        module: that it has.
        package: its name for pip.
        ep_name: ONNX Runtime's name of its provider.
    """

    module: str
    package: str
    ep_name: str


PLUGINS: Mapping[str, Plugin] = {
    "openvino": Plugin("onnxruntime_ep_openvino", "onnxruntime-ep-openvino", "OpenVINOExecutionProvider"),
    "qnn": Plugin("onnxruntime_qnn", "onnxruntime-qnn", "QNNExecutionProvider"),
    "tensorrt-rtx": Plugin(
        "onnxruntime_ep_nv_tensorrt_rtx", "onnxruntime-ep-nv-tensorrt-rtx", "NvTensorRTRTXExecutionProvider"
    ),
    "webgpu": Plugin("onnxruntime_ep_webgpu", "onnxruntime-ep-webgpu", "WebGpuExecutionProvider"),
}
"""Plug-ins by our name of the provider. Nobody has run this project on any but OpenVINO's yet."""

BUILT_IN_ONCE = "openvino"
"""The provider that the package onnxruntime-openvino (up to 1.24) was built with, which goes on working."""

ANY = "plugin"
"""Our name of a provider whose library is named by its path."""


def is_plugin(provider: str, options: Mapping[str, str]) -> bool:
    """Return whether a provider comes from a plug-in: not where ONNX Runtime was built with it, as for OpenVINO once.

    Args:
        provider: our name of it.
        options: of the provider; a named library is a plug-in in any case.
    """
    if provider == ANY or LIBRARY in options:
        return True
    if provider == BUILT_IN_ONCE:
        return _preloaded(provider) or _package(provider) is not None
    return provider in PLUGINS


def unavailable_reason(provider: str, options: Mapping[str, str]) -> str | None:
    """Return why a plug-in cannot be used here, with the fix, or None where nothing is known to stand against it."""
    if provider in PLUGINS and LIBRARY not in options and _package(provider) is None and not _preloaded(provider):
        return f"its plug-in is not installed; run: pip install {PLUGINS[provider].package}"
    if provider == ANY and LIBRARY not in options:
        return 'its library is not named; add provider_options={"library": "PATH"}'
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        return f"ONNX Runtime {onnxruntime.__version__} takes no plug-ins; run: pip install 'onnxruntime>=1.23'"
    try:
        device(provider, options)
    except ProviderError as error:
        return str(error)
    return None


def device(provider: str, options: Mapping[str, str]) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    """Load a plug-in, once in the life of the process, and return its first device of the kind that is asked for.

    Args:
        provider: our name of it.
        options: see `LIBRARY`.

    Raises:
        ProviderError: its library cannot be loaded, or supports no such device of this machine.
    """
    library, own = options.get(LIBRARY), PLUGINS[provider].ep_name if provider in PLUGINS else ""
    if library is None and _preloaded(provider):
        names = frozenset({own, options.get(EP_NAME, own)})
    else:
        names = _register(os.path.realpath(library or _package(provider).get_library_path()))
    name, kind = options.get(EP_NAME) or own or min(names, default=""), options.get(DEVICE_TYPE, "").upper()
    found = _offered(names)
    for each in found:
        if each.ep_name == name and kind in {"", _kind(each)}:
            return each
    offered = ", ".join(f"{each.ep_name} on {_kind(each)}" for each in found) or "nothing"
    wanted = f"{name or 'a provider'} on {kind or 'any device'}"
    intel = "; it supports Intel's processors and graphics alone" if provider == "openvino" else ""
    raise ProviderError(f'its plug-in offers {offered} on this machine, not {wanted}{intel}; use provider="cpu"')


def attach(session_options: Any, provider: str, options: Mapping[str, str]) -> str:  # noqa: ANN401 - ONNX Runtime has no types
    """Let a session run on a plug-in, and return ONNX Runtime's name of the provider.

    Raises:
        ProviderError: see `device`; or an option is unknown.
    """
    chosen = device(provider, options)
    given = {key: value for key, value in options.items() if key not in OWN_OPTIONS}
    if provider == "openvino":
        given = _openvino_options(given, _kind(chosen), session_options.intra_op_num_threads)
    session_options.add_provider_for_devices([chosen], given)
    return str(chosen.ep_name)


def warn_of_strays(strays: Counter[str], provider: str) -> None:
    """Warn of nodes that a plug-in leaves to the CPU, by operator."""
    if strays:
        listed = ", ".join(f"{count} {operator}" for operator, count in strays.most_common(5))
        warnings.warn(
            f"provider {provider} leaves {strays.total()} nodes of the graph to the CPU ({listed})",
            ProviderWarning,
            stacklevel=3,
        )


def _openvino_options(given: Mapping[str, str], kind: str, threads: int) -> dict[str, str]:
    """Return options of OpenVINO's plug-in: float32 as the graph says, which it would round to bfloat16 where it can.

    Raises:
        ProviderError: an option is one that it passes over.
    """
    if unknown := given.keys() - OPENVINO_OPTIONS:
        raise ProviderError(
            f"OpenVINO's plug-in has no option {', '.join(sorted(unknown))}; put what OpenVINO knows into load_config"
        )
    config: dict[str, str] = {}
    if kind in {"CPU", "GPU"}:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if kind == "CPU":
        config |= {"INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
    return {"load_config": msgspec.json.encode({kind: config}).decode(), **given} if config else dict(given)


@cache
def _register(library: str) -> frozenset[str]:
    """Let ONNX Runtime load a library, and return the names of the providers that it brings.

    Raises:
        ProviderError: it cannot be loaded.
    """
    before = {each.ep_name for each in onnxruntime.get_ep_devices()}
    try:
        onnxruntime.register_execution_provider_library(f"clapedge:{library}", library)
    except ONNX_RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split())
        raise ProviderError(f'{library} cannot be loaded as a plug-in ({reason}); use provider="cpu"') from error
    return frozenset(each.ep_name for each in onnxruntime.get_ep_devices()) - before


def _preloaded(provider: str) -> bool:
    """Return whether the program around us has loaded a plug-in already."""
    return provider in PLUGINS and bool(_offered({PLUGINS[provider].ep_name}))


def _offered(names: Collection[str]) -> list[Any]:
    """Return the devices that loaded plug-ins offer under some names."""
    every = onnxruntime.get_ep_devices() if hasattr(onnxruntime, "get_ep_devices") else []
    return [each for each in every if each.ep_name in names]


def _package(provider: str) -> Any:  # noqa: ANN401 - plug-ins have no types
    """Return the module of a plug-in's package, or None if it is not installed."""
    try:
        return importlib.import_module(PLUGINS[provider].module)
    except ImportError:
        return None


def _kind(device: Any) -> str:  # noqa: ANN401 - ONNX Runtime has no types
    """Return the kind of a device: CPU, GPU or NPU."""
    return str(device.device.type.name)
