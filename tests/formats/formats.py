"""Every format and encoding that was tried, how it is made, and what came of reading it.

    python tests/formats/formats.py

prints the table of docs/measured/audio.md anew. It needs ffmpeg and sox (Debian packages ffmpeg, sox, libsox-fmt-all).
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.audio import ReadOptions
from clapedge.audio.soundfile_decoder import NotRecognisedError, SoundFileDecoder
from clapedge.audio.sources import open_source

SECONDS = 4.0
RATE = 44_100
TOOLS = ("ffmpeg", "sox")


@dataclass(frozen=True)
class Format:
    """One way to write a recording down.

    Attributes:
        name: container, for people.
        encoding: what is in it, for people.
        file: name of the file.
        command: shell command that makes it from `base.wav` (44.1 kHz, stereo, 16 bits, 4 s).
        off: how far samples may lie from those that ffmpeg decodes; decoders round differently, and ffmpeg misreads
            RIFX and the rate of VOC.
        seek: how far samples read after a seek may lie from those of reading everything.
    """

    name: str
    encoding: str
    file: str
    command: str
    off: float = 1e-6
    seek: float = 1e-6


def _ffmpeg(name: str, encoding: str, file: str, arguments: str, *, off: float = 1e-6, seek: float = 1e-6) -> Format:
    """Describe a format that ffmpeg writes."""
    return Format(name, encoding, file, f"ffmpeg -v error -y -i base.wav {arguments} {file}", off, seek)


LOSSY = 2e-4
"""Two decoders of the same lossy stream differ by rounding; FFmpeg's Opus and libopus by this much."""

NOISY = 2e-2
"""AAC fills bands with noise of its own, which depends on where decoding began."""

