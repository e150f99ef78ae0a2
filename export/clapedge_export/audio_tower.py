"""The audio tower (HTSAT, a Swin transformer over log-mels) as a static graph, without branches.

It computes what `ClapModel.get_audio_features` computes, and differs in what a graph pays for:

- BatchNorm over the mel bins is one multiplication and one addition; the cubic resize of time is four weighted gathers.
- Convolutions have a stride as long as their kernel, so they are products over patches, and BatchNorm folds into them.
- Tokens stay in the order of the attention windows; each change of that order, merging included, is one gather.
- q, k and v come from one product, with the attention's scale folded into q.
- Fusion is computed for every clip and chosen by `is_longer` afterwards.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ClapAudioConfig, ClapModel

from clapedge.errors import ModelError
from clapedge_export.layers import Original, UnitNorm, fused_qkv, linear

CUBIC_A = -0.75
"""Coefficient of the cubic convolution kernel in PyTorch's bicubic interpolation."""

MASKED = -100.0
"""Added to the attention score of two tokens that are neighbours only through the cyclic shift (Swin's constant)."""


class AudioTower(nn.Module):
    """Log-mels of clips to unit-norm embeddings."""

    def __init__(self, model: ClapModel, *, frames: int = 1001) -> None:
        """Take the weights of a checkpoint; the model itself stays as it is.

        Args:
            model: the checkpoint, in evaluation mode.
            frames: frames of one clip.

        Raises:
            ModelError: the checkpoint's architecture is not one that this tower can express.
        """
        super().__init__()
        encoder: Original = model.audio_model.audio_encoder
        config = encoder.config
        check_architecture(config)
        resolution = config.spec_size // _side(config.patch_stride)
        self.resize = MelResize(encoder.batch_norm, frames=frames, resized=config.spec_size * encoder.freq_ratio)
        self.patches = (FusedPatches if config.enable_fusion else Patches)(encoder.patch_embed, encoder.freq_ratio)
        self.stages = nn.Sequential(*_stages(encoder, resolution))
        self.norm = encoder.norm
        self.projection = model.audio_projection
        self.unit = UnitNorm()

    def forward(self, input_features: Tensor, is_longer: Tensor | None = None) -> Tensor:
        """Embed clips.

        Args:
            input_features: (batch, channels, frames, mels) float32 dB, 4 channels for a fusion checkpoint, 1 otherwise.
            is_longer: (batch,) bool, whether channels 1 to 3 are heard; None for a checkpoint without fusion.

        Returns:
            (batch, embedding size) float32, unit norm.
        """
        mels = self.resize(input_features).to(self.norm.weight.dtype)
        tokens = self.patches(mels) if is_longer is None else self.patches(mels, is_longer)
        pooled = self.norm(self.stages(tokens)).mean(1)
        return self.unit(self.projection(pooled))


class MelResize(nn.Module):
    """BatchNorm over mel bins, then the cubic resize of time with aligned corners."""

    gain: Tensor
    bias: Tensor

    def __init__(self, norm: nn.BatchNorm2d, *, frames: int, resized: int) -> None:
        """Fold the statistics of `norm` and tabulate the four taps of every resized frame."""
        super().__init__()
        gain, bias = _affine(norm)
        self.register_buffer("gain", gain)
        self.register_buffer("bias", bias)
        taps, weights = cubic_taps(frames, resized)
        for tap in range(4):
            self.register_buffer(f"taps_{tap}", taps[tap])
            self.register_buffer(f"weights_{tap}", weights[tap][:, None])

    def forward(self, mels: Tensor) -> Tensor:
        """Turn (batch, channels, frames, mels) dB into (batch, channels, resized, mels)."""
        mels = mels * self.gain + self.bias
        taps = [mels.index_select(2, self.get_buffer(f"taps_{tap}")) for tap in range(4)]
        weighted = [frames * self.get_buffer(f"weights_{tap}") for tap, frames in enumerate(taps)]
        return (weighted[0] + weighted[1]) + (weighted[2] + weighted[3])


