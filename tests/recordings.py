"""Recordings as users' devices write them: quiet noise with a tone of 1 kHz at a known second, in any container."""

import io
import struct
from typing import Any

import av
import numpy as np
import soundfile

from clapedge.arrays import Float32Array

RATE = 48_000
TONE_SECONDS = 3.0
FRAME = 480
"""Samples of a hundredth of a second, in which the tone is looked for."""


def recording(seconds: float, tone: float, *, rate: int = RATE) -> Float32Array:
    """Return noise at -60 dBFS, (samples,), with a tone of 3 s that begins at second `tone`."""
    samples = np.random.default_rng(1).standard_normal(round(seconds * rate)) * 1e-3
    span = slice(round(tone * rate), round((tone + TONE_SECONDS) * rate))
    samples[span] += 0.3 * np.sin(2 * np.pi * 1000 * np.arange(span.stop - span.start) / rate)
    return samples.astype(np.float32)


def tone_at(samples: Float32Array) -> float | None:
    """Return the second at which the tone begins in samples at 48 kHz; None if there is none."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    phase = (2 * np.pi * 1000 / RATE * np.arange(FRAME)).astype(np.float32)
    level = np.hypot(frames @ np.cos(phase), frames @ np.sin(phase)) / FRAME
    found = np.flatnonzero(level > 0.075)  # half of what the tone gives
    return int(found[0]) * FRAME / RATE if len(found) else None


def encoded(samples: Float32Array, kind: str = "WAV", subtype: str = "PCM_16", *, rate: int = RATE) -> bytes:
    """Return samples (n,) or (channels, n) as the bytes of a file that libsndfile writes."""
    file = io.BytesIO()
    constant = {"bitrate_mode": "CONSTANT"} if kind == "MP3" else {}
    soundfile.write(file, samples.T, rate, format=kind, subtype=subtype, **constant)
    return file.getvalue()


def with_numbers(data: bytes, numbers: dict[int, int], code: str) -> bytes:
    """Return a file with other numbers at offsets, packed by a code of `struct`."""
    changed = bytearray(data)
    for at, number in numbers.items():
        struct.pack_into(code, changed, at, number)
    return bytes(changed)


def lossy(
    samples: Float32Array,
    kind: str,
    codec: str,
    *,
    lost: tuple[float, float] = (0, 0),
    late: float = 0,
    jump: tuple[float, float] = (0, 0),
) -> bytes:
    """Return samples (n,) at 48 kHz in a container of FFmpeg's.

    Args:
        samples: the sound.
        kind: name of the container.
        codec: name of the encoder.
        lost: seconds between which packets are left out, while time stamps go on.
        late: seconds after the beginning of a picture at which the sound begins; 0 leaves the picture out.
        jump: a second, and by how many seconds the time stamps jump there.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        sound = container.add_stream(codec, rate=RATE, layout="mono")
        packets: list[Any] = _picture(container, late + len(samples) / RATE) if late else []
        resampler = av.AudioResampler(sound.format, "mono", RATE, sound.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.sample_rate, frame.pts = RATE, round(late * RATE)
        frames = [*resampler.resample(frame), *resampler.resample(None)]
        packets += [packet for part in [*frames, None] for packet in sound.encode(part)]
        for packet in sorted(packets, key=_second):
            if not lost[0] <= (second := _second(packet)) < lost[1]:
                if second >= jump[0]:
                    packet.pts = packet.dts = packet.pts + round(jump[1] / packet.time_base)
                container.mux(packet)
    return file.getvalue()


def _second(packet: Any) -> float:  # noqa: ANN401 - PyAV types its packets by version
    """Return the time stamp of a packet in seconds."""
    return float(packet.pts * packet.time_base)


def _picture(container: av.container.OutputContainer, seconds: float) -> list[Any]:
    """Return the packets of a black picture, five a second."""
    video = container.add_stream("mpeg4", rate=5)
    video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
    frames = [av.VideoFrame(64, 48, "yuv420p") for _ in range(round(5 * seconds))]
    for number, frame in enumerate(frames):
        frame.pts = number
    return [packet for frame in [*frames, None] for packet in video.encode(frame)]
