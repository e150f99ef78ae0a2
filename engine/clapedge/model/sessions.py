"""Sessions of ONNX Runtime: opened on exactly the provider that was planned, with explicit threads, or not at all.

ONNX Runtime itself falls back to the CPU with a warning, for a whole graph or for single nodes. Here a session that
does not run where it was planned is a `ProviderError` with the reason and what to do.
"""

import contextlib
import ctypes
import importlib
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

from clapedge.errors import BundleError, ProviderError, UsageError
from clapedge.model.cpu import usable_cores
from clapedge.model.providers import Provider, ProviderConfig

ONNX_RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,  # what a GPU provider raises when its device or its libraries fail
    *(error for error in vars(onnxruntime_state).values() if isinstance(error, type) and issubclass(error, Exception)),
)
"""Everything that ONNX Runtime raises: classes of its own without a common base."""

LOG_ERRORS_ONLY = 3
LOG_NOTHING = 4
LOG_WARNINGS = 2
"""ONNX Runtime's severities; its warnings speak to those who build graphs, not to those who run them.
Warnings are the default of its process-wide logger."""


GRAPH_OPTIONS: dict[Provider, str] = {"cuda": "enable_cuda_graph", "tensorrt": "trt_cuda_graph_enable"}
"""The options that ask for a CUDA graph."""

GRAPH_REFUSED = "cannot use the graph capture feature"
"""What ONNX Runtime says when nodes on another provider stand against a CUDA graph."""

FAILURES: tuple[tuple[str, str], ...] = (
    (
        r"(lib(?:nvinfer|nvonnxparser)[\w.]*|nvinfer\w*\.dll)",
        "TensorRT is missing ({0}); run: pip install 'tensorrt-cu13<11', or use --provider cuda",
    ),
    (
        r"(lib[\w-]+\.so[\w.]*|\w+\.dll): cannot open|Could not find module '(\S+)'",
        "the library {0} is missing; run: pip install 'clapedge[gpu]', or use --provider cpu",
    ),
    (
        r"CUDA failure 35",
        "the NVIDIA driver is too old for this ONNX Runtime; update it, or run: pip install 'onnxruntime-gpu<1.27'",
    ),
    (r"CUDA failure 100|no CUDA-capable device", "the NVIDIA driver sees no GPU; check nvidia-smi"),
    (
        r"CUDA failure 2\b|out of memory|[Ff]ailed to allocate memory",
        "the memory of the GPU is full; end other programs on it, or raise --provider-option gpu_mem_limit=BYTES",
    ),
    (r'Unknown provider option: "(\w+)"', "ONNX Runtime knows no option {0} of it; check --provider-option"),
    (
        f"{GRAPH_REFUSED}|Graph capture did not complete",
        "it cannot be captured as a CUDA graph; use --provider-option enable_cuda_graph=0",
    ),
    (
        r"fallback to CPU EP has been explicitly disabled",
        "it cannot run every operator of this graph; use another --precision, or --provider cpu",
    ),
    (r"openvino_ep::", "OpenVINO cannot run this graph; use --precision fp32, or --provider cpu"),
)
"""What a failure of a provider says (a regular expression) and what that means and asks for."""


def open_session(
    model: Path,
    provider_config: ProviderConfig,
    *,
    threads: int | None = None,
    spinning: bool = True,
    batch: int | None = None,
) -> onnxruntime.InferenceSession:
    """Open a session on exactly the planned provider.

    Args:
        model: path of the graph.
        provider_config: the provider to run on.
        threads: threads within an operator; None means every usable core.
        spinning: whether idle threads wait busily: quicker between two operators, and a burden on a shared device.
        batch: what the symbolic size `batch` of the graph shall be; None leaves it open.

    Raises:
        BundleError: ONNX Runtime cannot run the file.
        ProviderError: the session does not run where it was asked to.
    """
    options = session_options(threads, spinning=spinning, batch=batch)
    providers = [(provider_config.onnx_runtime_name, dict(provider_config.options))]
    if provider_config.provider == "openvino":  # it has threads of its own
        providers[0][1].setdefault("num_of_threads", str(options.intra_op_num_threads))
    if provider_config.on_gpu:
        _preload_libraries(provider_config.provider)
        options.log_severity_level = LOG_NOTHING
        for key, value in _placement_entries().items():
            options.add_session_config_entry(key, value)
    try:
        with _silence() if provider_config.on_gpu else contextlib.nullcontext():
            session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except ONNX_RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split())
        if provider_config.provider == "cpu":
            raise BundleError(f"{model} cannot be run by ONNX Runtime ({reason}); export it again") from error
        if GRAPH_REFUSED in reason:  # without its graph the session tells which nodes are in the way
            options_without = {**provider_config.options, GRAPH_OPTIONS[provider_config.provider]: "0"}
            open_session(model, replace(provider_config, options=options_without), threads=threads, batch=batch)
        raise ProviderError(
            f"provider {provider_config.provider} did not start: {_explain(provider_config, reason)}"
        ) from error
    session.disable_fallback()
    if session.get_providers()[0] != provider_config.onnx_runtime_name:
        found = f"ONNX Runtime took {session.get_providers()[0]}; run: clapedge doctor, or use --provider cpu"
        raise ProviderError(f"provider {provider_config.provider} did not start: {_explain(provider_config, found)}")
    if provider_config.on_gpu:
        _refuse_strays(session, provider_config)
    return session


