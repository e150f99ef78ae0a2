"""Small data sets of synthesised recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16_000


def write_tone(path: Path, hertz: float, *, seconds: float = 1.0, seed: int = 0) -> Path:
    """Write a tone in noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.05, len(time))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * time) + noise, RATE)
    return path


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder with two classes of twelve tones each, one of them longer than a clip."""
    root = tmp_path_factory.mktemp("tones")
    for number in range(12):
        write_tone(root / "low_hum" / f"{number}.wav", 80 + 5 * number, seed=number)
        write_tone(root / "whistle" / f"{number}.wav", 2000 + 90 * number, seed=number, seconds=11 if not number else 1)
    return root
