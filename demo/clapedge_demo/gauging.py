"""Accuracy of an exported bundle, through the engine, as its users meet it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clapedge import Engine, audio
from clapedge.arrays import Float32Array
from clapedge_demo import captions, synth
from clapedge_demo.data import UNSEEN_SEEDS, read_table
from clapedge_demo.wordings import RECORDED, SYNTHESISED

GAUGE_SEEDS = UNSEEN_SEEDS + 1000
"""First seed of the sounds to gauge with: others than those that a training watches."""
LONG_SECONDS = 15.0
"""Length of the sounds that are fused."""


@dataclass(frozen=True)
class TestSet:
    """Sounds with their kinds, among which the engine is to choose.

    Attributes:
        name: what the table calls it.
        kinds: the labels to choose from.
        truth: the kind of each sound, as an index into `kinds`.
        short: samples at 48 kHz of each sound, about 5 s.
        long: the same, long enough to be fused.
    """

    __test__ = False

    name: str
    kinds: tuple[str, ...]
    truth: tuple[int, ...]
    short: tuple[Float32Array, ...]
    long: tuple[Float32Array, ...]


@dataclass(frozen=True)
class Figures:
    """Top-1 accuracy of one variant on one set of sounds.

    Attributes:
        variant: precision of the audio tower.
        sounds: name of the set.
        clips: number of sounds.
        bare: with the labels alone as prompts.
        template: with the labels in the default template.
        wordings: mean over wordings that training never saw.
        fused: of the long sounds, fused, with the default template.
        fused_short: of the short sounds, fused as transformers fuses a lone short clip.
    """

    variant: str
    sounds: str
    clips: int
    bare: float
    template: float
    wordings: float
    fused: float
    fused_short: float


def recorded_tests(folder: Path, fold: int) -> TestSet:
    """Return the clips of one fold of ESC-10; a long one is a clip followed by others of its class."""
    rows = [row for row in read_table(folder) if row.fold == fold]
    short = [audio.read(row.path).samples for row in rows]
    kinds = tuple(RECORDED)
    groups = {kind: [clip for clip, row in zip(short, rows, strict=True) if row.label == kind] for kind in kinds}
    long = []
    for row, clip in zip(rows, short, strict=True):
        group = groups[row.label]
        first = next(number for number, other in enumerate(group) if other is clip)
        follow = [group[(first + step) % len(group)] for step in range(len(group))]
        long.append(np.concatenate(follow)[: int(LONG_SECONDS * synth.RATE)])
    truth = tuple(kinds.index(row.label) for row in rows)
    return TestSet(f"ESC-10 fold {fold}", kinds, truth, tuple(short), tuple(long))


def synthesised_tests(count: int, *, first_seed: int = GAUGE_SEEDS) -> TestSet:
    """Return `count` synthesised sounds of every kind, short and long."""
    kinds = tuple(SYNTHESISED)
    jobs = [(kind, first_seed + number) for kind in kinds for number in range(count)]
    short = tuple(synth.render(kind, seed) for kind, seed in jobs)
    long = tuple(synth.render(kind, seed, seconds=LONG_SECONDS) for kind, seed in jobs)
    return TestSet("synthesised", kinds, tuple(kinds.index(kind) for kind, _ in jobs), short, long)


def measure(engine: Engine, always: Engine, test: TestSet) -> Figures:
    """Measure one variant: `engine` fuses only long recordings, `always` short ones, too."""
    heard = engine.embed_audio(test.short, sample_rate=synth.RATE)
    template = [captions.PLAIN[0].format(kind) for kind in test.kinds]
    wordings = [captions.held_out(kind) for kind in test.kinds]
    rounds = range(min(map(len, wordings)))
    return Figures(
        variant=engine.variant,
        sounds=test.name,
        clips=len(test.truth),
        bare=accuracy(engine, heard, test.kinds, test.truth),
        template=accuracy(engine, heard, template, test.truth),
        wordings=float(np.mean([accuracy(engine, heard, [w[n] for w in wordings], test.truth) for n in rounds])),
        fused=accuracy(
            engine, engine.embed_audio(test.long, sample_rate=synth.RATE, window="fuse"), template, test.truth
        ),
        fused_short=accuracy(always, always.embed_audio(test.short, sample_rate=synth.RATE), template, test.truth),
    )


def accuracy(engine: Engine, embeddings: Float32Array, prompts: Sequence[str], truth: Sequence[int]) -> float:
    """Return the share of sounds (N, E) that are most similar to the prompt of their own kind."""
    best = (embeddings @ engine.embed_text(prompts).T).argmax(axis=1)
    return float(np.mean(best == np.asarray(truth)))
