"""`clapedge search`: words and sounds to the recordings that fit them best."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from clapedge.cli.options import bundle_options, load_engine
from clapedge.errors import UsageError
from clapedge.terminal import printable

if TYPE_CHECKING:
    from clapedge.batch.embedding_store import EmbeddingStore
    from clapedge.batch.run import Match
    from clapedge.batch.search import LikeMatch
    from clapedge.engine import Engine

EXAMPLES = """\b
Examples:
  clapedge search "glass breaking" --embeddings kept/ --top-k 20
  clapedge search --like pump.wav --not fan.wav --embeddings kept/
"""


@click.command(epilog=EXAMPLES)
@click.argument("words", required=False)
@click.option("--like", multiple=True, type=click.Path(), help="A sound that is wanted, with WORDS or alone; repeats.")
@click.option("--not", "unlike", multiple=True, type=click.Path(), help="A sound that is not wanted; repeats.")
@click.option("--embeddings", metavar="DIR", required=True, help="Embeddings that `clapedge embed` or `batch` kept.")
@click.option("--top-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many clips to report.")
@click.option("--template", help="Prompt with {} where the words go. [default: 'This is a sound of {}.']")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "jsonl"]),
    default="table",
    show_default=True,
    help="Form of the results on stdout.",
)
@bundle_options
def search(
    *,
    words: str | None,
    like: Sequence[str],
    unlike: Sequence[str],
    embeddings: str,
    top_k: int,
    template: str | None,
    output_format: str,
    **options: object,
) -> None:
    """Find the clips that fit WORDS best, or are like a sound, among kept embeddings; their audio is not read."""
    from clapedge.batch.embedding_store import EmbeddingStore

    if not (words and words.strip()) and not like:
        raise UsageError("there are no words to search for; describe a sound, such as 'glass breaking', or give --like")
    store = EmbeddingStore.open(embeddings)
    engine = load_engine({**options, "fusion": "long"}, threads=None)
    for match in _matches(engine, store, words, (like, unlike), template, top_k):
        same = getattr(match, "duplicate", None)
        if output_format == "jsonl":
            record = {"file": match.file, "start": match.start, "end": match.end, "similarity": match.similarity}
            click.echo(json.dumps(record | ({} if same is None else {"duplicate": same}), ensure_ascii=False))
        else:
            span = f"{match.start:.1f}-{match.end:.1f} s"
            line = f"{match.similarity:+.3f}  {span:>15}  {printable(match.file)}"
            click.echo(line + ("  (nearly the same recording)" if same else ""))


def _matches(
    engine: "Engine",
    store: "EmbeddingStore",
    words: str | None,
    sounds: tuple[Sequence[str], Sequence[str]],
    template: str | None,
    count: int,
) -> "Sequence[Match | LikeMatch]":
    """Return the clips that fit words, or words and sounds."""
    import numpy as np

    from clapedge.batch.run import search_store
    from clapedge.batch.search import search_like
    from clapedge.labels import DEFAULT_TEMPLATE, LabelSet

    like, unlike = sounds
    query = None
    if words and words.strip():
        query = engine.embed_labels(LabelSet.of([words], template=template or DEFAULT_TEMPLATE))
    if query is not None and not like and not unlike:
        return search_store(store, query, count=count)
    rows = engine.embed_audio(like)
    wanted = rows if query is None else np.concatenate([rows, query.embeddings])
    tower = engine.bundle.manifest.text_tower
    return search_like(
        store, wanted, unwanted=engine.embed_audio(unlike), sounds=range(len(rows)), text_tower=tower, count=count
    )
