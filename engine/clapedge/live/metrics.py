"""What listening has done so far, for Prometheus: read from the status of each source when it is asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from clapedge.errors import MissingExtraError, UsageError
from clapedge.live.status import Percentiles, Status

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from typing_extensions import Self

LOCALHOST = "127.0.0.1"

QUANTILES = ("0.5", "0.95", "1")
"""Of the latest 1000 windows or events, as the status has them."""

COUNTERS = {
    "sound_seconds": ("sound_s", "Seconds of sound that were read."),
    "samples_read": ("samples_read", "Samples of a channel that were read."),
    "samples_dropped": ("samples_dropped", "Samples that were dropped because processing was too slow."),
    "gaps": ("gaps", "Interruptions of the sound."),
    "stalls": ("stalls", "Times that it stopped coming."),
    "reconnects": ("reconnects", "Times that the source was opened again."),
}
"""Field and meaning of what only grows, by metric."""

WINDOWS = {"embedded": "windows", "gated": "gated", "asleep": "asleep"}
"""Field of windows by what was done with them."""

TIMES = {
    "window_seconds": ("window_ms", "What a window takes, turns at the tower included."),
    "latency_seconds": ("latency_ms", "From the arrival of a window's last sample until it was processed."),
    "event_delay_seconds": ("delay_ms", "From the beginning of an event to its first record."),
}
"""Field and meaning of times, by metric."""


class MetricsServer:
    """Answers Prometheus for as long as its block lasts."""

    def __init__(self, address: str, statuses: Callable[[], Mapping[str, Status]]) -> None:
        """Begin to answer.

        Args:
            address: `PORT` of this machine alone, or `HOST:PORT`; an IPv6 host in brackets.
            statuses: returns the status of each source by its name.

        Raises:
            MissingExtraError: the extra `metrics` is not installed.
            UsageError: the address is none, or taken.
        """
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
        except ImportError:
            raise MissingExtraError("metrics", "metrics") from None
        host, port = _address(address)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Collector(statuses))
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise UsageError(f"metrics cannot be given at {address} ({error.strerror}); name another port") from error
        self.port = int(self._server.server_port)
        """At which it answers; of port 0 the one that was free."""

    def __enter__(self) -> "Self":
        """Return the server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Collector:
    """Makes metrics of statuses."""

    def __init__(self, statuses: Callable[[], Mapping[str, Status]]) -> None:
        """Read from these."""
        self._statuses = statuses

    def collect(self) -> "Iterator[Metric]":
        """Yield a metric for each figure, with a label for the source."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

        statuses = self._statuses()
        for name, value in {**_counters(statuses), **_gauges(statuses)}.items():
            family = CounterMetricFamily if value.grows else GaugeMetricFamily
            metric = family(f"clapedge_listen_{name}", value.about, labels=["source", *value.labels])
            for labels, number in value.samples:
                metric.add_metric(labels, number)
            yield metric
        for name, (times_field, about) in TIMES.items():
            summary = Metric(f"clapedge_listen_{name}", about, "summary")
            for source, status in statuses.items():
                times: Percentiles | None = getattr(status, times_field)
                for quantile, milliseconds in zip(QUANTILES, times or (), strict=False):
                    summary.add_sample(summary.name, {"source": source, "quantile": quantile}, milliseconds / 1e3)
            yield summary

    def describe(self) -> "Iterator[Metric]":
        """Yield nothing: what there is shows when it is asked for."""
        yield from ()


@dataclass(frozen=True)
class Figures:
    """A metric of all sources.

    Attributes:
        about: what it means.
        labels: beside that of the source.
        grows: whether it only grows.
        samples: values, with their labels.
    """

    about: str
    labels: tuple[str, ...] = ()
    grows: bool = False
    samples: list[tuple[list[str], float]] = field(default_factory=list)


def _counters(statuses: Mapping[str, Status]) -> dict[str, Figures]:
    """Return what only grows, by name."""
    found = {name: Figures(about, grows=True) for name, (_, about) in COUNTERS.items()}
    found["windows"] = Figures("Windows, by outcome.", ("outcome",), grows=True)
    found["events"] = Figures("Events that ended.", ("label",), grows=True)
    found["events_held"] = Figures("Events within the cooldown of another one.", ("label",), grows=True)
    found["alarms"] = Figures("Alarms, their repetitions included.", ("rule",), grows=True)
    for source, status in statuses.items():
        for name, (field_name, _) in COUNTERS.items():
            found[name].samples.append(([source], getattr(status, field_name)))
        for outcome, field_name in WINDOWS.items():
            found["windows"].samples.append(([source, outcome], getattr(status, field_name)))
        found["events"].samples.extend(([source, label], count) for label, count in status.events.items())
        found["events_held"].samples.extend(([source, label], count) for label, count in status.held.items())
        found["alarms"].samples.extend(([source, rule], count) for rule, count in status.alarms.items())
    return found


def _gauges(statuses: Mapping[str, Status]) -> dict[str, Figures]:
    """Return what rises and falls, by name."""
    found = {
        "up": Figures("Whether the source is listened to."),
        "samples_waiting": Figures("Samples that wait to be processed."),
        "messages_waiting": Figures("Messages that wait for delivery.", ("receiver",)),
        "laeq_decibels": Figures("LAeq of the latest minute."),
        "lafmax_decibels": Figures("LAFmax of the latest minute."),
    }
    for source, status in statuses.items():
        found["up"].samples.append(([source], float(status.state == "listening")))
        found["samples_waiting"].samples.append(([source], status.samples_waiting))
        messages = status.messages_waiting.items()
        found["messages_waiting"].samples.extend(([source, name], count) for name, count in messages)
        if status.level is not None:
            found["laeq_decibels"].samples.append(([source], status.level.laeq))
            found["lafmax_decibels"].samples.append(([source], status.level.lafmax))
    return found


def _address(text: str) -> tuple[str, int]:
    """Return host and port."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - the largest port
        raise UsageError(f"metrics is {text!r}; give a port, such as 9464, or HOST:PORT")
    return host.strip("[]") or LOCALHOST, int(port)
