"""What tests of the command line share."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clapedge.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr that says what is wrong."""
        (line,) = [line for line in self.err.splitlines() if line.lower().startswith(("error", "usage"))][:1]
        assert "Traceback" not in self.err
        return line


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return a function that runs a command line within this process."""

    def run_command(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["clapedge", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, captured.out, captured.err)

    return run_command


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Make a recording of 2 s."""
    path = tmp_path / "noise 雨.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 48_000 * 2), 48_000)
    return path
