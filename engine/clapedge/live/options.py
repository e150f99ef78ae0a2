"""How live sound is scored."""

import math
from dataclasses import dataclass, field

from clapedge.errors import UsageError
from clapedge.events.rules import EventRule
from clapedge.events.timeline import HOP_SECONDS, WINDOW_SECONDS
from clapedge.live.hours import Hours
from clapedge.model.tower_set import TowerChoice

SHORTEST_HOP, LONGEST_HOP = 0.5, 10.0
"""Seconds from one window to the next: windows of seconds change little in less, and more is not live."""

LOWEST_OFFSET, HIGHEST_OFFSET = 40.0, 200.0
"""dB at which full scale lies: far beyond what microphones and their amplifiers are made for, on either side."""

GRID_SECONDS = 0.01
"""Windows on multiples of a frame's hop share their log-mels, so that each is computed once."""


@dataclass(frozen=True)
class ListenOptions:
    """How live sound is scored.

    Attributes:
        window: seconds of each window, at most a clip's 10.
        hop: seconds from one window to the next, 0.5 to 10, and at most the window.
        rule: when a label counts as present.
        channel: the channel to use, counted from 0; None means the mean of all.
        gate: dBFS; a window whose loudest tenth of a second is below it is not embedded. None embeds all.
        update: seconds after which an ongoing event is reported again; 0 never does.
        stall: seconds without sound that end events.
        cooldown: seconds after an event's end in which no other one of its label is reported.
        tower: what embeds the windows, see `Engine.strips_for`.
        levels: whether sound levels are measured, of events and of minutes.
        level_offset: sound pressure level in dB at which a sine of full scale would be recorded; None leaves dBFS.
        hours: of the day; a window whose end lies outside of them is not embedded. None embeds all.
    """

    window: float = WINDOW_SECONDS
    hop: float = HOP_SECONDS
    rule: EventRule = field(default_factory=EventRule)
    channel: int | None = None
    gate: float | None = None
    update: float = 60.0
    stall: float = 10.0
    cooldown: float = 0.0
    tower: TowerChoice = "auto"
    levels: bool = False
    level_offset: float | None = None
    hours: Hours | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` if a value is impossible."""
        if not SHORTEST_HOP <= self.hop <= LONGEST_HOP:
            raise UsageError(f"hop is {self.hop:g} s; give {SHORTEST_HOP:g} to {LONGEST_HOP:g} s")
        if not self.hop <= self.window < math.inf:
            raise UsageError(
                f"a hop of {self.hop:g} s leaves gaps between windows of {self.window:g} s; make it shorter"
            )
        for name, seconds in (("window", self.window), ("hop", self.hop)):
            if not math.isclose(seconds / GRID_SECONDS, round(seconds / GRID_SECONDS), rel_tol=0, abs_tol=1e-6):
                raise UsageError(f"{name} is {seconds} s; give a multiple of {GRID_SECONDS} s")
        if self.gate is not None and not (math.isfinite(self.gate) and self.gate <= 0):
            raise UsageError(f"gate is {self.gate} dBFS; give a level below full scale, such as -50")
        if self.level_offset is not None and not (self.levels and LOWEST_OFFSET <= self.level_offset <= HIGHEST_OFFSET):
            raise UsageError(
                f"level_offset is {self.level_offset} dB; give {LOWEST_OFFSET:g} to {HIGHEST_OFFSET:g}, the sound "
                "pressure level of a sine of full scale, and only with levels=True"
            )
        for name, seconds in (("update", self.update), ("stall", self.stall), ("cooldown", self.cooldown)):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"{name} is {seconds} s; give a number of seconds")
