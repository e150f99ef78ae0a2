"""`clapedge export`: a checkpoint to a verified bundle."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from clapedge.errors import MissingExtraError

if TYPE_CHECKING:
    from clapedge.model.bundle import Bundle, Variant

EXTRA_PACKAGES = frozenset(
    {"huggingface_hub", "onnx", "onnxruntime", "onnxscript", "safetensors", "torch", "transformers"}
)
"""Packages that the extra `export` installs, by the names under which they are imported."""


@click.command()
@click.argument("model")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory of the bundle.")
@click.option(
    "--labels",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE|NAME",
    help="Label file to embed, or name of a set that comes with clapedge; repeats.",
)
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    metavar="LIST",
    help="Variants, for example fp32,fp16,int8.",
)
@click.option("--no-short", is_flag=True, help="Leave out the short audio towers, which windows of 1 to 5 s can take.")
@click.option("--no-text", is_flag=True, help="Leave the text tower out: only embedded labels can be scored then.")
@click.option(
    "--batch",
    default="dynamic",
    show_default=True,
    metavar="N|dynamic",
    help="Clips that the audio tower takes at once.",
)
@click.option("--revision", help="Branch, tag or commit of a model on the hub.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="tokenizer.json, or a directory that holds one.")
@click.option("--force", is_flag=True, help="Replace a bundle at the target.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of random weights.")
def export(  # noqa: PLR0913 - one parameter an option
    *,
    model: str,
    output: Path,
    labels: Sequence[Path],
    precision: str,
    batch: str,
    revision: str | None,
    tokenizer: Path | None,
    force: bool,
    seed: int,
    **without: bool,
) -> None:
    """Make a verified bundle of a CLAP checkpoint.

    MODEL is a hub id, a directory in the hub's layout, a .pt file of LAION, or random:clap-htsat-fused or
    random:clap-htsat-unfused (full size, random weights).

    Every variant is run against the original model first: one that differs fails the export and leaves nothing behind.

    \b
    Examples:
      clapedge export laion/clap-htsat-fused -o bundles/fused --labels home --precision fp32,fp16
      clapedge export ./clap-htsat-fused -o bundles/kitchen --labels home --no-text --batch 1
      clapedge export 630k-audioset-fusion-best.pt -o bundles/laion --tokenizer roberta-base/tokenizer.json
      clapedge export random:clap-htsat-fused -o bundles/random
    """  # noqa: D301 - click reads the control character, which a raw string would not hold
    began = time.perf_counter()
    try:
        from clapedge.cli import log_to_stderr
        from clapedge_export.export import export_bundle
        from clapedge_export.options import ExportOptions
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in EXTRA_PACKAGES:
            # a GPU package of ONNX Runtime will do, and the CPU package beside it would break both
            extra = "cpu,export" if error.name == "onnxruntime" else "export"
            raise MissingExtraError("export", extra) from error
        raise
    log_to_stderr("note: %(message)s")
    options = ExportOptions(
        labels=labels,
        precisions=cast("Sequence[Variant]", tuple(part.strip() for part in precision.split(",") if part.strip())),
        **{part: not without[f"no_{part}"] for part in ("short", "text")},
        batch=_batch(batch),
        revision=revision,
        tokenizer=tokenizer,
        seed=seed,
    )
    bundle = export_bundle(model, output, options, force=force, progress=_progress)
    _summarize(bundle, time.perf_counter() - began)


def _batch(value: str) -> int | None:
    """Read the value of --batch."""
    if value == "dynamic":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number nor dynamic", param_hint="--batch")
    return int(value)


def _progress(step: str) -> None:
    """Print the step that begins, if stderr is a terminal."""
    if sys.stderr.isatty():
        click.echo(f"{step} ...", err=True)


def _summarize(bundle: "Bundle", seconds: float) -> None:
    """Print a summary of the bundle."""
    manifest = bundle.manifest
    revision = f" at {manifest.revision}" if manifest.revision else ""
    click.echo(
        f"{bundle.directory}: {manifest.model}{revision}, {manifest.weights} weights, licence {manifest.licence}"
    )
    for file in manifest.files:
        figures = ""
        if file.variant:
            compared = " to the whole" if file.strips else ""
            figures = (
                f"  largest error {file.checks['max_abs_error']:.1e}, "
                f"least cosine{compared} {file.checks['min_cosine']:.6f}"
            )
        click.echo(f"  {file.path:26} {file.bytes / 1e6:8.1f} MB{figures}")
    for note in manifest.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"verified against transformers {manifest.made_with['transformers']}; {seconds:.0f} s in all")
