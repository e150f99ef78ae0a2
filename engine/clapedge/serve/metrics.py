"""Metrics for Prometheus, in a registry of each service's own: two in a process do not share one."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from clapedge.scoring.result import Timing

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of durations: from the tower of a warm GPU to the timeline of an hour."""

CLIPS = (1, 2, 4, 8, 16, 32)
"""Bounds of batch sizes: up to the largest batch of a GPU."""


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        """Register them, with those of the process (memory, descriptors, CPU) where the system has them."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("clapedge_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self.latency = Histogram(
            "clapedge_request_seconds",
            "From the head of a request to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "clapedge_stage_seconds",
            "Time in a stage: queue, decode, frontend or tower.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.waiting = Gauge("clapedge_queue_waiting", "Requests that wait for a worker.", registry=self.registry)
        self.working = Gauge("clapedge_working", "Requests in a worker.", registry=self.registry)
        self.batches = Histogram(
            "clapedge_batch_clips", "Clips in one run of the audio tower.", buckets=CLIPS, registry=self.registry
        )
        self.labels = Counter(
            "clapedge_label_sets",
            "Label sets used, by whether their embeddings were cached.",
            ("cache",),
            registry=self.registry,
        )
        self.swaps = Counter(
            "clapedge_bundle_swaps", "Bundles that were served or refused.", ("outcome",), registry=self.registry
        )

    def observe_stages(self, timing: Timing) -> None:
        """Observe how long the stages of a request took."""
        for stage in ("decode", "frontend", "tower"):
            self.stages.labels(stage).observe(getattr(timing, stage) / 1e3)
