"""`pretrain`: molecules → labelled frames → split → training → errors → card; resumable at each stage."""

from __future__ import annotations

import gzip
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

from surveyor.errors import LabellingError, PotentialError
from surveyor.lab.pretraining.card import make_card, read_json, write_json
from surveyor.lab.pretraining.dataset import (
    SPLITS,
    check_tasks,
    label_tasks,
    make_tasks,
    open_journal,
    read_splits,
)
from surveyor.lab.pretraining.dynamics import run_dynamics, scan_pairs
from surveyor.lab.pretraining.evaluate import errors
from surveyor.lab.pretraining.fit import fit
from surveyor.lab.pretraining.frames import Labelling
from surveyor.lab.pretraining.molecules import ELEMENTS
from surveyor.lab.pretraining.overlap import overlap
from surveyor.lab.pretraining.recipe import Recipe
from surveyor.lab.pretraining.references import charge_references, references_of_start, subtract_references
from surveyor.lab.pretraining.replay import replay_subset
from surveyor.lab.pretraining.sampling import representative, thin
from surveyor.lab.pretraining.start import check_start
from surveyor.potentials import open_potential
from surveyor.potentials.mace.run import LOG_NAME
from surveyor.structures import whole_file, write_structures
from surveyor.structures.writing import frame_texts
from surveyor.types import Potential

Progress = Callable[[str, int, int, str], None]
"""Called with the stage, how much of it is done, out of how much, and a note."""