class Patches(nn.Module):
    """Patches of 4 frames by 4 mels to tokens, in raster order of the image that HTSAT folds a clip into.

    The image is square: its rows are (quarter of the clip, mel), its columns the time within a quarter.
    """

    def __init__(self, embed: Original, quarters: int) -> None:
        """Turn the patch convolution into a product.

        Args:
            embed: `patch_embed` of the checkpoint's encoder.
            quarters: parts of the clip that are stacked in the image (4: 256 rows of 64 mels).
        """
        super().__init__()
        self.quarters, self.side = quarters, embed.patch_stride[0]
        self.proj = _patch_product(embed.proj)
        self.norm = embed.norm

    def forward(self, mels: Tensor) -> Tensor:
        """Turn (batch, 1, time, mels) into tokens (batch, tokens, width)."""
        return self.norm(self.proj(cut(mels, self.quarters, self.side, self.side)).flatten(1, 3))


class FusedPatches(nn.Module):
    """Patches of the whole clip, fused with those of three crops by attention (AFF, 2D) where a clip is longer."""

    def __init__(self, embed: Original, quarters: int) -> None:
        """Turn the convolutions into products and fold the BatchNorms of the fusion into them; see `Patches`."""
        super().__init__()
        self.quarters, self.side = quarters, embed.patch_stride[0]
        self.proj, self.local_proj = _patch_product(embed.proj), _patch_product(embed.mel_conv2d)
        attention = embed.fusion_model
        self.local_att = nn.Sequential(*_pointwise(attention.local_att))
        self.global_att = nn.Sequential(*_pointwise(attention.global_att[1:]))
        self.norm = embed.norm

    def forward(self, mels: Tensor, is_longer: Tensor) -> Tensor:
        """Turn (batch, 4, time, mels) and (batch,) bool into tokens (batch, tokens, width)."""
        whole = self.proj(cut(mels[:, :1], self.quarters, self.side, self.side))
        # a patch of a crop is as long as three of the whole, so that the crops side by side are as long as the whole
        crops = [self.local_proj(cut(mels[:, crop], self.quarters, self.side, 3 * self.side)) for crop in (1, 2, 3)]
        # 3 * 21 columns of the 64: the last one of the image stays empty
        local = F.pad(torch.cat(crops, dim=3), (0, 0, 0, whole.shape[3] - 3 * crops[0].shape[3])).flatten(1, 3)
        whole = whole.flatten(1, 3)
        both = whole + local
        weight = torch.sigmoid(self.local_att(both) + self.global_att(both.mean(1, keepdim=True)))
        fused = 2 * whole * weight + 2 * local * (1 - weight)
        return self.norm(torch.where(is_longer[:, None, None], fused, whole))


class Reorder(nn.Module):
    """One gather that changes the order of the tokens."""

    index: Tensor

    def __init__(self, before: Tensor, after: Tensor) -> None:
        """Tabulate the way from one order to another; an order lists which token of the raster is at each place."""
        super().__init__()
        self.register_buffer("index", torch.argsort(before)[after])

    def forward(self, tokens: Tensor) -> Tensor:
        """Reorder (batch, tokens, width)."""
        return tokens.index_select(1, self.index)


