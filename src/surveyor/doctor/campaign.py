"""Checks of a campaign before it pays for anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from surveyor.campaign import Plan
from surveyor.campaign.inputs import INPUTS, compare_inputs
from surveyor.config import CampaignConfig, build_plan, calculator_spec, load_campaign
from surveyor.doctor.checks import examine_file, examine_overlaps
from surveyor.doctor.dataset import Dataset, Role
from surveyor.doctor.findings import Finding, Verdict, error, fault, not_checked, ok, warning
from surveyor.doctor.scheduler import scheduler
from surveyor.errors import LabellingError, StructureError, SurveyorError
from surveyor.labelling import CalculatorSpec, EngineLabeller, LocalEngine
from surveyor.potentials.opening import BUILTIN, builtin_path
from surveyor.progress import Progress, duration
from surveyor.structures.identity import structure_id, total_charge, total_spin
from surveyor.structures.label_keys import reference_energies
from surveyor.types import Failure, Labels, Potential

MANUAL = "manual"
BYTES_AN_ATOM = 130
"""Of a labelled frame in extended xyz."""
MODELS_A_ROUND = 4
"""The round's model, and the trainer's checkpoint, model and compiled model."""
FLOAT32 = 4
"""Bytes of a number in the features that a campaign keeps."""
SPARE = 3
"""× the estimate: below, a warning."""
SAME_FORCE = 0.05
"""eV/Å; the largest difference of a force component between two runs of one method."""
VALIDATED_FROM = 10
"""Labels from which a campaign holds at least one back for validation."""


def read_campaign_file(path: Path) -> tuple[CampaignConfig, Path]:
    """The checked configuration, and the folder that the campaign has or would have.

    Raises:
        ConfigError: no such file, not YAML, an unknown key or a wrong value.
    """
    if path.is_dir():
        return load_campaign(path / "config.yaml"), path
    return load_campaign(path), path.with_suffix("")


def examine_campaign(
    config: CampaignConfig,
    folder: Path,
    potential: Potential | None,
    progress: Progress,
    *,
    seed: int,
    time_limit: float,
) -> Iterator[Finding]:
    """Files, overlaps, plan, disk, calculator and scheduler of a campaign."""
    subject = f"campaign {folder.resolve().name}"
    yield Finding(
        subject, "configuration", ok(f"model {Path(config.model).name}, rule {config.selection.rule}")
    )
    yield from _inputs(subject, config, folder)
    sets: list[Dataset] = []
    for path, role in _files(config):
        yield from examine_file(path, role, potential, progress, sets, seed=seed)
    yield from examine_overlaps(sets, progress)
    by_role = {data.role: data for data in reversed(sets)}
    pool, start, test = (by_role.get(role) for role in (Role.POOL, Role.START, Role.TEST))
    yield Finding(subject, "test set", test_set(config))
    yield Finding(subject, "validation", validation(config, start))
    yield Finding(subject, "scheduler", scheduler(getattr(config, "engine", None)))
    if pool is None:
        return
    yield Finding(subject, "plan", plan(config, pool))
    yield Finding(subject, "disk", disk(free_bytes(folder), needed_bytes(config, pool, start)))
    yield from _calculator(subject, config, pool, [s for s in (start, test) if s], progress, time_limit)


def _inputs(subject: str, config: CampaignConfig, folder: Path) -> Iterator[Finding]:
    """What a run would refuse before it pays: files, a model that cannot be trained, inputs that changed."""
    try:
        given = build_plan(config)
        references = reference_energies(given.isolated)
    except SurveyorError as problem:
        yield Finding(subject, "inputs", fault(problem))
        return
    try:
        if (folder / INPUTS).is_file():
            compare_inputs(folder, given.sources)
    except SurveyorError as problem:
        yield Finding(subject, "inputs", fault(problem))
    else:
        yield Finding(subject, "inputs", ok("labels are read, and the model can be trained"))
    if references:
        yield Finding(subject, "isolated atoms", isolated_atoms(references, given))


def isolated_atoms(references: Mapping[int, float], given: Plan) -> Verdict:
    """Isolated atoms of `start` cover every element of pool, start and test."""
    names = " ".join(chemical_symbols[z] for z in sorted(references))
    present = {int(z) for part in (given.pool, given.start, given.test) for a in part for z in set(a.numbers)}
    lacking = " ".join(chemical_symbols[z] for z in sorted(present - references.keys()))
    if lacking:
        return warning(
            f"{names}, but not {lacking}: set aside, reference energies are fitted to the labels",
            "add isolated atoms of the other elements, or take them all out",
        )
    return ok(f"{names}: their energies are the reference energies")


def _files(config: CampaignConfig) -> Iterator[tuple[Path, Role]]:
    yield config.pool, Role.POOL
    for path, role in ((config.start, Role.START), (config.test, Role.TEST), (config.target, Role.TARGET)):
        if path is not None:
            yield path, role


def test_set(config: CampaignConfig) -> Verdict:
    """A test set is named; without one, no error is measured and no target error is ever reached."""
    if config.test is not None:
        return ok(f"{config.test.name}")
    goals = [key for key in ("energy_mae", "force_mae") if getattr(config.stop, key) is not None]
    if goals:
        return error(
            f"stop: {goals[0]} without a test set: it is never reached",
            "name labelled structures under test:, or take the goal out",
        )
    return warning("no test set: no errors are measured", "name labelled structures under test:")


def planned_labels(config: CampaignConfig) -> int | None:
    """min(rounds × batch, labels); None where neither is limited."""
    stop, batch = config.stop, config.selection.batch
    limits = [n for n in (stop.rounds and stop.rounds * batch, stop.labels) if n is not None]
    return min(limits) if limits else None


def plan(config: CampaignConfig, pool: Dataset) -> Verdict:
    """min(rounds × batch, labels) < different structures of the pool."""
    size = len(set(pool.ids) - {""})
    planned = planned_labels(config)
    if all(limit is None for limit in config.stop.model_dump().values()):
        return warning(
            f"no limit under stop: all {size} structures are labelled", "set stop: labels or rounds"
        )
    if planned is not None and planned >= size:
        return warning(
            f"up to {planned} labels for {size} different structures in the pool: nothing is left to choose",
            "a larger pool, or fewer labels",
        )
    return ok(f"up to {size if planned is None else planned} labels from {size} different structures")


def validation(config: CampaignConfig, start: Dataset | None) -> Verdict:
    """(start + batch) × valid_fraction of the first round's labels hold back one or more."""
    fraction = config.training.valid_fraction
    first = config.selection.batch + (0 if start is None else int(start.labelled.sum()))
    if fraction == 0:
        return ok("none wanted (valid_fraction: 0)")
    if first < VALIDATED_FROM and first * fraction < 1:
        return warning(
            f"the first round has {first} labels, of which none validates: the last epoch is kept",
            f"start with {VALIDATED_FROM} labels or more (start:, or selection: batch)",
        )
    return ok(f"about {max(1, round(first * fraction))} of the first round's {first} labels")


