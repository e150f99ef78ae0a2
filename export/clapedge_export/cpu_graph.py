"""What is done to a graph for CPUs alone: crops only where they are used, operators joined already.

What other graphs leave to the runtime is done here once, since one runtime on one kind of device is left: ONNX Runtime
on a CPU. It opens such a graph in less time, and a short clip does not pay for the crops of a long one. Nothing here
needs PyTorch, so that calibration can do the same to what it makes.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, shape_inference

from clapedge.model.sessions import LOG_ERRORS_ONLY

IS_LONGER = "is_longer"
"""Input that says whether a clip is longer than what one mel shows."""

PATCHES = "patches.norm/"
"""How the name begins of the node behind which clips are no longer whole and crops."""


def for_cpu(model: ModelProto) -> ModelProto:
    """Return a graph that takes one row as a CPU runs it best; it may be changed itself."""
    fuses = any(value.name == IS_LONGER for value in model.graph.input)
    if fuses and any(node.name.startswith(PATCHES) for node in model.graph.node):
        fuse_where_longer(model)
    return join_operators(model)


def fuse_where_longer(model: ModelProto) -> None:
    """Put into a branch what only a longer clip needs: its crops, and what fuses them with the whole.

    The patches end in whole - longer * (...), so that without the branch a short clip computes the crops to multiply
    them by zero. A GPU does that gladly, as a branch would cost it its captured graph; on a CPU it is a twentieth.
    """
    graph = model.graph
    nodes = list(graph.node)
    norm = next(place for place, node in enumerate(nodes) if node.name.startswith(PATCHES))
    fused = nodes[norm].input[0]
    end = next(place for place, node in enumerate(nodes) if fused in node.output)
    whole = nodes[end].input[0]
    kept = set(_needed(nodes, whole))
    moved = [place for place in _alone(nodes, end) if place not in kept]
    inner = f"{fused}_longer", f"{fused}_short"
    nodes[end].output[0] = inner[0]
    sizes = next(value for value in shape_inference.infer_shapes(model).graph.value_info if value.name == whole)
    shape = [size.dim_value for size in sizes.type.tensor_type.shape.dim]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inner]
    longer = helper.make_graph([nodes[place] for place in moved], "longer", [], ends[:1])
    short = helper.make_graph([helper.make_node("Identity", [whole], inner[1:])], "short", [], ends[1:])
    branch = helper.make_node("If", [IS_LONGER], [fused], name="patches/If", then_branch=longer, else_branch=short)
    gone = set(moved)
    remaining = [node for place, node in enumerate(nodes[:norm]) if place not in gone]
    del graph.node[:]
    graph.node.extend([*remaining, branch, *nodes[norm:]])


def join_operators(model: ModelProto) -> ModelProto:
    """Return a graph as ONNX Runtime rewrites it when a session opens, which takes a quarter of opening it.

    Constants are not folded, since the sum of attention bias and mask for every window would make the file a quarter
    larger. The operators are ONNX Runtime's own (`com.microsoft`), known to version 1.18.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "joined.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
        )
        joined = onnx.load(path)
    used = {node.domain for node in joined.graph.node}
    imports = [entry for entry in joined.opset_import if entry.domain in used]
    del joined.opset_import[:], joined.graph.value_info[:], joined.metadata_props[:]
    joined.opset_import.extend(imports)
    for node in joined.graph.node:
        node.doc_string = ""
    return joined


def _needed(nodes: list[NodeProto], value: str) -> Iterator[int]:
    """Yield the places of the nodes that a value is computed by."""
    wanted = {value}
    for place in reversed(range(len(nodes))):
        if wanted & set(nodes[place].output):
            wanted |= set(nodes[place].input)
            yield place


def _alone(nodes: list[NodeProto], end: int) -> list[int]:
    """Return the places of the nodes that nothing but the node at `end` needs, itself included, in their order."""
    users: dict[str, set[int]] = {}
    for place, node in enumerate(nodes):
        for name in node.input:
            users.setdefault(name, set()).add(place)
    alone = {end}
    for place in reversed(range(end)):
        using = set().union(*(users.get(name, set()) for name in nodes[place].output))
        if using and using <= alone:
            alone.add(place)
    return sorted(alone)
