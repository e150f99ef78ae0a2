"""Make the demo clips again: `python demo/make_clips.py [--out engine/clapedge/demo_clips]`.

They are synthesised sounds of seeds that no training used, so small that they can be part of the package.
"""

import argparse
from pathlib import Path

import soundfile
import soxr

from clapedge_demo import synth

CLIP_SEED = 2_000_000
"""Beyond the seeds of training, validation and gauge."""
CLIPS = ("bird chirping", "church bell", "door knock", "siren", "smoke alarm", "telephone ringing")
DECOYS = ("baby crying", "clock ticking", "dog barking", "rain")
"""Further labels, so that there is something to choose from."""
SECONDS = 4.0
FILE_RATE = 32_000
"""Hz in the files: the mel bands end at 14 kHz, and the bytes are saved."""
PEAK = 0.5
"""Peak of every clip, so that all are well heard when played."""


def main() -> None:
    """Render the clips and the label file that goes with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("engine/clapedge/demo_clips"))
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for kind in CLIPS:
        samples = synth.render(kind, CLIP_SEED, seconds=SECONDS)
        samples = soxr.resample(samples * (PEAK / abs(samples).max()), synth.RATE, FILE_RATE)
        soundfile.write(folder / f"{kind.replace(' ', '-')}.flac", samples, FILE_RATE, subtype="PCM_16")
    (folder / "labels.toml").write_text(label_file(), encoding="utf-8")


def label_file() -> str:
    """Return the label set of the clips, as TOML."""
    head = '# The labels that `make demo` scores the clips against.\ntemplate = "This is a sound of {}."\n'
    return head + "".join(f'\n[[label]]\nname = "{name}"\n' for name in sorted((*CLIPS, *DECOYS)))


if __name__ == "__main__":
    main()
