"""Fixtures of teaching: the demo model, and what writes recordings."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from tests.teach.sounds import RATE, Recorder, Samples, render

from clapedge import ClapEdgeWarning, Engine


@pytest.fixture
def record(tmp_path: Path) -> Recorder:
    """Return what writes a recording and returns its path."""

    def write(kind: str, take: int = 0, *, samples: Samples | None = None, name: str | None = None) -> Path:
        path = tmp_path / (name or f"{kind}-{take}.wav")
        soundfile.write(path, render(kind, take) if samples is None else samples, RATE, subtype="FLOAT")
        return path

    return write


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Load the demo model."""
    with pytest.warns(ClapEdgeWarning, match="demo model"):
        loaded = Engine.load(threads=1)
    with loaded:
        yield loaded
