"""`clapedge eval`: how well a bundle hears labelled recordings, variant by variant."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli.options import provider_option, recording_options
from clapedge.cli.progress import StepProgress

if TYPE_CHECKING:
    from clapedge_calib.evaluation import Evaluation


@click.command("eval")
@click.argument("bundle", required=False, type=click.Path())
@click.option(
    "--audio", type=click.Path(path_type=Path), help="Folder of recordings: a folder a class, or a known CSV."
)
@click.option("--manifest", type=click.Path(path_type=Path), help="CSV: file,label[,fold], ESC-50's or UrbanSound8K's.")
@click.option("--fold", "folds", multiple=True, help="Only this fold; repeats.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only these rows of the CSV; repeats.")
@click.option("--labels", "label_file", metavar="FILE", help="Label set that holds the classes. [default: their names]")
@click.option("--variant", default="all", show_default=True, metavar="LIST", help="Variants, for example fp32,int8.")
@provider_option
@recording_options
@click.option("--work", type=click.Path(path_type=Path), help="Directory that keeps embeddings: a second run resumes.")
@click.option("--confusion", type=click.Path(path_type=Path), help="Write the first variant's matrix: .csv or .png.")
@click.option("--force", is_flag=True, help="Replace the file that --confusion names.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Of what is printed.",
)
@click.pass_context
def eval_(  # noqa: PLR0913 - one parameter an option
    ctx: click.Context,
    /,
    *,
    bundle: str | None,
    audio: Path | None,
    manifest: Path | None,
    folds: Sequence[str],
    where: Sequence[str],
    label_file: str | None,
    variant: str,
    work: Path | None,
    confusion: Path | None,
    force: bool,
    output_format: str,
    **hearing: Any,  # noqa: ANN401 - click's values, checked by it
) -> None:
    """Measure accuracy over labelled recordings: top-1 and top-5, mAP, classes, confusion, with 95 % intervals.

    BUNDLE is the default bundle unless named. Several variants are held against the first, fp32 where it is one.

    \b
    Examples:
      clapedge eval bundles/clap-htsat-fused --audio ESC-50-master --work eval
      clapedge eval --manifest clips.csv --fold 4 --labels labels/home.toml --confusion confusion.png
      clapedge eval bundles/kitchen --audio recordings --variant fp32,int8 --format json

    Exit codes: 0 all recordings measured, 1 some could not be read, 2 usage, 3 bundle, 4 provider.
    """  # noqa: D301 - click reads the control character
    from clapedge_calib.compare import Comparison, chosen_variants, compare
    from clapedge_calib.dataset import read_dataset
    from clapedge_calib.figures import check_confusion, write_confusion

    check_confusion(confusion, force=force)
    examples = read_dataset(audio, manifest, folds=folds, where=[_pair(text) for text in where])
    comparison = Comparison(
        bundle=bundle,
        variants=chosen_variants(bundle, variant),
        label_file=label_file,
        work=work,
        provider=hearing.pop("provider"),
        fusion=hearing.pop("fusion"),
        options=hearing,  # type: ignore[arg-type]  # click has checked the choices
    )
    with StepProgress() as progress:
        evaluations, failures = compare(comparison, examples, progress=progress)
    _tell(failures, len(examples))
    _print(evaluations, output_format)
    if confusion is not None:
        write_confusion(evaluations[0], confusion)
    ctx.exit(1 if failures else 0)


def _tell(failures: Sequence[str], of: int) -> None:
    """Say on stderr which recordings could not be read."""
    for sentence in failures:
        click.echo(f"error: {sentence} ({len(failures)} of {of} recordings could not be read)", err=True)


def _pair(text: str) -> tuple[str, str]:
    """Split COLUMN=VALUE."""
    column, separator, value = text.partition("=")
    if not separator:
        raise click.UsageError(f"--where {text!r} is no COLUMN=VALUE")
    return column, value


def _print(evaluations: "Sequence[Evaluation]", output_format: str) -> None:
    """Print the figures on stdout."""
    import msgspec

    from clapedge_calib.figures import class_table, classes_csv, confusion_text, summary

    if output_format == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(evaluations)).decode())
    elif output_format == "csv":
        sys.stdout.write(classes_csv(evaluations))
    else:
        parts = [summary(evaluations)]
        for each in evaluations:
            parts += [class_table(each), confusion_text(each)]
        click.echo("\n\n".join(parts))
