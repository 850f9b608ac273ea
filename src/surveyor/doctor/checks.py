"""Every check of a file of structures, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from surveyor.doctor.dataset import MAX_FRAMES, Dataset, Role, read_dataset
from surveyor.doctor.findings import Finding, Verdict, error, fault, frames_text, ok, warning
from surveyor.doctor.geometry import cell, charge_and_spin, geometry, has_state
from surveyor.doctor.keys import acting_keys, finite_labels, keys, missing_labels, placeholders
from surveyor.doctor.mechanics import gradient, net_force
from surveyor.doctor.references import outliers, references, two_groups
from surveyor.doctor.repeats import copies, leakage
from surveyor.doctor.sampling import Sample, sample
from surveyor.doctor.stress import stress, stress_unit
from surveyor.doctor.units import energy_unit, force_unit
from surveyor.errors import StructureError, SurveyorError
from surveyor.progress import Progress
from surveyor.structures.composition import elements_of
from surveyor.structures.identity import CHARGE_KEYS, SPIN_KEYS, total_charge, total_spin, with_state
from surveyor.types import Potential

GEOMETRY_CHECKS: Mapping[str, Callable[[Dataset], Verdict]] = {
    "keys": keys,
    "weights": acting_keys,
    "geometry": geometry,
    "cell": cell,
    "charge and spin": charge_and_spin,
    "copies": copies,
}
"""Name in the table → check of any file."""

LABEL_CHECKS: Mapping[str, Callable[[Dataset], Verdict]] = {
    "missing labels": missing_labels,
    "finite labels": finite_labels,
    "placeholders": placeholders,
    "stress": stress,
    "net force": net_force,
    "gradient": gradient,
}
"""Name in the table → check of a file that has labels."""

MODEL_CHECKS: Mapping[str, Callable[[Sample], Verdict]] = {
    "force unit": force_unit,
    "energy unit": energy_unit,
    "stress unit": stress_unit,
    "references": references,
    "outliers": outliers,
    "two groups": two_groups,
}
"""Name in the table → check of one file's labels against the potential."""


def examine_file(
    path: Path, role: Role, potential: Potential | None, progress: Progress, sets: list[Dataset], *, seed: int
) -> Iterator[Finding]:
    """All checks of one file, which joins `sets` if it can be read."""
    progress.start(f"reading {path.name}")
    try:
        data = read_dataset(path, role)
    except StructureError as problem:
        progress.finish()
        yield Finding(path.name, "readable", fault(problem))
        return
    progress.finish()
    sets.append(data)
    yield from examine_dataset(data, potential, progress, seed=seed)


def examine_dataset(
    data: Dataset, potential: Potential | None, progress: Progress, *, seed: int
) -> Iterator[Finding]:
    """All checks of structures in memory."""
    yield Finding(data.name, "readable", _contents(data))
    checks = {**GEOMETRY_CHECKS, **(LABEL_CHECKS if data.has_labels else {})}
    progress.start(f"checking {data.name}", len(checks))
    for name, check in checks.items():
        yield Finding(data.name, name, check(data))
        progress.advance()
    progress.finish()
    if potential is None:
        return
    yield Finding(data.name, "elements", elements(data, potential))
    yield Finding(data.name, "charges", charges(data, potential))
    if not data.labelled.any():
        return
    drawn = sample(data, potential, progress, seed=seed)
    yield Finding(data.name, "predictions", predictions(drawn))
    for label, verdict in MODEL_CHECKS.items():
        yield Finding(data.name, label, verdict(drawn))


def examine_overlaps(sets: Sequence[Dataset], progress: Progress) -> Iterator[Finding]:
    """Every file that is or may be trained on against every test set."""
    for test in sets:
        if test.role is not Role.TEST:
            continue
        for train in sets:
            if train is not test and train.role is not Role.TARGET:
                progress.start(f"comparing {train.name} with {test.name}")
                yield Finding(f"{train.name} → {test.name}", "leakage", leakage(train, test))
                progress.finish()


def _contents(data: Dataset) -> Verdict:
    """What a file holds, in one line."""
    symbols = elements_of(data.structures)
    sizes = [len(atoms) for atoms in data.structures]
    more = "" if data.complete else f"; the first {MAX_FRAMES:,} of more frames are checked"
    return ok(
        f"{len(data)} frames of {min(sizes)} to {max(sizes)} atoms, {int(data.labelled.sum())} with sound "
        "labels; " + " ".join(chemical_symbols[z] for z in symbols) + more
    )


def elements(data: Dataset, potential: Potential) -> Verdict:
    """Every Z is among the potential's."""
    known = set(potential.elements)
    unknown = [set(atoms.numbers.tolist()) - known for atoms in data.structures]
    names = sorted(set().union(*unknown))
    if names:
        return error(
            f"{', '.join(chemical_symbols[z] for z in names)} unknown to the model, in "
            f"{frames_text([i for i, some in enumerate(unknown) if some])}",
            "open a model that knows them (--model), or take these frames out",
        )
    return ok("all known to the model")


def charges(data: Dataset, potential: Potential) -> Verdict:
    """Ê of one frame differs between two charges, and between two spins, that occur in the file."""
    known = set(potential.elements)
    frames = [a for a in data.structures if has_state(a) and known.issuperset(a.numbers.tolist())]
    found: dict[bool, list[str]] = {True: [], False: []}
    for name, key, read in (("charge", CHARGE_KEYS[0], total_charge), ("spin", SPIN_KEYS[0], total_spin)):
        values = sorted({read(atoms) for atoms in frames})
        if len(values) < 2:
            continue
        trials = [min(frames, key=len).copy() for _ in range(2)]
        for trial, value in zip(trials, (values[0], values[-1]), strict=True):
            trial.info = {**with_state(trial).info, key: value}
        try:
            low, high = (labels.energy for labels in potential.predict(trials))
        except SurveyorError as problem:
            return fault(problem)
        found[low != high].append(f"{name} ({', '.join(map(str, values))})")
    taken, ignored = " and the ".join(found[True]), " and the ".join(found[False])
    if ignored:
        return warning(
            f"the model ignores the {ignored}",
            "frames that differ in it alone are one to this model: open one that takes it, or keep to one",
        )
    return ok(f"the model takes the {taken}" if taken else "the same in all frames")


def predictions(drawn: Sample) -> Verdict:
    """Ê and F̂ are finite on every frame that was predicted."""
    if drawn.failed:
        return error(
            f"the model gives NaN or inf for {frames_text(np.array(drawn.failed))}",
            "look for atoms that nearly touch in these frames, or use another model",
        )
    if len(drawn) < drawn.eligible:
        return ok(f"{len(drawn)} of {drawn.eligible} frames: a seeded sample and the oddest energies")
    return ok(f"all {len(drawn)} labelled frames of known elements")
