"""The audio tower in half precision for CUDA alone: the fewest kernels that ONNX Runtime has for it.

The graph that every provider runs spends most of its time on CUDA in starting kernels and in passes over memory. Here

- tokens are batch-outermost, and in the order of the windows that are not shifted; windows count as heads, so that one
  fused attention takes all of them with their biases, and nothing is transposed;
- an addition, its bias and the norm behind it are one kernel, as are the bias and Gelu of the perceptron;
- the resize of time is one product, patches of the whole and of the crops are one gather and one product, which also
  gives the first layer of the fusion, as all of that is linear.

Skip connections are normalised by `SkipLayerNormalization`, which adds in float32 on CUDA only with the provider's
option `enable_skip_layer_norm_strict_mode`. The operators of `com.microsoft` are known to ONNX Runtime alone: TensorRT
takes the other graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn

from clapedge.errors import ModelError
from clapedge.features.front_end import FrontEnd
from clapedge_export.audio_patches import CROPS, FusedPatches, MelResize, Patches, cut
from clapedge_export.audio_tower import AudioTower, Block, Merge, Reorder
from clapedge_export.graph_builder import MICROSOFT, GraphBuilder
from clapedge_export.graph_rules import MAX_IR_VERSION, OPSET, check_graph
from clapedge_export.layers import SMALLEST_NORM, Original

SHUT = -1000.0
"""Added to what decides about the crops of a clip that is not longer: its sigmoid is 0, and it is far from overflow."""

SPARE_FRAMES = 8
"""Frames of zeros behind a resized mel, where the empty column of the crops is read; keeps products aligned."""

ACTIVATIONS = ("GELUActivation", "ReLU")
"""Activations of the perceptron that this graph expresses, by their class in transformers or PyTorch."""


def for_cuda(tower: AudioTower, front_end: FrontEnd, *, batch: int | None = None) -> ModelProto:
    """Return the graph of a tower in half precision for CUDA; inputs and outputs are those of `export_audio`.

    Args:
        tower: in float32 and evaluation mode; it stays as it is.
        front_end: gives the shape of a clip's features.
        batch: number of clips that the graph takes, None for any number.

    Raises:
        ModelError: the perceptrons have an activation that it does not express.
    """
    graph = GraphBuilder()
    with torch.no_grad():
        first, *steps = tower.stages  # from the raster to the order of the first windows, in which patches are cut here
        tokens = _patches(graph, tower, first.get_buffer("index"), front_end)
        _project(graph, tower, _stages(graph, tower, steps, tokens))
    graph.nodes[-1].output[0] = "embeddings"
    rows: int | str = batch or "batch"
    shape = [rows, front_end.channels, front_end.clip_frames, front_end.n_mels]
    inputs = [helper.make_tensor_value_info("input_features", TensorProto.FLOAT, shape)]
    if front_end.fusion:
        inputs.append(helper.make_tensor_value_info("is_longer", TensorProto.BOOL, [rows]))
    size = tower.projection.linear2.out_features
    output = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [rows, size])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "clapedge_audio_tower_cuda", inputs, [output], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=MAX_IR_VERSION,
    )
    check_graph(model)
    return model


def _patches(graph: GraphBuilder, tower: AudioTower, order: Tensor, front_end: FrontEnd) -> str:
    """Add everything up to the tokens (batch, tokens, width), in an order of their raster."""
    resize = tower.resize
    patches: Original = tower.patches
    mels = graph.add("resize", "Mul", "input_features", graph.constant(resize.gain))
    mels = graph.add("resize", "Add", mels, graph.constant(resize.bias))
    mels = graph.add("resize", "Cast", mels, to=TensorProto.FLOAT16)
    # bands become rows, so that time is the inner axis of a product with constants
    bands = graph.add("resize", "Transpose", mels, perm=[0, 1, 3, 2])
    matrix = resize_matrix(resize, front_end.clip_frames)
    resized = graph.product("resize", bands, torch.cat([matrix, matrix.new_zeros(SPARE_FRAMES, matrix.shape[1])]))
    shape = front_end.channels, front_end.n_mels, len(matrix)
    rows = graph.reshape("patches", resized, -1, shape[0] * shape[1] * (shape[2] + SPARE_FRAMES))
    index = patch_index(patches, *shape)
    cells = graph.add("patches", "Gather", rows, graph.constant(index[order].int()), axis=1)
    if isinstance(patches, FusedPatches):
        tokens = _fused(graph, patches, cells, order)
    else:
        width = patches.proj.out_features
        embedded = graph.linear("patches", graph.reshape("patches", cells, -1, index.shape[1]), patches.proj)
        tokens = graph.reshape("patches", embedded, -1, len(index), width)
    return graph.norm("patches.norm", tokens, patches.norm)


def resize_matrix(resize: MelResize, frames: int) -> Tensor:
    """Return the cubic resize of time as a matrix (resized, frames) float32."""
    taps = torch.stack([resize.get_buffer(f"taps_{tap}") for tap in range(4)])
    weights = torch.stack([resize.get_buffer(f"weights_{tap}") for tap in range(4)])[..., 0]
    return torch.zeros(taps.shape[1], frames).scatter_add_(1, taps.T, weights.T)


def patch_index(patches: Patches | FusedPatches, channels: int, bands: int, frames: int) -> Tensor:
    """Return where the cells of each patch lie: (tokens, cells) into (channels, bands, frames + `SPARE_FRAMES`).

    Tokens are in raster order. The cells of the crops follow those of the whole.
    """
    places = torch.arange(channels * bands * (frames + SPARE_FRAMES))
    places = places.reshape(1, channels, bands, -1)[..., :frames].transpose(2, 3)
    whole = cut(places[:, :1], patches.quarters, patches.side, patches.side)[0].flatten(0, 2)
    if not isinstance(patches, FusedPatches):
        return whole
    crops = cut(places[:, 1:], patches.quarters, patches.side, CROPS * patches.side)[0].index_select(2, patches.columns)
    crops = torch.where(patches.filled.bool(), crops, frames)  # the first of the zeros behind the first band
    return torch.cat([whole, crops.flatten(0, 2)], dim=1)


@dataclass(frozen=True, eq=False)
class _Affine:
    """A map of the cells of a patch: `cells @ weight.T + bias`, float64.

    Attributes:
        weight: (outputs, cells).
        bias: (tokens, outputs), as the empty column of the crops has none.
    """

    weight: Tensor
    bias: Tensor

    def then(self, layer: Original) -> "_Affine":
        """Return the map with a layer behind it."""
        weight = layer.weight.double()
        return _Affine(weight @ self.weight, self.bias @ weight.T + layer.bias.double())


def _fused(graph: GraphBuilder, patches: Original, cells: str, order: Tensor) -> str:
    """Add the fusion of the whole and the crops; see `FusedPatches`.

    There a longer clip is whole + (local - whole) (1 - tanh x) + whole, as 1 - tanh x = 2 sigmoid(-2 x) the sum of
    2 whole and sigmoid(-2 x) 2 (local - whole); a clip that is not longer is whole.
    """
    width = patches.proj.out_features
    whole, local = _embeddings(patches, order)
    both = _Affine(whole.weight + local.weight, whole.bias + local.bias)
    hidden = both.then(patches.local_att[0])
    filler = width - len(hidden.weight)  # parts of one size are split by one kernel, without copies from the host
    weight = torch.cat([whole.weight, 2 * (local.weight - whole.weight), hidden.weight])
    bias = torch.cat([whole.bias, 2 * (local.bias - whole.bias), hidden.bias], dim=1)
    mapped = graph.product("patches", cells, nn.functional.pad(weight, (0, 0, 0, filler)))
    mapped = graph.add("patches", "Add", mapped, graph.half(nn.functional.pad(bias, (0, filler))))
    kept, change, details = graph.add_many("patches", "Split", mapped, results=3, axis=-1, num_outputs=3)
    details = graph.add("patches.local_att", "Relu", details)
    second = nn.functional.pad(-2 * patches.local_att[2].weight, (0, filler))
    details = graph.product("patches.local_att", details, second)
    longer = graph.reshape("patches", "is_longer", -1, 1, 1)
    context = _context(graph, patches, both, cells)
    context = graph.add("patches", "Where", longer, context, graph.half(torch.tensor(SHUT)))
    weights = graph.add("patches", "Sigmoid", graph.add("patches", "Add", details, context))
    change = graph.add("patches", "Mul", weights, change)
    factor = graph.add("patches", "Where", longer, graph.half(torch.tensor(2.0)), graph.half(torch.tensor(1.0)))
    return graph.add("patches", "Add", change, graph.add("patches", "Mul", kept, factor))


def _embeddings(patches: Original, order: Tensor) -> tuple[_Affine, _Affine]:
    """Return how the cells of a patch become the tokens of the whole and of the crops."""
    whole, local = patches.proj.weight.double(), patches.local_proj.weight.double()
    tokens = len(order)
    filled = patches.filled[:, 0].double().repeat(tokens // len(patches.filled))[order]
    return (
        _Affine(nn.functional.pad(whole, (0, local.shape[1])), patches.proj.bias.double().expand(tokens, -1)),
        _Affine(nn.functional.pad(local, (whole.shape[1], 0)), filled[:, None] * patches.local_proj.bias.double()),
    )


def _context(graph: GraphBuilder, patches: Original, both: _Affine, cells: str) -> str:
    """Add what the mean over all tokens has to say about the crops: (batch, 1, width), both second biases included."""
    first, second = both.then(patches.global_att[0]), patches.global_att[2]
    mean = _mean(graph, "patches.mean", cells, patches.mean.column, first.weight.shape[1])
    bias = graph.half(first.bias.mean(0))
    hidden = graph.add("patches.global_att", "Gemm", mean, graph.half(first.weight), bias, transB=1)
    hidden = graph.add("patches.global_att", "Relu", hidden)
    bias = graph.half(-2 * (second.bias.double() + patches.local_att[2].bias.double()))
    context = graph.add("patches.global_att", "Gemm", hidden, graph.half(-2 * second.weight), bias, transB=1)
    return graph.reshape("patches.global_att", context, -1, 1, second.out_features)


def _mean(graph: GraphBuilder, layer: str, tokens: str, column: Tensor, width: int) -> str:
    """Add the mean over tokens, (batch, tokens, width) to (batch, width); see `layers.Mean`."""
    rows = graph.add(layer, "Transpose", tokens, perm=[0, 2, 1])
    return graph.reshape(layer, graph.add(layer, "MatMul", rows, graph.half(column)), -1, width)


def _stages(graph: GraphBuilder, tower: AudioTower, steps: Sequence[nn.Module], tokens: str) -> str:
    """Add blocks and merges; return the tokens behind the last norm.

    Tokens stay in the order that a stage begins with; a block in another order has its attention alone reordered.
    """
    turned: Tensor | None = None
    normed = graph.norm("patches.next", tokens, _norm_of(steps[0], tower))
    for number, step in enumerate(steps):
        layer = f"stages.{number}"
        if isinstance(step, Reorder):
            index = step.get_buffer("index")
            turned = index if turned is None else turned[index]
            turned = None if torch.equal(turned, torch.arange(len(turned))) else turned
        elif isinstance(step, Block):
            following = next((later for later in steps[number + 1 :] if not isinstance(later, Reorder)), tower)
            norm = _norm_of(following, tower) or step.norm_mlp  # before a merge the sum alone is of use
            normed, tokens = _block(graph, layer, step, (normed, tokens), turned, norm)
        elif isinstance(step, Merge):
            tokens = _merge(graph, layer, step, tokens, turned)
            turned = None
            normed = graph.norm(f"{layer}.next", tokens, _norm_of(steps[number + 1], tower))
    return normed


def _norm_of(step: nn.Module, tower: AudioTower) -> Original:
    """Return the norm with which a step begins, None for one that has another width."""
    if isinstance(step, Block):
        return step.norm_attention
    return tower.norm if step is tower else None


def _block(
    graph: GraphBuilder, layer: str, block: Block, inputs: tuple[str, str], turned: Tensor | None, norm: Original
) -> tuple[str, str]:
    """Add attention and perceptron of a block to its normed and its plain tokens; return the next ones."""
    normed, tokens = inputs
    width = block.out.out_features
    attended = normed if turned is None else graph.add(layer, "Gather", normed, graph.constant(turned.int()), axis=1)
    attended = _attention(graph, layer, block, attended)
    attended = graph.product(f"{layer}.out", attended, block.out.weight)
    if turned is not None:
        attended = graph.add(layer, "Gather", attended, graph.constant(torch.argsort(turned).int()), axis=1)
    normed, tokens = graph.skip_norm(f"{layer}.norm_mlp", attended, tokens, block.out.bias, block.norm_mlp)
    activation = type(block.activation).__name__
    if activation not in ACTIVATIONS:
        raise ModelError(
            f"the graph for CUDA expresses {' and '.join(ACTIVATIONS)}, not the {activation} of this checkpoint; "
            "export it without fp16"
        )
    if activation == "ReLU":
        rows = graph.linear(f"{layer}.expand", graph.reshape(layer, normed, -1, width), block.expand)
        expanded = graph.add(layer, "Relu", rows)
        expanded = graph.reshape(layer, expanded, -1, block.tokens * block.windows, block.expand.out_features)
    else:
        expanded = graph.product(f"{layer}.expand", normed, block.expand.weight)
        expanded = graph.add(layer, "BiasGelu", expanded, graph.half(block.expand.bias), domain=MICROSOFT)
    contracted = graph.product(f"{layer}.contract", expanded, block.contract.weight)
    return graph.skip_norm(f"{layer}.contract", contracted, tokens, block.contract.bias, norm)


def _attention(graph: GraphBuilder, layer: str, block: Block, normed: str) -> str:
    """Add the attention within windows up to its output layer; every window of every head counts as one head."""
    width = block.out.out_features
    parts = block.query, block.key, block.value
    weight = torch.cat([part.weight for part in parts])
    rows = graph.reshape(layer, normed, -1, width)
    query: Original = block.query
    if query.bias is None:
        packed = graph.product(f"{layer}.qkv", rows, weight)
    else:
        bias = torch.cat([query.bias, weight.new_zeros(2 * width)])
        packed = graph.add(f"{layer}.qkv", "Gemm", rows, graph.half(weight), graph.half(bias), transB=1)
    query_key_value = [
        graph.reshape(layer, part, -1, block.tokens, block.windows * width)
        for part in graph.add_many(layer, "Split", packed, results=3, axis=-1, num_outputs=3)
    ]
    heads, places = block.windows * block.heads, block.tokens
    # a block whose windows are not shifted has one bias for all of them
    bias = block.score_bias().expand(block.windows, 1, -1, -1, -1)
    inputs = *query_key_value, "", "", graph.half(bias.reshape(1, heads, places, places))
    attended = graph.add(layer, "MultiHeadAttention", *inputs, domain=MICROSOFT, num_heads=heads, scale=1.0)
    return graph.reshape(layer, attended, -1, places * block.windows, width)


def _merge(graph: GraphBuilder, layer: str, merge: Merge, tokens: str, turned: Tensor | None) -> str:
    """Add the merging of every four tokens, which `turned` brings together."""
    width = merge.norm.normalized_shape[0]
    if turned is not None:
        tokens = graph.add(layer, "Gather", tokens, graph.constant(turned.int()), axis=1)
    four = graph.reshape(layer, tokens, 0, -1, width)
    return graph.product(f"{layer}.reduction", graph.norm(layer, four, merge.norm), merge.reduction.weight)


def _project(graph: GraphBuilder, tower: AudioTower, normed: str) -> None:
    """Add the mean over tokens, the projection, and the scaling to unit length, which is of float32."""
    width = tower.norm.normalized_shape[0]
    pooled = _mean(graph, "mean", normed, tower.mean.column, width)
    hidden = graph.add("projection", "Relu", graph.linear("projection.linear1", pooled, tower.projection.linear1))
    rows = graph.linear("projection.linear2", hidden, tower.projection.linear2)
    rows = graph.add("unit", "Cast", rows, to=TensorProto.FLOAT)
    size = tower.projection.linear2.out_features
    row, column = graph.reshape("unit", rows, -1, 1, size), graph.reshape("unit", rows, -1, size, 1)
    norm = graph.add("unit", "Sqrt", graph.reshape("unit", graph.add("unit", "MatMul", row, column), -1, 1))
    norm = graph.add("unit", "Clip", norm, graph.constant(torch.tensor(SMALLEST_NORM)))
    graph.add("unit", "Div", rows, norm)
