"""A graph in half precision, written node by node where PyTorch's exporter does not know the operators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from clapedge_export.layers import Original

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


class GraphBuilder:
    """Nodes and constants of a graph as they are added; every node returns the name of its first result."""

    def __init__(self) -> None:
        """Begin with an empty graph."""
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def half(self, values: Tensor) -> str:
        """Add a constant in half precision."""
        return self._constant(values.detach().to(torch.float16).contiguous().numpy())

    def constant(self, values: Tensor | Sequence[int]) -> str:
        """Add a constant in its own type; a sequence is a shape or a list of axes."""
        if isinstance(values, Tensor):
            return self._constant(values.detach().contiguous().numpy())
        return self._constant(np.array(values, np.int64))

    def add(self, layer: str, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:  # noqa: ANN401 - as onnx
        """Add a node of one result and return its name."""
        return self.add_many(layer, op, *inputs, results=1, domain=domain, **attributes)[0]

    def add_many(
        self,
        layer: str,
        op: str,
        *inputs: str,
        results: int,
        domain: str = "",
        **attributes: Any,  # noqa: ANN401 - as onnx
    ) -> list[str]:
        """Add a node and return the names of its results."""
        name = f"{layer}/{op}_{len(self.nodes)}"
        names = [name if number == 0 else f"{name}.{number}" for number in range(results)]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, domain=domain, **attributes))
        return names

    def reshape(self, layer: str, value: str, *shape: int) -> str:
        """Add a reshape; 0 keeps a size, -1 is what is left."""
        return self.add(layer, "Reshape", value, self.constant(shape))

    def linear(self, layer: str, value: str, module: Original) -> str:
        """Add a product with a bias over the rows of a matrix."""
        biases = [] if module.bias is None else [self.half(module.bias)]
        return self.add(layer, "Gemm", value, self.half(module.weight), *biases, transB=1)

    def product(self, layer: str, value: str, weight: Tensor) -> str:
        """Add a product without bias over the last axis; `weight` is (outputs, inputs)."""
        return self.add(layer, "MatMul", value, self.half(weight.T))

    def norm(self, layer: str, value: str, module: Original) -> str:
        """Add a LayerNorm, or nothing for a layer that is none."""
        if not isinstance(module, nn.LayerNorm):
            return value
        weights = self.half(module.weight), self.half(module.bias)
        return self.add(layer, "LayerNormalization", value, *weights, epsilon=module.eps)

    def skip_norm(self, layer: str, value: str, skip: str, bias: Tensor, module: Original) -> tuple[str, str]:
        """Add `value + bias + skip` and its LayerNorm as one node; return the norm and the sum."""
        weights = self.half(module.weight), self.half(module.bias), self.half(bias)
        inputs = value, skip, *weights
        names = self.add_many(layer, "SkipLayerNormalization", *inputs, results=4, domain=MICROSOFT, epsilon=module.eps)
        self.nodes[-1].output[1] = self.nodes[-1].output[2] = ""  # mean and deviation, which training asks for
        return names[0], names[3]

    def _constant(self, values: npt.NDArray[Any]) -> str:
        """Add a constant, or return the name of an equal one."""
        tensor = numpy_helper.from_array(values)
        for known in self.constants:
            if (known.data_type, known.dims, known.raw_data) == (tensor.data_type, tensor.dims, tensor.raw_data):
                return known.name
        tensor.name = f"constant_{len(self.constants)}"
        self.constants.append(tensor)
        return tensor.name