def session_options(threads: int | None, *, spinning: bool, batch: int | None) -> onnxruntime.SessionOptions:
    """Return the options of a session, see `open_session`; threads are always explicit.

    ONNX Runtime's own choice counts the cores of the machine, not those of the container.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}; give a number from 1 on, or None for every usable core")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if batch is not None:
        options.add_free_dimension_override_by_name("batch", batch)
    return options


def strays(session: onnxruntime.InferenceSession, onnx_runtime_name: str) -> Counter[str]:
    """Count the nodes of a session that run on another provider, by operator.

    ONNX Runtime tells since version 1.24; for an older one the count is empty, and the session is opened so that ONNX
    Runtime refuses such nodes itself.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return Counter()
    groups = session.get_provider_graph_assignment_info()
    return Counter(node.op_type for group in groups if group.ep_name != onnx_runtime_name for node in group.get_nodes())


def missing_library(provider: Provider) -> str | None:
    """Return what the system's loader says against the library of a GPU provider, or None.

    To be asked only after ONNX Runtime failed to start it: the library may not be loaded before ONNX Runtime does so.
    """
    name = f"onnxruntime_providers_{provider}"
    file = f"{name}.dll" if sys.platform == "win32" else f"lib{name}.so"
    try:
        ctypes.CDLL(str(Path(onnxruntime.__file__).parent / "capi" / file))
    except OSError as error:
        return str(error)
    return None


def _placement_entries() -> dict[str, str]:
    """Return the session entries by which nodes on another provider are found out, in this version of ONNX Runtime."""
    if hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        return {"session.record_ep_graph_assignment_info": "1"}
    return {"session.disable_cpu_ep_fallback": "1"}


def _refuse_strays(session: onnxruntime.InferenceSession, provider_config: ProviderConfig) -> None:
    """Refuse a session of which the planned provider does not run every node."""
    found = strays(session, provider_config.onnx_runtime_name)
    if found:
        listed = ", ".join(f"{count} {operator}" for operator, count in found.most_common())
        raise ProviderError(
            f"provider {provider_config.provider} runs only part of the graph: {found.total()} nodes would run "
            "elsewhere "
            f"({listed}); use another --precision, or --provider cpu"
        )


def _explain(provider_config: ProviderConfig, reason: str) -> str:
    """Return why a provider did not start and what to do, from ONNX Runtime's words and the system's loader."""
    said = missing_library(provider_config.provider) if provider_config.on_gpu else None
    for text in (said, reason):
        for pattern, sentence in FAILURES:
            found = re.search(pattern, text or "")
            if found:
                return sentence.format(next(filter(None, found.groups()), ""))
    return f"{said or reason}; use --provider cpu"


@contextlib.contextmanager
def _failing_as_provider(provider_config: ProviderConfig) -> Iterator[None]:
    """Turn what ONNX Runtime raises while a GPU works into an error of the provider."""
    try:
        yield
    except ONNX_RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split())
        raise ProviderError(
            f"provider {provider_config.provider} failed: {_explain(provider_config, reason)}"
        ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep ONNX Runtime's process-wide logger from speaking of a failure that becomes an error of ours."""
    onnxruntime.set_default_logger_severity(LOG_NOTHING)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(LOG_WARNINGS)


@cache
def _preload_libraries(provider: Provider) -> None:
    """Load NVIDIA's libraries from the packages that pip installed, where ONNX Runtime would not look."""
    with contextlib.redirect_stdout(io.StringIO()):  # what it prints would land among the results
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        if provider == "tensorrt":
            with contextlib.suppress(ImportError):
                importlib.import_module("tensorrt")  # loads its libraries
