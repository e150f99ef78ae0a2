"""`clapedge eval`: the accuracy of a bundle over labelled recordings, variant by variant; what `calibrate` shares."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli.hints import report_error
from clapedge.cli.options import provider_option, recording_options
from clapedge.cli.progress import StepProgress
from clapedge.errors import MissingExtraError
from clapedge_calib.progress import Result, Run, Steps

if TYPE_CHECKING:
    from clapedge_calib.evaluation import Evaluation

EXTRA_PACKAGES = frozenset({"onnx", "scipy", "sklearn"})
"""Packages that the extra `calib` installs, by the names under which they are imported."""


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
    **options: Any,  # noqa: ANN401 - click's values, checked by it
) -> None:
    """Measure accuracy over labelled recordings: top-1 and top-5, mAP, classes, confusion, with 95 % intervals.

    BUNDLE is the default bundle unless named. Variants are compared with the first, fp32 where there is one.

    \b
    Examples:
      clapedge eval bundles/clap-htsat-fused --audio ESC-50-master --work eval
      clapedge eval --manifest clips.csv --fold 4 --labels labels/home.toml --confusion confusion.png
      clapedge eval bundles/kitchen --audio recordings --variant fp32,int8 --format json

    Exit codes: 0 all recordings measured, 1 some could not be read, 2 usage, 3 bundle, 4 provider.
    """  # noqa: D301 - click reads the control character
    with needs_extra("eval"):
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
        provider=options.pop("provider"),
        fusion=options.pop("fusion"),
        options=options,  # type: ignore[arg-type]  # click has checked the choices
    )
    evaluations, failures = with_progress(compare(comparison, examples))
    _report(failures, len(examples))
    _print(evaluations, output_format)
    write_confusion(evaluations[0], confusion)
    ctx.exit(1 if failures else 0)


def with_progress(steps: Steps[Result]) -> Result:
    """Run a computation with its progress on the terminal, and return its result."""
    run = Run(steps)
    with StepProgress() as line:
        for progress in run:
            line(progress.step, progress.done, progress.total, known=progress.known)
    return run.result


@contextmanager
def needs_extra(command: str) -> Iterator[None]:
    """Name the extra if an import fails because a package of it is not installed.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in EXTRA_PACKAGES:
            raise MissingExtraError(command, "calib") from error
        raise


def _report(failures: Sequence[str], total: int) -> None:
    """Print on stderr which recordings could not be read."""
    for sentence in failures:
        report_error(f"{sentence} ({len(failures)} of {total} recordings could not be read)")


def _pair(text: str) -> tuple[str, str]:
    """Split COLUMN=VALUE."""
    column, separator, value = text.partition("=")
    if not separator:
        raise click.UsageError(f"--where {text!r} is not COLUMN=VALUE")
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
