"""Time the front end beside its peers, in one run: log-mels of a clip, and a stereo MP3 to model inputs.

Each candidate lives in a process of its own, as its users run it; see `turns`.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from clapedge.arrays import Float32Array
from clapedge.features.log_mel import LogMel, mel_bank
from turns import THREAD_VARIABLES, Candidate, Figures, measure

RESULTS = Path(__file__).parent / "results" / "frontend.json"
THREADS = (1, 4)
SECONDS = 10
CUTOFF_HERTZ = 12_000
"""Above it the sound is empty, as behind a lossy codec: bands 100 dB below the loudest show every rounding."""
PACKAGES = ("numpy", "scipy", "librosa", "torch", "transformers", "soundfile", "soxr")


def sound(rate: int, channels: int) -> Float32Array:
    """Return 10 s of synthesised sound (samples, channels): a rising tone, knocks, and low-passed noise."""
    length = SECONDS * rate
    seconds = np.arange(length) / rate
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal((length, channels)), axis=0)
    hertz = np.fft.rfftfreq(length, 1 / rate)[:, None]
    samples = np.fft.irfft(spectrum * (hertz < CUTOFF_HERTZ) / (50 + hertz), length, axis=0)
    samples += (0.02 * np.sin(2 * np.pi * (300 + 100 * seconds) * seconds))[:, None]
    samples += (0.1 * np.exp(-150 * (seconds % 0.5)) * np.sin(2 * np.pi * 1_900 * seconds))[:, None]
    scaled: Float32Array = (0.5 * samples / np.abs(samples).max()).astype(np.float32)
    return scaled


def extractor() -> Any:  # noqa: ANN401 - transformers publishes no type for it
    """Return the extractor of transformers with the parameters of `laion/clap-htsat-fused`."""
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(frequency_min=50, frequency_max=14_000, padding="repeatpad", truncation="fusion")


def mel_of_clapedge(_mp3: Path) -> Candidate:
    """Prepare our log-mels of a clip."""
    samples, transform = sound(48_000, 1)[:, 0], LogMel()
    return lambda: transform(samples)


def mel_of_clapedge_in_threads(_mp3: Path) -> Candidate:
    """Prepare our log-mels of as many clips as there are threads, at the same time."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    samples, transform, pool = sound(48_000, 1)[:, 0], LogMel(), ThreadPoolExecutor(threads)
    return lambda: list(pool.map(transform, [samples] * threads))


def mel_of_transformers(_mp3: Path) -> Candidate:
    """Prepare the extractor itself: log-mels of a clip, four times."""
    samples, extract = sound(48_000, 1)[:, 0], extractor()
    return lambda: extract(samples, sampling_rate=48_000)["input_features"][0][0]


def mel_of_librosa(_mp3: Path) -> Candidate:
    """Prepare librosa's usual two calls."""
    import librosa

    samples = sound(48_000, 1)[:, 0]
    shape: dict[str, Any] = {
        "n_fft": 1024,
        "hop_length": 480,
        "n_mels": 64,
        "fmin": 50,
        "fmax": 14_000,
        "pad_mode": "reflect",
    }

    def run() -> Float32Array:
        mel = librosa.feature.melspectrogram(y=samples, sr=48_000, htk=True, norm=None, **shape)
        decibels: Float32Array = librosa.power_to_db(mel, top_db=None).T
        return decibels

    return run


