"""The audio tower (HTSAT, a Swin transformer over log-mels) as a static graph, without branches.

It computes what `ClapModel.get_audio_features` computes, and differs in what a graph pays for, as `audio_patches` does:

- Tokens stay in the order of the attention windows; each change of that order, merging included, is one gather.
- Within that order the place in a window comes first, so that attention needs one transposition instead of four.
- The attention's scale is folded into q; products are of plain matrices, with which runtimes fuse the bias.
- Outlier channels are folded into the weights that read them, see `outliers`.
- k has no bias, as it adds the same to all scores of a query, which softmax ignores; v's is added behind the attention,
  whose weights sum to one, and so is part of the output layer's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import ClapAudioConfig, ClapModel

from clapedge.errors import ModelError
from clapedge.features.strips import IMAGE_STRIPS, Strips
from clapedge_export.audio_patches import FusedPatches, MelResize, Patches
from clapedge_export.layers import Mean, Original, UnitNorm, linear, qkv
from clapedge_export.outliers import fold_norm, fold_opposed, fold_pair, fold_projection
from clapedge_export.token_order import Windows, merge_order, raster, short_strips

LEAST_SHARE = 1e-30
"""Of attention that is divided by: far above the least float32, and so small that it means nothing."""


class AudioTower(nn.Module):
    """Log-mels of clips to unit-norm embeddings."""

    def __init__(self, model: ClapModel, *, frames: int = 1001, strips: int = IMAGE_STRIPS) -> None:
        """Take the weights of a checkpoint; the model itself stays as it is.

        Args:
            model: the checkpoint, in evaluation mode.
            frames: frames of one clip.
            strips: of the image that are looked at: all four, or fewer for a short tower, see `token_order`; of
                `short_strips`.

        Raises:
            ModelError: the checkpoint's architecture is not one that this tower can express.
        """
        super().__init__()
        encoder: Original = model.audio_model.audio_encoder
        config = encoder.config
        check_architecture(config)
        resolution, short = config.spec_size // _side(config.patch_stride), strips < IMAGE_STRIPS
        resized = config.spec_size * encoder.freq_ratio
        self.resize = MelResize(encoder.batch_norm, frames=frames, resized=resized, strips=strips if short else None)
        self.patches: nn.Module = (
            FusedPatches(encoder.patch_embed, encoder.freq_ratio, resolution=resolution)
            if config.enable_fusion and not short
            else Patches(encoder.patch_embed, strips if short else encoder.freq_ratio)
        )
        rows = resolution * strips // IMAGE_STRIPS
        self.stages = nn.Sequential(*_stages(encoder, rows, resolution))
        self.projection: Original = fold_projection(model.audio_projection)
        self.norm, (self.projection.linear1,) = fold_norm(encoder.norm, [self.projection.linear1])
        last = len(config.depths) - 1
        self.mean = Mean((rows >> last) * (resolution >> last))
        self.unit = UnitNorm()

    def forward(self, input_features: Tensor, is_longer: Tensor | None = None) -> Tensor:
        """Embed clips.

        Args:
            input_features: (batch, channels, frames, mels) float32 dB, 4 channels for a fusion checkpoint, 1 otherwise
                and for a short tower, which takes the frames of its strips alone.
            is_longer: (batch,) bool, whether channels 1 to 3 are used; None for a tower without fusion.

        Returns:
            (batch, embedding size) float32, unit norm.
        """
        mels = self.resize(input_features).to(self.norm.weight.dtype)
        tokens = self.patches(mels) if is_longer is None else self.patches(mels, is_longer)
        pooled = self.mean(self.norm(self.stages(tokens.transpose(0, 1))).transpose(0, 1))
        return self.unit(self.projection(pooled))


class Reorder(nn.Module):
    """One gather that changes the order of the tokens."""

    index: Tensor

    def __init__(self, before: Tensor, after: Tensor) -> None:
        """Tabulate the way from one order to another; an order lists which token of the raster is at each place."""
        super().__init__()
        self.register_buffer("index", torch.argsort(before)[after])

    def forward(self, tokens: Tensor) -> Tensor:
        """Reorder (tokens, batch, width)."""
        return tokens.index_select(0, self.index)


class Merge(nn.Module):
    """Four neighbouring tokens, consecutive already, to one of twice the width."""

    def __init__(self, downsample: Original) -> None:
        """Take the weights of a patch-merging layer."""
        super().__init__()
        self.norm, (self.reduction,) = fold_norm(downsample.norm, [downsample.reduction])

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn (tokens, batch, width) into (tokens / 4, batch, 2 * width)."""
        four = tokens.unflatten(0, (-1, 4)).transpose(1, 2).flatten(2)
        return self.reduction(self.norm(four.flatten(0, 1))).reshape(*four.shape[:2], -1)


