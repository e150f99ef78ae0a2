"""Where clapedge keeps what it can make again: the user's cache directory."""

import os
import sys
from pathlib import Path

CACHE_VARIABLE = "CLAPEDGE_CACHE"
"""Environment variable that names the cache's directory; set and empty, it switches the cache off."""


def default_directory() -> Path | None:
    """Return the cache's directory: `CLAPEDGE_CACHE`, else the user's cache directory; None where it is off."""
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base, "clapedge", "cache") if base else None
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base) / "clapedge" if base else Path.home() / ".cache" / "clapedge"
    except RuntimeError:  # no home directory
        return None
