"""The labelled frames of one task: a molecule, a pair of molecules, a bond scan or the isolated atoms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from surveyor.errors import LabellingError
from surveyor.lab.pretraining.geometry import bond_scans, displace, embed, place, thermal_velocities
from surveyor.lab.pretraining.recipe import FramesSpec
from surveyor.types import Labels

Kind = Literal["molecule", "dimer", "scan", "atoms"]
# Unpaired electrons of the ground states.
ATOM_SPINS = {1: 1, 6: 2, 7: 3, 8: 2, 9: 1, 16: 2, 17: 1, 35: 1}


@dataclass(frozen=True)
class Task:
    """What one worker does in one go. `smiles` has one entry, two for a dimer, none for isolated atoms."""

    kind: Kind
    smiles: tuple[str, ...]
    charges: tuple[int, ...]
    split: str
    seed: int
    md: bool = False

    @property
    def key(self) -> str:
        """Unique and readable; the same in every run of the same recipe."""
        return f"{self.kind}:{self.seed}:{self.split}:{'.'.join(self.smiles)}{':md' if self.md else ''}"

    def rng(self) -> np.random.Generator:
        """A generator of its own, so that frames do not depend on the order of the tasks."""
        digest = hashlib.sha256(self.key.encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big"))


@dataclass(frozen=True, eq=False)
class Frame:
    """A labelled geometry. `spin` is the multiplicity 2S + 1; `config_type` says how it was made."""

    atoms: Atoms
    labels: Labels
    config_type: str
    charge: int
    spin: int
    max_force: float

    @property
    def usable(self) -> bool:
        """Finite labels, and no force above the limit of its kind."""
        forces = self.labels.forces
        finite = np.isfinite(forces).all() and np.isfinite(self.labels.energy)
        return bool(finite and np.linalg.norm(forces, axis=1).max() <= self.max_force)


class Labelling:
    """Labels of single geometries by tblite; counts its calls."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.calls = 0

    def calculator(self, charge: int, spin: int) -> Any:
        """A quiet tblite calculator.

        Raises:
            LabellingError: tblite is not installed.
        """
        try:
            from tblite.ase import TBLite
        except ImportError as missing:
            raise LabellingError("tblite is not installed", todo="pip install tblite") from missing
        return TBLite(method=self.method, charge=charge, multiplicity=spin, verbosity=0)

    def label(self, atoms: Atoms, charge: int, spin: int) -> Labels | None:
        """Labels of `atoms`, or None where the self-consistent field does not converge."""
        work = Atoms(atoms.numbers, positions=atoms.positions)
        work.calc = self.calculator(charge, spin)
        self.calls += 1
        try:
            return Labels(energy=float(work.get_potential_energy()), forces=np.array(work.get_forces()))
        except Exception as problem:
            if _not_converged(problem):
                return None
            raise


def make_frames(task: Task, spec: FramesSpec, method: str) -> tuple[list[Frame], int]:
    """The usable frames of a task, and how many labels were computed for them."""
    labelling = Labelling(method)
    rng = task.rng()
    makers = {"molecule": _molecule, "dimer": _dimer, "scan": _scan, "atoms": _atoms}
    frames = [frame for frame in makers[task.kind](task, spec, labelling, rng) if frame.usable]
    return _distinct(frames), labelling.calls


def _atoms(_: Task, __: FramesSpec, labelling: Labelling, ___: np.random.Generator) -> Iterator[Frame]:
    for number, unpaired in ATOM_SPINS.items():
        atom = Atoms([number], positions=[[0.0, 0.0, 0.0]])
        labels = labelling.label(atom, 0, unpaired + 1)
        if labels is None:
            raise LabellingError(f"no {labelling.method} energy of the isolated atom {atom.symbols}")
        yield Frame(atom, labels, "IsolatedAtom", 0, unpaired + 1, np.inf)


def _molecule(
    task: Task, spec: FramesSpec, labelling: Labelling, rng: np.random.Generator
) -> Iterator[Frame]:
    start = embed(task.smiles[0], rng)
    if start is None:
        return
    charge = task.charges[0]
    relaxed, path = _relax(start, charge, spec, labelling)
    for index in sorted(
        {round(i) for i in np.linspace(0, len(path) - 1, spec.relaxation_frames)} if path else ()
    ):
        geometry, labels = path[index]
        yield _frame(geometry, labels, "relaxation", charge, spec)
    if len(start) == 1 or relaxed is None:
        return
    for temperature in rng.choice(spec.temperatures, size=spec.displaced_per_molecule):
        moved = displace(relaxed, float(temperature), rng)
        yield from _labelled(moved, "displaced", charge, spec, labelling)
    if task.md:
        yield from _md(relaxed, charge, float(rng.choice(spec.md_temperatures)), spec, labelling, rng)


