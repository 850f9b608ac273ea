"""What one has when a campaign has ended: the potential, what was reached of what was asked, what to mind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from surveyor.campaign.own_potentials import potential_path
from surveyor.campaign.records import round_folder
from surveyor.report.contents import Contents
from surveyor.report.learning import LearningCurve, learning_curves
from surveyor.report.verdict import UNCHANGED, change

MORE_LABELS = 100
"""Labels that the forecast looks ahead."""

FORGOTTEN = 1.5
"""× the force error on the generic sample before: from there on the potential is no longer a general one."""


@dataclass(frozen=True)
class Asked:
    """A limit of the campaign file, and how far the campaign came.

    | field   | meaning                                                        |
    |---------|----------------------------------------------------------------|
    | what    | energy MAE, force MAE or labels                                |
    | value   | at the end, in `unit`                                          |
    | asked   | the limit                                                      |
    | reached | whether the value is as good                                   |
    """

    what: str
    value: float
    asked: float
    unit: str
    reached: bool

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        value = f"{self.value:.1f}" if self.unit else f"{self.value:g}"
        return f"{self.what} {value}{unit}, asked {self.asked:g}: {'reached' if self.reached else 'missed'}"


@dataclass(frozen=True)
class Ending:
    """What one has.

    | field        | meaning                                                                   |
    |--------------|---------------------------------------------------------------------------|
    | potential    | file of the last round's potential; None before any training              |
    | training_set | what it was trained on                                                    |
    | asked        | targets of the campaign file                                              |
    | warnings     | in words                                                                  |
    | forecast     | name of an error → by its trend, after `MORE_LABELS` more labels; its unit |
    """

    potential: Path | None
    training_set: Path | None
    asked: tuple[Asked, ...]
    warnings: tuple[str, ...]
    forecast: dict[str, tuple[float, str]]

    @property
    def snippet(self) -> list[str]:
        """Three lines that use the potential in ASE."""
        return [
            "import surveyor",
            f"atoms.calc = surveyor.open_potential({str(self.potential)!r}).calculator()",
            "print(atoms.get_potential_energy(), atoms.get_forces())",
        ]

    def as_dict(self) -> dict[str, object]:
        """For programs: paths as text, errors in the units of `asked`."""
        forecast = {name: error for name, (error, _) in self.forecast.items()}
        return {
            "potential": None if self.potential is None else str(self.potential),
            "training_set": None if self.training_set is None else str(self.training_set),
            "asked": [asdict(asked) for asked in self.asked],
            "warnings": list(self.warnings),
            "forecast": {"more_labels": MORE_LABELS, **forecast} if forecast else None,
        }


def ending(contents: Contents) -> Ending:
    """Read from the folder's records; a campaign that goes on has an ending so far."""
    last = len(contents.record.rounds) - 1
    folder = round_folder(contents.folder, last) if last > 0 else None
    curves = learning_curves(contents)
    return Ending(
        None if folder is None else potential_path(folder),
        None if folder is None else folder / "train.extxyz",
        tuple(_asked(contents, curves)),
        tuple(_warnings(contents, curves)) if last > 0 else (),
        {
            f"{curve.name}_mae": (curve.trend(curve.points[-1].labels + MORE_LABELS), curve.unit)
            for curve in curves
            if curve.trend is not None
        },
    )


def _asked(contents: Contents, curves: list[LearningCurve]) -> Iterator[Asked]:
    for curve in curves:
        if curve.target is not None:
            error = curve.points[-1].error
            yield Asked(f"{curve.name} MAE", error, curve.target, curve.unit, error <= curve.target)
    limit = (contents.config.get("stop") or {}).get("labels")
    if limit is not None:
        paid = len(contents.ledger)
        yield Asked("labels", paid, limit, "", paid >= limit)


def _warnings(contents: Contents, curves: list[LearningCurve]) -> Iterator[str]:
    if not curves:
        yield "no test structures: nothing says how good the potential is; name a labelled file under test"
    for curve in curves:
        errors = [point.error for point in curve.points]
        if errors[-1] > (1 + UNCHANGED) * errors[0]:
            yield f"{change(curve)}: worse than before any training"
        recent = errors[-3:] if len(errors) > 3 else []
        if recent and max(recent) - min(recent) < UNCHANGED * recent[-1]:
            yield (
                f"the last two rounds changed the {curve.name} error by less than {UNCHANGED:.0%}: "
                "more labels of this kind may bring little"
            )
        best = min(curve.points, key=lambda point: point.error)
        if best.round > 0 and best.error < (1 - UNCHANGED) * errors[-1]:
            yield f"the {curve.name} error was lower after round {best.round}: {best.error:.1f} {curve.unit}"
    forgetting = contents.metrics[-1].get("forgetting") or {}
    if "after" in forgetting:
        before, after = forgetting["before"]["force_mae"], forgetting["after"]["force_mae"]
        if after > FORGOTTEN * before:
            yield (
                f"forgetting: the force error on the generic sample went from {before:.0f} to {after:.0f} "
                "meV/Å: use the potential for structures like these only, or train with mode: replay"
            )
    if curves and not any(curve.controls for curve in curves):
        yield "no control: nothing says that choosing was better than random labels here (control: random)"
