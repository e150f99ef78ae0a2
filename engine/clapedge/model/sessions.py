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
import traceback
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

from clapedge.arrays import Float32Array
from clapedge.errors import BundleError, GpuLostError, GpuMemoryError, ProviderError, UsageError
from clapedge.model import plugins
from clapedge.model.cpu import usable_cores
from clapedge.model.forked import keep_in_children
from clapedge.model.providers import Provider, ProviderConfig
from clapedge.model.runtime_errors import ONNX_RUNTIME_ERRORS
from clapedge.model.saturation import EXACT_PRODUCTS, saturates

LOG_ERRORS_ONLY = 3
LOG_NOTHING = 4
LOG_WARNINGS = 2
"""ONNX Runtime's severities; its warnings speak to those who build graphs, not to those who run them.
Warnings are the default of its process-wide logger."""


RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"
"""The entry by which ONNX Runtime keeps where each node runs: not before 1.24, and without nodes in half precision in
1.24 and 1.25."""

REFUSE_PLACEMENT = "session.disable_cpu_ep_fallback"
"""The entry by which every version refuses a graph with a node on the CPU, without naming the node."""

PLACEMENT_REFUSED = "fallback to CPU EP has been explicitly disabled"
"""What it says then."""

GRAPH_OPTIONS: dict[Provider, str] = {"cuda": "enable_cuda_graph", "tensorrt": "trt_cuda_graph_enable"}
"""The options that ask for a CUDA graph."""

GRAPH_REFUSED = "cannot use the graph capture feature"
"""What ONNX Runtime says when nodes on another provider stand against a CUDA graph."""

LOST_ERRORS = (
    "ECCUncorrectable|IllegalAddress|LaunchTimeout|Assert|HardwareStackError|IllegalInstruction|MisalignedAddress|"
    "InvalidAddressSpace|InvalidPc|LaunchFailure|Unknown"
)
"""CUDA's errors (214, 700, 702, 710, 714 to 719, 999) after which nothing of the process on its GPU succeeds."""

