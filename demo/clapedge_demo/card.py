"""The model card and the attribution of the recordings that a checkpoint learned from."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from clapedge_demo.data import Recording
from clapedge_demo.wordings import RECORDED, SYNTHESISED

FIGURES_BEGIN, FIGURES_END = "<!-- figures -->", "<!-- end of figures -->"
"""Marks between which `gauge.py --card` writes what it measured."""


def write_card(directory: Path, recordings: Sequence[Recording], *, steps: int, seed: int, fold: int) -> None:
    """Write `README.md` (from `card.md`) and `ATTRIBUTION.csv` beside a checkpoint.

    Args:
        directory: the checkpoint.
        recordings: those that it was trained on.
        steps: of the audio tower.
        seed: of the training.
        fold: number of the fold held out.
    """
    with (directory / "ATTRIBUTION.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "label", "title", "author", "source", "licence"])
        writer.writerows([f"{row.path.parent.name}/{row.path.name}", row.label, *row.credit] for row in recordings)
    template = Template(Path(__file__).with_suffix(".md").read_text(encoding="utf-8"))
    text = template.substitute(
        known=len(RECORDED) + len(SYNTHESISED),
        recorded=", ".join(RECORDED),
        recorded_count=len(RECORDED),
        synthesised=", ".join(SYNTHESISED),
        synthesised_count=len(SYNTHESISED),
        begin=FIGURES_BEGIN,
        end=FIGURES_END,
        clips=len(recordings),
        steps=steps,
        seed=seed,
        fold=fold,
    )
    (directory / "README.md").write_text(text, encoding="utf-8")


def write_figures(card: Path, table: str, command: str) -> None:
    """Put a table of figures, and the command that measured them, into a model card."""
    text = card.read_text(encoding="utf-8")
    figures = f"{FIGURES_BEGIN}\nMeasured with `{command}`:\n\n{table}\n{FIGURES_END}"
    pattern = re.escape(FIGURES_BEGIN) + ".*?" + re.escape(FIGURES_END)
    card.write_text(re.sub(pattern, lambda _: figures, text, flags=re.DOTALL), encoding="utf-8")