def pretrain(recipe: Recipe, folder: Path, *, on_progress: Progress | None = None) -> Path:
    """Make a pretrained potential and its card in `folder`; the same call resumes after an interruption.

    | in the folder                 | stage                                                        |
    |-------------------------------|--------------------------------------------------------------|
    | labels.jsonl                  | append-only journal of labelled tasks                        |
    | data.json, training/*.extxyz  | the split, its counts, and the isolated atoms' energies      |
    | training/, <name>.model       | mace's own checkpoints and log; the weights                  |
    | errors.json, checks.json      | what was measured                                            |
    | dynamics.npz                  | the motion of the molecules so far                           |
    | <name>.json                   | the card                                                     |
    | <name>-held-out.extxyz.gz     | a sample of the held-out frames, to measure errors again     |
    | <name>-replay.extxyz.gz       | a small part of the training frames, to be replayed          |

    Args:
        recipe: what to do.
        folder: made if it is not there; belongs to one recipe.
        on_progress: see `Progress`.

    Returns:
        the `.model` file.

    Raises:
        ConfigError: RDKit is missing, a split has no molecules, or the model to go on from is not the one
            that the recipe describes.
        PotentialError: the model to go on from is missing, or no model.
        LabellingError: tblite is missing, the folder belongs to another recipe, or a split has no frames.
        TrainingError: mace's trainer failed.
    """
    report = on_progress or _silent
    check_start(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    data = _label_and_split(recipe, folder, report)
    model = _train(recipe, folder, data, report)
    measured = _cached(folder / "errors.json", lambda: _evaluate(recipe, folder, model, report))
    training = _cached(folder / "fit.json", lambda: _training_record(folder))

    def write_card(checks: dict[str, Any]) -> None:
        card = folder / f"{recipe.name}.json"
        write_json(card, make_card(recipe, model, data["counts"], measured, checks, training))
        report("card", 1, 1, card.name)

    if not (folder / "checks.json").is_file():
        write_card({})  # the checks take long, and the weights can be used meanwhile
    write_card(_cached(folder / "checks.json", lambda: _check(recipe, folder, model, report)))
    return model


def _write_frames(path: Path, frames: list[Atoms]) -> None:
    """As compressed extxyz; the same frames give the same bytes."""
    plain = "".join(frame_texts(path, frames))
    with whole_file(path) as file:
        file.write(gzip.compress(plain.encode(), mtime=0))


def _silent(_: str, __: int, ___: int, ____: str) -> None:
    pass


def _copy(source: Path, target: Path) -> None:
    """In place only when it is whole."""
    with source.open("rb") as content, whole_file(target) as file:
        shutil.copyfileobj(content, file)


def _cached(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not path.is_file():
        write_json(path, make())
    return read_json(path)


def _label_and_split(recipe: Recipe, folder: Path, report: Progress) -> dict[str, Any]:
    """Stage one: `data.json` exists only when every file of the split is in place."""
    done = folder / "data.json"
    tasks = make_tasks(recipe)
    check_tasks(tasks)
    journal = open_journal(recipe, folder)
    if done.is_file():
        return read_json(done)
    label_tasks(
        tasks, recipe, journal, lambda n, total, frames: report("labels", n, total, f"{frames} frames")
    )
    splits = read_splits(journal, tasks, recipe.labelling.max_frames)
    empty = [name for name in SPLITS if not splits[name]]
    if empty:
        raise LabellingError(
            f"no labelled frame falls into the split {empty[0]!r}",
            todo="raise labelling.max_frames (the labels stay), or molecules.count in another folder",
        )
    training = folder / "training"
    training.mkdir(exist_ok=True)
    kept = {
        "train": thin(splits["train"], recipe.training.max_train_frames, recipe.seed),
        "valid": thin(splits["valid"], recipe.training.max_valid_frames, recipe.seed),
        "held_out": splits["held_out"],
    }
    atoms = {int(a.numbers[0]): float(a.info["REF_energy"]) for a in splits["atoms"]}
    start = recipe.training.start
    references = (
        charge_references(kept["train"], atoms)
        if start is None
        else references_of_start(kept["train"], open_potential(start))
    )
    for name, frames in kept.items():
        subtract_references(frames, references)
        write_structures(training / f"{name}.extxyz", frames)
    replay = replay_subset(kept["train"], recipe.replay.frames, recipe.seed)
    _write_frames(folder / f"{recipe.name}-replay.extxyz.gz", replay)
    counts: dict[str, Any] = {name: _counts(frames) for name, frames in kept.items()}
    counts["charge_references"] = {str(q): c for q, c in references.items()}
    write_json(done, {"counts": counts, "atom_energies": {str(z): e for z, e in atoms.items()}})
    return read_json(done)


def _counts(frames: list[Atoms]) -> dict[str, Any]:
    smiles = {part for atoms in frames for part in str(atoms.info["smiles"]).split(".")}
    return {
        "frames": len(frames),
        "atoms": sum(len(atoms) for atoms in frames),
        "molecules": len(smiles),
        "charged_frames": sum(atoms.info["total_charge"] != 0 for atoms in frames),
        "config_types": dict(sorted(Counter(str(atoms.info["config_type"]) for atoms in frames).items())),
    }


def _train(recipe: Recipe, folder: Path, data: dict[str, Any], report: Progress) -> Path:
    """Stage two."""
    model = folder / f"{recipe.name}.model"
    if model.is_file():
        return model
    epochs = recipe.training.epochs

    def on_line(line: str) -> None:
        found = re.search(r"Epoch (\d+): .*?(loss=.*)", line)
        if found:
            report("training", int(found.group(1)) + 1, epochs, found.group(2))

    energies = {int(z): float(e) for z, e in data["atom_energies"].items()}
    trained = fit(recipe, energies, folder / "training", on_line)
    _copy(trained, model)
    return model


def _training_record(folder: Path) -> dict[str, Any]:
    """Epochs and validation errors as the trainer logged them."""
    log = (folder / "training" / LOG_NAME).read_text(encoding="utf-8", errors="replace")
    pattern = r"Epoch (\d+): .*?MAE_E_per_atom=\s*([\d.]+) meV, MAE_F=\s*([\d.]+) meV"
    epochs = {int(n): (float(e), float(f)) for n, e, f in re.findall(pattern, log)}
    return {
        "valid_by_epoch": [
            {"epoch": n, "energy_mae": e, "forces_mae": f} for n, (e, f) in sorted(epochs.items())
        ]
    }


def _read(path: Path) -> list[Atoms]:
    return list(read(path, index=":", format="extxyz"))


def _evaluate(recipe: Recipe, folder: Path, path: Path, report: Progress) -> dict[str, Any]:
    """Stage three: the held-out molecules, and the extra test file where the recipe names one."""
    potential = open_potential(path)
    report("evaluation", 0, 2, "held-out molecules")
    frames = _read(folder / "training" / "held_out.extxyz")
    predicted = potential.predict(frames)
    per_atom = [
        abs(labels.energy - atoms.info["REF_energy"]) / len(atoms)
        for atoms, labels in zip(frames, predicted, strict=True)
    ]
    sample = representative(frames, np.array(per_atom), recipe.checks.sample)
    _write_frames(folder / f"{recipe.name}-held-out.extxyz.gz", sample)
    near = [
        i for i, atoms in enumerate(frames) if atoms.info["config_type"] in ("relaxation", "displaced", "md")
    ]
    result = {
        "held_out": errors(frames, predicted, lambda a: str(a.info["config_type"])),
        "held_out_charge": errors(frames, predicted, lambda a: f"{int(a.info['total_charge']):+d}")[
            "by_config_type"
        ],
        "held_out_single_molecules": errors(
            [frames[i] for i in near], [predicted[i] for i in near], lambda a: str(a.info["config_type"])
        )["total"],
    }
    extra = recipe.checks.extra_tests
    if extra is not None:
        report("evaluation", 1, 2, extra.name)
        result["extra_tests"] = {"file": extra.name, **_extra(recipe, folder, potential, extra)}
    report("evaluation", 2, 2, "")
    return result


def _extra(recipe: Recipe, folder: Path, potential: Potential, path: Path) -> dict[str, Any]:
    """Errors on other people's geometries, labelled anew at the level of the training labels."""
    if not path.is_file():
        raise PotentialError(f"no file {path}", todo="mend or remove checks.extra_tests in the recipe")
    every = _read(path)
    labelling = Labelling(recipe.labelling.method)
    frames = []
    for atoms in thin(every, recipe.checks.extra_frames, recipe.seed):
        labels = labelling.label(atoms, 0, 1)
        if labels is not None and set(atoms.numbers) <= set(ELEMENTS):
            copy = Atoms(atoms.numbers, positions=atoms.positions)
            copy.info = {
                "REF_energy": labels.energy,
                "config_type": str(atoms.info.get("config_type", "frame")),
            }
            copy.arrays["REF_forces"] = labels.forces
            frames.append(copy)
    labelled = open_journal(recipe, folder).keys
    smiles = {
        part
        for task in make_tasks(recipe)
        if task.split in ("train", "valid") and task.key in labelled
        for part in task.smiles
    }
    summary = errors(frames, potential.predict(frames), lambda a: str(a.info["config_type"]))
    return {
        **summary,
        "overlap": overlap(sorted(smiles), thin(every, recipe.checks.extra_frames, recipe.seed)),
    }


def _check(recipe: Recipe, folder: Path, path: Path, report: Progress) -> dict[str, Any]:
    """Stage four: pairs pushed together, and dynamics of held-out molecules."""
    potential = open_potential(path)
    checks = recipe.checks
    result: dict[str, Any] = {"pairs": scan_pairs(potential, ELEMENTS)}
    starts: dict[str, Atoms] = {}
    for atoms in _read(folder / "training" / "held_out.extxyz"):
        if atoms.info["config_type"] == "relaxation":
            starts[str(atoms.info["smiles"])] = atoms  # the last one is the most relaxed
    chosen = thin(list(starts.values()), checks.md_molecules, recipe.seed)
    if checks.md_molecules and checks.md_steps and chosen:
        result["dynamics"] = run_dynamics(
            potential,
            chosen,
            steps=checks.md_steps,
            step_fs=checks.md_step_fs,
            seed=recipe.seed,
            state=folder / "dynamics.npz",
            on_step=lambda n, total: report("dynamics", n, total, f"{len(chosen)} molecules"),
        )
    return result