FAILURES: tuple[tuple[str, type[ProviderError], str], ...] = (
    (
        r"(lib(?:nvinfer|nvonnxparser)[\w.]*|nvinfer\w*\.dll)",
        ProviderError,
        "TensorRT is missing ({0}); run: pip install 'tensorrt-cu13<11', or use --provider cuda",
    ),
    (
        r"cuDNN is unavailable",
        ProviderError,
        "cuDNN is missing, which this graph needs; run: pip install 'clapedge[gpu]', or use --provider cpu",
    ),
    (
        r"(lib[\w-]+\.so[\w.]*|\w+\.dll): cannot open|Could not find module '(\S+)'",
        ProviderError,
        "the library {0} is missing; run: pip install 'clapedge[gpu]', or use --provider cpu",
    ),
    (
        r"CUDA failure 3[56]\b",
        ProviderError,
        "the NVIDIA driver is too old for this ONNX Runtime; update it, or run: pip install 'onnxruntime-gpu<1.27'",
    ),
    (r"CUDA failure 100|no CUDA-capable device", ProviderError, "the NVIDIA driver sees no GPU; check nvidia-smi"),
    (
        r"CUDA failure 101|invalid device ordinal",
        ProviderError,
        "the NVIDIA driver has no GPU of this number; check nvidia-smi and --provider-option device_id",
    ),
    (
        r"CUDA failure 209|no kernel image",
        ProviderError,
        "this ONNX Runtime holds no code for this GPU; install a build that does, or use --provider cpu",
    ),
    (
        r"CUDA failure 2\b|CUBLAS failure 3\b|out of memory|[Ff]ailed to allocate memory",
        GpuMemoryError,
        "the memory of the GPU is full; end other programs on it, or raise --provider-option gpu_mem_limit=BYTES",
    ),
    (
        rf"(CUDA failure (?:214|70[02]|71[04-9]|999))\b|(cudaError(?:{LOST_ERRORS}))",
        GpuLostError,
        "the GPU stopped working ({0}); start this program again, and see dmesg if that does not help",
    ),
    (
        r"CUDA failure 90[01]",
        ProviderError,
        "another user of the GPU in this process spoilt a CUDA graph; use --provider-option enable_cuda_graph=0",
    ),
    (
        r'Unknown provider option: "(\w+)"',
        ProviderError,
        "ONNX Runtime knows no option {0} of it; check --provider-option",
    ),
    (
        f"{GRAPH_REFUSED}|Graph capture did not complete",
        ProviderError,
        "it cannot be captured as a CUDA graph; use --provider-option enable_cuda_graph=0",
    ),
    (
        PLACEMENT_REFUSED,
        ProviderError,
        "it cannot run every operator of this graph; use another --precision, or --provider cpu",
    ),
    (
        r"openvino_ep::",
        ProviderError,
        "OpenVINO cannot run this graph; use --precision fp32, or --provider cpu",
    ),
    (r"((?:CUDA|CUBLAS|CUDNN) failure \d+: [^;]*[^; ])", ProviderError, "{0}; use --provider cpu"),
)
"""What a failure of a provider says (a regular expression), the error that it is, and what it means and asks for."""


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
    if provider_config.on_gpu:
        preload_libraries(provider_config.provider)
        options.log_severity_level = LOG_NOTHING
        for entry in (RECORD_PLACEMENT, REFUSE_PLACEMENT):
            options.add_session_config_entry(entry, "1")
    try:
        with _silence() if provider_config.on_gpu else contextlib.nullcontext():
            session = _start(model, options, provider_config)
    except ProviderError:
        raise
    except ONNX_RUNTIME_ERRORS as error:
        traceback.clear_frames(error.__traceback__)  # they would keep what was opened of the session
        reason = " ".join(str(error).split())
        if provider_config.provider == "cpu":
            raise BundleError(f"{model} cannot be run by ONNX Runtime ({reason}); export it again") from error
        fault = None
        if provider_config.on_gpu and re.search(f"{GRAPH_REFUSED}|{PLACEMENT_REFUSED}", reason):
            fault = _placement_fault(model, provider_config, batch=batch)
        raise fault or explained(provider_config, "did not start", reason) from error
    session.disable_fallback()
    fault = _misplacement(session, provider_config)
    if fault:
        del session  # the error's traceback would keep it
        raise fault
    if provider_config.is_plugin:
        plugins.warn_of_strays(strays(session, provider_config.onnx_runtime_name), provider_config.provider)
    keep_in_children(session)
    return session


def _start(
    model: Path, options: onnxruntime.SessionOptions, provider_config: ProviderConfig
) -> onnxruntime.InferenceSession:
    """Open a session on a provider, a plug-in or not."""
    if provider_config.is_plugin:
        options.add_session_config_entry(RECORD_PLACEMENT, "1")
        plugins.attach(options, provider_config.provider, provider_config.options)
        return onnxruntime.InferenceSession(model, options, enable_fallback=0)
    providers = [(provider_config.onnx_runtime_name, dict(provider_config.options))]
    if provider_config.provider == "openvino":  # it has threads of its own
        providers[0][1].setdefault("num_of_threads", str(options.intra_op_num_threads))
    return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)


def session_options(
    threads: int | None, *, spinning: bool = True, batch: int | None = None
) -> onnxruntime.SessionOptions:
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
    if saturates():
        options.add_session_config_entry(EXACT_PRODUCTS, "1")
    if batch is not None:
        options.add_free_dimension_override_by_name("batch", batch)
    return options


