"""`clapedge search`: words to the recordings that fit them best."""

import json

import click

from clapedge.cli.options import bundle_options, load_engine
from clapedge.errors import UsageError
from clapedge.terminal import printable

EXAMPLES = """\b
Example:
  clapedge search "glass breaking" --embeddings kept/ --top-k 20
"""


@click.command(epilog=EXAMPLES)
@click.argument("words")
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
    *, words: str, embeddings: str, top_k: int, template: str | None, output_format: str, **options: object
) -> None:
    """Find the clips that fit WORDS best among kept embeddings; no audio is read."""
    from clapedge.batch.embedding_store import EmbeddingStore
    from clapedge.batch.run import search_store
    from clapedge.labels import DEFAULT_TEMPLATE, LabelSet

    if not words.strip():
        raise UsageError("there are no words to search for; describe a sound, such as 'glass breaking'")
    store = EmbeddingStore.open(embeddings)
    label_set = LabelSet.of([words], template=template or DEFAULT_TEMPLATE)
    query = load_engine({**options, "fusion": "long"}, threads=None).embed_labels(label_set)
    for match in search_store(store, query, count=top_k):
        if output_format == "jsonl":
            record = {"file": match.file, "start": match.start, "end": match.end, "similarity": match.similarity}
            click.echo(json.dumps(record, ensure_ascii=False))
        else:
            click.echo(f"{match.similarity:+.3f}  {match.start:8.1f}-{match.end:<8.1f} s  {printable(match.file)}")