def _relax(
    start: Atoms, charge: int, spec: FramesSpec, labelling: Labelling
) -> tuple[Atoms | None, list[tuple[Atoms, Labels]]]:
    """The end of a short relaxation, and its labelled steps."""
    atoms = _rounded(start)
    atoms.calc = labelling.calculator(charge, 1)
    path: list[tuple[Atoms, Labels]] = []

    def record() -> None:
        labelling.calls += 1
        labels = Labels(float(atoms.get_potential_energy()), np.array(atoms.get_forces()))
        path.append((Atoms(atoms.numbers, positions=atoms.positions), labels))

    try:
        optimiser = BFGS(atoms, logfile=None, maxstep=0.1)
        optimiser.attach(record)
        optimiser.run(fmax=0.05, steps=spec.relaxation_steps)
    except Exception as problem:
        if not _not_converged(problem):
            raise
    if not path:
        return None, []
    return path[-1][0], path


def _md(
    start: Atoms,
    charge: int,
    temperature: float,
    spec: FramesSpec,
    labelling: Labelling,
    rng: np.random.Generator,
) -> Iterator[Frame]:
    """Snapshots of constant-energy dynamics that starts with twice the kinetic energy of `temperature`."""
    atoms = start.copy()
    atoms.calc = labelling.calculator(charge, 1)
    atoms.set_velocities(thermal_velocities(atoms, 2 * temperature, rng))
    dynamics = VelocityVerlet(atoms, timestep=1.0 * units.fs)
    for _ in range(spec.md_steps // spec.md_every):
        try:
            dynamics.run(spec.md_every)
            labelling.calls += spec.md_every
            labels = Labels(float(atoms.get_potential_energy()), np.array(atoms.get_forces()))
        except Exception as problem:
            if not _not_converged(problem):
                raise
            return
        yield _frame(Atoms(atoms.numbers, positions=atoms.positions), labels, "md", charge, spec)


def _dimer(task: Task, spec: FramesSpec, labelling: Labelling, rng: np.random.Generator) -> Iterator[Frame]:
    charge = sum(task.charges)
    parts = [embed(smiles, rng) for smiles in task.smiles]
    if any(part is None for part in parts):
        return
    for _ in range(spec.per_dimer):
        first, second = (
            displace(part, float(rng.choice(spec.temperatures[:3])), rng) if len(part) > 1 else part
            for part in parts
            if part is not None
        )
        # Half within reach of a hydrogen bond or closer, half from contact outwards.
        if rng.random() < 0.6:
            closeness, gap = rng.uniform(0.55, 1.0), 0.0
        else:
            closeness, gap = 1.0, rng.uniform(0.0, max(spec.dimer_reach - 3.0, 0.0))
        if charge and any(len(part) == 1 for part in (first, second)):
            gap = min(gap, 1.0)  # a lone ion must stay in sight of the model's cutoff
        placed = place(first, second, closeness, gap, rng)
        yield from _labelled(placed, "dimer", charge, spec, labelling)


def _scan(task: Task, spec: FramesSpec, labelling: Labelling, rng: np.random.Generator) -> Iterator[Frame]:
    start = embed(task.smiles[0], rng)
    if start is None or len(start) < 2:
        return
    relaxed, _ = _relax(start, task.charges[0], spec, labelling)
    if relaxed is None:
        return
    short = np.concatenate([np.linspace(0.45, 0.85, 9), np.linspace(0.9, 1.35, 4)])
    for atoms in bond_scans(task.smiles[0], relaxed, short):
        labels = labelling.label(_rounded(atoms), task.charges[0], 1)
        if labels is not None:
            yield Frame(_rounded(atoms), labels, "scan", task.charges[0], 1, spec.scan_max_force)


def _labelled(
    atoms: Atoms, config_type: str, charge: int, spec: FramesSpec, labelling: Labelling
) -> Iterator[Frame]:
    rounded = _rounded(atoms)
    labels = labelling.label(rounded, charge, 1)
    if labels is not None:
        yield _frame(rounded, labels, config_type, charge, spec)


def _frame(atoms: Atoms, labels: Labels, config_type: str, charge: int, spec: FramesSpec) -> Frame:
    return Frame(atoms, labels, config_type, charge, 1, spec.max_force)


def _rounded(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, positions=atoms.positions.round(6))


def _not_converged(problem: Exception) -> bool:
    # tblite raises a bare RuntimeError or ASE's CalculationFailed; anything else is a bug.
    return isinstance(problem, RuntimeError) or type(problem).__name__ == "CalculationFailed"


def _distinct(frames: list[Frame]) -> list[Frame]:
    """Without frames whose sorted interatomic distances repeat those of an earlier one within 0.01 Å."""
    kept: list[Frame] = []
    seen: set[tuple[bytes, bytes]] = set()
    for frame in frames:
        distances = np.sort(frame.atoms.get_all_distances()[np.triu_indices(len(frame.atoms), 1)])
        mark = (frame.atoms.numbers.tobytes(), (distances / 0.01).round().astype(np.int32).tobytes())
        if mark not in seen:
            seen.add(mark)
            kept.append(frame)
    return kept