class Merge(nn.Module):
    """Four neighbouring tokens, consecutive already, to one of twice the width."""

    def __init__(self, downsample: Original) -> None:
        """Take the weights of a patch-merging layer."""
        super().__init__()
        self.norm = downsample.norm
        self.reduction = downsample.reduction

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn (batch, tokens, width) into (batch, tokens / 4, 2 * width)."""
        _, count, width = tokens.shape
        return self.reduction(self.norm(tokens.reshape(-1, count // 4, 4 * width)))


class Block(nn.Module):
    """Attention within windows, then the two-layer perceptron, each with its residual."""

    masks: Tensor | None
    kind: Tensor | None

    bias: Tensor
    mask: Tensor | None

    def __init__(self, layer: Original, *, resolution: int, window: int, shift: int) -> None:
        """Take the weights of a Swin layer.

        Args:
            layer: the layer of the checkpoint.
            resolution: tokens along a side of the image.
            window: tokens along a side of a window.
            shift: by how many tokens the windows are shifted, 0 for none.
        """
        super().__init__()
        attention = layer.attention.self
        self.heads, self.tokens = attention.num_attention_heads, window * window
        self.norm_attention = layer.layernorm_before
        self.qkv = fused_qkv(attention)
        self.out = layer.attention.output.dense
        self.norm_mlp = layer.layernorm_after
        self.expand = layer.intermediate.dense
        self.activation = layer.intermediate.intermediate_act_fn
        self.contract = layer.output.dense
        table = attention.relative_position_bias_table[attention.relative_position_index.flatten()]
        bias = table.reshape(self.tokens, self.tokens, self.heads).permute(2, 0, 1)
        self.register_buffer("bias", bias.detach().contiguous())
        # windows inside, at the right, at the bottom, in the corner: four masks, however many windows
        masks = shift_mask(resolution, window, shift).unique(dim=0, return_inverse=True) if shift else (None, None)
        self.register_buffer("masks", masks[0])
        self.register_buffer("kind", masks[1])

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform (batch, tokens, width), tokens being in the order of the windows."""
        tokens = tokens + self.attend(self.norm_attention(tokens))
        return tokens + self.contract(self.activation(self.expand(self.norm_mlp(tokens))))

    def attend(self, tokens: Tensor) -> Tensor:
        """Attend within each window."""
        _, count, width = tokens.shape
        parts = self.qkv(tokens).reshape(-1, self.tokens, 3, self.heads, width // self.heads)
        # chunk rather than unbind: one Split node instead of three Slices
        query, key, value = (part.squeeze(0) for part in parts.permute(2, 0, 3, 1, 4).chunk(3))
        scores = query @ key.transpose(-1, -2)
        if self.masks is None or self.kind is None:
            scores = scores + self.bias
        else:
            # the file holds bias and masks apart; ONNX Runtime joins constants when a session opens
            joined = self.bias + self.masks[self.kind][:, None]
            scores = (scores.reshape(-1, *joined.shape) + joined).reshape(-1, *self.bias.shape)
        heard = torch.softmax(scores, dim=-1) @ value
        return self.out(heard.transpose(1, 2).reshape(-1, count, width))


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


def cubic_taps(frames: int, resized: int) -> tuple[Tensor, Tensor]:
    """Return frames (4, resized) int64 and weights (4, resized) float32 of a cubic resize with aligned corners.

    Kernel: R. Keys, "Cubic convolution interpolation for digital image processing" (1981) with a = -0.75. Taps beyond
    an end repeat the last frame.
    """
    # Positions are rounded to float32 as PyTorch rounds them, since checkpoints were trained so: up to 6e-5 of a frame,
    # which exact positions would turn into 1e-6 of an embedding. All else is computed in float64.
    scale = torch.tensor((frames - 1) / (resized - 1), dtype=torch.float32)
    position = (torch.arange(resized, dtype=torch.float32) * scale).double()
    first = position.floor()
    offsets = torch.arange(-1, 3, dtype=torch.float64)[:, None]
    distance = (position - first - offsets).abs()
    near = ((CUBIC_A + 2) * distance - (CUBIC_A + 3)) * distance**2 + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * CUBIC_A
    weights = torch.where(distance <= 1, near, far)
    taps = (first + offsets).clamp(0, frames - 1)
    return taps.long(), weights.float()


def cut(mels: Tensor, quarters: int, bins: int, frames: int) -> Tensor:
    """Cut one channel of mels into patches.

    Args:
        mels: (batch, 1, time, mels) or (batch, time, mels).
        quarters: parts of the clip that are stacked in the image.
        bins: mels of a patch.
        frames: frames of a patch; what is left at the end of a quarter is dropped.

    Returns:
        (batch, quarter, band, column, frames * bins).
    """
    time, bands = mels.shape[-2] // quarters, mels.shape[-1] // bins
    columns = time // frames
    stacked = mels.reshape(-1, quarters, time, bands * bins)[:, :, : columns * frames]
    patches = stacked.reshape(-1, quarters, columns, frames, bands, bins)
    return patches.permute(0, 1, 4, 2, 3, 5).flatten(-2)


def raster(resolution: int) -> Tensor:
    """Return the order that reads an image row by row."""
    return torch.arange(resolution * resolution)


def window_order(resolution: int, window: int, shift: int) -> Tensor:
    """Return the order that reads an image window by window, after a cyclic shift towards its top left corner."""
    image = raster(resolution).reshape(resolution, resolution).roll((-shift, -shift), (0, 1))
    return _in_windows(image, window).flatten()


def merge_order(order: Tensor, resolution: int) -> Tensor:
    """Return the order that keeps together the four tokens that merge into one of `order`, at half the resolution.

    The four are (row, column) = (0, 0), (1, 0), (0, 1), (1, 1), as the checkpoint's reduction expects them.
    """
    half = resolution // 2
    row, column = 2 * (order // half), 2 * (order % half)
    corners = [(row + down) * resolution + column + right for right in (0, 1) for down in (0, 1)]
    return torch.stack(corners, dim=1).flatten()


def shift_mask(resolution: int, window: int, shift: int) -> Tensor:
    """Return what is added to the attention scores of shifted windows: (windows, tokens, tokens) float32, 0 or -100."""
    place = torch.arange(resolution)
    region = (place >= resolution - window).long() + (place >= resolution - shift).long()
    regions = _in_windows(region[:, None] * 3 + region, window)
    return torch.where(regions[:, :, None] == regions[:, None, :], 0.0, MASKED)


def _stages(encoder: Original, resolution: int) -> list[nn.Module]:
    """Return blocks, reorderings and merges of the encoder, from tokens in raster order to tokens in raster order."""
    steps: list[nn.Module] = []
    order = raster(resolution)

    def follow(wanted: Tensor) -> None:
        nonlocal order
        if not torch.equal(order, wanted):
            steps.append(Reorder(order, wanted))
        order = wanted

    for stage in encoder.layers:
        window = min(resolution, encoder.config.window_size)
        for number, layer in enumerate(stage.blocks):
            shift = encoder.config.window_size // 2 if number % 2 and resolution > window else 0
            follow(window_order(resolution, window, shift))
            steps.append(Block(layer, resolution=resolution, window=window, shift=shift))
        if stage.downsample is not None:
            half = resolution // 2
            merged = window_order(half, min(half, encoder.config.window_size), 0)
            follow(merge_order(merged, resolution))
            steps.append(Merge(stage.downsample))
            order, resolution = merged, half
    return steps


def _in_windows(image: Tensor, window: int) -> Tensor:
    """Return a square image (side, side) as windows (windows, tokens of a window)."""
    count = len(image) // window
    return image.reshape(count, window, count, window).transpose(1, 2).reshape(count * count, window * window)


def _affine(norm: Original) -> tuple[Tensor, Tensor]:
    """Return gain and bias, float32, of a BatchNorm in evaluation mode; computed in float64."""
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = norm.bias.double() - norm.running_mean.double() * gain
    return gain.float().detach(), bias.float().detach()


def _patch_product(convolution: Original) -> nn.Linear:
    """Return a convolution over one channel, stride as long as its kernel, as a product over (frames, mels) patches."""
    weight = convolution.weight.squeeze(1).transpose(1, 2).flatten(1)
    return linear(weight, convolution.bias)


def _pointwise(layers: Sequence[Original]) -> list[nn.Module]:
    """Return 1x1 convolution, BatchNorm, ReLU, 1x1 convolution, BatchNorm as products over tokens."""
    first, first_norm, activation, second, second_norm = layers
    return [_folded(first, first_norm), activation, _folded(second, second_norm)]


def _folded(convolution: Original, norm: Original) -> nn.Linear:
    """Return a 1x1 convolution and the BatchNorm after it as one layer."""
    gain, bias = _affine(norm)
    return linear(convolution.weight.flatten(1) * gain[:, None], convolution.bias * gain + bias)


def _side(size: int | Sequence[int]) -> int:
    """Return the side of a square patch, which a configuration gives as one number or two."""
    return size if isinstance(size, int) else size[0]
