"""Whether this processor's INT8 products saturate, found out by one of them.

Without VNNI, ONNX Runtime multiplies unsigned by signed bytes on x86 with an instruction that adds two products in 16
bits, and cuts off what is beyond (`vpmaddubsw`). Its session option `EXACT_PRODUCTS` makes the weights unsigned, whose
products it adds in 32 bits. It does so on processors with VNNI too, where it only costs time: hence the question.
"""

from functools import cache

import numpy as np
import onnxruntime

EXACT_PRODUCTS = "session.x64quantprecision"
"""ONNX Runtime's entry for unsigned weights on x86; it means nothing to others, to float, or to other providers."""

PRODUCT = (
    b'\x08\x08:\\\n\x18\n\x01x\n\x01w\x12\x01y"\rMatMulInteger\x12\x01g*\x0f\x08\x04\x08\x01\x10\x03B\x01wJ\x04\x7f\x7f\x7f\x7f'
    b"Z\x15\n\x01x\x12\x10\n\x0e\x08\x02\x12\n\n\x03\x12\x01a\n\x03\x12\x01bb\x15\n\x01y\x12\x10\n\x0e\x08\x06\x12\n\n\x03"
    b"\x12\x01a\n\x03\x12\x01bB\x04\n\x00\x10\n"
)
"""An ONNX graph: y = MatMulInteger(x, w) with x (a, b) uint8 and w (4, 1) int8 of 127."""

LARGEST = 255 * 127 * 4
"""What it gives for four bytes of 255; two of the products, 64770, are beyond the 32767 of 16 bits."""


@cache
def saturates() -> bool:
    """Return whether ONNX Runtime's CPU provider cuts off products of unsigned by signed bytes here.

    It takes half a millisecond, once a process.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(PRODUCT, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((1, 4), 255, np.uint8)})
    return int(found[0, 0]) != LARGEST