FORMATS = (
    _ffmpeg("WAV", "8 bits", "u8.wav", "-c:a pcm_u8"),
    _ffmpeg("WAV", "16 bits", "s16.wav", "-c:a pcm_s16le"),
    _ffmpeg("WAV", "24 bits", "s24.wav", "-c:a pcm_s24le"),
    _ffmpeg("WAV", "32 bits", "s32.wav", "-c:a pcm_s32le"),
    _ffmpeg("WAV", "32-bit float", "f32.wav", "-c:a pcm_f32le"),
    _ffmpeg("WAV", "64-bit float", "f64.wav", "-c:a pcm_f64le"),
    _ffmpeg("WAV", "A-law", "alaw.wav", "-c:a pcm_alaw"),
    _ffmpeg("WAV", "µ-law", "mulaw.wav", "-c:a pcm_mulaw"),
    _ffmpeg("WAV", "MS ADPCM", "adpcm.wav", "-c:a adpcm_ms", off=1e-3),
    _ffmpeg("WAV", "IMA ADPCM", "ima.wav", "-c:a adpcm_ima_wav", off=1e-3),
    _ffmpeg("WAV", "GSM 6.10, 8 kHz", "gsm.wav", "-c:a libgsm_ms -ar 8000 -ac 1", off=1e-3, seek=0.1),
    _ffmpeg("WAV", "MP3 inside", "mp3.wav", "-c:a libmp3lame", off=LOSSY, seek=LOSSY),
    _ffmpeg("WAV", "8 channels", "eight.wav", "-ac 8"),
    _ffmpeg("WAV", "4 kHz", "low.wav", "-ar 4000 -ac 1"),
    _ffmpeg("WAV", "384 kHz", "high.wav", "-ar 384000"),
    Format("WAV", "piped: no length", "pipe.wav", "ffmpeg -v error -i base.wav -f wav - | cat > pipe.wav"),
    Format("WAV", "big-endian (RIFX)", "rifx.wav", "sox base.wav -B rifx.wav", off=float("inf")),
    _ffmpeg("RF64", "16 bits", "rf64.wav", "-rf64 always"),
    _ffmpeg("W64", "16 bits", "s16.w64", ""),
    Format("AIFF", "16 bits", "s16.aiff", "sox base.wav s16.aiff"),
    _ffmpeg("AIFF-C", "32-bit float", "f32.aiff", "-c:a pcm_f32be"),
    Format("AU", "µ-law", "mulaw.au", "sox base.wav -e mu-law mulaw.au"),
    _ffmpeg("CAF", "24 bits", "s24.caf", "-c:a pcm_s24be"),
    _ffmpeg("CAF", "ALAC", "alac.caf", "-c:a alac"),
    Format("SPHERE", "16 bits", "s16.sph", "sox base.wav s16.sph"),
    Format("VOC", "16 bits", "s16.voc", "sox base.wav s16.voc", off=float("inf")),
    _ffmpeg("FLAC", "16 bits", "s16.flac", ""),
    _ffmpeg("FLAC", "24 bits, 96 kHz", "s24.flac", "-sample_fmt s32 -ar 96000"),
    _ffmpeg("FLAC", "6 channels", "six.flac", "-ac 6"),
    Format("FLAC", "piped: no length", "pipe.flac", "ffmpeg -v error -i base.wav -f flac - | cat > pipe.flac"),
    _ffmpeg("Ogg", "Vorbis", "vorbis.ogg", "-c:a libvorbis", off=LOSSY),
    _ffmpeg("Ogg", "Opus", "opus.opus", "-c:a libopus", off=LOSSY),
    _ffmpeg("Ogg", "Opus, speech, 16 kHz", "voice.opus", "-c:a libopus -ar 16000 -ac 1 -b:a 16k", off=0.2),
    _ffmpeg("Ogg", "FLAC", "flac.oga", "-c:a flac"),
    _ffmpeg("Ogg", "Speex", "speex.spx", "-c:a libspeex -ar 16000 -ac 1", off=LOSSY, seek=0.05),
    _ffmpeg("MP3", "constant rate, joint stereo", "cbr.mp3", "-b:a 128k -joint_stereo 1", off=LOSSY),
    _ffmpeg("MP3", "variable rate", "vbr.mp3", "-q:a 4", off=LOSSY),
    _ffmpeg("MP3", "variable rate, no length", "bare.mp3", "-q:a 4 -write_xing 0", off=LOSSY),
    _ffmpeg("MP3", "MPEG-2.5, 8 kHz, 8 kbit/s", "tiny.mp3", "-ar 8000 -ac 1 -b:a 8k", off=LOSSY),
    Format(
        "MP3",
        "ID3 with cover art",
        "cover.mp3",
        "ffmpeg -v error -y -f lavfi -i testsrc=s=600x600 -frames:v 1 cover.png && ffmpeg -v error -y -i base.wav "
        "-i cover.png -map 0 -map 1 -c:v copy -id3v2_version 3 -metadata title=Tür cover.mp3",
        LOSSY,
    ),
    _ffmpeg("MPEG", "layer II", "two.mp2", "", off=LOSSY),
    _ffmpeg("M4A", "AAC", "aac.m4a", "-c:a aac", off=NOISY, seek=NOISY),
    _ffmpeg("M4A", "ALAC", "alac.m4a", "-c:a alac"),
    _ffmpeg("AAC", "ADTS", "adts.aac", "-c:a aac", off=NOISY, seek=NOISY),
    Format(
        "MP4",
        "film with AAC",
        "film.mp4",
        "ffmpeg -v error -y -f lavfi -i testsrc=d=4 -i base.wav -c:a aac -c:v mpeg4 film.mp4",
        NOISY,
        NOISY,
    ),
    _ffmpeg("MPEG-TS", "AAC", "aac.ts", "-c:a aac", off=NOISY, seek=NOISY),
    _ffmpeg("WebM", "Opus", "opus.webm", "-c:a libopus", off=LOSSY),
    _ffmpeg("WebM", "Vorbis", "vorbis.webm", "-c:a libvorbis", off=LOSSY),
    _ffmpeg("Matroska", "FLAC", "flac.mka", "-c:a flac"),
    _ffmpeg("Matroska", "16 bits", "s16.mka", "-c:a pcm_s16le"),
    _ffmpeg("WMA", "version 2", "two.wma", "-c:a wmav2", off=LOSSY, seek=LOSSY),
    _ffmpeg("WMA", "version 1", "one.wma", "-c:a wmav1", off=LOSSY, seek=LOSSY),
    Format("AMR", "narrow band", "nb.amr", "sox base.wav -r 8000 -c 1 nb.amr-nb && mv nb.amr-nb nb.amr", LOSSY, 0.1),
    Format(
        "3GP",
        "AMR narrow band",
        "nb.3gp",
        "sox base.wav -r 8000 -c 1 b.amr-nb && ffmpeg -v error -y -f amr -i b.amr-nb -c copy nb.3gp",
        LOSSY,
        0.1,
    ),
    _ffmpeg("AC-3", "448 kbit/s", "ac3.ac3", "-b:a 448k", off=LOSSY),
    _ffmpeg("E-AC-3", "", "eac3.eac3", "", off=LOSSY),
    _ffmpeg("WavPack", "16 bits", "s16.wv", ""),
    _ffmpeg("TTA", "16 bits", "s16.tta", ""),
    _ffmpeg("AVI", "MP3", "mp3.avi", "-c:a libmp3lame", off=LOSSY, seek=LOSSY),
    _ffmpeg("FLV", "AAC", "aac.flv", "-c:a aac", off=NOISY, seek=NOISY),
)