def mel_of_torch(_mp3: Path) -> Candidate:
    """Prepare the steps of torchaudio's MelSpectrogram and AmplitudeToDB, without the modules around them."""
    import torch

    samples, window = torch.from_numpy(sound(48_000, 1)[:, 0].copy()), torch.hann_window(1024)
    bank = torch.from_numpy(mel_bank(48_000, 1024, 64, 50.0, 14_000.0, "htk").astype(np.float32))

    def run() -> Float32Array:
        spectrum = torch.stft(samples, 1024, 480, window=window, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        decibels: Float32Array = (power.T @ bank).clamp(min=1e-10).log10().mul(10).numpy()
        return decibels

    return run


def mel_of_scipy(dtype: type[np.floating[Any]]) -> Candidate:
    """Prepare the textbook in whole arrays, with the FFT that vectorises across frames."""
    import scipy.fft

    samples, window = sound(48_000, 1)[:, 0].astype(dtype), np.hanning(1025)[:-1].astype(dtype)
    bank = mel_bank(48_000, 1024, 64, 50.0, 14_000.0, "htk").astype(dtype)
    workers = int(os.environ["OMP_NUM_THREADS"])

    def run() -> Float32Array:
        padded = np.pad(samples, 512, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::480]
        spectrum = scipy.fft.rfft(frames * window, workers=workers)
        power = spectrum.real**2 + spectrum.imag**2
        decibels: Float32Array = (10 * np.log10(np.maximum(1e-10, power @ bank))).astype(np.float32)
        return decibels

    return run


def mel_of_scipy32(_mp3: Path) -> Candidate:
    """Prepare scipy in float32."""
    return mel_of_scipy(np.float32)


def mel_of_scipy64(_mp3: Path) -> Candidate:
    """Prepare scipy in float64."""
    return mel_of_scipy(np.float64)


def mp3_of_clapedge(mp3: Path) -> Candidate:
    """Prepare our whole path."""
    from clapedge import audio
    from clapedge.features.clips import ClipMaker
    from clapedge.features.front_end import FrontEnd

    clips = ClipMaker(FrontEnd())
    return lambda: clips(audio.read(mp3).samples).features


def mp3_of_librosa(mp3: Path) -> Candidate:
    """Prepare what the documentation of transformers does."""
    import librosa

    extract = extractor()
    return lambda: extract(librosa.load(mp3, sr=48_000)[0], sampling_rate=48_000)["input_features"]


def mp3_decoding(mp3: Path) -> Candidate:
    """Prepare the decoder alone."""
    return lambda: soundfile.read(mp3, dtype="float32")


def mp3_resampling(mp3: Path) -> Candidate:
    """Prepare the resampler alone, at our quality."""
    import soxr

    mono = soundfile.read(mp3, dtype="float32")[0].mean(axis=1)
    return lambda: soxr.resample(mono, 44_100, 48_000, quality="VHQ")


def mp3_reading(mp3: Path) -> Candidate:
    """Prepare our reading: decoding, mixing, resampling, checking."""
    from clapedge import audio

    return lambda: audio.read(mp3)


OURS, REFERENCE, EXACT, PARALLEL = "clapedge", "transformers", "scipy.fft, float64", "clapedge, a clip per thread"
LOG_MEL: dict[str, Callable[[Path], Candidate]] = {
    OURS: mel_of_clapedge,
    PARALLEL: mel_of_clapedge_in_threads,
    REFERENCE: mel_of_transformers,
    "librosa": mel_of_librosa,
    "torch.stft, as torchaudio": mel_of_torch,
    "scipy.fft, float32": mel_of_scipy32,
    EXACT: mel_of_scipy64,
}
MP3: dict[str, Callable[[Path], Candidate]] = {
    OURS: mp3_of_clapedge,
    REFERENCE: mp3_of_librosa,
    "part: decoding": mp3_decoding,
    "part: resampling (VHQ)": mp3_resampling,
    "part: reading, with both": mp3_reading,
}


def log_mel_figures(mp3: Path, rounds: int, threads: int) -> Figures:
    """Measure the log-mels; what several threads do at once is given per clip."""
    figures, computed = measure(
        {name: LOG_MEL[name] for name in LOG_MEL if threads > 1 or name != PARALLEL}, mp3, rounds
    )
    if threads > 1:
        figures[PARALLEL] = {key: ms / threads for key, ms in figures[PARALLEL].items()}
    for name in figures.keys() - {PARALLEL}:
        figures[name]["max_error_db"] = float(np.abs(computed[name][0] - computed[EXACT][0]).max())
    return figures


def show(title: str, figures: Figures) -> None:
    """Print one table; ratios are of medians."""
    print(f"\n{title:34}{'median':>10}{'least':>11}{'ratio':>8}   max error")
    for name, row in figures.items():
        ratio = row["median_ms"] / figures[REFERENCE]["median_ms"]
        error = f"   {row['max_error_db']:.0e} dB" if "max_error_db" in row else ""
        print(f"  {name:32}{row['median_ms']:7.2f} ms{row['least_ms']:8.2f} ms{ratio:8.3f}{error}")


def main() -> None:
    """Measure, print and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="turns that each candidate takes (default 40)")
    rounds = parser.parse_args().rounds
    if find_spec("librosa") is None:
        sys.exit("librosa, one of the peers, is not installed; make bench-frontend does that")
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        mp3 = Path(directory) / "stereo.mp3"
        soundfile.write(mp3, sound(44_100, 2), 44_100)
        for threads in THREADS:
            os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
            log_mel = log_mel_figures(mp3, rounds, threads)
            show(f"log-mel of {SECONDS} s, threads: {threads}", log_mel)
            whole, _ = measure(MP3, mp3, rounds)
            show(f"MP3 to features, threads: {threads}", whole)
            results[f"threads {threads}"] = {"log_mel": log_mel, "mp3_to_features": whole}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    about = machine | {name: version(name) for name in PACKAGES}
    RESULTS.parent.mkdir(exist_ok=True)
    unfinished = RESULTS.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(RESULTS)
    print(f"\nkept in bench/results/{RESULTS.name}; 'transformers' reads MP3 with librosa.load")


if __name__ == "__main__":
    main()
