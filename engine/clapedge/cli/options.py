"""Options that several commands share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from clapedge.errors import LabelError

if TYPE_CHECKING:
    from clapedge.engine import Engine
    from clapedge.labels import EmbeddedLabels

Command = TypeVar("Command", bound=Callable[..., object])

STANDARD_INPUT = "-"


def label_options(command: Command) -> Command:
    """Add the options that name labels."""
    for option in (
        click.option("--template", default=None, help="Prompt for -l labels. [default: 'This is a sound of {}.']"),
        click.option(
            "--labels",
            "label_file",
            metavar="FILE",
            help="Label set: .toml, .csv, .txt (one a line), .npz (embedded), or the name of a set stored in the bundle.",
        ),
        click.option(
            "-l", "--label", "words", multiple=True, help="A label, in any words; repeats, and splits at commas."
        ),
    ):
        command = option(command)
    return command


def engine_options(command: Command) -> Command:
    """Add the options that say which bundle runs, and how."""
    for option in (
        click.option("--threads", type=click.IntRange(min=1), help="Threads of an operator. [default: usable cores]"),
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "fp16", "int8"]),
            default="auto",
            show_default=True,
            help="Variant of the audio tower; auto takes the fastest present for the provider.",
        ),
        click.option(
            "--provider-option", "provider_options", multiple=True, metavar="KEY=VALUE", help="ONNX Runtime option."
        ),
        click.option(
            "--provider",
            type=click.Choice(["auto", "cpu", "cuda", "tensorrt", "openvino"]),
            default="auto",
            show_default=True,
            help="Where to run.",
        ),
        click.option(
            "--bundle",
            type=click.Path(),
            help="Bundle directory. [default: $CLAPEDGE_BUNDLE, else the built-in demo model]",
        ),
    ):
        command = option(command)
    return command


def parse_provider_options(pairs: Sequence[str]) -> dict[str, str]:
    """Split KEY=VALUE pairs."""
    for pair in pairs:
        if "=" not in pair:
            raise click.UsageError(f"--provider-option {pair!r} is no KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def read_labels(
    engine_of: Callable[[], "Engine"], words: Sequence[str], label_file: str | None, template: str | None
) -> "EmbeddedLabels":
    """Find the labels that the options name, and embed them.

    What is wrong with the words is said before the engine is loaded.

    Args:
        engine_of: loads the engine.
        words: values of `-l`.
        label_file: value of `--labels`.
        template: value of `--template`.
    """
    from clapedge.labels import DEFAULT_TEMPLATE, EmbeddedLabels, LabelSet  # noqa: PLC0415 - keeps --help fast

    if words and label_file:
        raise LabelError("both -l and --labels are given; put the words into the file, or leave the file out")
    if template and label_file:
        raise LabelError("--template goes with -l; a label file carries its own template")
    if not label_file:
        label_set = LabelSet.parse(words, template=template or DEFAULT_TEMPLATE)
        return engine_of().embed_labels(label_set)
    path = Path(label_file)
    if path.suffix == ".npz" and path.exists():
        return engine_of().embed_labels(EmbeddedLabels.load(path))
    if not path.suffix and not path.exists():
        return engine_of().stored_labels(label_file)
    label_set = LabelSet.from_file(path)
    return engine_of().embed_labels(label_set)
