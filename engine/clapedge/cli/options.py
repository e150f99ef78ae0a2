"""Options that several commands share."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from clapedge.cli.hints import note
from clapedge.errors import LabelError, UsageError

if TYPE_CHECKING:
    from clapedge.engine import Engine
    from clapedge.labels import EmbeddedLabels
    from clapedge.scoring.decision import Decision

Command = TypeVar("Command", bound=Callable[..., object])
Decorator: TypeAlias = Callable[[Any], Any]

STANDARD_INPUT = "-"

MOST_THREADS = 256
"""More threads of an operator than any processor serves well; thousands would stall the machine."""

RECORDING_OPTIONS = (
    "start",
    "duration",
    "channel",
    "trim_silence",
    "resample",
    "window",
    "hop",
    "length",
    "seed",
    "pad",
)
"""Names of the options of `recording_options`, less --fusion: keyword arguments of `Engine.score`."""


def option_group(*options: Decorator) -> Callable[[Command], Command]:
    """Return a decorator that adds options, or groups of them, in the order in which `--help` shows them."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


provider_option = click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt", "openvino", "qnn", "tensorrt-rtx", "webgpu", "plugin"]),
    default="auto",
    show_default=True,
    help="Where to run; plugin is a library for ONNX Runtime: --provider-option library=PATH.",
)

label_options = option_group(
    click.option("-l", "--label", "words", multiple=True, help="A label, in any words; repeats, and splits at commas."),
    click.option(
        "--labels",
        "label_file",
        metavar="FILE|NAME",
        help="Label set: a file (.toml, .csv, .txt with one a line, .npz embedded), else the name of one in the "
        "bundle, else of one that comes with clapedge: city, home, industrial, wildlife.",
    ),
    click.option("--template", default=None, help="Prompt for -l labels. [default: 'This is a sound of {}.']"),
)
"""What a recording is scored against."""

bundle_options = option_group(
    click.option(
        "--bundle",
        type=click.Path(),
        help="Bundle directory, or hf:ORG/NAME. [default: $CLAPEDGE_BUNDLE, else the built-in demo model]",
    ),
    provider_option,
    click.option(
        "--provider-option", "provider_options", multiple=True, metavar="KEY=VALUE", help="ONNX Runtime option."
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "fp16", "int8"]),
        default="auto",
        show_default=True,
        help="Variant of the audio tower; auto takes the fastest present that reproduces the model here.",
    ),
    click.option(
        "--self-check/--no-self-check",
        default=True,
        show_default=True,
        help="Refuse a variant that does not reproduce the bundle's model on this machine; found out once.",
    ),
    click.option(
        "--frontend",
        type=click.Choice(["auto", "numpy", "device"]),
        default="auto",
        show_default=True,
        help="What makes log-mels: NumPy, or the GPU beside the tower; auto takes a GPU that is quick at float64.",
    ),
)
"""Which bundle runs, and where."""

engine_options = option_group(
    bundle_options,
    click.option(
        "--threads", type=click.IntRange(1, MOST_THREADS), help="Threads of an operator. [default: usable cores]"
    ),
)
"""The same, and on how many threads."""

tower_option = click.option(
    "--tower",
    type=click.Choice(["auto", "whole", "short"]),
    default="auto",
    show_default=True,
    help="What embeds windows: short towers take a quarter (windows of 2.5 s at most) or half (5 s) of the work; auto "
    "takes them for windows that divide 2.5 or 5 s.",
)

start_option = click.option("--start", type=float, default=0.0, show_default=True, help="Where to begin, in seconds.")
duration_option = click.option("--duration", type=float, help="Seconds to read at most.")

recording_options = option_group(
    start_option,
    duration_option,
    click.option("--channel", type=click.IntRange(min=0), help="Read this channel, from 0 on. [default: their mean]"),
    click.option(
        "--trim-silence",
        type=float,
        metavar="DBFS",
        help="Leave out the beginning and the end below this level, for example -60.",
    ),
    click.option(
        "--resample",
        type=click.Choice(["VHQ", "HQ", "MQ", "LQ", "QQ"]),
        default="VHQ",
        show_default=True,
        help="Quality of resampling, soxr's.",
    ),
    click.option(
        "--window",
        type=click.Choice(["first", "slide", "fuse"]),
        default="first",
        show_default=True,
        help="What of a long recording is scored: its first 10 s, all in sliding clips, or all in one fused input.",
    ),
    click.option(
        "--hop", type=float, default=10.0, show_default=True, help="Seconds from one sliding clip to the next."
    ),
    click.option("--length", type=float, help="Seconds of each sliding clip, at most 10. [default: 10]"),
    click.option("--seed", type=click.IntRange(min=0), help="Draw the crops of fuse at random, as transformers does."),
    click.option(
        "--pad",
        type=click.Choice(["repeatpad", "repeat", "zero"]),
        default="repeatpad",
        show_default=True,
        help="How a short recording fills 10 s: whole copies then zeros, copies to the end, or zeros.",
    ),
    click.option(
        "--fusion",
        type=click.Choice(["long", "always"]),
        default="long",
        show_default=True,
        help="Fuse long recordings only, or always (what transformers does to a lone short clip).",
    ),
)
"""Which part of a recording is read, and how it becomes clips: fields of `ReadOptions` and `ClipOptions`."""

