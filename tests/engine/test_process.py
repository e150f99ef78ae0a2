"""The command as a process: how it ends."""

import os
import subprocess
import sys

import pytest

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
START = """
import atexit, sys, threading
from clapedge import cli

def main():
    atexit.register(print, "cleared up")
    threading.Thread(target=lambda: (release.wait(), print("thread done"))).start()
    release.set()
    {ending}

release = threading.Event()
cli.main = main
cli.run()
"""


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit(4)", 4), ("sys.exit(0)", 0), ("raise RuntimeError('a fault of ours')", 1)]
)
def test_a_process_ends_with_the_code_of_its_command_after_threads_and_clearing_up(ending: str, code: int) -> None:
    line = [sys.executable, "-c", START.format(ending=ending)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=BUFFERED)
    assert (done.returncode, done.stdout.splitlines()) == (code, ["thread done", "cleared up"])
    assert ("a fault of ours" in done.stderr) == (code == 1)


def test_all_that_was_written_arrives_however_long_it_is() -> None:
    code = "import sys\nfrom clapedge import cli\ncli.main = lambda: (print('x' * 300_000), sys.exit(0))\ncli.run()"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=BUFFERED)
    assert len(done.stdout.strip()) == 300_000
