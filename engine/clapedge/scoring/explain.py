"""A result in sentences: what decided it, what was heard, and what to mind."""

from clapedge.scoring.decision import DecidedScore, Decision
from clapedge.scoring.result import Result


def explain(result: Result, decision: Decision | None = None) -> tuple[str, ...]:
    """Return why a result is what it is, a sentence each.

    Args:
        result: what `Engine.score` returned.
        decision: what was given to it.
    """
    decision = decision or Decision()
    coverage = result.coverage
    share = 100 * (coverage.end - coverage.start) / coverage.duration if coverage.duration else 100.0
    return (
        *_fit(result),
        *(_multi(result, decision) if decision.multi else _together(result, decision)),
        f"heard: {coverage.start:g} to {coverage.end:g} s of {coverage.duration:g} s ({share:.0f} %)",
        *(f"mind: {sentence}" for sentence in result.warnings),
    )


def _fit(result: Result) -> list[str]:
    """Explain how well the best label fits at all, where its set was calibrated with background."""
    if result.fit is None:
        return []
    verdict = "below its threshold: it is none of these" if result.unknown else "not below its threshold"
    return [f"fit: {result.fit:.2f} for {result.top.name!r}; {verdict}"]


def _together(result: Result, decision: Decision) -> list[str]:
    """Explain a result whose labels share the probability."""
    best = result.top
    sentences = [f"similarity: {best.similarity:+.3f} between the recording and {best.name!r}"]
    if len(result.labels) == 1:
        return [*sentences, "margin: none, since no other label is shown; its probability says nothing alone"]
    second = result.labels[1]
    lead = best.similarity - second.similarity
    margin = best.probability - second.probability
    verdict = "unsure, since that is below" if result.unsure else "sure, since that is not below"
    return [
        *sentences,
        f"next: {second.similarity:+.3f} for {second.name!r}, {lead:.3f} less",
        f"margin: {margin:.1%} of probability before {second.name!r}; {verdict} {decision.margin:.1%}",
    ]


def _multi(result: Result, decision: Decision) -> list[str]:
    """Explain a result of which each label has its own threshold."""
    sentences = []
    for score in result.labels:
        if not isinstance(score, DecidedScore):
            continue
        distance = score.similarity - score.threshold
        doubt = f", unsure within {decision.margin:g}" if abs(distance) < decision.margin else ""
        side = "above" if score.present else "below"
        sentences.append(
            f"{score.name!r}: similarity {score.similarity:+.3f} is {abs(distance):.3f} {side} "
            f"its threshold {score.threshold:g}{doubt}"
        )
    return sentences
