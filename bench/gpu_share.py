"""Embed a share of recordings in a process of its own: PYTHONPATH=engine python bench/gpu_share.py ...

Prints `ready` when the engine is open and warm, begins at a line on standard input, and prints `done` at the end.
"""

import argparse
import sys
from pathlib import Path

from clapedge.model.bundle import Bundle
from gpu.run import Run


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("recordings", type=Path, help="directory of WAV files, embedded again and again")
    parser.add_argument("--variant", choices=("fp32", "fp16"), default="fp16")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--frontend", choices=("numpy", "device"), default="numpy")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--count", type=int, default=256)
    asked = parser.parse_args()
    paths = sorted(asked.recordings.glob("*.wav"))
    many = (paths * -(-asked.count // len(paths)))[: asked.count]
    with Run(Bundle.open(asked.bundle), asked.provider).engine(asked.variant, frontend=asked.frontend) as engine:
        list(engine.embed_many(many[: 8 * asked.workers], workers=asked.workers))
        print("ready", flush=True)
        sys.stdin.readline()
        list(engine.embed_many(many, workers=asked.workers))
        print("done", flush=True)


if __name__ == "__main__":
    main()
