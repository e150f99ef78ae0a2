"""Measure a bundle: `python demo/gauge.py --bundle DIR --esc10 DIR --fold 4`.

Prints top-1 accuracy for every variant of the audio tower: recorded clips of one fold of ESC-10 (left out without
--esc10) and synthesised sounds of unseen seeds, each with the bare label, the default template and wordings that no
training caption holds; and the same sounds fused.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from clapedge import Engine
from clapedge.errors import ClapEdgeError
from clapedge.features.fusion import Fusion
from clapedge.model.bundle import Bundle, Variant
from clapedge_demo.card import write_figures
from clapedge_demo.gauging import Figures, TestSet, measure, recorded_tests, synthesised_tests

HEADINGS = ("variant", "sounds", "clips", "bare label", "template", "wordings", "fused", "fused short")


def main() -> int:
    """Parse the command line, measure, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="default: the built-in demo model")
    parser.add_argument("--esc10", type=Path, help="folder of ESC-10 with its clips.csv")
    parser.add_argument("--fold", type=int, default=4, help="of ESC-10; the demo model was trained on 1 to 3")
    parser.add_argument("--per-kind", type=int, default=8, help="synthesised sounds of every kind")
    parser.add_argument("--threads", type=int, help="threads of each tower")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--card", type=Path, help="also put the table into this model card")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the engine says of the demo model that it is one
    try:
        _gauge(options)
    except ClapEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _gauge(options: argparse.Namespace) -> None:
    """Measure every variant of a bundle and write the figures where they are wanted."""
    variants = Bundle.open(options.bundle).variants("audio")
    print("preparing the sounds ...", file=sys.stderr)
    tests = [recorded_tests(options.esc10, options.fold)] if options.esc10 else []
    tests.append(synthesised_tests(options.per_kind))
    figures = [found for variant in variants for found in _of_variant(options, variant, tests)]
    table = _table(figures)
    print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(found) for found in figures], indent=2) + "\n", encoding="utf-8")
    if options.card:
        write_figures(options.card, table, f"python demo/gauge.py --bundle DIR --esc10 DIR --fold {options.fold}")


def _of_variant(options: argparse.Namespace, variant: Variant, tests: Sequence[TestSet]) -> Iterator[Figures]:
    """Measure one variant on every set of sounds."""

    def load(fusion: Fusion) -> Engine:
        return Engine.load(options.bundle, provider="cpu", precision=variant, threads=options.threads, fusion=fusion)

    with load("long") as engine, load("always") as always:
        for test in tests:
            print(f"{variant}: {test.name} ...", file=sys.stderr)
            yield measure(engine, always, test)


def _table(figures: Sequence[Figures]) -> str:
    """Return the figures as a table in Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS)]
    for found in figures:
        shares = (found.bare, found.template, found.wordings, found.fused, found.fused_short)
        lines.append((found.variant, found.sounds, str(found.clips), *(f"{share:.3f}" for share in shares)))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
