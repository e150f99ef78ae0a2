"""The audio towers of an engine: the whole one, and short ones for windows of seconds, each opened when it is needed.

A short tower hears one strip of 2.5 s, or two, of what fills the four of a clip with copies, see
`clapedge.features.strips`. Its embeddings are near to the whole tower's and not the same: a space of their own, see
`clapedge.model.space`.
"""

import threading
from functools import partial
from typing import Literal, get_args

from clapedge.errors import BundleError, UsageError
from clapedge.features.fusion import Fusion
from clapedge.features.strips import Strips, fitting_strips, repeating_strips, strip_seconds
from clapedge.model.bundle import Bundle, BundleFile
from clapedge.model.opening import OpenedTowers
from clapedge.model.towers import AudioTowers

TowerChoice = Literal["auto", "whole", "short"]
"""Which tower embeds windows; `auto` takes a short one where it agrees with the whole one."""

AGREEING_COSINE = 0.99
"""Least cosine, measured by the export, of a short tower's embeddings to the whole tower's, from which `auto` takes it.

The demo model comes to 0.992, and its best of ten labels was the same for 80 of 80 windows of 2.5 s, see
docs/measured/short.md.
"""


class TowerSet:
    """The audio towers of an engine, as long as it is open. Threads may share it."""

    def __init__(self, bundle: Bundle, opened: OpenedTowers) -> None:
        """Take the whole tower.

        Args:
            bundle: holds the towers.
            opened: the whole one, and how it was opened, as short ones are.
        """
        self._bundle, self._wish = bundle, opened.wish
        self._provider_config, self._variant = opened.provider_config, opened.variant
        self._whole: AudioTowers | None = opened.towers
        self._short: dict[Strips, AudioTowers] = {}
        self._lock = threading.Lock()

    def open(self, strips: Strips | None = None) -> AudioTowers:
        """Return the towers for the whole clip, or for strips of it.

        Raises:
            BundleError: the bundle has no such tower.
            UsageError: the engine is closed, its process forked, or short towers do not run where it runs.
        """
        with self._lock:
            if self._whole is None:
                raise closed_error(self._bundle)
            whole = self._whole.checked()
            if strips is None:
                return whole
            if strips not in self._short:
                self._short[strips] = self._open(strips)
            return self._short[strips]

    def file(self, strips: Strips) -> BundleFile:
        """Return the file of a short tower.

        Raises:
            BundleError: the bundle has no such tower.
        """
        found = self._found(strips)
        if found is None:
            raise BundleError(
                f"bundle {self._bundle.directory} holds no short audio tower in {self._variant}, as one that was "
                'exported with short=False; use tower="whole", or export it again'
            )
        return found

    def space(self, strips: Strips | None = None) -> str:
        """Return the name of the embedding space of a tower."""
        return self._bundle.manifest.space(self._variant, strips)

    def digest(self, strips: Strips | None = None) -> str:
        """Return the SHA-256 that tells a tower from others, see `Manifest.tower_digest`.

        Raises:
            BundleError: the bundle has no such tower.
        """
        if strips is not None:
            self.file(strips)
        return self._bundle.manifest.tower_digest(self._variant, strips)

    def strips(self, choice: TowerChoice, seconds: float, *, fusion: Fusion, by_clips: bool) -> Strips | None:
        """Return which strips of a clip windows are embedded by, or None for the whole clip.

        Args:
            choice: `auto` takes a short tower, for a quarter or half of the work, if copies of a window fill its strips
                exactly (2.5, 1.25 or 5 s) and it comes near enough to the whole one, see `AGREEING_COSINE`; `short`
                takes it for any window of at most 5 s.
            seconds: of a window.
            fusion: see `ClipOptions`.
            by_clips: whether labels were taught or calibrated by what the whole tower gave.

        Raises:
            BundleError: `short`, and the bundle has no short tower.
            UsageError: `short`, and it cannot be.
        """
        if choice not in get_args(TowerChoice):
            raise UsageError(f"tower is {choice!r}; give {', '.join(get_args(TowerChoice))}")
        front_end = self._bundle.manifest.front_end
        able = self._provider_config.provider == "cpu" and fusion == "long" and not by_clips
        if choice == "auto":
            strips = repeating_strips(seconds, front_end)
            file = self._found(strips) if strips is not None and able else None
            return strips if file and file.checks.get("min_cosine", 0.0) >= AGREEING_COSINE else None
        if choice == "whole":
            return None
        strips = fitting_strips(seconds, front_end)
        if not able or strips is None:
            raise UsageError(
                f"a short tower runs on the CPU, for windows of at most {strip_seconds(2, front_end):g} s (this one: "
                f'{seconds:g} s), with fusion="long" and labels that were neither taught nor calibrated by the whole '
                'tower; use tower="whole"'
            )
        self.file(strips)
        return strips

    def close(self) -> None:
        """Release the sessions."""
        with self._lock:
            towers = [*self._short.values(), *([self._whole] if self._whole else [])]
            self._whole, self._short = None, {}
        for each in towers:
            each.close()

    def _found(self, strips: Strips) -> BundleFile | None:
        """Return the file of a short tower in the precision of the whole one, if there is one."""
        return next((file for file in self._bundle.files("short") if file.is_tower(self._variant, strips)), None)

    def _open(self, strips: Strips) -> AudioTowers:
        """Open a short tower as the whole one was, whose file it reads weights from and which was checked then."""
        if self._provider_config.provider != "cpu":
            raise UsageError(f"a short tower runs on the CPU, not on {self._provider_config.provider}; use strips=None")
        opening = partial(
            AudioTowers,
            provider_config=self._provider_config,
            threads=self._wish.threads,
            spinning=self._wish.spinning,
        )
        return self._bundle.opened(self.file(strips), opening)


def closed_error(bundle: Bundle) -> UsageError:
    """Return the error of using an engine after it was closed."""
    return UsageError(f"the engine of {bundle.directory} is closed; load it again: Engine.load(...)")
