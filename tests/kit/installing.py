"""What tests of the installer share: calls of it, what runs, and a systemctl that only writes down its calls."""

import os
import subprocess
import sys
from pathlib import Path

SYSTEMCTL = """#!/bin/sh
echo "$@" >>{place}/calls
[ "$1" != restart ] || touch {place}/restarted
case $1 in
is-active) [ ! -f {place}/restarted ] || [ ! -f {place}/broken ] || exit 3 ;;
restart) [ ! -f {place}/dead ] || exit 1 ;;
esac
"""
"""Stands for systemctl: it writes down its calls; a unit that was restarted is dead where a file `broken` lies, and is
not restarted at all where `dead` does."""


def run(kit: Path, *words: str | Path, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call the installer of a kit, with commands of a directory before all others, in a group of its own."""
    environment = {**os.environ, "CLAPEDGE_SETTLE": "0", **variables}
    environment["PATH"] = f"{path}:{Path(sys.executable).parent}:{os.environ['PATH']}" if path else os.environ["PATH"]
    command = [str(kit / "install.sh"), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, start_new_session=True)


def install(kit: Path, prefix: Path, *words: str, path: Path | None = None, **variables: str) -> str:
    """Install a kit with this Python and return what it says; fail where it does."""
    done = run(kit, "--prefix", prefix, "--python", sys.executable, *words, path=path, **variables)
    assert done.returncode == 0, done.stderr
    return done.stderr


def running(prefix: Path) -> str:
    """Return the version that an installation runs, after making sure that its bundle is whole."""
    said = subprocess.run([prefix / "bin" / "clapedge"], capture_output=True, check=True, text=True).stdout.split()
    assert (Path(said[1]) / "manifest.json").is_file()
    assert Path(said[1]).is_relative_to((prefix / "current").resolve())
    return said[0]
