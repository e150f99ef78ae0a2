"""The log-mel transform against a plain one: a frame at a time, float64 throughout, nothing shared."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clapedge.arrays import Float32Array, Float64Array
from clapedge.features.log_mel import BLOCK_FRAMES, GROUP_BANDS, LogMel, mel_bank

HOP = 480
N_FFT = 1024
EDGE_FRAMES = 2
"""Frames at each end that reach over it: half a window is more than one hop and less than two."""
TOLERANCE = 2e-5
"""dB. The result is float32, whose steps are 8e-6 dB at -100 dB, and two such roundings may add up."""

MEL = LogMel()


def plain_log_mel(samples: Float32Array, bank: Float64Array, n_fft: int = N_FFT, hop: int = HOP) -> Float64Array:
    """Compute log-mels (1 + L // hop, n_mels) in dB by the definition."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.pad(samples.astype(np.float64), n_fft // 2, mode="reflect")
    starts = range(0, len(samples) + 1, hop)
    spectra = np.array([np.fft.rfft(padded[start : start + n_fft] * window) for start in starts])
    return np.asarray(10 * np.log10(np.maximum(1e-10, np.abs(spectra) ** 2 @ bank)))


def noise(length: int, seed: int = 0) -> Float32Array:
    """Return `length` samples of noise that falls by 6 dB an octave, as most sound does."""
    steps = np.random.default_rng(seed).standard_normal(length)
    samples = np.cumsum(steps)
    scaled: Float32Array = (0.5 * samples / np.abs(samples).max()).astype(np.float32)
    return scaled


def band_limited(length: int, cutoff: float, seed: int = 0) -> Float32Array:
    """Return noise without anything above `cutoff` Hz, as a lossy codec leaves it: 100 dB and more of range."""
    spectrum = np.fft.rfft(noise(length, seed))
    spectrum[np.fft.rfftfreq(length, 1 / 48_000) > cutoff] = 0
    samples: Float32Array = np.fft.irfft(spectrum, length).astype(np.float32)
    return samples


def with_gaps(samples: Float32Array) -> Float32Array:
    """Return the samples with stretches of digital silence."""
    gapped: Float32Array = samples.copy()
    gapped[len(gapped) // 5 : len(gapped) // 3] = 0
    gapped[-len(gapped) // 4 :] = 0
    return gapped


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(noise(480_000), id="noise"),
        pytest.param(noise(480_000) * np.float32(1e-4), id="80 dB quieter"),
        pytest.param(noise(480_000) * np.float32(32_768), id="unscaled integers"),
        pytest.param(noise(480_000) * np.float32(0.1) + np.float32(0.5), id="with an offset"),
        pytest.param(band_limited(480_000, 4_000), id="low-passed"),
        pytest.param(with_gaps(band_limited(480_000, 9_000)), id="low-passed with digital silence"),
    ],
)
def test_every_band_of_every_frame_is_that_of_the_plain_transform(samples: Float32Array, scale: str) -> None:
    bank = mel_bank(48_000, N_FFT, 64, 50.0, 14_000.0, scale)  # type: ignore[arg-type]
    mels = LogMel(mel_scale=scale)(samples)  # type: ignore[arg-type]
    assert mels.shape == (1001, 64)
    assert mels.dtype == np.float32
    assert mels.flags.c_contiguous
    assert np.abs(mels - plain_log_mel(samples, bank)).max() <= TOLERANCE


@settings(max_examples=40, deadline=None)
@given(length=st.integers(N_FFT // 2 + 1, 3 * BLOCK_FRAMES * HOP), seed=st.integers(0, 2**32 - 1))
def test_any_length_gives_a_frame_per_hop_and_the_plain_transform(length: int, seed: int) -> None:
    samples = noise(length, seed)
    mels = MEL(samples)
    assert len(mels) == MEL.frames(length) == 1 + length // HOP
    assert np.abs(mels - plain_log_mel(samples, mel_bank(48_000, N_FFT, 64, 50.0, 14_000.0, "htk"))).max() <= TOLERANCE


@pytest.mark.parametrize(
    "length", [HOP * frames + rest for frames in (1, 2, BLOCK_FRAMES, 2 * BLOCK_FRAMES) for rest in (-1, 0, 1, 33, 34)]
)
def test_lengths_around_the_ends_of_frames_and_blocks_are_reflected_right(length: int) -> None:
    if length <= N_FFT // 2:
        with pytest.raises(ValueError, match="more than 512 samples"):
            MEL(noise(length))
        return
    bank = mel_bank(48_000, N_FFT, 64, 50.0, 14_000.0, "htk")
    assert np.abs(MEL(noise(length)) - plain_log_mel(noise(length), bank)).max() <= TOLERANCE


@settings(max_examples=25, deadline=None)
@given(
    n_fft=st.sampled_from([256, 400, 1024, 2048]),
    hop_length=st.integers(60, 500),
    n_mels=st.integers(1, 3 * GROUP_BANDS),
    f_min=st.sampled_from([0.0, 50.0, 300.0]),
    f_max=st.sampled_from([7_000.0, 8_000.0]),
)
def test_any_front_end_gives_the_plain_transform(
    n_fft: int, hop_length: int, n_mels: int, f_min: float, f_max: float
) -> None:
    samples = noise(5_000)
    transform = LogMel(sample_rate=16_000, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels, f_min=f_min, f_max=f_max)
    expected = plain_log_mel(samples, mel_bank(16_000, n_fft, n_mels, f_min, f_max, "htk"), n_fft, hop_length)
    assert np.abs(transform(samples) - expected).max() <= TOLERANCE


@pytest.fixture(scope="module")
def long_recording() -> tuple[Float32Array, Float32Array]:
    """Return half a minute of sound, 20 blocks and a rest, and its log-mels."""
    samples = noise(1_440_000)
    return samples, MEL(samples)


@pytest.mark.parametrize("first", [*range(50), BLOCK_FRAMES - 1, BLOCK_FRAMES, BLOCK_FRAMES + 1, 999, 2000])
def test_a_frame_has_the_same_bits_at_any_offset_in_a_recording_of_any_length(
    long_recording: tuple[Float32Array, Float32Array], first: int
) -> None:
    samples, mels = long_recording
    for length in (3 * HOP, 48_000 + first, 480_000):
        part = MEL(samples[first * HOP : first * HOP + length])[EDGE_FRAMES:-EDGE_FRAMES]
        begins = first + EDGE_FRAMES
        assert part.tobytes() == mels[begins : begins + len(part)].tobytes()


def test_threads_that_share_a_transform_get_the_bits_that_one_gets() -> None:
    recordings = [noise(100_000 + 7_001 * seed, seed) for seed in range(16)]
    alone = [MEL(samples).tobytes() for samples in recordings]
    with ThreadPoolExecutor(4) as threads:
        together = [mels.tobytes() for mels in threads.map(MEL, recordings * 4)]
    assert together == alone * 4


def test_memory_beyond_the_result_does_not_grow_with_the_recording() -> None:
    beyond = []
    for seconds in (4, 40):
        samples = np.zeros(48_000 * seconds, np.float32)
        tracemalloc.start()
        result = MEL(samples)
        beyond.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
        tracemalloc.stop()
    assert beyond[1] < beyond[0] + 100_000
    assert beyond[1] < 5_000_000


def test_samples_stay_as_they_are_and_may_be_read_only_or_strided() -> None:
    samples = noise(20_000)
    expected = MEL(samples)
    samples.flags.writeable = False
    assert MEL(samples).tobytes() == expected.tobytes()
    assert MEL(np.repeat(samples, 2)[::2]).tobytes() == expected.tobytes()


def test_silence_is_minus_100_db() -> None:
    assert np.abs(MEL(np.zeros(480_000, np.float32)) + 100).max() <= TOLERANCE


@pytest.mark.parametrize("hertz", [100.0, 440.0, 1_000.0, 5_000.0, 13_000.0])
def test_a_tone_is_loudest_in_the_band_around_its_frequency(hertz: float) -> None:
    lowest, highest = 2595 * np.log10(1 + np.array([50.0, 14_000.0]) / 700)
    centres = np.linspace(lowest, highest, 66)[1:-1]
    tone = np.sin(2 * np.pi * hertz / 48_000 * np.arange(48_000)).astype(np.float32)
    heard = MEL(tone)[EDGE_FRAMES:-EDGE_FRAMES].mean(axis=0).argmax()
    assert abs(centres[heard] - 2595 * np.log10(1 + hertz / 700)) <= centres[1] - centres[0]


@pytest.mark.parametrize("shape", [(0,), (512,), (2, 48_000)])
def test_what_cannot_be_reflected_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="more than 512 samples in one dimension"):
        MEL(np.zeros(shape, np.float32))
