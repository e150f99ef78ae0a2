"""The rules that every graph of a bundle keeps. Knows no PyTorch, which some graphs are made without."""

from collections import Counter

from onnx import ModelProto, TensorProto

from clapedge.errors import ModelError
from clapedge_export.half_arithmetic import element_types

OPSET = 20
"""First opset with `Gelu`; ONNX Runtime 1.18 has it."""

MAX_IR_VERSION = 10
"""Newest file format that ONNX Runtime 1.18 loads."""

FORBIDDEN_OPS = frozenset(
    {"Resize", "Upsample", "If", "Loop", "Scan", "NonZero", "Compress", "Unique", "Einsum", "Pad"}
)
"""Operators whose shapes or paths depend on data, or that a provider is known to run elsewhere or inexactly.

CUDA has no kernel for the `Pad` of this opset before ONNX Runtime 1.25.
"""

TRIED_VERSIONS = "install the versions of torch and onnxscript that constraints.txt names, and export again"
"""What to do about an exporter that does something else than it did."""


def check_graph(model: ModelProto, *, branches: bool = False) -> None:
    """Check the rules that every graph of a bundle keeps.

    Args:
        model: the graph.
        branches: whether it may choose between two paths, as a graph for the CPU alone may.

    Raises:
        ModelError: a forbidden operator, an operator set or a file format that older runtimes do not know.
    """
    census = Counter(node.op_type for node in model.graph.node)
    forbidden = FORBIDDEN_OPS - {"If"} if branches else FORBIDDEN_OPS
    faults = [f"{count} {op}" for op, count in sorted(census.items()) if op in forbidden]
    faults += half_reductions(model)
    domains = {entry.domain for entry in model.opset_import} - {"", "com.microsoft"}
    faults += [f"operators of {domain}" for domain in sorted(domains)]
    if model.ir_version > MAX_IR_VERSION:
        faults.append(f"IR version {model.ir_version}")
    if opset_of(model) != OPSET:
        faults.append(f"opset {opset_of(model)}")
    if model.functions:
        faults.append("local functions")
    if faults:
        raise ModelError(
            f"the exported graph {model.graph.name} holds {', '.join(faults)}, which not every runtime "
            f"executes; {TRIED_VERSIONS}"
        )


def half_reductions(model: ModelProto) -> list[str]:
    """Name the reductions of half precision: CUDA adds some of them up in half, which ends at 65504."""
    types = element_types(model)
    reductions = [node for node in model.graph.node if node.op_type.startswith("Reduce")]
    return [f"{node.op_type} of half precision" for node in reductions if types[node.input[0]] == TensorProto.FLOAT16]


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operator set that a graph uses."""
    return next(entry.version for entry in model.opset_import if entry.domain == "")
