"""The front of the audio tower: log-mels to tokens, with the crops of a long clip fused in.

It differs from the checkpoint in what a graph pays for:

- BatchNorm over the mel bins is one multiplication and one addition; the cubic resize of time is four weighted gathers.
- Convolutions have a stride as long as their kernel, so they are products over patches, and BatchNorm folds into them.
- Fusion is computed for every clip and added where a clip is longer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clapedge.features.strips import resized_rows, strip_frames
from clapedge_export.layers import Mean, Original, linear
from clapedge_export.outliers import fold_pair

CUBIC_A = -0.75
"""Coefficient of the cubic convolution kernel in PyTorch's bicubic interpolation."""


CROPS = 3
"""Crops of a long clip, beside the whole; a patch of one is as long as three of the whole."""


class MelResize(nn.Module):
    """BatchNorm over mel bins, then the cubic resize of time with aligned corners."""

    gain: Tensor
    bias: Tensor

    def __init__(self, norm: nn.BatchNorm2d, *, frames: int, resized: int, strips: int | None = None) -> None:
        """Fold the statistics of `norm` and tabulate the four taps of every resized frame.

        Args:
            norm: over mel bins.
            frames: of a clip.
            resized: frames of the resized clip.
            strips: those of a short tower, which takes and gives only what they are made of; None for the whole clip.
        """
        super().__init__()
        gain, bias = _affine(norm)
        self.register_buffer("gain", gain)
        self.register_buffer("bias", bias)
        taps, weights = cubic_taps(frames, resized)
        if strips is not None:
            rows = resized_rows(strips, resized)
            taps, weights = taps[:, rows] - strip_frames(strips, frames, resized).start, weights[:, rows]
        for tap in range(4):
            self.register_buffer(f"taps_{tap}", taps[tap])
            self.register_buffer(f"weights_{tap}", weights[tap][:, None])

    def forward(self, mels: Tensor) -> Tensor:
        """Turn (batch, channels, frames, mels) dB into (batch, channels, resized frames, mels)."""
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
        return self.norm(_embed(self.proj, cut(mels, self.quarters, self.side, self.side)).flatten(1, 3))


class FusedPatches(nn.Module):
    """Patches of the whole clip, fused with those of three crops by attention (AFF, 2D) where a clip is longer.

    The original weighs with a sigmoid: 2 whole s(x) + 2 local (1 - s(x)). As s(x) = (1 + tanh(x / 2)) / 2, that is
    whole + local + (whole - local) tanh(x / 2), which takes half as many passes over the tokens.
    """

    columns: Tensor
    filled: Tensor

    def __init__(self, embed: Original, quarters: int, *, resolution: int) -> None:
        """Turn the convolutions into products and fold the BatchNorms of the fusion into them; see `Patches`.

        Args:
            embed: `patch_embed` of the checkpoint's encoder.
            quarters: parts of the clip that are stacked in the image.
            resolution: tokens along a side of the image.
        """
        super().__init__()
        self.quarters, self.side = quarters, embed.patch_stride[0]
        # 3 * 21 columns of the 64: the last one of the image stays empty. It repeats the one before it, times zero,
        # since ONNX Runtime before 1.25 has no CUDA kernel that pads with the operator of this opset
        used = CROPS * (resolution // CROPS)
        self.register_buffer("columns", torch.arange(resolution).clamp_max(used - 1))
        self.register_buffer("filled", (torch.arange(resolution) < used).float()[:, None])
        self.register_buffer("whole", torch.zeros(1, dtype=torch.long))
        self.register_buffer("crops", torch.arange(1, 1 + CROPS))
        self.mean = Mean(resolution * resolution)
        self.proj, self.local_proj = _patch_product(embed.proj), _patch_product(embed.mel_conv2d)
        attention = embed.fusion_model
        self.local_att = nn.Sequential(*_pointwise(attention.local_att))
        self.global_att = nn.Sequential(*_pointwise(attention.global_att[1:]))
        self.norm = embed.norm

    def forward(self, mels: Tensor, is_longer: Tensor) -> Tensor:
        """Turn (batch, 4, time, mels) and (batch,) bool into tokens (batch, tokens, width)."""
        # gathered, since two slices become a Split, whose sizes CUDA would copy from the host at every run
        whole = _embed(
            self.proj, cut(mels.index_select(1, self.get_buffer("whole")), self.quarters, self.side, self.side)
        )
        # a patch of a crop is as long as three of the whole, so that the crops side by side are as long as the whole
        crops = mels.index_select(1, self.get_buffer("crops"))
        local = _embed(self.local_proj, cut(crops, self.quarters, self.side, CROPS * self.side))
        local = (local.index_select(3, self.columns) * self.filled).flatten(1, 3)
        whole = whole.flatten(1, 3)
        both = whole + local
        details = _embed(self.local_att, both)
        weight = torch.tanh(details + self.global_att(self.mean(both))[:, None])
        longer = is_longer.to(whole.dtype)[:, None, None]
        # subtracted rather than added: ONNX Runtime joins an addition with the norm after it, in a slow kernel
        return self.norm(whole - longer * (weight * (local - whole) - local))


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
    """Cut mels into patches.

    Args:
        mels: (batch, channels, time, mels).
        quarters: parts of the clip that are stacked in the image.
        bins: mels of a patch.
        frames: frames of a patch; what is left at the end of a quarter is dropped.

    Returns:
        (batch, quarter, band, column, frames * bins), the columns of all channels side by side.
    """
    channels, time, bands = mels.shape[1], mels.shape[2] // quarters, mels.shape[3] // bins
    columns = time // frames
    stacked = mels.reshape(-1, channels, quarters, time, bands * bins)[:, :, :, : columns * frames]
    patches = stacked.reshape(-1, channels, quarters, columns, frames, bands, bins)
    return patches.permute(0, 2, 5, 1, 3, 4, 6).flatten(5).flatten(3, 4)


def _embed(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Apply products to tokens as one plain matrix, which a graph does together with the bias."""
    rows: Tensor = layer(tokens.flatten(0, -2))
    return rows.reshape(*tokens.shape[:-1], rows.shape[-1])


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
    """Return 1x1 convolution, BatchNorm, ReLU, 1x1 convolution, BatchNorm, halved, as products over tokens."""
    first, first_norm, activation, second, second_norm = layers
    layers = _folded(first, first_norm), _folded(second, second_norm, scale=0.5)
    first, second = fold_pair(*layers, activation=activation)
    return [first, activation, second]


def _folded(convolution: Original, norm: Original, *, scale: float = 1.0) -> nn.Linear:
    """Return a 1x1 convolution and the BatchNorm after it as one layer, whose output is scaled."""
    gain, bias = _affine(norm)
    gain, bias = gain * scale, bias * scale
    return linear(convolution.weight.flatten(1) * gain[:, None], convolution.bias * gain + bias)
