"""`clapedge bench`: the cost of a bundle on this device."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clapedge.cli.options import MOST_THREADS, provider_option
from clapedge.errors import BundleError

if TYPE_CHECKING:
    from clapedge.diagnostics.benchmark import Report

BAR_WIDTH = 40


@click.command()
@click.option("--bundle", type=click.Path(), help="Bundle to measure; the default is that of score.")
@provider_option
@click.option("--precision", multiple=True, help="Variant to measure; repeats. [default: all of the bundle]")
@click.option("--threads", multiple=True, type=click.IntRange(1, MOST_THREADS), help="Threads of an operator; repeats.")
@click.option("--runs", type=click.IntRange(min=5), default=50, show_default=True, help="Scores to time.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
def bench(
    *,
    bundle: str | None,
    provider: str,
    precision: Sequence[str],
    threads: Sequence[int],
    runs: int,
    as_json: bool,
) -> None:
    """Measure cold start, latency by stage, throughput and memory of a bundle on this device.

    \b
    Examples:
      clapedge bench
      clapedge bench --bundle bundles/clap-htsat-fused --threads 1 --threads 4
    """  # noqa: D301 - click reads the control character
    from clapedge.diagnostics.benchmark import Setting, measure
    from clapedge.model.bundle import Bundle

    variants = list(precision) or list(Bundle.open(bundle).variants("audio"))
    if unknown := [name for name in precision if name not in Bundle.open(bundle).variants("audio")]:
        raise BundleError(f"the bundle has no audio tower in {unknown[0]}; see: clapedge bundle info")
    reports = []
    for count in threads or (None,):
        for variant in variants:
            if sys.stderr.isatty():
                click.echo(f"measuring {variant} ...", err=True)
            setting = Setting(bundle=bundle, provider=provider, precision=variant, threads=count)
            reports.append(measure(setting, runs=runs))
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports], indent=2))
        return
    for report in reports:
        _show(report, longest=max(report.steady_ms["total"]["p50"] for report in reports))


def _show(report: "Report", *, longest: float) -> None:
    """Print a report as a table with a bar of its median latency."""
    click.echo(f"{report.model}  {report.variant} on {report.provider}, {report.threads} threads")
    cold = report.cold_ms
    parts = ", ".join(f"{name} {cold[name]:.0f}" for name in ("import", "load", "first"))
    click.echo(f"  cold       {cold['process']:8.0f} ms   whole process to the first score ({parts})")
    for stage, values in report.steady_ms.items():
        bar = "█" * round(values["p50"] / longest * BAR_WIDTH)
        click.echo(f"  {stage:10} {values['p50']:8.1f} ms   p90 {values['p90']:.1f}  p99 {values['p99']:.1f}  {bar}")
    click.echo(f"  throughput {report.files_per_second:8.1f} files/s")
    if (found := report.reproduction) is not None:
        verdict = "reproduces the model" if found.holds else "DOES NOT REPRODUCE THE MODEL HERE"
        click.echo(
            f"  self-check {found.cosine:8.6f}      {verdict}: least cosine with fp32, {found.required:g} needed"
        )
    if report.memory_mb is not None:
        click.echo(f"  memory     {report.memory_mb:8.0f} MB   peak, resident")
