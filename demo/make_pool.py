"""Add the pool of other sounds to the demo model: `python demo/make_pool.py ESC10 [--bundle DIR]`.

Taught labels are compared with it. It holds embeddings, eight bits a number, of 64 recordings of the folds that the
tower was trained with, and of 64 synthesised sounds of seeds that nothing else uses.
"""

import argparse
import warnings
from pathlib import Path

import msgspec
import numpy as np

from clapedge import ClapEdgeWarning, Engine
from clapedge.labels.examples import Examples
from clapedge.model.bundle import Bundle, describe, write_manifest
from clapedge_demo import synth
from clapedge_demo.data import read_table

COUNT = 64
"""Of each half: with 16, taught sounds of the benchmark lose accuracy; with more, they gain none."""

POOL_SEED = 7_000_000
"""Beyond the seeds of training, validation, gauge and demo clips."""

TRAINING_FOLDS = (1, 2, 3)
NAME = "pool.npz"


def main() -> None:
    """Embed the sounds, and add the file to the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("esc10", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("engine/clapedge/demo_model"))
    arguments = parser.parse_args()
    recordings = [one.path for one in read_table(arguments.esc10) if one.fold in TRAINING_FOLDS]
    recordings = recordings[:: max(1, len(recordings) // COUNT)][:COUNT]
    kinds = (*synth.KINDS, *synth.IMITATIONS)
    rendered = (synth.render(kinds[number % len(kinds)], POOL_SEED + number) for number in range(COUNT))
    with warnings.catch_warnings(), Engine.load(arguments.bundle) as engine:
        warnings.simplefilter("ignore", ClapEdgeWarning)
        rows = np.concatenate([engine.embed_audio(recordings), engine.embed_audio(rendered)])
    names = [*(path.name for path in recordings), *(f"synthesised {number}" for number in range(COUNT))]
    np.savez(arguments.bundle / NAME, **Examples.of(rows, label="", kind="other", clips=names).arrays())
    bundle = Bundle.open(arguments.bundle)
    kept = tuple(file for file in bundle.manifest.files if file.role != "pool")
    files = (*kept, describe(arguments.bundle, NAME, role="pool"))
    write_manifest(arguments.bundle, msgspec.structs.replace(bundle.manifest, files=files))


if __name__ == "__main__":
    main()
