"""Processes that are forked with a loaded engine: they are refused it, load their own, and end."""

import os
import subprocess
import sys

import pytest

CHILDREN = 12
"""Before this was mended, nearly each of them waited for ever at its end."""

PROGRAM = f"""
import os, sys, warnings
import numpy as np
from clapedge import Engine, UsageError
warnings.simplefilter("ignore")
sound = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
engine = Engine.load(threads=2)
engine.score(sound, ["rain", "siren"])
engine.embed_text(["wind"])
for child in range({CHILDREN}):
    process = os.fork()
    if process == 0:
        for use in (lambda: engine.score(sound, ["rain", "siren"]), lambda: engine.embed_text(["wind"])):
            try:
                use()
            except UsageError as error:
                assert "loaded before this process was forked" in str(error)
            else:
                os._exit(3)
        if child == 0:
            with Engine.load(threads=1) as own:
                own.score(sound, ["rain", "siren"])
        sys.exit(0)
    _, status = os.waitpid(process, 0)
    print(status)
print(engine.score(sound, ["rain", "siren"]).top.name)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")
def test_a_forked_child_is_refused_the_engine_and_ends_and_the_parent_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    *statuses, top = done.stdout.split()
    assert statuses == ["0"] * CHILDREN, done.stderr
    assert top in {"rain", "siren"}
