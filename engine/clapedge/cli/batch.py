"""`clapedge batch`: whole folders of recordings to one file of results."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli.embed import embed_recordings, find_recordings, folder_options, report_failures
from clapedge.cli.hints import note, to_flags
from clapedge.cli.options import (
    RECORDING_OPTIONS,
    bundle_options,
    check_spreadsheet,
    decision_options,
    label_options,
    load_engine,
    read_decision,
    read_labels,
    recording_options,
    spreadsheet_option,
)
from clapedge.errors import UsageError
from clapedge.terminal import counted

if TYPE_CHECKING:
    from clapedge.batch.embedding_store import EmbeddingStore
    from clapedge.cli.embed import Embedded
    from clapedge.output.results import Writer
    from clapedge.scoring.result import Result

EXAMPLES = """\b
Examples:
  clapedge batch recordings/ --recursive --labels kitchen.toml -o results.csv
  clapedge batch recordings/ --recursive --labels kitchen.toml -o results.csv --resume
  clapedge batch recordings/ -l "dog barking,rain" -o results.parquet --embeddings kept/
  clapedge batch --embeddings kept/ --labels other.toml -o other.csv
  clapedge batch --embeddings kept/ --labels other.toml --per-clip -o windows.csv

\b
Exit codes: 0 all scored, 1 some recordings failed, 2 usage, 3 bundle, 4 provider, 130 interrupted.
"""


@click.command(epilog=EXAMPLES)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@label_options
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to write: NAME.csv, NAME.jsonl or NAME.parquet.",
)
@folder_options
@click.option("--embeddings", metavar="DIR", help="Keep the embeddings here, and use those that are here already.")
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted.")
@click.option("--force", is_flag=True, help="Replace the output, and begin an interrupted run again.")
@click.option("--per-clip", is_flag=True, help="Score each clip by itself (--window slide), not a recording's mean.")
@click.option("--top-k", type=click.IntRange(min=1), help="Report only the best K labels.")
@spreadsheet_option
@decision_options
@recording_options
@bundle_options
@click.pass_context
def batch(  # noqa: PLR0913 - one parameter an option is click's way
    ctx: click.Context,
    /,
    *,
    paths: Sequence[str],
    words: Sequence[str],
    label_file: str | None,
    template: str | None,
    target: Path,
    recursive: bool,
    workers: int | None,
    embeddings: str | None,
    resume: bool,
    force: bool,
    per_clip: bool,
    top_k: int | None,
    multi: bool,
    threshold: float | None,
    unsure_margin: float | None,
    **options: Any,  # noqa: ANN401 - click has checked them
) -> None:
    """Score recordings, and those in folders (PATH...), against labels into one file.

    Without a PATH, every recording of --embeddings is scored; no audio is read.
    """
    from clapedge.atomic_file import check_target
    from clapedge.batch.run import score_store
    from clapedge.output.files import FILE_WRITERS, open_output

    if not paths:
        _check_without_paths(ctx, embeddings)
    check_target(target, force=force or resume, suffixes=tuple(FILE_WRITERS))
    check_spreadsheet(options["spreadsheet"], writes_csv=target.suffix.lower() == ".csv")
    decision = read_decision(multi=multi, threshold=threshold, unsure_margin=unsure_margin)
    files = find_recordings(paths, recursive=recursive, hidden=options["hidden"]) if paths else None
    engine_of = cache(lambda: load_engine(options, threads=1))  # recordings are embedded side by side
    labels = read_labels(engine_of, words, label_file, template)
    keep = Path(embeddings) if embeddings else _partial(target, resume=resume, force=force)
    with open_output(target, top_k=top_k, decision=decision, spreadsheet=options["spreadsheet"]) as writer:
        if files is None:
            store, names, failures = _kept(keep)
        else:
            store, names, failures = embed_recordings(engine_of(), files, keep, workers=workers, options=options)
        scored, scorer = [name for name in names if name not in failures], engine_of().scorer(labels)
        results = score_store(store, scored, scorer, decision=decision, per_clip=per_clip)
        _write(writer, store, names, failures, results, per_clip=per_clip)
    if not embeddings:
        shutil.rmtree(keep)
    report_failures(failures)
    ctx.exit(1 if failures else 0)


def _kept(keep: Path) -> "Embedded":
    """Return a store with the names of all that is in it; nothing can fail."""
    from clapedge.batch.embedding_store import EmbeddingStore

    store = EmbeddingStore.open(keep)
    return store, sorted(store.by_file), {}


def _write(
    writer: "Writer",
    store: "EmbeddingStore",
    names: Sequence[str],
    failures: Mapping[str, str],
    results: Iterator["Result"],
    *,
    per_clip: bool,
) -> None:
    """Write the results, and the failures in their places; note how many carry warnings."""
    warned = 0
    for name in names:
        if name in failures:
            writer.fail(name, to_flags(failures[name]))
            continue
        warned += bool(store.by_file[name].warnings)
        for result in islice(results, len(store.by_file[name].spans) if per_clip else 1):
            writer.write(replace(result, warnings=tuple(map(to_flags, result.warnings))) if result.warnings else result)
    if warned:
        note(f"the results hold warnings of {counted(warned, 'recording')}")


def _partial(target: Path, *, resume: bool, force: bool) -> Path:
    """Return where a run keeps its embeddings until it is complete; empty it unless the run is resumed."""
    from clapedge.batch.store_files import CONFIG_NAME, is_empty

    path = target.with_name(target.name + ".partial")
    if not (path / CONFIG_NAME).exists():
        return path
    empty = is_empty(path)
    if not (empty or resume or force):
        raise UsageError(f"{path} is what an interrupted run left; go on with --resume, or begin anew with --force")
    if empty or not resume:
        shutil.rmtree(path)
    return path


def _check_without_paths(ctx: click.Context, embeddings: str | None) -> None:
    """Raise if options say how recordings are read, where none are named."""
    if not embeddings:
        raise UsageError("name recordings or folders to score, or --embeddings to score what is kept there")
    for name in ("recursive", "hidden", "workers", "where", "resume", *RECORDING_OPTIONS):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name} says how recordings are read; name some, or leave it out to score what is kept")
