"""`clapedge embed`: recordings to embeddings on disk, and what `clapedge batch` shares with it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from clapedge.cli.hints import note, report_error
from clapedge.cli.options import RECORDING_OPTIONS, bundle_options, load_engine, option_group, recording_options
from clapedge.cli.progress import StepProgress
from clapedge.errors import AudioError, UsageError
from clapedge.terminal import counted, printable

if TYPE_CHECKING:
    from clapedge.batch.embedding_store import EmbeddingStore
    from clapedge.batch.run import Progress
    from clapedge.batch.store_files import EmbeddingConfig
    from clapedge.engine import Engine

Embedded: TypeAlias = "tuple[EmbeddingStore, Sequence[str], Mapping[str, str]]"
"""A store, the names of the recordings that are wanted of it, and the errors of those that are not in it."""

EXAMPLES = """\b
Examples:
  clapedge embed recordings/ --recursive -o kept/
  clapedge search "a dog barking in the distance" --embeddings kept/
  clapedge batch --embeddings kept/ -l "dog barking,rain" -o results.csv

\b
Exit codes: 0 all embedded, 1 some recordings failed, 2 usage, 3 bundle, 4 provider, 130 interrupted.
"""


folder_options = option_group(
    click.option("--recursive", is_flag=True, help="Look through folders in folders too."),
    click.option("--hidden", is_flag=True, help="Take hidden files and folders too, such as .Trashes and ._*.wav."),
    click.option("--workers", type=click.IntRange(min=1), help="Recordings embedded at once. [default: usable cores]"),
    click.option(
        "--engine",
        "where",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Embed in this process, or with --workers actors on a Ray cluster: RAY_ADDRESS, else this machine.",
    ),
    click.option("--cpus-per-actor", type=float, help="With --engine ray. [default: 1]"),
    click.option("--gpus-per-actor", type=float, help="With --engine ray; a fraction shares one. [default: 0]"),
)
"""Which recordings are taken, and how many at once."""


@click.command(epilog=EXAMPLES)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="DIR", required=True, help="Where to keep them; what is there is added to.")
@folder_options
@recording_options
@bundle_options
@click.pass_context
def embed(
    ctx: click.Context,
    /,
    *,
    paths: Sequence[str],
    output: str,
    recursive: bool,
    hidden: bool,
    workers: int | None,
    **options: object,
) -> None:
    """Keep the embeddings of recordings, and of those in folders (PATH...).

    What is kept already is not read again; the same command goes on after an interruption.
    """
    files = find_recordings(paths, recursive=recursive, hidden=hidden)
    store, _, failures = embed_recordings(
        load_engine(options, threads=1), files, Path(output), workers=workers, options=options
    )
    report_failures(failures)
    click.echo(f"{printable(output)}: embeddings of {counted(len(store.by_file), 'recording')}")
    ctx.exit(1 if failures else 0)


def find_recordings(paths: Sequence[str], *, recursive: bool, hidden: bool) -> tuple[str, ...]:
    """Return the recordings that paths name, and note what else lies in the folders.

    Raises:
        AudioError: there are none.
    """
    from clapedge.audio.discovery import find_recordings

    found = find_recordings(paths, recursive=recursive, hidden=hidden)
    if found.skipped:
        note(f"passed over {counted(found.skipped, 'file')} without sound")
    for sentence in found.notes():
        note(sentence)
    if found.hidden:
        note("--hidden takes what is hidden")
    if not found.files:
        deeper = "" if recursive else ", or look deeper with --recursive"
        raise AudioError(f"there are no recordings in {', '.join(paths)}; name others{deeper}")
    return found.files


def embed_recordings(
    engine: "Engine", files: Sequence[str], keep: Path, *, workers: int | None, options: Mapping[str, object]
) -> Embedded:
    """Embed what a store does not hold, with progress."""
    from clapedge.audio import source_name
    from clapedge.batch.embedding_writer import appending

    config, embed_files = _embedding(engine, workers, options)
    try:
        with appending(keep, config) as store, StepProgress() as line:
            line("", 0, len(files))
            for progress in embed_files(files, store):
                line("", progress.done, len(files), known=progress.known, failed=len(progress.failures))
    except KeyboardInterrupt:
        click.echo(
            f"what was embedded is kept in {printable(str(keep))}; the same command goes on (batch: with --resume)",
            err=True,
        )
        raise
    if progress.known:
        note(f"{progress.known} of {counted(len(files), 'recording')} had been embedded before")
    return store, [source_name(file) for file in files], progress.failures


def _embedding(
    engine: "Engine", workers: int | None, options: Mapping[str, object]
) -> tuple["EmbeddingConfig", Callable[..., "Iterator[Progress]"]]:
    """Return how embeddings will be made, and what makes them: this process, or a cluster."""
    from clapedge.batch import ray as cluster
    from clapedge.batch import run as batch
    from clapedge.model.cpu import usable_cores

    given: Any = {name: options[name] for name in RECORDING_OPTIONS}
    shares: Any = {name: options[f"{name}_per_actor"] for name in ("cpus", "gpus")}
    count = workers or usable_cores()
    if options["where"] == "local":
        if any(share is not None for share in shares.values()):
            raise UsageError("--cpus-per-actor and --gpus-per-actor go with --engine ray")
        return batch.embedding_config(engine, given), partial(batch.embed_files, engine, workers=count, **given)
    wishes: Any = {name: options[name] for name in ("provider", "precision", "fusion", "self_check", "frontend")}
    bundle = str(engine.bundle.directory.resolve())
    asked = {name: share for name, share in shares.items() if share is not None}
    actors = cluster.Actors(bundle=bundle, options=given, count=count, **wishes, **asked)
    config = actors.config()
    return config, partial(cluster.embed_files, actors=actors.like(config))


def report_failures(failures: Mapping[str, str]) -> None:
    """Print why recordings cannot be used."""
    for error in failures.values():
        report_error(error)