def strays(session: onnxruntime.InferenceSession, onnx_runtime_name: str) -> Counter[str]:
    """Count the nodes of a session that run on another provider, by operator.

    ONNX Runtime tells since version 1.24; for an older one the count is empty.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return Counter()
    groups = session.get_provider_graph_assignment_info()
    return Counter(node.op_type for group in groups if group.ep_name != onnx_runtime_name for node in group.get_nodes())


def checked(embeddings: Float32Array, model: Path, provider_config: ProviderConfig) -> Float32Array:
    """Return embeddings as they are.

    Raises:
        ProviderError: they are no numbers, as of a float16 that overflows.
    """
    if not np.isfinite(embeddings).all():
        raise ProviderError(
            f"{model} gives no numbers on {provider_config.provider}; use --precision fp32, or another provider"
        )
    return embeddings


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


def _misplacement(session: onnxruntime.InferenceSession, provider_config: ProviderConfig) -> ProviderError | None:
    """Return an error if the planned provider does not run a session, or on a GPU not every node of it."""
    first = session.get_providers()[0]
    if first != provider_config.onnx_runtime_name:
        found = f"ONNX Runtime took {first}; run: clapedge doctor, or use --provider cpu"
        return explained(provider_config, "did not start", found)
    return _stray_nodes(session, provider_config) if provider_config.on_gpu else None


def _stray_nodes(session: onnxruntime.InferenceSession, provider_config: ProviderConfig) -> ProviderError | None:
    """Return an error if the planned provider does not run every node of a session."""
    found = strays(session, provider_config.onnx_runtime_name)
    if not found:
        return None
    listed = ", ".join(f"{count} {operator}" for operator, count in found.most_common())
    return ProviderError(
        f"provider {provider_config.provider} runs only part of the graph: {found.total()} nodes would run elsewhere "
        f"({listed}); use another --precision, or --provider cpu"
    )


def _placement_fault(model: Path, provider_config: ProviderConfig, *, batch: int | None) -> ProviderError | None:
    """Open a refused graph once more, without what refuses it, and return an error that names what is in its way.

    It is None where this version of ONNX Runtime does not tell which nodes that are.
    """
    options = session_options(1, spinning=True, batch=batch)
    options.log_severity_level = LOG_NOTHING
    options.add_session_config_entry(RECORD_PLACEMENT, "1")
    without_graph = {**provider_config.options, GRAPH_OPTIONS[provider_config.provider]: "0"}
    providers = [(provider_config.onnx_runtime_name, without_graph)]
    try:
        with _silence():
            session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except ONNX_RUNTIME_ERRORS:
        return None
    return _misplacement(session, provider_config)


def explained(provider_config: ProviderConfig, what: str, reason: str) -> ProviderError:
    """Return the error of a provider: what went wrong, why, and what to do.

    Args:
        provider_config: the provider.
        what: did not work, such as "did not start".
        reason: ONNX Runtime's words; the system's loader is asked as well.
    """
    said = missing_library(provider_config.provider) if provider_config.on_gpu else None
    for text in (said, reason):
        for pattern, kind, sentence in FAILURES:
            found = re.search(pattern, text or "")
            if found:
                cause = sentence.format(next(filter(None, found.groups()), ""))
                return kind(f"provider {provider_config.provider} {what}: {cause}")
    return ProviderError(f"provider {provider_config.provider} {what}: {said or reason}; use --provider cpu")


@contextlib.contextmanager
def failing_as_provider(provider_config: ProviderConfig) -> Iterator[None]:
    """Turn what ONNX Runtime raises while a GPU works into an error of the provider.

    The frames of its traceback are emptied: they would keep the session for as long as somebody keeps the error.
    """
    try:
        yield
    except ONNX_RUNTIME_ERRORS as error:
        traceback.clear_frames(error.__traceback__)
        raise explained(provider_config, "failed", " ".join(str(error).split())) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep ONNX Runtime's process-wide logger from speaking of a failure that becomes an error of ours."""
    onnxruntime.set_default_logger_severity(LOG_NOTHING)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(LOG_WARNINGS)


@cache
def preload_libraries(provider: Provider) -> None:
    """Load NVIDIA's libraries from the packages that pip installed, where ONNX Runtime would not look."""
    with contextlib.redirect_stdout(io.StringIO()):  # what it prints would land among the results
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        if provider == "tensorrt":
            with contextlib.suppress(ImportError):
                importlib.import_module("tensorrt")  # loads its libraries
