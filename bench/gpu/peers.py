"""The same model in PyTorch on the same GPU: transformers' own, and this project's tower before it was exported.

Only a `random:` model is made again here, from its seed: the weights of a bundle are no checkpoint.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import ClapModel
from transformers.models.clap import modeling_clap

from clapedge.arrays import BoolArray, Float32Array
from clapedge.errors import UsageError
from clapedge_export.audio_tower import AudioTower
from clapedge_export.graphs import half_precision
from clapedge_export.synthetic import make_checkpoint
from gpu.steps import RowStep, Step
from gpu.timing import timings

BATCHES = (1, 8, 32, 128)

Way: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(N, channels, 1001, 64) float32 and (N, 1) bool on the device to (N, E) of unit norm."""


@dataclass(frozen=True)
class Inputs:
    """Clips, and what FP32 on the CPU gives for them."""

    features: Float32Array
    is_longer: BoolArray
    expected: Float32Array


def steps(model: str, inputs: Inputs, *, compiled: bool) -> Iterator[Step]:
    """Yield a row for each way and batch size.

    Args:
        model: what the bundle was exported from.
        inputs: the clips.
        compiled: whether `torch.compile` runs, or what needs no compilation.

    Raises:
        UsageError: the weights of the bundle cannot be made again.
    """
    if not model.startswith("random:"):
        raise UsageError(f"the weights of {model} are not here; give a bundle of random:clap-htsat-fused")
    checkpoint = make_checkpoint(model).model
    ways: dict[str, Callable[[], Way]] = {
        "transformers, eager, fp32": partial(theirs, checkpoint, torch.float32),
        "transformers, eager, fp16": partial(theirs, checkpoint, torch.float16),
        "transformers with fused attention (SDPA), fp16": partial(theirs_with_sdpa, checkpoint),
        "clapedge's tower, eager, fp16": partial(ours, checkpoint),
    }
    if compiled:
        ways = {
            "clapedge's tower, torch.compile (reduce-overhead), fp16": partial(compiled_way, partial(ours, checkpoint)),
            "transformers, torch.compile (reduce-overhead), fp16": partial(
                compiled_way, partial(theirs, checkpoint, torch.float16)
            ),
        }
    yield RowStep("torch", {"way": "versions"}, versions)
    for name, prepare in ways.items():
        yield from timed(name, prepare, inputs)


def timed(name: str, prepare: Callable[[], Way], inputs: Inputs) -> Iterator[Step]:
    """Yield the rows of one way; it is prepared by the first of them."""
    ready: list[Way] = []

    def row(batch: int) -> dict[str, Any]:
        if not ready:
            ready.append(prepare())
        return measure(ready[0], inputs, batch)

    for batch in BATCHES:
        yield RowStep("torch", {"way": name, "batch": batch}, partial(row, batch))


def measure(way: Way, inputs: Inputs, batch: int) -> dict[str, Any]:
    """Time a way on inputs that lie on the device, and from and to the host; compare what it gives."""
    features, is_longer = (np.resize(rows, (batch, *rows.shape[1:])) for rows in (inputs.features, inputs.is_longer))
    expected = np.resize(inputs.expected, (batch, inputs.expected.shape[1]))
    here = torch.from_numpy(features).pin_memory(), torch.from_numpy(is_longer[:, None]).pin_memory()
    there = here[0].cuda(), here[1].cuda()

    def on_device() -> None:
        with torch.inference_mode():
            way(*there)
            torch.cuda.synchronize()

    def from_host() -> Tensor:
        with torch.inference_mode():
            return way(here[0].cuda(non_blocking=True), here[1].cuda(non_blocking=True)).float().cpu()

    began = time.perf_counter()
    on_device()
    first = time.perf_counter() - began
    found = from_host().numpy()
    device, with_copies = timings(on_device, seconds=0.5), timings(from_host, seconds=0.5)
    return {
        "cosine_distance": float(np.max(1 - (found * expected).sum(axis=1))),
        "first_call_s": round(first, 2),
        "device": device,
        "with_copies": with_copies,
        "clips_per_second": round(1e3 * batch / with_copies["p50_ms"], 1),
    }


def theirs(checkpoint: ClapModel, kind: torch.dtype) -> Way:
    """Return transformers' tower wholly in a type."""
    model: Any = copy.deepcopy(checkpoint)
    model = model.to("cuda", kind).eval()

    def embed(features: Tensor, is_longer: Tensor) -> Tensor:
        found: Any = model.get_audio_features(input_features=features.to(kind), is_longer=is_longer)
        found = getattr(found, "pooler_output", found).float()
        return nn.functional.normalize(found, dim=-1)

    return embed


def theirs_with_sdpa(checkpoint: ClapModel) -> Way:
    """Return transformers' tower with PyTorch's fused attention in place of its own, which has no other choice."""
    modeling_clap.ClapAudioSelfAttention.forward = fused_attention  # type: ignore[method-assign, assignment]
    return theirs(checkpoint, torch.float16)


def fused_attention(
    self: modeling_clap.ClapAudioSelfAttention, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: object
) -> tuple[Tensor]:
    """Attend within windows: (windows, tokens, width) to the same, in one fused product."""
    batch, tokens, _width = hidden_states.shape
    shape = (batch, tokens, -1, self.attention_head_size)
    query, key, value = (
        layer(hidden_states).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value)
    )
    table = self.relative_position_bias_table[self.relative_position_index.view(-1)]
    bias = table.view(tokens, tokens, -1).permute(2, 0, 1)[None]
    if attention_mask is not None:  # one mask a window, the same for every clip
        bias = (bias + attention_mask.to(bias.dtype)[:, None]).repeat(batch // len(attention_mask), 1, 1, 1)
    found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.expand(batch, -1, -1, -1))
    return (found.transpose(1, 2).reshape(hidden_states.shape),)


def ours(checkpoint: ClapModel) -> Way:
    """Return the tower that is exported, in half where the FP16 graph is."""
    tower = half_precision(AudioTower(checkpoint)).to("cuda").eval()
    return lambda features, is_longer: tower(features, is_longer[:, 0])


def compiled_way(prepare: Callable[[], Way]) -> Way:
    """Return a way compiled into CUDA graphs; what it gives is copied out of the memory of a graph."""
    way = torch.compile(prepare(), mode="reduce-overhead")
    return lambda features, is_longer: way(features, is_longer).clone()


def versions() -> dict[str, Any]:
    """Return what the figures of PyTorch depend on."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
    }
