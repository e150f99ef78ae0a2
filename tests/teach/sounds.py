"""Sounds to teach with, a warbling whistle, a row of clicks and a buzz, each with a little noise; and the command."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

RATE = 48_000
Samples: TypeAlias = npt.NDArray[np.float32]
Recorder: TypeAlias = Callable[..., Path]


def render(kind: str, take: int, seconds: float = 3.0) -> Samples:
    """Return a sound of a kind; each take is another one."""
    rng = np.random.default_rng([take, *kind.encode()])
    now = np.arange(round(seconds * RATE)) / RATE
    if kind == "warble":
        sound = np.sin(2 * np.pi * 1800 * now + 40 * np.sin(2 * np.pi * 5.5 * now + rng.uniform(0, 6)))
    elif kind == "clicks":
        period = 0.11 * rng.uniform(0.97, 1.03)
        sound = np.sin(2 * np.pi * 3300 * now) * np.exp(-(now % period) / 0.004)
    elif kind == "buzz":
        sound = np.sign(np.sin(2 * np.pi * 130 * now)) * (np.sin(2 * np.pi * 1.5 * now + rng.uniform(0, 6)) > 0)
    else:
        sound = np.zeros_like(now)
    return np.asarray(0.3 * sound + 0.004 * rng.standard_normal(len(now)), np.float32)


def clapedge(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command of clapedge."""
    command = [sys.executable, "-m", "clapedge.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done
