"""Saddle points, minimum-energy paths and relaxed ends on the GFN2-xTB surface.

Every reaction is found from its middle: pull the reacting bonds to saddle-like lengths, converge the saddle
point with full Hessians, then follow the forces downhill on both sides. The maximum is then a true saddle
point (exactly one unstable mode), the two ends are the minima that it really connects, and all frames share
one atom order. At 16 atoms and fewer that is cheaper and safer than an elastic band between ends whose
conformers must be matched first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.mep import NEB
from ase.optimize import FIRE
from catalogue import Reaction
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.interpolate import PchipInterpolator
from tblite.ase import TBLite

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pathway:
    """The path of one reaction: its points in order, which of them is the saddle point, its relaxed ends."""

    points: list[Atoms]
    saddle: int
    reactant: Atoms
    product: Atoms

    def at(self, fractions: Array) -> list[Atoms]:
        """Return geometries at fractions (0 to 1) of the path's length in Cartesian space.

        The points are uneven, and an ordinary spline would overshoot between them: hence the monotone cubic.
        """
        rows = np.array([point.positions.ravel() for point in self.points])
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(rows, axis=0), axis=1))])
        curve = PchipInterpolator(length / length[-1], rows)
        return [Atoms(self.reactant.numbers, positions=curve(f).reshape(-1, 3)) for f in fractions]


def gfn2(charge: int) -> TBLite:
    """Return a new closed-shell GFN2-xTB calculator."""
    return TBLite(method="GFN2-xTB", charge=charge, multiplicity=1, verbosity=0)


def label(atoms: Atoms, charge: int) -> tuple[float, Array]:
    """Return energy (eV) and forces (eV/Å), from a new calculator: no frame inherits another's density."""
    fresh = Atoms(atoms.numbers, positions=atoms.positions, calculator=gfn2(charge))
    return float(fresh.get_potential_energy()), fresh.get_forces()


class Pull:
    """Harmonic pull on chosen distances, as an ASE constraint: E = ½ k Σ (d − d₀)²."""

    def __init__(self, pairs: list[tuple[int, int]], lengths: list[float], stiffness: float = 40.0) -> None:
        self.pairs, self.lengths, self.stiffness = pairs, lengths, stiffness

    def adjust_positions(self, atoms: Atoms, new: Array) -> None:
        """Leave the step as it is: the pull acts through forces only."""

    def adjust_forces(self, atoms: Atoms, forces: Array) -> None:
        """Add the forces of the springs, in place."""
        for (i, j), length in zip(self.pairs, self.lengths, strict=True):
            vector = atoms.positions[i] - atoms.positions[j]
            distance = np.linalg.norm(vector)
            force = -self.stiffness * (distance - length) * vector / distance
            forces[i] += force
            forces[j] -= force


def pulled_to_saddle(reaction: Reaction, atoms: Atoms) -> Atoms:
    """Relax with the reacting bonds led to their saddle lengths.

    The lengths move in small steps: springs that start far from rest tear other bonds than the wanted ones.
    """
    atoms = atoms.copy()
    pairs = [(bond.i, bond.j) for bond in reaction.bonds]
    first = np.array([bond.length(atoms) for bond in reaction.bonds])
    last = np.array([bond.saddle for bond in reaction.bonds])
    ramp = np.linspace(first, last, 2 + int(np.abs(last - first).max() / 0.1))
    atoms.calc = gfn2(reaction.charge)
    for lengths in ramp[1:]:
        atoms.set_constraint(Pull(pairs, lengths.tolist()))
        FIRE(atoms, logfile=None).run(fmax=0.1, steps=50)
    return Atoms(atoms.numbers, positions=atoms.positions)


