"""The options of `clapedge listen`: of its source, of its windows, and of where events go."""

from collections.abc import Callable
from pathlib import Path

import click

from clapedge.cli.options import Command, tower_option


def _with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command, in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


source_options = _with_options(
    click.option(
        "--rate", type=int, help="Sample rate of - (required, unless it is WAV) and mic, in Hz. [default: its own]"
    ),
    click.option(
        "--format",
        "sample_format",
        help="Sample format of -: u8, s16le, s24le, s32le, f32le, … [default: s16le]",
    ),
    click.option("--channels", type=click.IntRange(1, 64), help="Number of channels of - and mic. [default: 1]"),
    click.option("--channel", type=click.IntRange(min=0), help="Use this channel, from 0 on. [default: their mean]"),
    click.option("--buffer", type=float, default=30.0, show_default=True, help="Seconds of sound that may wait."),
    click.option(
        "--overload",
        type=click.Choice(["auto", "wait", "drop"]),
        default="auto",
        show_default=True,
        help="If that is full, let the source wait or drop the oldest; auto lets recordings wait, in pipes too.",
    ),
    click.option(
        "--stall", type=float, default=10.0, show_default=True, help="Seconds without sound after which events end."
    ),
    click.option(
        "--retries", type=click.IntRange(min=0), help="Attempts in a row to reopen a lost source. [default: unlimited]"
    ),
    click.option("--began", metavar="TIME", help="Time of the first sample (ISO 8601), from which timestamps count."),
    click.option(
        "--speed", type=float, default=1.0, show_default=True, help="Of a recording; 0 is as fast as possible."
    ),
)

window_options = _with_options(
    click.option("--window", type=float, help="Seconds of each window, at most 10. [default: twice the hop]"),
    click.option("--hop", type=float, default=1.0, show_default=True, help="Seconds between windows, 0.5 to 10."),
    tower_option,
    click.option("--gate", type=float, metavar="DBFS", help="Skip windows below this level, say -50, to save power."),
    click.option(
        "--cooldown",
        type=float,
        default=0.0,
        show_default=True,
        help="Seconds after an event in which no other one of its label is reported.",
    ),
    click.option("--levels", is_flag=True, help="Measure LAeq and LAFmax, of each event and of each minute."),
    click.option(
        "--level-offset",
        type=float,
        metavar="DB",
        help="Sound pressure level of a full-scale sine, from calibration. [default: none, levels are dBFS]",
    ),
    click.option("--hours", metavar="SPANS", help="Listen at these times of the day alone: 06:00-22:00,23:30-01:00."),
    click.option(
        "--update", type=float, default=60.0, show_default=True, help="Seconds between updates of an event. 0: none."
    ),
)

_size = click.IntRange(min=4096)
sink_options = _with_options(
    click.option("--on-event", metavar="CMD", help="Run for each record, without a shell; JSON on its stdin."),
    click.option("--on-event-jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Commands at once."),
    click.option(
        "--on-event-timeout",
        type=click.FloatRange(min=0.1),
        default=30.0,
        show_default=True,
        help="Seconds after which a command is killed.",
    ),
    click.option(
        "--alarms",
        type=click.Path(path_type=Path),
        metavar="FILE.toml",
        help="Rules that say which events are worth an alarm, which is a record of its own.",
    ),
    click.option("--on-alarm", metavar="CMD", help="Run for each alarm, as --on-event for each event."),
    click.option("--only-alarms", is_flag=True, help="Send alarms alone by --mqtt and --webhook."),
    click.option(
        "--journal",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Keep what was heard minute by minute, for `clapedge listen explain`.",
    ),
    click.option("--journal-bytes", type=_size, default=2**25, show_default=True, help="Its size; the oldest goes."),
    click.option(
        "--mqtt",
        metavar="URL",
        envvar="CLAPEDGE_MQTT",
        show_envvar=True,
        help="Publish each record: mqtt://host:port/topic.",
    ),
    click.option(
        "--webhook", metavar="URL", envvar="CLAPEDGE_WEBHOOK", show_envvar=True, help="Post each record to it."
    ),
    click.option(
        "--ca",
        type=click.Path(),
        metavar="FILE",
        help="Trust these authorities (PEM) too: mqtts://, https://, rtsps://.",
    ),
    click.option(
        "--cert", type=click.Path(), metavar="FILE", help="Show this certificate, its key in the same file (PEM)."
    ),
    click.option("--spool", type=click.Path(), metavar="DIR", help="Where records wait for --mqtt and --webhook."),
    click.option(
        "--spool-bytes",
        type=_size,
        default=2**26,
        show_default=True,
        help="Its size for each of the two; the oldest go.",
    ),
    click.option(
        "--spool-age",
        type=click.FloatRange(min=1.0),
        metavar="SECONDS",
        help="Give events up that are over and waited longer. [default: never; age_s of a record says how long]",
    ),
    click.option(
        "--spool-sync/--no-spool-sync", default=True, show_default=True, help="Flush each message to the disk."
    ),
    click.option("--keep", type=click.Path(), metavar="DIR", help="Keep the sound of events as FLAC."),
    click.option("--keep-bytes", type=_size, default=2**30, show_default=True, help="Its size; the oldest clips go."),
    click.option(
        "--keep-days",
        multiple=True,
        metavar="[LABEL=]DAYS",
        help="Delete clips that are older, or those of a label (several times). [default: never]",
    ),
    click.option(
        "--voices",
        type=click.Choice(["drop", "mute", "keep"]),
        default="drop",
        show_default=True,
        help="Sound with a voice in it: drop it, mute the voice, or keep it (the first two need the extra privacy).",
    ),
    click.option(
        "--learn",
        type=click.Path(path_type=Path),
        metavar="FILE.npz",
        help="Keep the embeddings of the windows of a quiet day, for `clapedge teach --background`.",
    ),
    click.option("--status", type=click.Path(), metavar="FILE", help="Write counts to it every 10 s, as JSON."),
    click.option("--metrics", metavar="[HOST:]PORT", help="Give metrics to Prometheus there (extra metrics)."),
    click.option(
        "--home-assistant",
        metavar="URL",
        envvar="CLAPEDGE_HOME_ASSISTANT",
        show_envvar=True,
        help="Show up in Home Assistant, through its broker: mqtt://user:password@host (extra mqtt).",
    ),
    click.option(
        "--home-assistant-state",
        type=click.Path(),
        metavar="FILE",
        help="Remembers what is switched there. [default: home_assistant.json, beside --config if there is one]",
    ),
    click.option(
        "--select-labels",
        multiple=True,
        metavar="SET",
        help="A label set that can be selected there (several times). [default: the stored and the shipped ones]",
    ),
)