def needed_bytes(config: CampaignConfig, pool: Dataset, start: Dataset | None) -> int:
    """rounds × (4 models + frames of the round) + journal + features; a frame has 130 bytes per atom."""
    size = float(np.mean([len(atoms) for atoms in pool.structures]))
    planned = planned_labels(config)
    labels = len(pool) if planned is None else min(planned, len(pool))
    rounds = max(1, -(-labels // config.selection.batch))
    frame = BYTES_AN_ATOM * size
    known = 0 if start is None else len(start)
    path = builtin_path() if config.model == BUILTIN else Path(config.model)
    model = path.stat().st_size if path.is_file() else 50_000_000
    rows = FLOAT32 * config.features.dim * (known + len(pool))
    return int(rounds * (MODELS_A_ROUND * model + frame * (known + labels)) + frame * labels + rows)


def free_bytes(folder: Path) -> int:
    """Free space where the folder is or will be."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def disk(free: int, needed: int) -> Verdict:
    """free > 3 × estimate; under the estimate an error."""
    text = f"about {needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free"
    if free < needed:
        return error(text, "free space, or choose another folder with -o")
    if free < SPARE * needed:
        return warning(text, "free space: other users of the disk may fill it meanwhile")
    return ok(text)


def _calculator(
    subject: str,
    config: CampaignConfig,
    pool: Dataset,
    labelled: list[Dataset],
    progress: Progress,
    time_limit: float,
) -> Iterator[Finding]:
    """The calculator on one frame of the pool, and on one of each labelled set."""
    if config.labels.calculator.lower() == MANUAL:
        yield Finding(subject, "calculator", not_checked("the labels come from people"))
        return
    try:
        spec = calculator_spec(config.labels)
        spec.load_class()
    except SurveyorError as problem:
        yield Finding(subject, "calculator", fault(problem))
        return
    yield Finding(subject, "charges", charges_reach(spec, pool))
    chosen = [(data, at) for data in (pool, *labelled) if (at := _middle(data)) is not None]
    if not chosen or chosen[0][0] is not pool:
        yield Finding(subject, "calculator", not_checked("no frame of the pool is sound"))
        return
    progress.start(f"one frame of each file through {config.labels.calculator}", len(chosen))
    results = try_calculator(spec, [data.structures[at] for data, at in chosen], time_limit)
    progress.finish()
    for (data, at), result in zip(chosen, results, strict=False):  # the first that fails ends the trials
        if data is pool:
            verdict = calculator(result, len(data.structures[at]), at, planned_labels(config), time_limit)
            yield Finding(subject, "calculator", verdict)
        else:
            yield Finding(data.name, "level of theory", same_level(data, at, result))


def _middle(data: Dataset) -> int | None:
    """The frame of median size among those that can be computed, labelled ones where labels are needed."""
    usable = np.flatnonzero(data.labelled if data.role.needs_labels else data.sound)
    sizes = [len(data.structures[i]) for i in usable.tolist()]
    return int(usable[np.argsort(sizes, kind="stable")[len(sizes) // 2]]) if sizes else None


def try_calculator(
    spec: CalculatorSpec, frames: Sequence[Atoms], time_limit: float
) -> list[Labels | Failure]:
    """Labels of frames from a worker, which is killed past the limit (s); they end with the first failure."""
    wanted = {structure_id(atoms): atoms for atoms in frames}
    found: dict[str, Labels | Failure] = {}
    try:
        for name, result in EngineLabeller(spec, LocalEngine(processes=1), time_limit=time_limit)(wanted):
            found[name] = result
            if isinstance(result, Failure):
                break
    except LabellingError as problem:
        found[next(name for name in wanted if name not in found)] = Failure(problem.got)
    return [found[name] for atoms in frames if (name := structure_id(atoms)) in found]


def calculator(
    result: Labels | Failure, n_atoms: int, frame: int, planned: int | None, time_limit: float
) -> Verdict:
    """Finite energy and forces for one frame of the pool, of median size, within the time limit."""
    where = f"pool frame {frame} ({n_atoms} atoms)"
    seconds = result.core_seconds
    if isinstance(result, Failure) and result.final and seconds >= time_limit:
        return warning(
            f"no label of {where} within {time_limit:g} s",
            "no error if labels are dear: give it time with --time-limit SECONDS",
        )
    if isinstance(result, Failure):
        return error(
            f"no label of {where}: {result.reason}",
            "run the calculator by itself on this frame; check settings, licence and files that it needs",
        )
    cost = f"; {planned} such labels: {duration(planned * seconds)} on one process" if planned else ""
    return ok(f"{where} labelled in {duration(seconds)}{cost}")


def same_level(data: Dataset, at: int, result: Labels | Failure) -> Verdict:
    """max |F_file − F_calculator| < 0.05 eV/Å on one frame: labels of two methods must not mix."""
    if isinstance(result, Failure):
        return not_checked(f"frame {at}: {result.reason}")
    forces = data.forces[at]
    assert forces is not None  # noqa: S101  (labelled)
    off = float(np.abs(forces - result.forces).max())
    shift = result.energy - float(data.energy[at])
    if off > SAME_FORCE:
        return warning(
            f"the calculator's forces on frame {at} differ by up to {off:.3f} eV/Å (energy {shift:+.3f} eV)",
            "these labels are of another method: label them again with the campaign's, or change labels:",
        )
    return ok(f"frame {at} labelled again: forces within {off:.1g} eV/Å, energy {shift:+.2g} eV")


def charges_reach(spec: CalculatorSpec, pool: Dataset) -> Verdict:
    """Where the pool has charges or spins, the calculator has a key that receives them."""
    lost = []
    for key, name, usual, read in (
        (spec.charge_key, "charge", 0, total_charge),
        (spec.spin_key, "spin", 1, total_spin),
    ):
        if key is None and any(_differs(atoms, usual, read) for atoms in pool.structures):
            lost.append(name)
    if lost:
        return error(
            f"the pool has {' and '.join(f'total_{name}' for name in lost)}, and the calculator is not told",
            "; ".join(f"labels: {name}_key: the keyword that takes it" for name in lost),
        )
    return ok("charge and spin reach the calculator, or all frames are neutral singlets")


def _differs(atoms: Atoms, usual: int, read: Callable[[Atoms], int]) -> bool:
    try:
        return read(atoms) != usual
    except StructureError:
        return False
