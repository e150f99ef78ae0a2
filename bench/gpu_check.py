"""Check and time a bundle on this machine's GPU: whether it is right, how fast, and beside PyTorch; one JSON file.

Make the bundle with `clapedge export random:clap-htsat-fused -o bundles/random --precision fp32,fp16 --no-text`.
Needs no installation: PYTHONPATH=engine:export python bench/gpu_check.py --out gpu.json
Exits with 0 if every check holds, 1 if one fails, 4 without a usable GPU.
"""

import argparse
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from clapedge.errors import ClapEdgeError, ProviderError
from clapedge.model.bundle import Bundle
from clapedge.model.providers import choose, unavailable_reason
from gpu import machine
from gpu.phases import PHASES, Phase
from gpu.report import Check, Report
from gpu.run import Run
from gpu.steps import SURVIVED, Deadline, run_steps
from gpu.table import table

LEAST_SECONDS = 3.0
"""A phase that has less time than its process takes to start is not begun."""

GRACE_SECONDS = 15.0
"""How much longer than its time a phase may take to end the step that it is in, before its process is killed."""

NAMES = tuple(phase.name for phase in PHASES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    asked = parse(arguments)
    if asked.table:
        print(table(Report(asked.table).content), end="")
        return 0
    provider = asked.provider
    reason = unavailable_reason(provider)
    if reason:
        print(f"nothing was checked: provider {provider} cannot be used here: {reason}", file=sys.stderr)
        return ProviderError.exit_code
    if asked.phase:
        return run_phase(asked)
    asked.out.unlink(missing_ok=True)
    report, deadline = Report(asked.out), Deadline.after(asked.seconds)
    report.set("bundle", {"model": Bundle.open(asked.bundle).manifest.model, "seconds": asked.seconds})
    for phase in (phase for phase in PHASES if phase.name in asked.only and (provider == "cuda" or not phase.gpu)):
        report = supervise(phase, arguments_of(asked), asked.out, min(phase.share, deadline.left))
    print(f"{report.failed} of {len(report.content['checks'])} checks failed; the figures are in {asked.out}")
    return 1 if report.failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="bundles/random", help="bundle with fp32 and fp16 [default: %(default)s]")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--seconds", type=float, default=240, help="for everything [default: %(default)s]")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="PHASE", help=", ".join(NAMES))
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda", help="cpu tries the checks themselves")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the tables of a JSON file, and end")
    parser.add_argument("--phase", choices=NAMES, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if not (asked.out or asked.table):
        parser.error("name the JSON file to write: --out FILE")
    return asked


def arguments_of(asked: argparse.Namespace) -> list[str]:
    """Return the command of a phase, but for its name and its time."""
    common = ["--bundle", str(asked.bundle), "--out", str(asked.out), "--provider", asked.provider]
    return [sys.executable, __file__, *common]


def supervise(phase: Phase, command: Sequence[str], out: Path, seconds: float) -> Report:
    """Run a phase in a process of its own; one that crashes or hangs is told as a check that failed.

    Args:
        phase: what runs.
        command: a program that adds to the report, but for `--phase` and `--seconds`.
        out: the report.
        seconds: how long it may take.

    Returns:
        The report as the phase left it.
    """
    ended = ""
    if seconds < LEAST_SECONDS:
        ended = "not run: no time was left"
    else:
        try:
            asked = [*command, "--phase", phase.name, "--seconds", str(seconds)]
            done = subprocess.run(asked, check=False, timeout=seconds + GRACE_SECONDS)  # noqa: S603
        except subprocess.TimeoutExpired:
            ended = phase.late.format(seconds + GRACE_SECONDS)
        else:
            ended = "" if done.returncode in {0, 1} else f"its process ended with {done.returncode}"
    report = Report(out)
    if ended:
        tell_end(report, phase, ended)
    return report


def tell_end(report: Report, phase: Phase, reason: str) -> None:
    """Add why a phase did not come to its end: a failure only if the run needs the phase."""
    if phase.needed:
        report.check(Check(f"phase {phase.name}", holds=False, note=reason))
    else:
        report.row("phases", {"phase": phase.name, "not_run": reason})


def run_phase(asked: argparse.Namespace) -> int:
    """Run one phase in this process."""
    warnings.simplefilter("ignore")
    report = Report(asked.out)
    (phase,) = (phase for phase in PHASES if phase.name == asked.phase)
    before = report.failed
    try:
        run = Run(Bundle.open(asked.bundle), asked.provider)
        run_steps(phase.steps(run), report, Deadline.after(asked.seconds))
        if "machine" not in report.content:  # after the steps: now the libraries are loaded
            report.set("machine", machine.describe(choose(asked.provider)))
    except SURVIVED as error:
        tell_end(report, phase, f"{type(error).__name__}: {error}")
    return 1 if report.failed > before else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ClapEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