@dataclass(frozen=True)
class Outcome:
    """What came of reading one format.

    Attributes:
        decoder: `libsndfile` or `FFmpeg`.
        length: seconds that were read.
        delay: samples at 48 kHz by which encoder and decoder delay the sound.
        noise: dB of the difference from the original below it, once the delay is undone; None where rates differ.
        off: largest difference from what ffmpeg decodes, over what both have.
        seek: largest difference of 1 s read after a seek from the same second of everything.
        warnings: what was said.
    """

    decoder: str
    length: float
    delay: int
    noise: float
    off: float
    seek: float
    warnings: tuple[str, ...]


def missing_tools() -> str:
    """Return why formats cannot be made here, or nothing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"needs {' and '.join(missing)} (Debian packages: ffmpeg sox libsox-fmt-all)" if missing else ""


def make_base(directory: Path) -> None:
    """Write `base.wav`, from which all formats are made: tones, a chirp and hiss, louder on one side."""
    rng = np.random.default_rng(0)
    time = np.arange(int(SECONDS * RATE)) / RATE
    sound = 0.2 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * (200 + 300 * time) * time)
    sound += 0.05 * np.convolve(rng.standard_normal(len(time)), np.ones(8) / 8, "same")
    pcm = np.round(np.stack([sound, 0.6 * sound], axis=1) * 32767).astype("<i2")
    header = b"RIFF" + (36 + pcm.nbytes).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    header += np.array([1, 2], "<u2").tobytes() + np.array([RATE, 4 * RATE], "<u4").tobytes()
    header += np.array([4, 16], "<u2").tobytes() + b"data" + pcm.nbytes.to_bytes(4, "little")
    (directory / "base.wav").write_bytes(header + pcm.tobytes())


def make(form: Format, directory: Path) -> Path:
    """Make one format in a directory that has `base.wav`."""
    subprocess.run(form.command, shell=True, cwd=directory, check=True, capture_output=True)  # noqa: S602 - from above
    return directory / form.file


def decoded_by_ffmpeg(path: Path) -> Float32Array:
    """Return the samples that the command ffmpeg decodes, mono at 48 kHz by our own mixing and resampling."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vn", "-f", "wav", "-c:a", "pcm_f32le", "-"]
    done = subprocess.run(command, check=True, capture_output=True)
    return audio.read(done.stdout).samples


def try_format(form: Format, directory: Path) -> Outcome:
    """Make one format, read it in every way, and compare."""
    path = make(form, directory)
    whole = audio.read(path)
    part = audio.read(path, ReadOptions(start=2.1, duration=1.0)).samples
    first = round(2.1 * 48_000)
    expected = decoded_by_ffmpeg(path)
    both = min(len(expected), len(whole.samples))
    original = audio.read(directory / "base.wav").samples
    delay, noise = against(original, whole.samples)
    with open_source(path) as view:
        try:
            SoundFileDecoder(view, form.file).close()
            decoder = "libsndfile"
        except NotRecognisedError:
            decoder = "FFmpeg"
    return Outcome(
        decoder,
        whole.end,
        delay,
        noise,
        float(np.abs(whole.samples[:both] - expected[:both]).max()),
        float(np.abs(part - whole.samples[first : first + len(part)]).max()),
        whole.warnings,
    )


def against(original: Float32Array, found: Float32Array) -> tuple[int, float]:
    """Return the delay of a recording against its original in samples, and the noise in dB below the sound."""
    size = 2 ** int(np.ceil(np.log2(len(original) + len(found))))
    spectrum = np.fft.rfft(found, size) * np.conj(np.fft.rfft(original, size))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    delay = lag if lag < size // 2 else lag - size
    shifted = found[delay:] if delay >= 0 else np.concatenate([np.zeros(-delay, np.float32), found])
    both = slice(4_800, min(len(shifted), len(original)) - 4_800)
    difference = float(np.mean((shifted[both] - original[both]) ** 2))
    return delay, 10 * float(np.log10(np.mean(original[both] ** 2) / max(difference, 1e-30)))


def table(directory: Path) -> Iterator[str]:
    """Yield the table of the documentation, line by line."""
    yield "| format | encoding | decoder | length s | delay samples | noise dB | from ffmpeg's | after a seek | said |"
    yield "|---|---|---|---|---|---|---|---|---|"
    make_base(directory)
    for form in FORMATS:
        outcome = try_format(form, directory)
        said = "; ".join(outcome.warnings)
        yield (
            f"| {form.name} | {form.encoding} | {outcome.decoder} | {outcome.length:.3f} | {outcome.delay} "
            f"| {-outcome.noise:.0f} | {outcome.off:.0e} | {outcome.seek:.0e} | {said} |"
        )


def main() -> int:
    """Print the table."""
    reason = missing_tools()
    if reason:
        sys.stderr.write(reason + "\n")
        return 1
    with TemporaryDirectory() as name:
        for line in table(Path(name)):
            print(line)  # noqa: T201 - a script
    return 0


if __name__ == "__main__":
    sys.exit(main())
