"""The audio tower of a `ClapModel`, rewritten for training speed on a processor: the same parameters, the same result.

Transformers' own forward recomputes masks, splits q, k and v and indexes rows by data, which neither compiles nor
runs fast. Here every shape is fixed: the rows that are longer than a clip come last in the batch, so that only they
take the fusion path.
"""

import math
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ClapModel

Original: TypeAlias = Any
"""A module of transformers; what it holds carries no types."""

QUARTER = 256
"""Frames, after resizing, in one quarter of the folded image; a clip has four."""
PATCH = 4
"""Frames and mel bands in one token."""


class TrainingTower(nn.Module):
    """Share the parameters of a `ClapModel` and compute its audio embeddings faster.

    With two quarters instead of four it hears half a clip at half the cost: the windows are the same, only fewer.
    """

    resize: Tensor

    def __init__(self, model: ClapModel, *, quarters: int = 4) -> None:
        """Wrap `model`; training this module trains the model."""
        super().__init__()
        encoder: Original = model.audio_model.audio_encoder
        self.encoder = encoder
        self.projection: Original = model.audio_projection
        self.quarters = quarters
        self.register_buffer("resize", resize_matrix(clip_frames(quarters), quarters * QUARTER), persistent=False)
        self.blocks = nn.ModuleList()
        rows, columns = quarters * encoder.config.num_mel_bins // PATCH, QUARTER // PATCH
        self.columns = columns
        for stage in encoder.layers:
            self.blocks.extend(Block(layer, rows, columns) for layer in stage.blocks)
            if stage.downsample is not None:
                self.blocks.append(Merge(stage.downsample, rows, columns))
                rows, columns = rows // 2, columns // 2

    def forward(self, whole: Tensor, crops: Tensor) -> Tensor:
        """Embed a batch.

        Args:
            whole: first channel of every row, (B, T, 64) dB; T is 1001 for four quarters.
            crops: the other three channels of the last K rows, which are the longer ones, (K, 3, T, 64) dB.

        Returns:
            Unit embeddings (B, E).
        """
        patches = self.encoder.patch_embed
        tokens = patches.proj(self._image(whole)[:, None])
        longer = len(crops)
        if longer:
            views = patches.mel_conv2d(self._image(crops.flatten(0, 1))[:, None])
            views = views.unflatten(0, (longer, 3)).permute(0, 2, 3, 1, 4).flatten(3)
            views = F.pad(views, (0, self.columns - views.shape[-1]))
            tokens = torch.cat([tokens[:-longer], patches.fusion_model(tokens[-longer:], views)])
        tokens = patches.norm(tokens.flatten(2).transpose(1, 2))
        for block in self.blocks:
            tokens = block(tokens)
        pooled = self.encoder.norm(tokens).mean(1)
        return F.normalize(self.projection(pooled), dim=-1)

    def _image(self, mels: Tensor) -> Tensor:
        """Fold mels (N, T, 64) into normalised images (N, 64 * quarters, 256)."""
        norm = self.encoder.batch_norm
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        normed = (mels - norm.running_mean) * scale + norm.bias
        return (self.resize @ normed).unflatten(1, (self.quarters, QUARTER)).transpose(2, 3).flatten(1, 2)


