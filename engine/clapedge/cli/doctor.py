"""`clapedge doctor`: what works on this device, and why the rest does not."""

import json
import sys
from dataclasses import asdict, replace

import click

from clapedge.cli.hints import to_flags
from clapedge.errors import BundleError, ProviderError
from clapedge.terminal import printable

EXAMPLES = """\b
Examples:
  clapedge doctor
  clapedge doctor --bundle bundles/clap-htsat-fused --device
  clapedge doctor --device --format json
"""


@click.command(epilog=EXAMPLES)
@click.option("--bundle", type=click.Path(), help="Bundle to check; the default is that of score.")
@click.option("--device", is_flag=True, help="Measure this device and recommend options of listen; takes seconds.")
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form."
)
@click.pass_context
def doctor(ctx: click.Context, *, bundle: str | None, device: bool, output_format: str) -> None:
    """Find out what works on this device, and why the rest does not.

    Each variant is compared with the float32 embeddings that its bundle carries: another processor, another ONNX
    Runtime or a GPU may compute something else.

    Exits with 3 if the bundle, or one of its variants here, is bad, 4 if no provider opens a session.
    """
    if device:
        _show_device(bundle, as_json=output_format == "json")
        return
    from clapedge.diagnostics.doctor import diagnose

    diagnosis = diagnose(bundle)
    findings = [
        replace(finding, detail=to_flags(finding.detail))
        for finding in (*diagnosis.packages, *diagnosis.bundle, *diagnosis.providers, *diagnosis.variants)
    ]
    if output_format == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.state:3} {finding.name:22} {printable(finding.detail)}")
    if any(finding.state == "bad" for finding in diagnosis.bundle):
        ctx.exit(BundleError.exit_code)
    if not any(finding.state == "ok" for finding in diagnosis.providers):
        ctx.exit(ProviderError.exit_code)
    if any(finding.state == "bad" for finding in diagnosis.variants):
        ctx.exit(BundleError.exit_code)


def _show_device(bundle: str | None, *, as_json: bool) -> None:
    """Measure the device and print the report."""
    from clapedge.diagnostics.device import measure

    if sys.stderr.isatty():
        click.echo("measuring ...", err=True)
    report = measure(bundle)
    if as_json:
        click.echo(json.dumps(asdict(report), ensure_ascii=False, indent=2))
        return
    memory = ", ".join(
        f"{size:.0f} MB {what}"
        for what, size in (
            ("in all", report.memory_mb),
            ("free", report.memory_available_mb),
            ("used here", report.peak_mb),
        )
        if size is not None
    )
    click.echo(f"processor  {printable(report.processor)} ({report.machine})")
    governor = f", {report.governor} governor" if report.governor else ""
    click.echo(f"cores      {report.cores} usable of {report.logical_cores}{governor}")
    click.echo(f"memory     {memory or 'unknown'}")
    click.echo(f"model      {printable(report.model)}, {report.weights} weights, on {report.provider}")
    click.echo("")
    click.echo("variant  threads  one window  real-time factor at --hop 1")
    for one in report.measured:
        click.echo(f"{one.variant:7}  {one.threads:7}  {one.window_ms:7.1f} ms  {one.real_time_factor:.3f}")
    advice = report.advice
    click.echo("")
    click.echo(f"listen with  --precision {advice.variant} --threads {advice.threads} --hop {advice.hop:g}")
    if advice.keeps_up:
        click.echo(f"which works {advice.share:.1%} of the time")
    else:
        click.echo("which does not keep up: use a smaller model, or a faster device")