def hessian(atoms: Atoms, charge: int, step: float = 0.005) -> Array:
    """Return the second derivatives (eV/Å²) by central differences, with overall motion projected out."""

    def forces(move: Array) -> Array:
        return label(Atoms(atoms.numbers, positions=atoms.positions + move.reshape(-1, 3)), charge)[1].ravel()

    size = 3 * len(atoms)
    matrix = np.array([forces(-move) - forces(move) for move in step * np.eye(size)]) / (2 * step)
    centred = atoms.positions - atoms.positions.mean(axis=0)
    rigid = [np.tile(axis, (len(atoms), 1)).ravel() for axis in np.eye(3)]
    rigid += [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    basis, weights, _ = np.linalg.svd(np.array(rigid).T, full_matrices=False)
    basis = basis[:, weights > 1e-6]
    project = np.eye(size) - basis @ basis.T
    return project @ (0.5 * (matrix + matrix.T)) @ project


def find_saddle(reaction: Reaction, atoms: Atoms) -> tuple[Atoms, Array]:
    """Climb along the lowest mode, descend along all others; return the saddle point and its unstable mode.

    Newton steps of at most 0.1 Å with a new Hessian each; the mode points towards the product.
    """
    atoms = atoms.copy()
    for _ in range(60):
        force = label(atoms, reaction.charge)[1]
        values, modes = np.linalg.eigh(hessian(atoms, reaction.charge))
        if np.abs(force).max() < 0.005:
            unstable = int((values < -0.05).sum())
            if unstable != 1:
                raise RuntimeError(f"{reaction.name}: {unstable} unstable modes where a saddle point has one")
            return atoms, towards_product(reaction, atoms, modes[:, 0].reshape(-1, 3))
        downhill = (modes.T @ force.ravel()) / np.maximum(np.abs(values), 0.2)
        downhill[0] *= -1.0
        step = (modes @ downhill).reshape(-1, 3)
        atoms.positions += step * min(1.0, 0.1 / np.linalg.norm(step))
    raise RuntimeError(f"{reaction.name}: no saddle point in 60 steps")


def towards_product(reaction: Reaction, saddle: Atoms, mode: Array) -> Array:
    """Return the mode with the sign that raises the reaction coordinate."""
    moved = Atoms(saddle.numbers, positions=saddle.positions + 0.01 * mode)
    return mode if reaction.coordinate(moved) > reaction.coordinate(saddle) else -mode


def descend(saddle: Atoms, push: Array, charge: int) -> list[Atoms]:
    """Follow dx/dτ = F(x) from beside the saddle point until the forces are small.

    Steepest descent is stiff (bonds against torsions), hence the implicit solver.
    """

    def slope(_: float, flat: Array) -> Array:
        return label(Atoms(saddle.numbers, positions=flat.reshape(-1, 3)), charge)[1].ravel()

    def flat_enough(tau: float, flat: Array) -> float:
        return float(np.abs(slope(tau, flat)).max()) - 0.05

    flat_enough.terminal = True  # type: ignore[attr-defined]
    flat_enough.direction = -1  # type: ignore[attr-defined]
    start = (saddle.positions + push).ravel()
    result = solve_ivp(slope, (0.0, 200.0), start, method="BDF", events=flat_enough, rtol=1e-3, atol=1e-3)
    return [Atoms(saddle.numbers, positions=row.reshape(-1, 3)) for row in result.y.T]


def relaxed(atoms: Atoms, charge: int) -> Atoms:
    """Return the minimum below `atoms`; short steps, so that it is the nearest one."""
    atoms = atoms.copy()
    atoms.calc = gfn2(charge)
    if not FIRE(atoms, logfile=None, maxstep=0.05).run(fmax=0.01, steps=3000):
        raise RuntimeError(f"{atoms.get_chemical_formula()} did not relax")
    return Atoms(atoms.numbers, positions=atoms.positions)


def find_pathway(reaction: Reaction, rng: np.random.Generator) -> Pathway:
    """Find the saddle point of a reaction, the path down both sides, and the minima it ends in."""
    guess = reaction.guess(seed=int(rng.integers(2**31)))
    # A planar or symmetric guess has no force out of its plane and could not leave it.
    guess.positions += rng.normal(0.0, 0.02, guess.positions.shape)
    saddle, mode = find_saddle(reaction, pulled_to_saddle(reaction, guess))
    before = descend(saddle, -0.05 * mode, reaction.charge)
    after = descend(saddle, 0.05 * mode, reaction.charge)
    return Pathway(
        points=[*reversed(before), saddle, *after],
        saddle=len(before),
        reactant=relaxed(before[-1], reaction.charge),
        product=relaxed(after[-1], reaction.charge),
    )


def interpolated(reactant: Atoms, product: Atoms, inner: int) -> list[Atoms]:
    """Return `inner` images between the ends by the image-dependent pair potential: no calculator needed."""
    last = product.copy()
    minimize_rotation_and_translation(reactant, last)
    images = [reactant.copy() for _ in range(inner + 1)] + [last]
    NEB(images, remove_rotation_and_translation=True, method="improvedtangent").interpolate("idpp")
    return [Atoms(image.numbers, positions=image.positions) for image in images[1:-1]]
