"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def esc10() -> Path:
    """Return the directory of the ESC-10 recordings, which the environment variable `ESC10` names."""
    named = os.environ.get("ESC10")
    if not named:
        pytest.skip("the recordings of ESC-10 are not part of the project; name their directory: make test ESC10=DIR")
    return Path(named)


@pytest.fixture(scope="session")
def published() -> Path:
    """Return the directory of a published checkpoint without its weights, which the variable `CHECKPOINT` names."""
    named = os.environ.get("CHECKPOINT")
    if not named:
        pytest.skip(
            "a checkpoint's configuration is not part of the project; name a directory: make test CHECKPOINT=DIR"
        )
    return Path(named)
