"""`clapedge doctor`: what works on this device, and why the rest does not."""

import json
import platform
import sys
import warnings
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Literal, get_args

import click

from clapedge.errors import BundleError, ProviderError
from clapedge.terminal import printable

State = Literal["ok", "off", "bad"]

PACKAGES = ("clapedge", "numpy", "soxr", "soundfile", "tokenizers", "msgspec", "click", "av")


@dataclass(frozen=True)
class Finding:
    """One line of the report: a thing, its state (`off` is no fault), and what was found or how to mend it."""

    name: str
    state: State
    detail: str


EXAMPLES = """\b
Examples:
  clapedge doctor
  clapedge doctor --bundle bundles/clap-htsat-fused --device
  clapedge doctor --device --format json
"""


@click.command(epilog=EXAMPLES)
@click.option("--bundle", type=click.Path(), help="Bundle to check; the default is that of score.")
@click.option(
    "--device", is_flag=True, help="Measure what this device can do, and how it should listen; takes seconds."
)
@click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form."
)
@click.pass_context
def doctor(ctx: click.Context, *, bundle: str | None, device: bool, output_format: str) -> None:
    """Find out what works on this device, and why the rest does not.

    Exits with 3 if the bundle is bad, 4 if no provider opens a session.
    """
    if device:
        _show_device(bundle, as_json=output_format == "json")
        return
    bundle_findings, providers = _check_bundle(bundle), _check_providers(bundle)
    findings = [*_check_packages(), *_check_runtime(), *bundle_findings, *providers]
    if output_format == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.state:3} {finding.name:22} {finding.detail}")
    if any(finding.state == "bad" for finding in bundle_findings):
        ctx.exit(BundleError.exit_code)
    if not any(finding.state == "ok" for finding in providers):
        ctx.exit(ProviderError.exit_code)


def _show_device(bundle: str | None, *, as_json: bool) -> None:
    """Measure the device and print what it can do."""
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


def _check_packages() -> list[Finding]:
    """Report Python, the machine and the packages."""
    from clapedge.model.cpu import usable_cores

    findings = [
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("cores", "ok", f"{usable_cores()} usable"),
    ]
    for name in PACKAGES:
        try:
            findings.append(Finding(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            if name == "av":
                detail = "not installed: M4A, WebM and the like cannot be read; pip install 'clapedge[formats]'"
                findings.append(Finding(name, "off", detail))
            else:
                findings.append(Finding(name, "bad", f"not installed; pip install {name}"))
    return findings


def _check_runtime() -> list[Finding]:
    """Report which ONNX Runtime packages are installed and whether they overwrite each other."""
    from clapedge.model.providers import installed_packages

    packages = installed_packages()
    listed = ", ".join(f"{name} {version}" for name, version in packages.items()) or "built by hand, no package"
    if len(packages) > 1:
        names = " ".join(packages)
        fix = f"they overwrite each other's files; run: pip uninstall -y {names}, then install one of them"
        return [Finding("onnxruntime packages", "bad", f"{listed}: {fix}")]
    return [Finding("onnxruntime packages", "ok", listed)]


def _check_bundle(directory: str | None) -> list[Finding]:
    """Report the bundle, and each of its files that is not as the manifest says."""
    from clapedge.model.bundle import Bundle

    try:
        opened = Bundle.open(directory)
    except BundleError as error:
        return [Finding("bundle", "bad", str(error))]
    faults = opened.faults()
    if faults:
        return [Finding("bundle", "bad", fault) for fault in faults]
    manifest = opened.manifest
    variants = ", ".join(opened.variants("audio"))
    return [Finding("bundle", "ok", f"{opened.directory}: {manifest.model}, {manifest.weights} weights, {variants}")]


def _check_providers(directory: str | None) -> list[Finding]:
    """Report for each provider whether a session really opens and runs on it."""
    from clapedge.model.providers import Provider

    return [_check_provider(provider, directory) for provider in get_args(Provider)]


def _check_provider(provider: Literal["cpu", "cuda", "tensorrt", "openvino"], directory: str | None) -> Finding:
    """Open an engine on a provider and let it hear one second of silence."""
    import numpy as np

    from clapedge.engine import Engine
    from clapedge.model.providers import unavailable_reason

    name = f"provider {provider}"
    reason = unavailable_reason(provider)
    if reason:
        return Finding(name, "off", reason)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report tells of the weights, and silence is what it hears
            with Engine.load(directory, provider=provider) as engine:
                engine.embed_audio([np.zeros(48_000, np.float32)])
                return Finding(name, "ok", f"a session opens and runs ({engine.variant})")
    except (BundleError, ProviderError) as error:
        return Finding(name, "bad", str(error))
