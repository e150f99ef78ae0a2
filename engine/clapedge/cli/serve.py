"""`clapedge serve`: the service over HTTP, and its page."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import click

from clapedge.cli import log_to_stderr
from clapedge.cli.options import MOST_THREADS, provider_option
from clapedge.errors import MissingExtraError, UsageError

UNITS: Mapping[str, int] = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}

LARGEST_UPLOAD = 8 * 2**30
"""Bytes that the engine reads of a file object at most."""

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")

EXAMPLES = """\b
Examples:
  clapedge serve --labels home
  clapedge serve --bundle bundles/clap-htsat-fused --host 0.0.0.0 --api-key-file keys.txt
  clapedge serve --host unix:/run/clapedge/clapedge.sock
  curl -F file=@kitchen.wav -F labels="kettle whistle,smoke alarm" http://127.0.0.1:7860/v1/score

\b
Exit codes: 0 ended by a signal, 2 usage, 3 bundle, 4 provider.
"""


def read_size(text: str) -> int:
    """Return a size such as 50MB in bytes.

    Raises:
        UsageError: it is not a size, or out of range.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*((?:[KMG]?B)?)\s*", text.upper())
    if not found or found[2] not in UNITS:
        raise UsageError(f"{text!r} is not a size; write it as 50MB")
    size = round(float(found[1]) * UNITS[found[2]])
    if not 1 <= size <= LARGEST_UPLOAD:
        raise UsageError(f"{text!r} is not a size of an upload; give 1 byte to {LARGEST_UPLOAD // 2**30} GiB")
    return size


@click.command(epilog=EXAMPLES)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address, or unix:PATH for a Unix socket.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes a free one.")
@click.option(
    "--bundle",
    type=click.Path(),
    help="A bundle, a symlink to one, or a directory of bundles, of which the last by name is served; "
    "a newer one replaces it when it appears. [default: $CLAPEDGE_BUNDLE, else the built-in demo model]",
)
@click.option("--labels", "label_file", metavar="FILE", help="Label set for requests that name no labels.")
@click.option("--labels-dir", type=click.Path(), help="Directory of label files, to which sets of clients are added.")
@click.option("--max-upload", default="50MB", show_default=True, help="Maximum size of an upload.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=1),
    default=3600.0,
    show_default=True,
    help="Second of a recording beyond which nothing is decoded.",
)
@click.option("--queue", type=click.IntRange(0, 10_000), default=64, show_default=True, help="Requests that may wait.")
@click.option("--api-key-file", type=click.Path(), help="File with one key per line; requests must carry one of them.")
@provider_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "fp16", "int8"]),
    default="auto",
    show_default=True,
    help="Variant of the audio tower.",
)
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), help="Cores to use. [default: usable cores]")
@click.option("--page/--no-page", default=True, show_default=True, help="Whether the page is served at /.")
def serve(  # noqa: PLR0913 - click passes each option as a parameter
    *,
    host: str,
    port: int,
    bundle: str | None,
    label_file: str | None,
    labels_dir: str | None,
    max_upload: str,
    max_seconds: float,
    queue: int,
    api_key_file: str | None,
    provider: str,
    precision: str,
    threads: int | None,
    page: bool,
) -> None:
    """Serve over HTTP: /v1/score, /v1/timeline, /v1/embed, /v1/labels, and a page at /."""
    if any(find_spec(name) is None for name in NEEDED):
        raise MissingExtraError("clapedge serve", "web")
    from clapedge.labels import find_file
    from clapedge.serve import server
    from clapedge.serve.settings import Settings

    settings = Settings(
        bundle=Path(bundle) if bundle else None,
        provider=provider,  # type: ignore[arg-type]  # click has checked the choice
        precision=precision,  # type: ignore[arg-type]
        threads=threads,
        labels=find_file(label_file) if label_file else None,
        labels_dir=Path(labels_dir) if labels_dir else None,
        max_upload=read_size(max_upload),
        max_seconds=max_seconds,
        queue=queue,
        keys=server.read_keys(Path(api_key_file)) if api_key_file else (),
    )
    log_to_stderr(times=True)
    server.run(settings, host=host, port=port, page=page)
