"""What ONNX Runtime raises."""

from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

ONNX_RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,  # what a GPU provider raises when its device or its libraries fail
    *(error for error in vars(onnxruntime_state).values() if isinstance(error, type) and issubclass(error, Exception)),
)
"""Everything that ONNX Runtime raises: classes of its own without a common base."""
