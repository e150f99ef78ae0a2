"""What teaching twenty sounds costs: time to teach and to score, and the size of the file.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python bench/bench_teach_cost.py [--size 512]

Embeddings are drawn with a fixed seed: costs depend on how many there are, not on what they hold. A hundred clips teach
twenty labels against 128 other sounds; thirty labels are scored, with all of them in words and with twenty taught.
Times are medians, with the quartiles.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from clapedge import EmbeddedLabels, LabelSet
from clapedge.arrays import Float32Array
from clapedge.labels.examples import Examples
from clapedge.scoring.similarity import Scorer
from clapedge.teaching.prototypes import teach

WORDS, TAUGHT, CLIPS, OTHERS = 10, 20, 5, 128
REPEATS = 200
LOGIT_SCALE = 20.0


def unit(rng: np.random.Generator, rows: int, size: int) -> Float32Array:
    """Return random unit rows (rows, size)."""
    drawn = rng.standard_normal((rows, size))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def timed(work: Callable[[], object]) -> str:
    """Return the median and the quartiles of the time of one run, in milliseconds."""
    work()
    spent = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - began))
    low, middle, high = np.percentile(spent, (25, 50, 75))
    return f"{middle:.3f} ms ({low:.3f} to {high:.3f})"


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="numbers of an embedding")
    size = parser.parse_args().size
    rng = np.random.default_rng(16)
    names = [f"label {number}" for number in range(WORDS + TAUGHT)]
    embedded = EmbeddedLabels(LabelSet.of(names), unit(rng, len(names), size), "")
    words = EmbeddedLabels(LabelSet.of(names[:WORDS]), embedded.embeddings[:WORDS], "")
    examples = Examples(np.empty((0, size), np.int8))
    for name in names[WORDS:]:
        clips = [f"{name}-{take}.wav" for take in range(CLIPS)]
        examples += Examples.of(unit(rng, CLIPS, size), label=name, kind="example", clips=clips)
    others = unit(rng, OTHERS, size)
    lesson = partial(teach, words, examples, others, text_tower="")
    print(f"teach {TAUGHT} labels, {TAUGHT * CLIPS} clips: {timed(lesson)}")
    taught = lesson()
    with tempfile.TemporaryDirectory() as folder:
        taught.save(Path(folder) / "taught.npz")
        print(f"file: {(Path(folder) / 'taught.npz').stat().st_size / 1000:.0f} kB")
    clip = unit(rng, 1, size)
    for name, labels in (("words", embedded), ("words and taught", taught)):
        spent = timed(partial(Scorer(labels, LOGIT_SCALE).similarities, clip))
        print(f"similarities of a clip with {len(names)} labels, {name}: {spent}")


if __name__ == "__main__":
    main()
