"""The figures of a report for programs: plain values, the same that the page shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from surveyor.report.contents import Contents
from surveyor.report.costs import costs_of
from surveyor.report.ending import ending
from surveyor.report.learning import learning_curves
from surveyor.report.trouble import trouble_of
from surveyor.report.trust import errors_by_group, trust_of_rounds
from surveyor.report.verdict import standing, verdict


def figures(contents: Contents) -> dict[str, Any]:
    """Everything but the structures and the map, ready for JSON.

    Units: eV, meV/atom, meV/Å, s, core-hours, as in the names.
    """
    curves = learning_curves(contents)
    costs = costs_of(contents)
    trouble = trouble_of(contents)
    last = contents.metrics[-1] if contents.metrics else {}
    return {
        "name": contents.folder.resolve().name,
        "method": contents.record.state["method"],
        "standing": standing(contents),
        "stopped": contents.record.stopped,
        "verdict": verdict(contents, curves),
        "ending": ending(contents).as_dict(),
        "rounds": [
            {k: v for k, v in metrics.items() if k not in ("std", "energy_each", "force_each")}
            for metrics in contents.metrics
        ],
        "labels": {
            "paid": len(contents.ledger),
            "failed": len(trouble.failed),
            "quarantined": trouble.n_quarantined,
        },
        "forecast": {
            curve.name: {
                "unit": curve.unit,
                "exponent": curve.trend.exponent,
                "labels": [n for n, _ in curve.ahead],
                "error": [error for _, error in curve.ahead],
            }
            for curve in curves
            if curve.trend is not None
        },
        "calibration": {
            str(number): {
                t.name: {
                    "structures": len(t.std),
                    "pearson": t.pearson,
                    "level": None if t.calibration is None else t.calibration.level,
                    "coverage": None if t.calibration is None else t.calibration.coverage,
                }
                for t in both
            }
            for number, both in trust_of_rounds(contents).items()
        },
        "groups": [asdict(group) for group in errors_by_group(contents)],
        "picks": [asdict(pick) for pick in contents.picks],
        "outcomes": dict(Counter(pick.outcome for pick in contents.picks)),
        "failures": [asdict(label) for label in trouble.failed],
        "quarantined": dict(trouble.quarantined),
        "held": [asdict(label) for label in trouble.held],
        "notes": [{"round": number, "note": note} for number, note in trouble.notes],
        "seconds": {stage.name: stage.total for stage in costs.stages},
        "core_hours": {stage.name: stage.core_hours for stage in costs.stages},
        "core_hours_exact": costs.exact,
        "labels_per_core_hour": costs.labels_per_core_hour,
        "training_settings": last.get("training_settings"),
        "forgetting": last.get("forgetting"),
        "added": [asdict(addition) for addition in contents.extensions],
    }
