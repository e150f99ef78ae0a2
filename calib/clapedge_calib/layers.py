"""The layers of a tower that can be INT8: products of an activation with a constant weight."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from clapedge.arrays import Float32Array
from clapedge.errors import BundleError

PRODUCTS = frozenset({"MatMul", "Gemm"})

NORM = "LayerNormalization"


@dataclass(frozen=True)
class Layer:
    """A product with a constant weight.

    Attributes:
        name: the layer it belongs to, such as `stages.3.qkv`; its output if its node has no name.
        output: tensor that it computes.
        activation: tensor that it multiplies.
        weight: initializer that it multiplies by.
        transposed: whether the weight is stored as (channels, inputs).
    """

    name: str
    output: str
    activation: str
    weight: str
    transposed: bool


def find_layers(model: ModelProto) -> tuple[Layer, ...]:
    """List the layers of a tower that may be INT8, in the order in which they run.

    They are between the first LayerNorm and the last: the products at both ends of a tower, which make patches and the
    embedding, cost little time and most of the accuracy, and stay in float.

    Raises:
        BundleError: there are none, so the graph was not exported by this package.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    behind, before = _behind_norms(model), _before_norms(model)
    layers = []
    for node in model.graph.node:
        constant = node.op_type in PRODUCTS and node.input[1] in constants and node.input[0] not in constants
        if constant and node.input[0] in behind and node.output[0] in before:
            transposed = bool(_attribute(node, "transB"))
            name = node.name.partition("/")[0] or node.output[0]
            layers.append(Layer(name, node.output[0], node.input[0], node.input[1], transposed))
    if not layers:
        raise BundleError("the audio tower holds no product that could be INT8; export the bundle with clapedge export")
    return tuple(layers)


def _behind_norms(model: ModelProto) -> set[str]:
    """Return the tensors that depend on a LayerNorm."""
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type == NORM or found.intersection(node.input):
            found.update(node.output)
    return found


def _before_norms(model: ModelProto) -> set[str]:
    """Return the tensors on which a LayerNorm depends."""
    found: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type == NORM or found.intersection(node.output):
            found.update(node.input)
    return found


def _attribute(node: NodeProto, name: str) -> int:
    """Return an integer attribute of a node, 0 if it has none of that name."""
    return next((entry.i for entry in node.attribute if entry.name == name), 0)


def weight_of(model: ModelProto, layer: Layer) -> Float32Array:
    """Return the weight of a layer, (inputs, channels)."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == layer.weight)
    weight = np.asarray(numpy_helper.to_array(tensor), np.float32)
    return weight.T if layer.transposed else weight


def activations(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the tensors that layers multiply, each once."""
    return tuple(dict.fromkeys(layer.activation for layer in layers))
