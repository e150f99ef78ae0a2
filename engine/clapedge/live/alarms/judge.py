"""Which events are worth an alarm: the conditions of rules, in words, so that it can be said why there was none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from clapedge.live.alarms.rules import AlarmRule
from clapedge.live.sound_levels import Level


@dataclass(frozen=True)
class Sighting:
    """What is known of an event so far.

    Attributes:
        number: of the event in its run.
        label: its label.
        seconds: for how long it has certainly lasted.
        windows: in how many windows its score reached the threshold of an event.
        probability: the label's, in the clearest window.
        similarity: the label's there.
        level: how loud it is, where levels are measured.
        now: the time of what was heard last, in seconds since 1970.
    """

    number: int
    label: str
    seconds: float
    windows: int
    probability: float
    similarity: float
    level: Level | None
    now: float


class Condition(NamedTuple):
    """A condition of a rule.

    Attributes:
        met: whether it holds.
        text: what was found, and what is asked for.
    """

    met: bool
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a rule says of an event.

    Attributes:
        rule: its name.
        stage: of the alarm: 0 for its first notice, 1 and more for its repetitions; None without an alarm.
        why: the conditions in words: of an alarm those that held, else those that did not.
    """

    rule: str
    stage: int | None
    why: str


@dataclass
class _Case:
    """A rule and an event that goes on.

    Attributes:
        stages: notices so far.
        unmet: the conditions that did not hold when fewest did not.
    """

    stages: int = 0
    unmet: tuple[str, ...] = ()
    asked: bool = False


@dataclass
class _RuleState:
    """What a rule remembers.

    Attributes:
        last: time of its last alarm, in seconds since 1970; None without one.
        cases: by number of the event.
    """

    last: float | None = None
    cases: dict[int, _Case] = field(default_factory=dict)


class AlarmJudge:
    """Decides which events of a source are worth an alarm."""

    def __init__(self, rules: Sequence[AlarmRule], *, last: Mapping[str, float] | None = None) -> None:
        """Begin.

        Args:
            rules: each of which decides for itself.
            last: times of the last alarms of earlier runs by the rule's name, in seconds since 1970.
        """
        self.rules = tuple(rules)
        self._states = {rule.name: _RuleState((last or {}).get(rule.name)) for rule in rules}

    def look(self, sighting: Sighting) -> list[Verdict]:
        """Look at an event that goes on, or is over, and return the alarms that it is worth now."""
        found = []
        for rule in self.rules:
            if rule.concerns(sighting.label):
                verdict = self._judge(rule, self._states[rule.name], sighting)
                found += [verdict] if verdict else []
        return found

    def close(self, number: int) -> list[Verdict]:
        """Forget an event that is over, and return what each rule that concerned it said."""
        found = []
        for rule in self.rules:
            case = self._states[rule.name].cases.pop(number, None)
            if case is not None:
                stage = case.stages - 1 if case.stages else None
                found.append(Verdict(rule.name, stage, "" if case.stages else ", ".join(case.unmet)))
        return found

    def _judge(self, rule: AlarmRule, state: _RuleState, sighting: Sighting) -> Verdict | None:
        """Return the alarm that a rule gives now, if it gives one."""
        case = state.cases.setdefault(sighting.number, _Case())
        if case.stages:
            return self._escalated(rule, case, sighting)
        conditions = [*_of_event(rule, sighting), *_of_time(rule, state.last, sighting.now)]
        unmet = tuple(condition.text for condition in conditions if not condition.met)
        if unmet:
            if not case.asked or len(unmet) <= len(case.unmet):
                case.unmet, case.asked = unmet, True
            return None
        case.stages, state.last = 1, sighting.now
        return Verdict(rule.name, 0, ", ".join(condition.text for condition in conditions))

    def _escalated(self, rule: AlarmRule, case: _Case, sighting: Sighting) -> Verdict | None:
        """Return the repetition of an alarm, if the event has lasted for long enough."""
        due = sum(sighting.seconds >= seconds for seconds in rule.escalate)
        if due < case.stages or (rule.hours and not rule.hours.contain(sighting.now)):
            return None
        case.stages = due + 1
        return Verdict(rule.name, due, _at_least("it goes on for", sighting.seconds, rule.escalate[due - 1], "s").text)


def _of_event(rule: AlarmRule, sighting: Sighting) -> list[Condition]:
    """Return the conditions on an event; its duration is one if no rule asks for it too: there are always words."""
    level = sighting.level
    found = [_at_least("it lasts", sighting.seconds, rule.min_duration or None, "s")]
    if rule.min_windows > 1:
        met = sighting.windows >= rule.min_windows
        found.append(Condition(met, f"in {sighting.windows} windows (at least {rule.min_windows})"))
    if rule.min_probability is not None:
        found.append(_at_least("probability", sighting.probability, rule.min_probability, ""))
    if rule.min_similarity is not None:
        found.append(_at_least("similarity", sighting.similarity, rule.min_similarity, ""))
    if rule.min_laeq is not None:
        found.append(_at_least("LAeq", level.laeq if level else None, rule.min_laeq, "dB"))
    if rule.min_lafmax is not None:
        found.append(_at_least("LAFmax", level.lafmax if level else None, rule.min_lafmax, "dB"))
    return found


def _of_time(rule: AlarmRule, last: float | None, now: float) -> list[Condition]:
    """Return the conditions on the time, given that of the rule's last alarm; both in seconds since 1970."""
    found, local = [], datetime.fromtimestamp(now)  # noqa: DTZ006 - the zone of this machine is meant
    if rule.hours is not None:
        met = rule.hours.contain(now)
        found.append(Condition(met, f"at {local:%H:%M} ({'within' if met else 'only within'} {rule.hours})"))
    if rule.cooldown:
        elapsed = None if last is None else now - last
        held = elapsed is not None and 0 <= elapsed < rule.cooldown  # less than 0 where the clock was set back
        text = f"{elapsed:.0f} s after the last alarm" if held else "no alarm shortly before"
        found.append(Condition(not held, f"{text} (cooldown {rule.cooldown:g} s)"))
    if rule.first_of_day:
        first = last is None or _date(last) != local.date()
        found.append(Condition(first, f"{'the first' if first else 'not the first'} of {local.date()}"))
    return found


def _date(seconds: float) -> date:
    """Return the date of a time (seconds since 1970) in this machine's zone."""
    return datetime.fromtimestamp(seconds).date()  # noqa: DTZ006 - the zone of this machine is meant


def _at_least(name: str, found: float | None, least: float | None, unit: str) -> Condition:
    """Return the condition that something is at least so much; None asks for nothing. What is not known is not."""
    asked = "" if least is None else f" (at least {least:g})"
    shown = "unknown" if found is None else f"{found:.2f}" if not unit else f"{found:.1f} {unit}"
    return Condition(least is None or (found is not None and found >= least), f"{name} {shown}{asked}")
