"""`clapedge calibrate`: recordings of a device to an INT8 variant of a bundle, with a report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli.hints import note, report_error
from clapedge_calib.eval_command import needs_extra, with_progress

if TYPE_CHECKING:
    from clapedge.model.bundle import Bundle
    from clapedge_calib.calibrate import Calibration
    from clapedge_calib.dataset import Example

REPORT_BYTES = 1_000_000
"""Bytes that a report needs at least."""

SHRINKS = 4
"""How much smaller an INT8 tower is than its fp32 one, about: a byte a weight instead of four."""

EXAMPLES = """\b
Examples:
  clapedge calibrate bundles/kitchen --audio recordings
  clapedge calibrate bundles/kitchen --background night/ --labels home --scores home.npz
  clapedge calibrate bundles/kitchen --background night/ --scores novelty.npz
  clapedge calibrate bundles/kitchen --manifest clips.csv --fold 1 --fold 2 --fold 3 --test-fold 4 --target tensorrt

\b
Exit codes: 0 installed, 1 refused (see the report; the bundle is unchanged), 2 usage, 3 bundle.
"""


@click.command(epilog=EXAMPLES)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--audio", type=click.Path(path_type=Path), help="Folder of recordings; a folder a class where they have one."
)
@click.option(
    "--manifest", type=click.Path(path_type=Path), help="CSV: file[,label[,fold]], ESC-50's or UrbanSound8K's."
)
@click.option("--fold", "folds", multiple=True, help="Calibrate with this fold only; repeats.")
@click.option(
    "--test-fold", "test_folds", multiple=True, help="Evaluate with this fold; repeats. [default: every fourth clip]"
)
@click.option("--labels", "label_file", metavar="FILE", help="Label set to score against. [default: the classes]")
@click.option(
    "--target",
    type=click.Choice(["cpu", "tensorrt", "arm"]),
    default="cpu",
    show_default=True,
    help="Where the tower will run; cpu is x86.",
)
@click.option(
    "--method",
    type=click.Choice(["minmax", "entropy", "percentile", "mse"]),
    help="How the range of an activation is chosen. [default: minmax, or percentile if one is given]",
)
@click.option("--percentile", type=float, help="Share of values that the method percentile covers. [default: 99.99]")
@click.option("--max-drop", type=float, default=1.0, show_default=True, help="Points of top-1 that may be lost.")
@click.option("--min-cosine", type=float, default=0.99, show_default=True, help="Mean cosine with fp32 to keep.")
@click.option("--samples", type=click.IntRange(min=16), default=200, show_default=True, help="Recordings at most.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw of recordings."
)
@click.option(
    "--report",
    "report_directory",
    type=click.Path(path_type=Path),
    help="Directory of the report. [default: BUNDLE-calibration]",
)
@click.option("--write-table", "table", type=click.Path(path_type=Path), help="Also write a table for TensorRT 10.")
@click.option(
    "--restore/--no-restore", default=True, show_default=True, help="Put layers back to float until the tower holds."
)
@click.option(
    "--scores",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Fit a temperature and thresholds to labelled clips instead, and write the label set with them.",
)
@click.option(
    "--background",
    type=click.Path(path_type=Path),
    help="With --scores, and --labels if there are any: recordings of a site, or the file of `listen --learn`. Labels "
    "get thresholds, and beside them comes novelty: what is unlike the site.",
)
@click.option("--false-alarms", metavar="RATE", default="1/day", help="With --background: N/day, N/hour or N/1000.")
@click.option("--force", is_flag=True, help="Replace the file that --scores or --write-table names.")
@click.option("--dry-run", is_flag=True, help="Write the report, and leave the bundle as it is.")
@click.pass_context
def calibrate(  # noqa: PLR0913 - one parameter an option
    ctx: click.Context,
    /,
    *,
    bundle: Path,
    audio: Path | None,
    manifest: Path | None,
    folds: Sequence[str],
    report_directory: Path | None,
    table: Path | None,
    dry_run: bool,
    scores: Path | None,
    background: Path | None,
    false_alarms: str,
    force: bool,
    **options: Any,  # noqa: ANN401 - click's values, checked by it
) -> None:
    """Make an INT8 audio tower for BUNDLE, calibrated with recordings of the device and evaluated with others.

    A report (JSON, Markdown, HTML) shows what it costs. Layers are put back to float until the tower meets the limits;
    if that does not help, it is not installed.
    """
    from clapedge.atomic_file import check_target
    from clapedge.model.bundle import Bundle
    from clapedge_calib.dataset import read_dataset

    if options["method"] is None:
        options["method"] = "minmax" if options["percentile"] is None else "percentile"
    elif options["percentile"] is not None and options["method"] != "percentile":
        raise click.UsageError(f"--percentile goes with --method percentile, not {options['method']}")
    options = {name: value for name, value in options.items() if value is not None}
    opened = Bundle.open(bundle)
    target = report_directory or bundle.resolve().with_name(f"{bundle.resolve().name}-calibration")
    if target_file := scores or table:
        check_target(target_file, force=force)
    _check(opened, scores, target, dry_run=dry_run)
    if background is not None:
        ctx.exit(_fit_background(opened, background, options.get("label_file"), scores, false_alarms))
    examples = read_dataset(audio, manifest, folds={*folds, *options["test_folds"]} if folds else ())
    if scores is not None:
        ctx.exit(_fit_scores(opened, examples, options, scores))
    calibration = _calibrate(opened, examples, options)
    _finish(opened, calibration, target, table, dry_run=dry_run)
    ctx.exit(0 if calibration.model is not None else 1)


def _check(bundle: "Bundle", scores: Path | None, report: Path, *, dry_run: bool) -> None:
    """Raise if the results could not be written; called before the work begins."""
    from clapedge.atomic_file import check_folder

    if scores is not None:
        if scores.suffix != ".npz":
            raise click.UsageError(f"--scores {scores} does not end in .npz, as label sets with embeddings do")
        return
    check_folder(report, bytes_needed=REPORT_BYTES)
    if not dry_run:
        check_folder(bundle.directory, bytes_needed=bundle.file("audio", "fp32").bytes // SHRINKS)


def _fit_background(
    bundle: "Bundle", background: Path, label_file: str | None, target: Path | None, false_alarms: str
) -> int:
    """Give labels thresholds by background of a site, and write them and novelty; return the exit code."""
    from clapedge.cli.teach import read_background
    from clapedge.engine import Engine
    from clapedge.events.timeline import HOP_SECONDS, WINDOW_SECONDS
    from clapedge.labels.loader import load_labels
    from clapedge.teaching.background import FalseAlarms

    if target is None:
        raise click.UsageError("--background goes with --labels, if there are any, and --scores, where they go")
    alarms = FalseAlarms.parse(false_alarms)
    with Engine.load(bundle.directory, threads=1) as engine:
        labels = engine.embed_labels(load_labels(label_file, bundle=bundle)) if label_file else None
        site = read_background(engine, [str(background)], window=WINDOW_SECONDS, hop=HOP_SECONDS)
        made = engine.teacher.calibrate(labels, site, alarms=alarms, novelty=True)
    made.save(target)
    for label in made.label_set.labels:
        click.echo(f"  {label.name}: threshold {label.threshold:.3f}")
    click.echo(f"written: {target}")
    return 0


def _fit_scores(bundle: "Bundle", examples: "Sequence[Example]", options: dict[str, Any], target: Path) -> int:
    """Fit a label set to labelled clips and write it; return the exit code."""
    from clapedge.engine import Engine
    from clapedge.labels.loader import load_labels
    from clapedge_calib.calibration_data import split
    from clapedge_calib.dataset import classes_of

    with needs_extra("calibrate --scores"):
        from clapedge_calib.scores import fit_scores

    classes, folds = classes_of(examples), options["test_folds"]
    parts = split(examples, samples=options["samples"], seed=options["seed"], test_folds=folds)
    with Engine.load(bundle.directory, threads=1) as engine:
        file = options.get("label_file")
        labels = engine.embed_labels(load_labels(file, bundle=bundle) if file else sorted(set(classes)))
        fitted = with_progress(fit_scores(engine, labels, *parts))
    for sentence in fitted.failures:
        report_error(sentence)
    fitted.labels.save(target)
    kept = "" if fitted.after < fitted.before else " (not kept: it does not help with the recordings held out)"
    click.echo(f"temperature {fitted.temperature:.3f}: ECE {fitted.before:.3f} before, {fitted.after:.3f} after{kept}")
    for label in fitted.labels.label_set.labels:
        click.echo(f"  {label.name}: {'no clips' if label.threshold is None else f'threshold {label.threshold:.3f}'}")
    click.echo(f"written: {target}")
    return 1 if fitted.failures else 0


def _calibrate(bundle: "Bundle", examples: "Sequence[Example]", options: dict[str, Any]) -> "Calibration":
    """Run the calibration."""
    with needs_extra("calibrate"):
        from clapedge_calib.calibrate import CalibrationOptions
        from clapedge_calib.calibrate import calibrate as run

    return with_progress(run(bundle, examples, CalibrationOptions(**options)))


def _finish(
    bundle: "Bundle", calibration: "Calibration", directory: Path, table: Path | None, *, dry_run: bool
) -> None:
    """Write the report, install a tower that holds, and print the figures."""
    from clapedge.model.bundle import Bundle
    from clapedge_calib.install import install, write_report, write_table

    report = calibration.report
    for sentence in report.left_out:
        note(f"left out: {sentence}")
    write_report(report, directory)
    if table is not None:
        write_table(calibration.ranges, table)
    for each in report.candidates:
        drop = "" if each.drop is None else f"  drop {each.drop:5.2f}"
        click.echo(
            f"{each.name:13} {each.bytes / 1e6:7.1f} MB  {each.latency_ms:6.1f} ms  cosine {each.cosine_mean:.5f} "
            f"(least {each.cosine_min:.5f}){drop}  {'' if each.holds else 'refused'}".rstrip()
        )
    click.echo(report.verdict)
    click.echo(f"report: {directory / 'report.html'}")
    if calibration.model is not None and not dry_run:
        entry = install(bundle, calibration.model, report)
        click.echo(f"installed as {bundle.directory / entry.path}")
        for file in Bundle.open(bundle.directory).files("short"):
            if file.variant == "int8":
                near = f"cosine to it {file.checks['mean_cosine']:.5f} (least {file.checks['min_cosine']:.5f})"
                click.echo(f"{file.path}: {file.bytes / 1e6:.1f} MB, {near}")