decision_options = option_group(
    click.option(
        "--multi", is_flag=True, help="Compare each label with its own threshold: several may be present, or none."
    ),
    click.option(
        "--threshold",
        type=float,
        help="With --multi: similarity at which a label without its own threshold is present. [default: 0.3]",
    ),
    click.option(
        "--unsure-margin",
        type=float,
        help="Unsure below this probability between the two best [default: 0.1]; "
        "with --multi, below this similarity between a label and its threshold [default: 0.02].",
    ),
)
"""How scores become an answer."""

spreadsheet_option = click.option(
    "--spreadsheet",
    type=click.Choice(["point", "comma"]),
    help="Write CSV for Excel or its relatives, whose decimal mark this is; text that begins like a formula is quoted.",
)


def event_options(*, min_duration: float, merge_gap: float) -> Callable[[Command], Command]:
    """Return a decorator that adds when a label counts as present: fields of `EventRule`, with a command's defaults."""
    return option_group(
        click.option(
            "--on", type=float, help="Score from which an event begins. [default: 0.5, or the label's threshold]"
        ),
        click.option(
            "--off", type=float, help="Score below which it ends. [default: 0.3, or 0.05 below --on with --multi]"
        ),
        click.option(
            "--min-duration",
            type=float,
            default=min_duration,
            show_default=True,
            help="Seconds; leave out shorter events.",
        ),
        click.option(
            "--merge-gap", type=float, default=merge_gap, show_default=True, help="Seconds; join events this close."
        ),
        click.option(
            "--multi", is_flag=True, help="Compare each label with its own threshold: several may be present at once."
        ),
    )


def check_spreadsheet(spreadsheet: object, *, writes_csv: bool) -> None:
    """Raise if CSV for a spreadsheet is asked for where none is written."""
    if spreadsheet and not writes_csv:
        raise UsageError("--spreadsheet goes with CSV; choose it as the format")


def read_decision(*, multi: bool, threshold: float | None, unsure_margin: float | None) -> "Decision":
    """Return the decision that the options describe."""
    from clapedge.scoring.decision import THRESHOLD, Decision

    if threshold is not None and not multi:
        raise UsageError("--threshold goes with --multi; without it, labels share the probability")
    return Decision(multi, unsure_margin, THRESHOLD if threshold is None else threshold)


def load_engine(options: Mapping[str, object], *, threads: int | None, spinning: bool = True) -> "Engine":
    """Load the engine that the options describe."""
    from clapedge.engine import Engine

    names = ("bundle", "provider", "precision", "fusion", "self_check", "frontend")
    given: dict[str, Any] = {name: options[name] for name in names}
    pairs: Any = options["provider_options"]
    return Engine.load(**given, threads=threads, spinning=spinning, provider_options=parse_provider_options(pairs))


def parse_provider_options(pairs: Sequence[str]) -> dict[str, str]:
    """Split KEY=VALUE pairs."""
    for pair in pairs:
        if "=" not in pair:
            raise click.UsageError(f"--provider-option {pair!r} is not KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def read_labels(
    engine_of: Callable[[], "Engine"], words: Sequence[str], label_file: str | None, template: str | None
) -> "EmbeddedLabels":
    """Embed the labels that the options name; mistakes in them are reported before the engine is loaded.

    Args:
        engine_of: loads the engine, once.
        words: values of `-l`.
        label_file: value of `--labels`.
        template: value of `--template`.
    """
    from clapedge.labels import DEFAULT_TEMPLATE, LabelSet
    from clapedge.labels.loader import is_bare_name, load_labels

    if words and label_file:
        raise LabelError("both -l and --labels are given; put the words into the file, or leave the file out")
    if template and label_file:
        raise LabelError("--template goes with -l; a label file carries its own template")
    if label_file:
        labels = load_labels(label_file, bundle=engine_of().bundle if is_bare_name(label_file) else None)
    else:
        labels = LabelSet.parse(words, template=template or DEFAULT_TEMPLATE)
    return engine_of().embed_labels(labels)


def note_missing_background(labels: "EmbeddedLabels", *, multi: bool) -> None:
    """Note that labels that share the probability and are not calibrated leave no moment without an event."""
    if not multi and labels.rejection is None and not any(label.hidden for label in labels.label_set.labels):
        note("no label is hidden, so each moment is given to one; add a hidden background")
