"""Make the built-in demo model: `python demo/make_model.py --esc10 DIR --out demo/checkpoint`.

Takes about an hour on four cores. A training that was stopped goes on where its state was last saved.
"""

import argparse
import sys
from pathlib import Path

from clapedge.errors import ClapEdgeError
from clapedge_demo.making import Options, make
from clapedge_demo.training import Schedule


def main() -> int:
    """Parse the command line and make the checkpoint; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--esc10", type=Path, required=True, help="folder of ESC-10 with its clips.csv")
    parser.add_argument("--out", type=Path, default=Path("demo/checkpoint"), help="directory of the checkpoint")
    parser.add_argument("--work", type=Path, default=Path("build/demo"), help="mels and the state of the training")
    parser.add_argument("--steps", type=int, default=Schedule.steps, help="steps of the audio tower")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random")
    try:
        make(Options(**vars(parser.parse_args())))
    except ClapEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
