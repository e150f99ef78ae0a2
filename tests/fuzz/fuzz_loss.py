"""Write recordings with wrong sizes, joined, or with gaps, and report what `clapedge.audio` loses without a word.

    python tests/fuzz/fuzz_loss.py KIND... [--mutants N] [--seed S]

What is written is known: how long it is, and the second of its tone. A mutant is a finding if what is read of it
differs and nothing is noted; a gap must be right even if it is noted. The same arguments give the same mutants.
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
from tests.recordings import encoded, lossy, recording, tone_at

from clapedge import audio
from clapedge.errors import ClapEdgeError

OFF_SECONDS = 0.15
"""What encoders add at both ends, in two files that are joined, and a frame at a cut."""

SECONDS = (4.0, 5.0, 6.0)
"""Lengths of the recordings; their tone of 3 s begins half a second in."""

TONE = 0.5
TAGS = (b"", b"ID3\4\0\0\0\0\0\x10" + bytes(16), b"TAG" + bytes(125), bytes(300))

SIZES: dict[str, tuple[tuple[bytes, int, str], ...]] = {
    "WAV": ((b"RIFF", 4, "<u4"), (b"data", 4, "<u4")),
    "RF64": ((b"ds64", 8, "<u8"), (b"ds64", 16, "<u8"), (b"data", 4, "<u4")),
    "W64": ((b"riff", 16, "<u8"), (b"data", 16, "<u8")),
    "AIFF": ((b"FORM", 4, ">u4"), (b"COMM", 10, ">u4"), (b"SSND", 4, ">u4")),
    "CAF": ((b"data", 4, ">u8"),),
    "AU": ((b".snd", 8, ">u4"),),
    "FLAC": ((b"fLaC", 22, ">u4"),),
    "MP3": ((b"Xing", 8, ">u4"), (b"Xing", 12, ">u4")),
    "OGG": ((b"OggS", 6, "<u8"),),
    "mp4": ((b"mdhd", 20, ">u4"), (b"mvhd", 20, ">u4"), (b"tkhd", 24, ">u4")),
    "matroska": ((b"\x44\x89\x88", 3, ">f8"), (b"\x18\x53\x80\x67", 4, ">u8")),
    "webm": ((b"\x44\x89\x88", 3, ">f8"), (b"\x18\x53\x80\x67", 4, ">u8")),
}
"""Of each kind: behind which bytes, and how far, a size or length stands, and as what number."""

SUBTYPES = {"MP3": "MPEG_LAYER_III", "OGG": "VORBIS"}
CODECS = {"mp4": "aac", "matroska": "flac", "webm": "libopus"}


@dataclass(frozen=True)
class Mutant:
    """A recording and what must be read of it.

    Attributes:
        data: the file.
        seconds: how long it is, and `tone`, where its tone begins.
        excused: whether a note or an error makes up for what is missing.
    """

    data: bytes
    seconds: float
    tone: float
    excused: bool = True


@cache
def seed(kind: str, seconds: float) -> bytes:
    """Return an intact recording."""
    samples = recording(seconds, TONE)
    return (
        lossy(samples, kind, CODECS[kind]) if kind in CODECS else encoded(samples, kind, SUBTYPES.get(kind, "PCM_16"))
    )


def wrong_size(kind: str, random: np.random.Generator) -> Mutant:
    """Overwrite one to three sizes of a header with numbers that are too small, too large or special."""
    seconds = float(random.choice(SECONDS))
    data = bytearray(seed(kind, seconds))
    for at in random.choice(len(SIZES[kind]), random.integers(1, 4)):
        name, distance, code = SIZES[kind][at]
        place, number = data.find(name) + distance, np.dtype(code)
        right = float(np.frombuffer(data, number, 1, place)[0])
        most = float(2 ** (8 * number.itemsize) - 1) if number.kind == "u" else 1e300
        values = (
            0.0,
            1.0,
            most,
            most / 2,
            right * random.uniform(),
            right * random.uniform(1, 3),
            random.uniform(0, most),
        )
        value = min(values[random.integers(len(values))], most * (1 - 2**-50))
        data[place : place + number.itemsize] = np.array(value).astype(number).tobytes()
    return Mutant(bytes(data), seconds, TONE)


def joined(kind: str, random: np.random.Generator) -> Mutant:
    """Join two or three recordings end to end, with tags between them."""
    parts = [float(part) for part in random.choice(SECONDS, random.integers(2, 4))]
    tag = TAGS[random.integers(len(TAGS))]
    return Mutant(tag.join(seed(kind, part) for part in parts), sum(parts), TONE)


def gap(kind: str, random: np.random.Generator) -> Mutant:
    """Leave packets out before the tone while time stamps go on, or begin the sound after a picture."""
    begin, length, late = random.uniform(0.5, 2), random.uniform(0.3, 3), random.uniform(0.3, 30)
    if kind != "webm" and random.integers(2):
        return Mutant(lossy(recording(4, TONE), kind, CODECS[kind], late=late), 4 + late, late + TONE, excused=False)
    data = lossy(recording(10, 5.5), kind, CODECS[kind], lost=(begin, begin + length))
    return Mutant(data, 10, 5.5, excused=False)


def mutant(kind: str, seed_: int, number: int) -> Mutant:
    """Return one mutant of a kind of container."""
    random = np.random.default_rng([seed_, number])
    makers = (wrong_size, joined, gap) if kind in CODECS else (wrong_size, joined)
    return makers[number % len(makers)](kind, random)


def outcome(made: Mutant) -> str:
    """Read a mutant; return `right`, `noted`, the name of an error, or a finding that begins with LOST."""
    try:
        read = audio.read(made.data)
    except ClapEdgeError as error:
        return type(error).__name__ if made.excused else f"LOST: {error}"
    tone = tone_at(read.samples)
    if tone is not None and max(abs(read.end - made.seconds), abs(tone - made.tone)) < OFF_SECONDS:
        return "right"
    if made.excused and read.warnings:
        return "noted"
    return f"LOST: {made.seconds:.2f} s with a tone at {made.tone:.2f} s read as {read.end:.2f} s with one at {tone}"


def main() -> int:
    """Run from the command line; the exit status is 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="+", choices=sorted(SIZES), metavar="KIND", help=", ".join(sorted(SIZES)))
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    lost = 0
    for kind in arguments.kinds:
        outcomes = {number: outcome(mutant(kind, arguments.seed, number)) for number in range(arguments.mutants)}
        findings = {number: found for number, found in outcomes.items() if found.startswith("LOST")}
        counts = Counter(found.partition(":")[0] for found in outcomes.values()).most_common()
        print(f"{kind}: {', '.join(f'{name} {count}' for name, count in counts)}", flush=True)  # noqa: T201 - a script
        for number, found in list(findings.items())[:20]:
            print(f"  mutant {number}: {found}")  # noqa: T201
        lost += len(findings)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
