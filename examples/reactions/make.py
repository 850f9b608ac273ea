"""Make the example pool: reactions, their paths, thermal frames and held-out test frames, all by GFN2-xTB.

    python examples/reactions/make.py WORK

Finished parts are kept in the folder WORK, so the same command resumes; data files go next to this script.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import read, write
from ase.md.langevin import Langevin
from catalogue import REACTIONS, Reaction
from pathways import Array, Pathway, find_pathway, gfn2, interpolated, label

SETTINGS: dict[str, Any] = {
    "seed": 2024,
    "temperatures": (300.0, 600.0),  # K
    "per_trajectory": 22,  # frames; two ends × two temperatures × 22 = 88 frames near the minima
    "steps_between": 80,  # 40 fs between frames
    "path_frames": 10,
    "path_rattle": 0.04,  # Å
    "test_frames": 22,
    "test_rattle": 0.03,  # Å
    "target_frames": 6,
    "furthest": 0.6,  # of the way to the saddle, up to which a frame still counts as near its end
}
DECIMALS = 5


def stream(reaction: Reaction, purpose: str) -> np.random.Generator:
    """Return the random stream of one purpose of one reaction, whatever else is made before it."""
    key = hashlib.sha256(f"{reaction.name}/{purpose}".encode()).digest()[:8]
    return np.random.default_rng([SETTINGS["seed"], int.from_bytes(key, "little")])


def frame(reaction: Reaction, atoms: Atoms, config_type: str, **info: Any) -> Atoms:
    """Return an unlabelled, centred copy with rounded positions and what mace-torch reads in `info`."""
    positions = np.round(atoms.positions - atoms.positions.mean(axis=0), DECIMALS)
    out = Atoms(atoms.numbers, positions=positions)
    out.info = {
        "reaction": reaction.name,
        "config_type": config_type,
        "total_charge": reaction.charge,
        "total_spin": 1,  # multiplicity
        **info,
    }
    if out.get_all_distances()[np.triu_indices(len(out), 1)].min() < 0.5:
        raise RuntimeError(f"{reaction.name}: two atoms of a {config_type} frame are closer than 0.5 Å")
    return out


def labelled(atoms: Atoms) -> Atoms:
    """Add the labels of the positions as they will be written: `frame` has rounded them already."""
    energy, forces = label(atoms, atoms.info["total_charge"])
    atoms.info["REF_energy"] = round(energy, 6)
    atoms.arrays["REF_forces"] = np.round(forces, 6)
    return atoms


def thermal(
    reaction: Reaction, end: Atoms, saddle: Atoms, temperature: float, rng: np.random.Generator
) -> Iterator[Atoms]:
    """Yield geometries of Langevin dynamics around one end, for ever.

    A trajectory that runs over a low barrier starts again from the minimum: its frames would carry the wrong
    name, and the saddle point would be sampled for free.
    """
    origin, top = reaction.coordinate(end), reaction.coordinate(saddle)
    while True:
        atoms = end.copy()
        atoms.calc = gfn2(reaction.charge)
        width = np.sqrt(atoms.get_masses() * units.kB * temperature)
        atoms.set_momenta(width[:, None] * rng.standard_normal((len(atoms), 3)))
        kelvin = {"temperature_K": temperature, "friction": 0.02 / units.fs}
        dynamics = Langevin(atoms, 0.5 * units.fs, fixcm=False, rng=rng, **kelvin)
        while True:
            dynamics.run(SETTINGS["steps_between"])
            if (reaction.coordinate(atoms) - origin) / (top - origin) > SETTINGS["furthest"]:
                break
            yield atoms.copy()


def rattled(pathway: Pathway, fractions: Array, width: float, rng: np.random.Generator) -> list[Atoms]:
    """Return geometries at fractions of the path, every coordinate displaced by Gaussian noise."""
    frames = pathway.at(fractions)
    for atoms in frames:
        atoms.positions += rng.normal(0.0, width, atoms.positions.shape)
    return frames


def pool_frames(reaction: Reaction, pathway: Pathway) -> list[Atoms]:
    """Return the unlabelled pool: nine tenths thermal frames of the two ends, one tenth along the path."""
    frames = []
    saddle = pathway.points[pathway.saddle]
    for name, end in (("reactant", pathway.reactant), ("product", pathway.product)):
        for temperature in SETTINGS["temperatures"]:
            rng = stream(reaction, f"{name} at {temperature}")
            trajectory = thermal(reaction, end, saddle, temperature, rng)
            frames += [frame(reaction, next(trajectory), name) for _ in range(SETTINGS["per_trajectory"])]
    rng = stream(reaction, "path")
    fractions = (np.arange(SETTINGS["path_frames"]) + rng.random()) / SETTINGS["path_frames"]
    near_path = rattled(pathway, fractions, SETTINGS["path_rattle"], rng)
    return frames + [frame(reaction, atoms, "path") for atoms in near_path]


def heldout_frames(reaction: Reaction, pathway: Pathway) -> list[Atoms]:
    """Return held-out labelled frames, evenly spread over the path, displaced by their own noise."""
    fractions = np.linspace(0.0, 1.0, SETTINGS["test_frames"])
    geometries = rattled(pathway, fractions, SETTINGS["test_rattle"], stream(reaction, "test"))
    return [
        labelled(frame(reaction, atoms, "path", path_position=round(float(fraction), 4)))
        for atoms, fraction in zip(geometries, fractions, strict=True)
    ]


def start_frames(reaction: Reaction, pathway: Pathway) -> list[Atoms]:
    """Return the two relaxed ends, labelled: what a campaign has before it starts."""
    ends = (("reactant", pathway.reactant), ("product", pathway.product))
    return [labelled(frame(reaction, end, name)) for name, end in ends]


def target_frames(reaction: Reaction, pathway: Pathway) -> list[Atoms]:
    """Return the crude path that anyone can draw from the two ends alone, unlabelled."""
    images = interpolated(pathway.reactant, pathway.product, SETTINGS["target_frames"])
    return [frame(reaction, atoms, "target") for atoms in images]


def save(path: Path, frames: list[Atoms]) -> None:
    """Write extended XYZ in one move, gzipped (without a time stamp) where the name says so."""
    text = io.StringIO()
    write(text, frames, format="extxyz")
    data = text.getvalue().encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)


def load(path: Path) -> list[Atoms]:
    """Read extended XYZ; decompressed first, because ASE seeks back and forth in the stream it is given."""
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    frames: list[Atoms] = read(io.StringIO(text.decode()), index=":", format="extxyz")
    return frames


def cached(path: Path, make: Callable[[], list[Atoms]]) -> list[Atoms]:
    """Return the frames of a file, made first where missing; always as read, so that a resumed run agrees."""
    if not path.exists():
        save(path, make())
    return load(path)


def pathway_of(reaction: Reaction, folder: Path) -> Pathway:
    """Return the path of a reaction, from the folder where it has been found before."""

    def make() -> list[Atoms]:
        found = find_pathway(reaction, stream(reaction, "pathway"))
        found.points[found.saddle].info["config_type"] = "saddle"
        return [found.reactant, found.product, *found.points]

    reactant, product, *points = cached(folder / "pathway.extxyz", make)
    saddle = next(i for i, point in enumerate(points) if point.info.get("config_type") == "saddle")
    return Pathway(points, saddle, reactant, product)


def table_row(reaction: Reaction, pathway: Pathway) -> str:
    """Return one line of the table; fail where the saddle point is not the highest point of the path."""
    energies = np.array([label(point, reaction.charge)[0] for point in pathway.points])
    first, last = (label(end, reaction.charge)[0] for end in (pathway.reactant, pathway.product))
    if energies.argmax() != pathway.saddle or energies.max() <= max(first, last):
        raise RuntimeError(f"{reaction.name}: the saddle point is not the highest point of its path")
    cells = (
        reaction.name,
        reaction.kind,
        pathway.reactant.get_chemical_formula(),
        str(len(pathway.reactant)),
        str(reaction.charge),
        f"{energies[pathway.saddle] - first:.2f}",
        f"{last - first:.2f}",
        str(len(energies)),
    )
    return "| " + " | ".join(cells) + " |"


MAKERS: dict[str, Callable[[Reaction, Pathway], list[Atoms]]] = {
    "pool.extxyz.gz": pool_frames,
    "test.extxyz.gz": heldout_frames,
    "start.extxyz": start_frames,
    "targets.extxyz": target_frames,
}


def main() -> None:
    """Make or resume every reaction, print the table, and write the data files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for finished parts; the same command resumes from it")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the data files")
    arguments = parser.parse_args()
    collected: dict[str, list[Atoms]] = {name: [] for name in MAKERS}
    print("| reaction | kind | formula | atoms | charge | barrier / eV | reaction energy / eV | images |")
    print("|---|---|---|---|---|---|---|---|")
    for reaction in REACTIONS:
        # The name carries what the parts depend on: changed settings never meet old parts.
        digest = hashlib.sha256(repr((reaction, SETTINGS)).encode()).hexdigest()[:8]
        folder = arguments.work / f"{reaction.name}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        pathway = pathway_of(reaction, folder)
        print(table_row(reaction, pathway), flush=True)
        for name, make in MAKERS.items():
            part = folder / name.removesuffix(".gz")
            collected[name] += cached(part, lambda make=make: make(reaction, pathway))  # noqa: B023
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, frames in collected.items():
        save(arguments.out / name, frames)
        print(f"{name}: {len(frames)} frames, {(arguments.out / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