class Block(nn.Module):
    """One Swin block of a `ClapAudioLayer`."""

    index: Tensor
    mask: Tensor

    def __init__(self, layer: Original, rows: int, columns: int) -> None:
        """Wrap a layer that works on rows x columns tokens."""
        super().__init__()
        self.layer: Original = layer
        self.grid = (rows, columns)
        full = layer.attention.self.window_size[0]
        self.window = (min(full, rows), min(full, columns))
        odd = layer.shift_size > 0
        self.shift = (full // 2 if odd and rows > full else 0, full // 2 if odd and columns > full else 0)
        index = layer.attention.self.relative_position_index.view(full, full, full, full)
        height, width = self.window
        self.register_buffer("index", index[:height, :width, :height, :width].flatten(), persistent=False)
        self.register_buffer("mask", shift_mask(self.grid, self.window, self.shift)[:, None], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, side * side, C) after attention within windows and the perceptron."""
        layer = self.layer
        attended = self._join(self._attend(self._split(layer.layernorm_before(tokens))), len(tokens))
        tokens = tokens + layer.drop_path(attended)
        hidden = F.gelu(layer.intermediate.dense(layer.layernorm_after(tokens)))
        return tokens + layer.output(hidden)

    def _split(self, tokens: Tensor) -> Tensor:
        """Shift and cut tokens into windows (B * windows, window tokens, C)."""
        grid = tokens.unflatten(1, self.grid)
        if any(self.shift):
            grid = torch.roll(grid, (-self.shift[0], -self.shift[1]), (1, 2))
        return partition(grid, self.window)

    def _join(self, windows: Tensor, batch: int) -> Tensor:
        """Undo `_split`."""
        (rows, columns), (height, width) = self.grid, self.window
        grid = windows.view(batch, rows // height, columns // width, height, width, windows.shape[-1])
        grid = grid.transpose(2, 3).reshape(batch, rows, columns, windows.shape[-1])
        if any(self.shift):
            grid = torch.roll(grid, self.shift, (1, 2))
        return grid.flatten(1, 2)

    def _attend(self, windows: Tensor) -> Tensor:
        """Attend within each window, with relative-position bias."""
        own, output = self.layer.attention.self, self.layer.attention.output
        heads, size = own.num_attention_heads, own.attention_head_size
        weight = torch.cat([own.query.weight / math.sqrt(size), own.key.weight, own.value.weight])
        bias = torch.cat([own.query.bias / math.sqrt(size), own.key.bias, own.value.bias])
        projected = F.linear(windows, weight, bias).unflatten(-1, (3, heads, size))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
        position = own.relative_position_bias_table[self.index]
        count = windows.shape[1]
        scores = query @ key.transpose(-1, -2) + position.view(count, count, heads).permute(2, 0, 1)
        if any(self.shift):
            scores = (scores.unflatten(0, (-1, len(self.mask))) + self.mask).flatten(0, 1)
        mixed = torch.softmax(scores, -1).to(value.dtype) @ value
        return output.dropout(output.dense(mixed.transpose(1, 2).flatten(2)))


class Merge(nn.Module):
    """One patch merging: four neighbours become one token of twice the width."""

    def __init__(self, merging: Original, rows: int, columns: int) -> None:
        """Wrap a `ClapAudioPatchMerging` of rows x columns tokens."""
        super().__init__()
        self.merging: Original = merging
        self.merged = (rows // 2, columns // 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, rows * columns / 4, 2 C)."""
        rows, columns = self.merged
        grid = tokens.view(len(tokens), rows, 2, columns, 2, tokens.shape[-1])
        # order of the four: column of the pair first, then row, as transformers concatenates them
        merged = grid.permute(0, 1, 3, 4, 2, 5).reshape(len(tokens), rows * columns, -1)
        return self.merging.reduction(self.merging.norm(merged))


def clip_frames(quarters: int = 4) -> int:
    """Return the mel frames that so many quarters hear: 1001 for the four of a clip, 501 for two."""
    return 250 * quarters + 1


def resize_matrix(frames: int, resized: int) -> Tensor:
    """Return the bicubic resize of time with aligned corners as a matrix (resized, frames)."""
    eye = torch.eye(frames)[None, :, :, None].permute(0, 2, 1, 3)
    return F.interpolate(eye, (resized, 1), mode="bicubic", align_corners=True)[0, :, :, 0].T.contiguous()


def partition(grid: Tensor, window: tuple[int, int]) -> Tensor:
    """Cut grids (B, rows, columns, C) into windows (B * windows, window tokens, C)."""
    batch, rows, columns, channels = grid.shape
    height, width = window
    cut = grid.reshape(batch, rows // height, height, columns // width, width, channels)
    return cut.transpose(2, 3).reshape(-1, height * width, channels)


def shift_mask(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Return what is added to attention scores after a cyclic shift, (windows, tokens, tokens).

    Tokens that the shift brought together from opposite edges do not see each other: -100, as in transformers.
    """
    zones = []
    for size, span, offset in zip(grid, window, shift, strict=True):
        position = torch.arange(size)
        zones.append((position >= size - span).long() + (position >= size - offset).long() if offset else position * 0)
    zone = partition((zones[0][:, None] * 3 + zones[1])[None, :, :, None], window)[..., 0]
    return torch.where(zone[:, None] == zone[:, :, None], 0.0, -100.0)
