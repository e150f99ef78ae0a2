"""The cache directory of the user, for files that can be made again."""

import os
import sys
from pathlib import Path

CACHE_VARIABLE = "CLAPEDGE_CACHE"
"""Environment variable with the path of the cache; an empty value disables it."""


def default_directory() -> Path | None:
    """Return the cache directory: `CLAPEDGE_CACHE`, else that of the user; None if it is disabled."""
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
