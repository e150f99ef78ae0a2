"""How many clips with a voice are found, and how many without one are lost: speech that espeak-ng says over recordings.

python bench/bench_voices.py --esc10 DIR [--folds 4] [--voices 3]

Synthesised voices are a floor: they are plainer than real ones, and nobody here shouts, whispers or sings.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.live.voices import VoiceDetector

RATE = 48_000
SNRS = (-5.0, 0.0, 5.0, 10.0, 20.0)
SENTENCES = {
    "en-gb": ("Where did you put the keys?", "The train to the coast leaves at half past nine.", "No, not today."),
    "de": ("Wo hast du die Schlüssel hingelegt?", "Der Zug zur Küste fährt um halb zehn.", "Nein, heute nicht."),
    "fr-fr": ("Où as-tu mis les clés ?", "Le train pour la côte part à neuf heures et demie.", "Non, pas aujourd'hui."),
    "es": ("¿Dónde pusiste las llaves?", "El tren a la costa sale a las nueve y media.", "No, hoy no."),
    "cmn": ("你把钥匙放在哪里了", "去海边的火车九点半开。", "不，今天不行。"),
    "hi": ("तुमने चाबियाँ कहाँ रखीं?", "तट की ट्रेन साढ़े नौ बजे जाती है।", "नहीं, आज नहीं।"),
}
VARIANTS = ("", "+f3", "+m5", "+f4", "+m2")
HUMAN = ("person_sneeze", "baby_cry")
"""Classes that are of a human throat: what is lost of them is told apart."""
PAD_SECONDS = 1.0


def speech(voices: int) -> Iterator[tuple[str, Float32Array]]:
    """Yield language and sound at 48 kHz of each sentence in each voice."""
    program = shutil.which("espeak-ng") or sys.exit("espeak-ng is not installed; on Debian: apt install espeak-ng")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "said.wav"
        for language, sentences in SENTENCES.items():
            for sentence in sentences:
                for variant in VARIANTS[:voices]:
                    subprocess.run([program, "-v", f"{language}{variant}", "-w", path, sentence], check=True)  # noqa: S603
                    samples, rate = soundfile.read(path, dtype="float32")
                    yield language, soxr.resample(samples, rate, RATE)


def mixed(said: Float32Array, other: Float32Array, snr: float) -> Float32Array:
    """Return speech over another sound, at so many dB more than it has while it is said."""
    pad = round(PAD_SECONDS * RATE)
    sound: Float32Array = np.resize(other, len(said) + 2 * pad).copy()
    level = np.sqrt(np.mean(sound[pad:-pad] ** 2)) + 1e-4
    sound[pad:-pad] += said * (level / np.sqrt(np.mean(said**2)) * 10 ** (snr / 20))
    return np.asarray(sound / max(1.0, float(np.abs(sound).max())), np.float32)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--esc10", type=Path, required=True, help="directory of CLASS/FOLD-*.ogg")
    parser.add_argument("--folds", default="4", help="which folds the other sounds are of: digits")
    parser.add_argument("--voices", type=int, default=3, help="variants of each sentence's voice")
    chosen = parser.parse_args()
    files = sorted(path for fold in chosen.folds for path in chosen.esc10.glob(f"*/{fold}-*.ogg"))
    others = [(path.parent.name, audio.read(path).samples) for path in files]
    detector, rng = VoiceDetector(), np.random.default_rng(0)
    print("| class | clips | lost |\n|---|---|---|")
    lost = {}
    for name in sorted({name for name, _ in others}):
        of_class = [samples for each, samples in others if each == name]
        lost[name] = [bool(detector.spans(samples)) for samples in of_class]
        print(f"| {name} | {len(of_class)} | {np.mean(lost[name]):.3f} |", flush=True)
    plain = [each for name, found in lost.items() if name not in HUMAN for each in found]
    print(f"| all but {' and '.join(HUMAN)} | {len(plain)} | {np.mean(plain):.3f} |\n")
    print("| language | " + " | ".join(f"{snr:g} dB" for snr in SNRS) + " |\n|---|" + "---|" * len(SNRS))
    caught: dict[str, list[list[bool]]] = {}
    began, seconds = time.process_time(), 0.0
    for language, said in speech(chosen.voices):
        row = []
        for snr in SNRS:
            _, other = others[rng.integers(len(others))]
            clip = mixed(said, other, snr)
            seconds += len(clip) / RATE
            row.append(bool(detector.spans(clip)))
        caught.setdefault(language, []).append(row)
    took = time.process_time() - began
    for language, rows in caught.items():
        print(f"| {language} | " + " | ".join(f"{share:.3f}" for share in np.mean(rows, axis=0)) + " |")
    every = np.concatenate([np.array(rows) for rows in caught.values()])
    print("| all | " + " | ".join(f"{share:.3f}" for share in every.mean(axis=0)) + " |")
    print(f"\n{every.mean():.4f} of {every.size} clips with a voice")
    print(f"{took / seconds:.2%} of a core while a clip is looked at")


if __name__ == "__main__":
    main()
