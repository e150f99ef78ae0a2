"""`clapedge teach`: clips of a sound to a label, in the same label set as words."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli.hints import note
from clapedge.cli.options import bundle_options, load_engine
from clapedge.csv_table import decode_text, read_table
from clapedge.errors import LabelError, UsageError
from clapedge.terminal import counted, printable, record_name

if TYPE_CHECKING:
    from clapedge.engine import Engine
    from clapedge.labels import EmbeddedLabels
    from clapedge.teaching.windows import BackgroundWindows

EXAMPLES = """\b
Examples:
  clapedge teach "garden gate" gate1.wav gate2.wav gate3.wav --labels home -o home.npz
  clapedge teach pump pump/ --not fan.wav -o home.npz
  clapedge teach --from sounds/ -o home.npz
  clapedge teach pump --forget -o home.npz
  clapedge teach -o home.npz --background night/ --false-alarms 1/day
  clapedge score yard.wav --labels home.npz
"""


@click.command(epilog=EXAMPLES)
@click.argument("name", required=False)
@click.argument("clips", nargs=-1)
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    help="Label set, a .npz file; what it holds is added to.",
)
@click.option("--labels", "label_file", metavar="FILE|NAME", help="Label set to begin with, where the file is new.")
@click.option(
    "--not", "negatives", multiple=True, type=click.Path(), help="Clip, or folder, of what it is not; repeats."
)
@click.option(
    "--others",
    multiple=True,
    type=click.Path(),
    help="Folder of many other sounds; for a bundle without a pool of them.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Teach many: a folder of a folder a label, or a CSV of file,label.",
)
@click.option(
    "--background",
    multiple=True,
    type=click.Path(),
    help="Recording, or folder, of the site when nothing happens, or the file of `listen --learn`: gives each label a "
    "threshold; repeats.",
)
@click.option("--novelty", is_flag=True, help="With --background: add a label of what is unlike it.")
@click.option(
    "--false-alarms",
    metavar="RATE",
    default="1/day",
    show_default=True,
    help="Of each label in background: N/day, N/hour of listening, or N/1000 clips.",
)
@click.option("--window", type=float, default=2.0, show_default=True, help="Seconds of a window of the background.")
@click.option("--hop", type=float, default=1.0, show_default=True, help="Seconds from one of them to the next.")
@click.option("--forget", is_flag=True, help="Forget the label, or only the CLIPS that are named.")
@bundle_options
def teach(  # noqa: PLR0913 - one parameter an option is click's way
    *,
    name: str | None,
    clips: Sequence[str],
    target: Path,
    label_file: str | None,
    negatives: Sequence[str],
    others: Sequence[str],
    source: Path | None,
    forget: bool,
    background: Sequence[str],
    novelty: bool,
    false_alarms: str,
    window: float,
    hop: float,
    **options: Any,  # noqa: ANN401 - click has checked them
) -> None:
    """Teach the label NAME with CLIPS of it (files or folders); the embeddings of the clips are kept, not their sound.

    Three to five clips are enough for most sounds. A clip of more than 10 s is searched for the part that it has in
    common with the others.
    """
    from clapedge.teaching.background import FalseAlarms

    if target.suffix.lower() != ".npz":
        raise UsageError(f"{printable(str(target))} does not end in .npz, as label sets with embeddings do")
    alarms = FalseAlarms.parse(false_alarms)
    if novelty and not background:
        raise UsageError("--novelty goes with --background, from which it is measured")
    if (name is not None and source is not None) or not (name or source or background):
        raise UsageError("give the NAME of a sound with its CLIPS, --from with many sounds, or --background alone")
    with load_engine({**options, "fusion": "long"}, threads=None) as engine:
        known = _known(engine, target, label_file)
        if forget:
            known = _forget(engine, known, name, clips)
        elif name is not None or source is not None:
            lessons = _lessons(source) if source is not None else {str(name): _recordings(clips)}
            known = _taught(engine, known, lessons, negatives=negatives, others=others)
        if background:
            site = read_background(engine, background, window=window, hop=hop)
            known = engine.teacher.calibrate(known, site, alarms=alarms, novelty=novelty)
        if known is None:
            raise LabelError("there are no labels; teach a sound, or begin with --labels")
        known.save(target)
        _report(target, known)


def _known(engine: "Engine", target: Path, label_file: str | None) -> "EmbeddedLabels | None":
    """Return what the file holds, else the labels to begin with, else None."""
    from clapedge.labels.loader import load_labels

    if target.exists():
        if label_file:
            raise UsageError(
                f"{printable(str(target))} exists, and is added to; leave --labels out, or name another file"
            )
        return engine.embed_labels(load_labels(target))
    return engine.embed_labels(load_labels(label_file, bundle=engine.bundle)) if label_file else None


def _taught(
    engine: "Engine",
    known: "EmbeddedLabels | None",
    lessons: Mapping[str, Sequence[str]],
    *,
    negatives: Sequence[str],
    others: Sequence[str],
) -> "EmbeddedLabels | None":
    """Return the label set after lessons: the clips of each label."""
    from clapedge.teaching.teacher import Lesson

    found = _recordings(others, recursive=True)
    for label, files in lessons.items():
        known = engine.teach(Lesson(label, files, _recordings(negatives), found), known)
        found = ()
    return known


def read_background(engine: "Engine", paths: Sequence[str], *, window: float, hop: float) -> "BackgroundWindows":
    """Return windows of background: of recordings and folders of them, or those that `listen --learn` kept."""
    if [Path(path).suffix.lower() for path in paths] == [".npz"]:
        return engine.teacher.load_windows(paths[0])
    return engine.teacher.windows(_recordings(paths, recursive=True), window=window, hop=hop)


def _forget(
    engine: "Engine", known: "EmbeddedLabels | None", name: str | None, clips: Sequence[str]
) -> "EmbeddedLabels":
    """Return the label set without a taught label, or without some of its clips."""
    if known is None or name is None:
        raise LabelError("there is nothing to forget; name a label, and with -o the file that holds it")
    return engine.teacher.forget(known, name, clips=clips)


def _lessons(source: Path) -> Mapping[str, Sequence[str]]:
    """Return the clips of each label: of a folder a label, or of a CSV.

    Raises:
        LabelError: there are none, or the CSV lacks a column.
    """
    lessons: dict[str, list[str]] = {}
    if source.is_dir():
        for folder in sorted(path for path in source.iterdir() if path.is_dir() and path.name[0] != "."):
            lessons[record_name(folder.name)] = list(_recordings([str(folder)]))
    else:
        try:
            table = read_table(decode_text(source.read_bytes()))
        except (OSError, ValueError, csv.Error) as error:
            raise LabelError(f"{printable(str(source))} cannot be read ({error}); give a folder or a CSV") from error
        if not {"file", "label"} <= set(table.columns):
            raise LabelError(
                f"{printable(str(source))} has no columns file and label; name them in its first line, which has "
                f"{table.described}"
            )
        for _, row in table.rows:
            lessons.setdefault(row["label"], []).append(str(source.parent / row["file"]))
    if not lessons:
        raise LabelError(f"{printable(str(source))} holds no folders of clips; make a folder for each label")
    return lessons


def _recordings(paths: Sequence[str], *, recursive: bool = False) -> tuple[str, ...]:
    """Return the recordings that paths name, and note what was passed over."""
    from clapedge.audio.discovery import find_recordings

    found = find_recordings(paths, recursive=recursive)
    for sentence in found.notes():
        note(sentence)
    return found.files


def _report(target: Path, known: "EmbeddedLabels") -> None:
    """Print what the label set knows now, and what to mind."""
    from clapedge.teaching.advice import check_taught

    for label in known.label_set.labels:
        if label.examples:
            words = " and words" if label.prompts else ""
            click.echo(f"  {printable(label.name)}: {counted(label.examples, 'clip')}{words}")
    for advice in check_taught(known):
        note(f"{advice.found}: {advice.better}")
    count, kilobytes = counted(len(known.label_set.labels), "label"), target.stat().st_size / 1000
    click.echo(f"{printable(str(target))}: {count}, {kilobytes:.0f} kB")
