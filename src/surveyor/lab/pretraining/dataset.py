"""The labelled set: tasks of a recipe, labels in parallel and resumable, the split by molecule."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms

from surveyor.errors import ConfigError
from surveyor.lab.pretraining.frames import Frame, Task, make_frames
from surveyor.lab.pretraining.journal import Journal
from surveyor.lab.pretraining.molecules import Molecule, make_molecules, pairs
from surveyor.lab.pretraining.parts import LISTED
from surveyor.lab.pretraining.recipe import Recipe
from surveyor.lab.workers import each_done

SPLITS = ("train", "valid", "held_out")


def assign_splits(molecules: list[Molecule], recipe: Recipe) -> dict[str, str]:
    """SMILES → split. Molecules of up to three heavy atoms always train: larger ones are made of them."""
    rng = np.random.default_rng([recipe.seed, 3])
    splits = {}
    for molecule in molecules:
        draw = rng.random()
        kept = molecule.heavy_atoms > 3
        if kept and draw < recipe.split.valid:
            splits[molecule.smiles] = "valid"
        elif kept and draw > 1.0 - recipe.split.held_out:
            splits[molecule.smiles] = "held_out"
        else:
            splits[molecule.smiles] = "train"
    return splits


def make_tasks(recipe: Recipe) -> list[Task]:
    """Every task of the recipe, in a seeded order in which any beginning is a fair sample; atoms come first.

    Dimers join molecules of one split only, so that no molecule crosses splits inside a dimer.
    """
    molecules = make_molecules(recipe.molecules, recipe.seed)
    splits = assign_splits(molecules, recipe)
    rng = np.random.default_rng([recipe.seed, 4])
    tasks = [
        Task(
            "molecule",
            (m.smiles,),
            (m.charge,),
            splits[m.smiles],
            recipe.seed,
            rng.random() < recipe.frames.md_share,
        )
        for m in molecules
    ]
    for number, split in enumerate(SPLITS):
        members = [m for m in molecules if splits[m.smiles] == split]
        share = round(recipe.frames.dimers * len(members) / len(molecules))
        made = pairs(members, share, recipe.frames.dimer_max_heavy_atoms, recipe.seed + 1000 * number)
        tasks += [
            Task("dimer", (a.smiles, b.smiles), (a.charge, b.charge), split, recipe.seed) for a, b in made
        ]
    if recipe.frames.scans:
        # The first molecules of the recipe are the listed ones.
        small = [m for m in molecules[: len(LISTED)] if m.heavy_atoms <= 5 and splits[m.smiles] == "train"]
        tasks += [Task("scan", (m.smiles,), (m.charge,), "train", recipe.seed) for m in small]
    unique = list({task.key: task for task in tasks}.values())
    order = rng.permutation(len(unique))
    return [Task("atoms", (), (), "train", recipe.seed), *(unique[i] for i in order)]


def check_tasks(tasks: list[Task]) -> None:
    """Every split must have a molecule; known before anything is labelled.

    Raises:
        ConfigError: a split is empty.
    """
    for split in SPLITS:
        if not any(task.split == split and task.kind != "atoms" for task in tasks):
            raise ConfigError(
                f"no molecule falls into the split {split!r}",
                expected="molecules to train on, to validate and to hold out",
                todo="raise molecules.count, split.valid or split.held_out; molecules of up to three heavy "
                "atoms always train, so molecules.max_heavy_atoms must be above",
            )


def open_journal(recipe: Recipe, folder: Path) -> Journal:
    """The journal of the recipe's labels in `folder`."""
    head = {
        "schema": 1,
        "seed": recipe.seed,
        "method": recipe.labelling.method,
        "molecules": recipe.molecules.model_dump(mode="json"),
        "frames": recipe.frames.model_dump(mode="json"),
        "split": recipe.split.model_dump(mode="json"),
    }
    return Journal(folder / "labels.jsonl", head)


def label_tasks(
    tasks: list[Task],
    recipe: Recipe,
    journal: Journal,
    on_task: Callable[[int, int, int], None] | None = None,
) -> int:
    """Label every task that the journal lacks, in the order of `tasks`; returns the labels computed now.

    Results are written in task order whatever the number of processes, so that a resumed journal has the same
    bytes as one made in one go.

    Args:
        on_task: called after each task with the tasks done, all tasks, and the frames so far.
    """
    todo = [task for task in tasks if task.key not in journal.keys]
    limit = recipe.labelling.max_frames or sys.maxsize
    computed = 0
    if journal.frames >= limit:
        return computed
    for task, frames, calls in _results(todo, recipe):
        journal.append(task.key, frames)
        computed += calls
        if on_task is not None:
            on_task(len(journal.keys), len(tasks), journal.frames)
        if journal.frames >= limit:
            break
    return computed


def _results(todo: list[Task], recipe: Recipe) -> Iterator[tuple[Task, list[Frame], int]]:
    """Frames and number of labels of every task, in the order of `todo`."""
    make = partial(make_frames, spec=recipe.frames, method=recipe.labelling.method)
    early: dict[str, tuple[list[Frame], int]] = {}
    following = iter(todo)
    task = next(following, None)
    for done, result in each_done(todo, make, recipe.labelling.processes):
        early[done.key] = result
        while task is not None and task.key in early:
            yield (task, *early.pop(task.key))
            task = next(following, None)


def read_splits(journal: Journal, tasks: list[Task], max_frames: int | None = None) -> dict[str, list[Atoms]]:
    """Labelled frames of each split as ASE atoms with mace's keys; isolated atoms under `atoms`.

    The journal is read up to the task with which `max_frames` is reached, where `label_tasks` stops.
    """
    by_key = {task.key: task for task in tasks}
    splits: dict[str, list[Atoms]] = {split: [] for split in (*SPLITS, "atoms")}
    total = 0
    for key, frames in journal.read():
        task = by_key[key]
        name = "atoms" if task.kind == "atoms" else task.split
        splits[name] += [as_atoms(frame, ".".join(task.smiles)) for frame in frames]
        total += len(frames)
        if max_frames is not None and total >= max_frames:
            break
    return splits


def as_atoms(frame: Frame, smiles: str) -> Atoms:
    """A frame with its labels where mace-torch looks for them."""
    atoms = frame.atoms.copy()
    atoms.info = {
        "REF_energy": frame.labels.energy,
        "total_charge": frame.charge,
        "total_spin": frame.spin,
        "config_type": frame.config_type,
        "smiles": smiles,
    }
    atoms.arrays["REF_forces"] = frame.labels.forces
    return atoms
