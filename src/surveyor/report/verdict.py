"""Where a campaign stands, in plain sentences."""

from __future__ import annotations

from surveyor.report.contents import Contents
from surveyor.report.learning import LearningCurve

UNCHANGED = 0.02
"""Relative change below which an error is said to stay."""


def standing(contents: Contents) -> str:
    """Which criterion ended the campaign, or what it is doing."""
    record = contents.record
    if record.stopped:
        return f"Stopped: {record.stopped}"
    number = len(record.rounds)
    picks = [pick for pick in contents.picks if pick.round == number]
    if number == 0:
        return "Started: the pretrained potential is not evaluated yet"
    if not picks:
        return f"In progress: round {number}, choosing structures"
    waiting = sum(pick.outcome == "waiting" for pick in picks)
    if waiting:
        return f"In progress: round {number}, {len(picks) - waiting} of {len(picks)} labels are in"
    return f"In progress: round {number}, training on {len(contents.ledger)} paid labels"


def verdict(contents: Contents, curves: list[LearningCurve]) -> list[str]:
    """What the labels have brought, sentence by sentence."""
    rounds = contents.record.rounds
    paid = len(contents.ledger)
    if not rounds:
        return ["No round is finished yet."]
    if not curves:
        return [
            f"{_count(paid, 'label')} paid in {_count(len(rounds) - 1, 'round')}.",
            "There are no test structures, so nothing can be said about errors: "
            "name a labelled file under “test” to know.",
        ]
    if len(rounds) == 1:
        now = " and ".join(f"{c.name} MAE {c.points[-1].error:.1f} {c.unit}" for c in curves)
        return [f"Before any fine-tuning: {now}."]
    sentences = [" and ".join(change(curve) for curve in curves) + f", with {_count(paid, 'label')} paid."]
    for curve in curves:
        best = min(curve.points, key=lambda point: point.error)
        if best.round != curve.points[-1].round and best.error < (1 - UNCHANGED) * curve.points[-1].error:
            sentences.append(
                f"The {curve.name} error was lowest after round {best.round}: {best.error:.1f} {curve.unit}."
            )
        sentences += _target(curve)
    sentences[0] = sentences[0][0].upper() + sentences[0][1:]
    return sentences


def change(curve: LearningCurve) -> str:
    """How the error is now, compared with before any training."""
    before, after = curve.points[0].error, curve.points[-1].error
    ratio = after / before if before > 0 else 1.0
    verb = "stayed" if abs(ratio - 1) < UNCHANGED else "fell" if ratio < 1 else "rose"
    how_much = "" if verb == "stayed" else f" ({'−' if ratio < 1 else '+'}{abs(100 * (ratio - 1)):.0f} %)"
    return f"the {curve.name} error {verb} from {before:.1f} to {after:.1f} {curve.unit}{how_much}"


def _target(curve: LearningCurve) -> list[str]:
    if curve.target is None:
        return []
    last = curve.points[-1]
    if last.error <= curve.target:
        return [f"The target of {curve.target:g} {curve.unit} for the {curve.name} error is reached."]
    missed = f"The target of {curve.target:g} {curve.unit} for the {curve.name} error is not reached"
    needed = curve.trend.labels_for(curve.target) if curve.trend else None
    if needed is None or needed > 20 * last.labels:
        return [missed + "."]
    return [f"{missed}; the trend reaches it at about {_two_digits(needed)} labelled structures."]


def _two_digits(value: float) -> str:
    return f"{int(float(f'{value:.2g}')):,}".replace(",", " ")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
