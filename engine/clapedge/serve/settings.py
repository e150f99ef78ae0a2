"""Limits and places of a service."""

from dataclasses import dataclass
from pathlib import Path

from clapedge.model.precision import PrecisionWish
from clapedge.model.providers import ProviderWish

MEGABYTE = 10**6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and places of a service; limits are enforced while data arrives, not afterwards.

    Attributes:
        bundle: a bundle, a symlink to one, or a directory of bundles; None means the default of `Engine.load`.
        provider: where to run.
        precision: variant of the audio tower.
        threads: cores to use; None means every usable one.
        labels: label file for requests that name no labels.
        labels_dir: directory of label files, to which clients add; None keeps their sets in memory.
        max_upload: bytes of one upload.
        max_seconds: second of a recording beyond which nothing is decoded.
        queue: requests that may wait for a worker.
        keys: API keys; without any, every client is served.
        max_labels: labels of one set.
        max_prompts: prompts of one set.
        max_characters: characters of a name or a prompt.
        max_sets: named sets of clients.
        max_clips: clips of one request.
        head_seconds: time for the head of a request.
        stall_seconds: time in which a body has to grow by `stall_bytes`.
        stall_bytes: bytes that have to arrive within `stall_seconds`.
        body_seconds: time for a whole body.
        watch_seconds: time between two looks at the bundle.
        drain_seconds: time for work in progress after SIGTERM.
    """

    bundle: Path | None = None
    provider: ProviderWish = "auto"
    precision: PrecisionWish = "auto"
    threads: int | None = None
    labels: Path | None = None
    labels_dir: Path | None = None
    max_upload: int = 50 * MEGABYTE
    max_seconds: float = 3600.0
    queue: int = 64
    keys: tuple[str, ...] = ()
    max_labels: int = 200
    max_prompts: int = 1000
    max_characters: int = 500
    max_sets: int = 100
    max_clips: int = 7200
    head_seconds: float = 10.0
    stall_seconds: float = 10.0
    stall_bytes: int = 10_000
    body_seconds: float = 600.0
    watch_seconds: float = 2.0
    drain_seconds: float = 30.0