class Block(nn.Module):
    """Attention within windows, then the two-layer perceptron, each with its residual."""

    bias: Tensor
    masks: Tensor | None
    kind: Tensor | None
    near: Tensor | None

    def __init__(self, layer: Original, windows: Windows) -> None:
        """Take the weights of a Swin layer.

        Args:
            layer: the layer of the checkpoint.
            windows: in which tokens attend to each other.
        """
        super().__init__()
        attention = layer.attention.self
        self.heads, self.tokens, self.windows = attention.num_attention_heads, windows.tokens, windows.count
        query, key, value = qkv(attention)
        out = _with_bias_of(layer.attention.output.dense, value.bias)
        readers = query, linear(key.weight, None), linear(value.weight, None)
        self.norm_attention, (query, key, value) = fold_norm(layer.layernorm_before, readers)
        self.query, self.key = fold_opposed(query, key)
        self.value, self.out = fold_pair(value, out)
        self.activation = layer.intermediate.intermediate_act_fn
        self.norm_mlp, (expand,) = fold_norm(layer.layernorm_after, [layer.intermediate.dense])
        self.expand, self.contract = fold_pair(expand, layer.output.dense, activation=self.activation)
        places = windows.side * windows.side
        table = attention.relative_position_bias_table[attention.relative_position_index.flatten()]
        table = table.detach().reshape(places, places, self.heads)
        self.register_buffer("bias", windows.bias(table).contiguous())
        # windows inside, at the right, at the bottom, in the corner: four masks, however many windows
        masks = windows.masks().unique(dim=0, return_inverse=True) if windows.shift else (None, None)
        self.register_buffer("masks", masks[0])
        self.register_buffer("kind", masks[1])
        self.cut, near = windows.cut, windows.near(table)
        self.register_buffer("near", None if near is None else near[:, None, None])

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform (tokens, batch, width), tokens being in the order of `places_first`."""
        rows = tokens.flatten(0, 1)  # products of plain matrices take their bias along
        rows = rows + self.attend(self.norm_attention(rows))
        rows = rows + self.contract(self.activation(self.expand(self.norm_mlp(rows))))
        return rows.reshape(tokens.shape)

    def attend(self, rows: Tensor) -> Tensor:
        """Attend within each window: (tokens * batch, width) to the same.

        With the place within a window outermost, q, k and v are ready for the products: ONNX Runtime takes the
        transpositions into them, as batches may lie behind rows, and only the result has to be transposed.
        """
        size = rows.shape[-1] // self.heads
        # windows, clips and heads are one axis: a transposition of three axes costs half of one of five
        query, key, value = (layer(rows).reshape(self.tokens, -1, size) for layer in (self.query, self.key, self.value))
        scores = (query.transpose(0, 1) @ key.permute(1, 2, 0)).reshape(self.windows, -1, *self.bias.shape[-3:])
        scores = scores + self.score_bias()
        shares = self.cut_seam(torch.softmax(scores, dim=-1))
        mixed = shares.flatten(0, 2) @ value.transpose(0, 1)
        return self.out(mixed.transpose(0, 1).reshape(rows.shape))

    def cut_seam(self, shares: Tensor) -> Tensor:
        """Let the border of the image cut off its share of the copies of a strip: the mean of their attention.

        Without the keys across the seam, softmax gives what it gave to those beside it, over their sum.
        """
        if self.near is None:
            return shares
        shape, rows = shares.shape, shares.unflatten(0, (len(self.near), -1))
        beside = rows * self.near
        total = beside.sum(dim=-1, keepdim=True).clamp_min(LEAST_SHARE)
        return (rows * (1 - self.cut) + beside * (self.cut / total)).reshape(shape)

    def score_bias(self) -> Tensor:
        """Return what is added to the scores: (heads, places, places), or (windows, 1, heads, places, places)."""
        if self.masks is None or self.kind is None:
            return self.bias
        return (self.bias + self.masks.index_select(0, self.kind)[:, None])[:, None]

    def bake_masks(self) -> None:
        """Keep the sum of bias and masks instead of both.

        In float32 the file is smaller with both, and ONNX Runtime adds them when a session opens; in half precision it
        would add them at every run, as it folds constants on a CPU, which has no kernel for that.
        """
        self.bias, self.masks, self.kind = self.score_bias(), None, None


def check_architecture(config: ClapAudioConfig) -> None:
    """Refuse an audio configuration that the static tower does not express.

    Raises:
        ModelError: with the setting that is not supported.
    """
    stride, resolution = _side(config.patch_stride), config.spec_size // _side(config.patch_stride)
    needs = {
        "patch_size equal to patch_stride": _side(config.patch_size) == stride,
        "patch_embed_input_channels 1": config.patch_embed_input_channels == 1,
        "flatten_patch_embeds true": config.flatten_patch_embeds,
        "a fusion_type other than channel_map": config.fusion_type != "channel_map",
        "spec_size a multiple of num_mel_bins": config.spec_size % config.num_mel_bins == 0,
        "windows that tile every stage": all(
            resolution % 2**stage == 0 and (side := resolution // 2**stage) % min(side, config.window_size) == 0
            for stage in range(len(config.depths))
        ),
    }
    unmet = [need for need, met in needs.items() if not met]
    if unmet:
        raise ModelError(
            f"the audio encoder is of a kind that clapedge does not export: it needs {', '.join(unmet)} in "
            "audio_config; use a checkpoint of the laion/clap-htsat or laion/larger_clap families"
        )


def possible_strips(model: ClapModel) -> tuple[Strips, ...]:
    """Return of how many strips a short tower can be made of a checkpoint, see `short_strips`."""
    encoder: Original = model.audio_model.audio_encoder
    config = encoder.config
    if encoder.freq_ratio != IMAGE_STRIPS:
        return ()
    return short_strips(config.spec_size // _side(config.patch_stride), len(config.depths), config.window_size)


def _stages(encoder: Original, rows: int, columns: int) -> list[nn.Module]:
    """Return blocks, reorderings and merges of the encoder, for tokens in raster order of an image."""
    steps: list[nn.Module] = []
    order, window = raster(rows, columns), encoder.config.window_size

    def follow(wanted: Tensor) -> None:
        nonlocal order
        if not torch.equal(order, wanted):
            steps.append(Reorder(order, wanted))
        order = wanted

    for stage in encoder.layers:
        side = min(columns, window)
        for number, layer in enumerate(stage.blocks):
            windows = Windows(rows, columns, side, window // 2 if number % 2 and columns > side else 0)
            follow(windows.places_first())
            steps.append(Block(layer, windows))
        if stage.downsample is not None:
            merged = Windows(rows // 2, columns // 2, min(columns // 2, window), 0).places_first()
            follow(merge_order(merged, columns))
            steps.append(Merge(stage.downsample))
            order, rows, columns = merged, rows // 2, columns // 2
    return steps


def _with_bias_of(out: Original, value_bias: Tensor | None) -> nn.Linear:
    """Return the output layer of an attention, v's bias included; summed in float64."""
    if value_bias is None:
        return linear(out.weight, out.bias)
    through = out.weight.double() @ value_bias.double()
    return linear(out.weight, (through if out.bias is None else through + out.bias.double()).float())


def _side(size: int | Sequence[int]) -> int:
    """Return the side of a square patch, which a configuration gives as one number or two."""
    return size if isinstance(size, int) else size[0]
