"""The command line: one file a command, imported when it is called, so that `--help` loads neither NumPy nor a runtime.

Exit codes: 0 all done, 1 some inputs failed (the others' results are out), 2 usage, 3 bundle or model, 4 provider.
"""

import atexit
import contextlib
import gc
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType

import click

from clapedge import __version__
from clapedge.cli.hints import note, report_error, with_flags
from clapedge.errors import ClapEdgeError, ClapEdgeWarning, StorageError

GARBAGE_THRESHOLD = 50_000
"""New objects after which Python looks for garbage: its own 700 has imports alone searched through dozens of times, 3 %
of the processor time of a first score."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells report it."""

COMMANDS: Mapping[str, tuple[str, str]] = {
    "score": ("clapedge.cli.score:score", "Score recordings against labels."),
    "batch": ("clapedge.cli.batch:batch", "Score whole folders into a file; resumes."),
    "embed": ("clapedge.cli.embed:embed", "Keep the embeddings of recordings, to score or search them later."),
    "search": ("clapedge.cli.search:search", "Find the recordings that fit words best."),
    "timeline": ("clapedge.cli.timeline:timeline", "Find which sounds a long recording holds, and when."),
    "listen": ("clapedge.cli.listen:listen", "Listen all day, and report events as they happen."),
    "serve": ("clapedge.cli.serve:serve", "Serve over HTTP, with a page at port 7860."),
    "labels": ("clapedge.cli.labels:labels", "Prepare label sets."),
    "teach": ("clapedge.cli.teach:teach", "Teach a sound by clips of it, beside labels in words."),
    "bundle": ("clapedge.cli.bundle:bundle", "Look into a bundle and check it."),
    "export": ("clapedge_export.command:export", "Make a verified bundle from a checkpoint."),
    "calibrate": ("clapedge_calib.calibrate_command:calibrate", "Make an INT8 variant with sounds of the device."),
    "eval": ("clapedge_calib.eval_command:eval_", "Measure accuracy over labelled recordings."),
    "bench": ("clapedge.cli.bench:bench", "Measure what a bundle costs on this device."),
    "doctor": ("clapedge.cli.doctor:doctor", "Find out what works on this device, and why the rest does not."),
}
"""Name of each command: where it lives, and its line in `--help`."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name][0]} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Example: clapedge score kitchen.wav -l 'kettle whistle' -l 'smoke alarm'",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Rank any labels that you write against recordings, on the device."""


def main() -> None:
    """Run the command line: errors are one line on stderr, never a traceback."""
    warnings.showwarning = _show_warning
    _show_transfers()
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it was closed by whoever started us
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a bar that a terminal cannot show must not end the run
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")  # what JSON is, and what keeps every label in a file
    with _noting_interrupts() as interrupts:
        try:
            status = _run()
        except ImportError:
            if not interrupts:
                raise
            status = _report_interrupt()
    sys.exit(status)


def _run() -> int:
    """Run the command line and return its exit code."""
    try:
        status = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.exceptions.Exit as ended:
        status = ended.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = _report_interrupt()
    except ClapEdgeError as error:
        report_error(error)
        status = error.exit_code
    except OSError as error:
        place = error.filename or "standard output"
        report_error(f"{place} cannot be used ({error.strerror or error}); make room, or name another")
        drop_output()
        status = StorageError.exit_code
    return status if isinstance(status, int) else 0


@contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """Yield a list that holds something after Ctrl-C: amid an import of compiled code it comes out as ImportError."""
    seen: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # who ignores it goes on ignoring it
        signal.signal(signal.SIGINT, remember)
    try:
        yield seen
    finally:
        if signal.getsignal(signal.SIGINT) is remember:
            signal.signal(signal.SIGINT, before)


def _report_interrupt() -> int:
    """Report that Ctrl-C ended the command, and return its exit code."""
    click.echo("interrupted", err=True)
    return INTERRUPTED


def run() -> None:
    """Run a command as this process, and leave without tearing everything down, which takes a tenth of a short one."""
    status = 1

    def leave() -> None:
        with contextlib.suppress(OSError, ValueError):  # closed by whoever reads us
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

    gc.set_threshold(GARBAGE_THRESHOLD)
    atexit.register(leave)  # first, so that it is called last, when threads have ended and all else is cleaned up
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
        raise


class _StderrHandler(logging.Handler):
    """Prints log records on stderr, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        with contextlib.suppress(OSError, ValueError):  # closed by whoever reads it: listening goes on
            click.echo(with_flags(self.format(record)), err=True)


def log_to_stderr(line: str = "%(message)s", *, times: bool = False) -> None:
    """Print what the library logs, from level INFO on, on stderr.

    Args:
        line: the form of a line, as `logging.Formatter` takes it.
        times: whether lines have a time and a level instead, other libraries' warnings included.
    """
    logger = logging.getLogger("clapedge")
    logger.setLevel(logging.INFO)
    if times:
        line = "%(asctime)s %(levelname)s %(message)s"
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=line)
        return
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter(line))
    logger.handlers = [handler]


def _show_transfers() -> None:
    """Print on stderr what is downloaded, whichever command asks for it: it may take minutes."""
    logger = logging.getLogger("clapedge.model.transfer")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [_StderrHandler()]


def drop_output() -> None:
    """Discard what could not be written to standard output, which Python would try again at its end."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.close(descriptor)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Print clapedge's own warnings as notes; those of libraries are for their developers."""
    if issubclass(category, ClapEdgeWarning):
        note(str(message))
