"""Samples to log-mel: NumPy alone, exact to the reference extractor of transformers. Knows nothing of clips.

A frame is `n_fft` samples under a periodic Hann window, one every `hop_length` samples, centred: the signal is
reflected by half a window at each end, so L samples give `1 + L // hop_length` frames.
"""

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Float32Array: TypeAlias = npt.NDArray[np.float32]
Float64Array: TypeAlias = npt.NDArray[np.float64]

FLOOR = 1e-10
"""Least mel power, so that silence is -100 dB (`mel_floor` of the reference)."""

BLOCK_FRAMES = 256
"""Frames transformed at once: their spectra (2 MB) stay in the processor's cache."""


class LogMel:
    """The log-mel transform of one front end. Immutable, so that threads may share it."""

    def __init__(
        self,
        *,
        sampling_rate: int = 48_000,
        n_fft: int = 1024,
        hop_length: int = 480,
        n_mels: int = 64,
        f_min: float = 50.0,
        f_max: float = 14_000.0,
        mel_scale: Literal["htk", "slaney"] = "htk",
    ) -> None:
        """Prepare window and mel bank; the defaults are those of `laion/clap-htsat-fused`.

        Args:
            sampling_rate: Hz of the samples.
            n_fft: samples per frame.
            hop_length: samples from one frame to the next.
            n_mels: number of mel bands.
            f_min: lower edge of the lowest band in Hz.
            f_max: upper edge of the highest band in Hz.
            mel_scale: `htk` (bands of unit height) or `slaney` (bands of unit area).
        """
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self._window = np.hanning(n_fft + 1)[:-1]
        bank = mel_bank(sampling_rate, n_fft, n_mels, f_min, f_max, mel_scale)
        used = np.flatnonzero(bank.any(axis=1))
        self._bins = slice(int(used[0]), int(used[-1]) + 1)
        self._bank = np.ascontiguousarray(bank[self._bins])

    def frames(self, samples: int) -> int:
        """Return the number of frames that so many samples give."""
        return 1 + samples // self.hop_length

    def __call__(self, samples: Float32Array) -> Float32Array:
        """Transform samples (L,) float32 in ±1 to log-mels (1 + L // hop_length, n_mels) float32 in dB.

        Raises:
            ValueError: the signal is too short to be reflected (n_fft // 2 samples or fewer).
        """
        half = self.n_fft // 2
        if samples.ndim != 1 or len(samples) <= half:
            raise ValueError(f"expected more than {half} samples in one dimension, found shape {samples.shape}")
        padded = np.pad(samples, half, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop_length]
        mels = np.empty((len(frames), self.n_mels), np.float32)
        for start in range(0, len(frames), BLOCK_FRAMES):
            stop = start + BLOCK_FRAMES
            # float64 as the reference: a band 100 dB below the loudest one drowns in the rounding of a float32 FFT
            spectrum = np.fft.rfft(frames[start:stop] * self._window)[:, self._bins]
            power = spectrum.real**2 + spectrum.imag**2
            mels[start:stop] = 10.0 * np.log10(np.maximum(FLOOR, power @ self._bank))
        return mels


def mel_bank(
    sampling_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float, mel_scale: Literal["htk", "slaney"]
) -> Float64Array:
    """Return the triangular mel filters (1 + n_fft // 2, n_mels): column m weighs the power bins of band m.

    Triangles rise and fall linearly in Hz between neighbouring corner frequencies that are equidistant in mel
    (`mel_filter_bank` of transformers with `norm=None` for htk and `norm="slaney"` for slaney).
    """
    to_mel, to_hertz = (_htk_mel, _htk_hertz) if mel_scale == "htk" else (_slaney_mel, _slaney_hertz)
    edges = to_mel(np.array([f_min, f_max]))
    corners = to_hertz(np.linspace(edges[0], edges[1], n_mels + 2))
    bins = np.linspace(0, sampling_rate // 2, 1 + n_fft // 2)
    slopes = corners - bins[:, None]
    widths = np.diff(corners)
    bank = np.maximum(0.0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))
    return bank if mel_scale == "htk" else bank * (2.0 / (corners[2:] - corners[:-2]))


def _htk_mel(hertz: Float64Array) -> Float64Array:
    """Convert Hz to mel by O'Shaughnessy's formula, as HTK does."""
    return 2595.0 * np.log10(1.0 + hertz / 700.0)


def _htk_hertz(mel: Float64Array) -> Float64Array:
    """Convert mel to Hz: the inverse of `_htk_mel`."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


SLANEY_KNEE_HERTZ = 1000.0
"""Slaney's scale (Auditory Toolbox, 1998) is linear below this and logarithmic above it."""
SLANEY_KNEE_MEL = 15.0
"""Mel at the knee: 3 mel per 200 Hz below it."""
SLANEY_LOG_STEP = np.log(6.4) / 27.0
"""Natural logarithm of the frequency ratio of one mel above the knee."""


def _slaney_mel(hertz: Float64Array) -> Float64Array:
    """Convert Hz to mel on Slaney's scale."""
    above = SLANEY_KNEE_MEL + np.log(np.maximum(hertz, SLANEY_KNEE_HERTZ) / SLANEY_KNEE_HERTZ) / SLANEY_LOG_STEP
    return np.where(hertz < SLANEY_KNEE_HERTZ, 3.0 * hertz / 200.0, above)


def _slaney_hertz(mel: Float64Array) -> Float64Array:
    """Convert mel to Hz: the inverse of `_slaney_mel`."""
    above = SLANEY_KNEE_HERTZ * np.exp(SLANEY_LOG_STEP * (np.maximum(mel, SLANEY_KNEE_MEL) - SLANEY_KNEE_MEL))
    return np.where(mel < SLANEY_KNEE_MEL, 200.0 * mel / 3.0, above)
