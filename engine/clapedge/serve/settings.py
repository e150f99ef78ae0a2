"""What a service allows, and where it runs."""

from dataclasses import dataclass
from pathlib import Path

from clapedge.model.precision import PrecisionWish
from clapedge.model.providers import ProviderWish

MEGABYTE = 10**6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and places of a service; every limit is checked while data comes in, not after.

    Attributes:
        bundle: a bundle, a symlink to one, or a directory of bundles; None is the default of `Engine.load`.
        provider: where to run.
        precision: variant of the audio tower.
        threads: cores that work; None means every usable one.
        labels: a label file that is used where a request names none.
        labels_dir: a directory of label files, into which named sets are put; None keeps them in memory.
        max_upload: bytes of one upload.
        max_seconds: no second of a recording beyond this one is decoded.
        queue: requests that wait for a worker; more are sent away.
        keys: one of them opens the service; none leaves it open.
        max_labels: labels of one set.
        max_prompts: prompts of one set.
        max_characters: characters of a name or a prompt.
        max_sets: named sets that are kept.
        max_clips: clips of one request.
        head_seconds: within which a client sends the head of a request.
        stall_seconds: after which a body that does not grow by `stall_bytes` is given up.
        stall_bytes: what a body grows by at least in `stall_seconds`.
        body_seconds: that a body may take at any pace.
        watch_seconds: between two looks at the bundle.
        drain_seconds: that work in hand has after a request to end.
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
