"""`surveyor.select`: one batch, for people with their own loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from surveyor.acquisition import Batch, Featurised, acquire, featurise
from surveyor.calibration import MIN_FOLDS, MIN_STRUCTURES, KnownErrors
from surveyor.config import (
    FeatureConfig,
    SelectionConfig,
    build_features,
    build_rule,
    check_aim,
    check_committee,
    check_price,
)
from surveyor.disagreement import UNITS, check_quantity, disagreement, shared_elements
from surveyor.errors import FeatureError, SelectionError, notice
from surveyor.features.registry import FEATURES, takes
from surveyor.features.store import StorableFeatureMap, open_store
from surveyor.metrics import residuals
from surveyor.posterior import check_noise
from surveyor.prices import prices
from surveyor.progress import Progress, Silent
from surveyor.reasons import atom_shares
from surveyor.selection import RULES
from surveyor.structures import StructureFile, check_elements, structure_id, validate
from surveyor.structures.copies import copies_left_out
from surveyor.structures.labels import has_labels, without_marks
from surveyor.types import FeatureMap, Features, FloatArray, Potential, StructureSource

IN_MEMORY = 4 * 2**30
"""Rows of a store that take more bytes than this stay on disk and are read as the rule asks for them."""


NOISE_FLOOR = 1.05
"""× λ: a second look at what is known already leaves a residual variance of λ."""


@dataclass(frozen=True, eq=False)
class Picked:
    """The chosen structures, best first, and how they were chosen.

    `structures` are copies with `surveyor_rank`, `surveyor_std`, `surveyor_id` and, where there were labelled
    structures, `surveyor_nearest` (id) and `surveyor_similarity` in `info`; where φ is a sum over atoms, each
    atom's share of the residual variance is in `arrays` as `surveyor_atom_share`.
    """

    structures: list[Atoms]
    batch: Batch

    @property
    def indices(self) -> list[int]:
        """Positions in the pool, best first."""
        return self.batch.indices

    def __len__(self) -> int:
        return len(self.structures)


def select(
    pool: StructureSource,
    labelled: StructureSource | None,
    model: str | Path | Potential,
    n: int | None,
    *,
    features: str = "tangent",
    rule: str = "target-variance",
    target: StructureSource | None = None,
    committee: Sequence[str | Path | Potential] = (),
    committee_on: str = "forces",
    cost: str | FloatArray | None = None,
    budget: float | None = None,
    shortlist: int | None = None,
    store: str | Path | None = None,
    dim: int = 512,
    noise: float = 1e-4,
    seed: int = 0,
    device: str | None = None,
    forecast: int = 0,
    progress: Progress | None = None,
) -> Picked:
    """Pick the n structures of a pool whose labels will teach the potential most.

    Args:
        pool: a file, or structures; labels in it are not looked at.
        labelled: a file or structures that are labelled already; None before the first label.
        model: an opened potential, or what `open_potential` takes; not opened for features that take none.
        n: number of picks; None: as many as the budget pays for.
        features: a name in `surveyor.features.FEATURES`, or the import path `module:Name` of a feature map.
        rule: a name in `surveyor.selection.RULES`, or the import path of a rule.
        target: unlabelled structures that `target-variance` aims at; None: a seeded sample of the pool.
        committee: two or more potentials, differently fine-tuned, for the rule `committee`.
        committee_on: what they disagree on, `energies` (eV/atom) or `forces` (eV/Å).
        cost: what a label costs: `atoms^3` (any power), the key of `info` that holds it, or one number a pool
            structure. Rules that weigh costs then take the most for the cost; others refuse them.
        budget: what the picks may cost together.
        shortlist: consider only so many structures, those of largest residual variance; None: all.
        store: features of the pool that `surveyor embed` wrote; None computes them.
        dim: sketch size of tangent features.
        noise: λ of the posterior, as a share of the pool's mean squared feature norm.
        seed: of sketch and random draws.
        forecast: how many labels to look ahead; the result is in `batch.forecast`. 0: no forecast.

    Where `labelled` holds 20 or more structures with labels, uncertainties are calibrated to meV/atom and
    meV/Å: `batch.errors`, `batch.calibrations`, and the errors of the forecast; but not with `soap`, which
    knows no potential.

    Raises:
        SurveyorError: bad input of any kind; the message says what to do.
    """
    _check_arguments(features, rule, target, n, noise, budget)
    check_price(rule, cost, budget)
    check_committee(rule, len(committee))
    check_quantity(committee_on)
    progress = progress or Silent()
    potential = _opened(model, device) if takes(features, "potential") else None
    members = [_opened(source, device) for source in committee]
    known_elements = [] if potential is None else [potential.elements]
    shared = [*known_elements, shared_elements(members)] if members else known_elements
    candidates = _again(pool, _common(shared))
    if labelled is not None:
        labelled = _again(labelled, _common(known_elements))
    if target is not None:
        target = _again(target, _common(known_elements))
    seen = [candidates] if store else [candidates, labelled or (), target or ()]
    feature_map = build_features(potential, FeatureConfig(kind=features, dim=dim), seed, *seen)
    if store is None:
        pool_features = _featurise("features of the pool", candidates, feature_map, progress)
    else:
        pool_features = _from_store(Path(store), feature_map)

    def others(what: str, source: Iterable[Atoms] | None) -> Featurised | None:
        if source is None:
            return None
        return _featurise(f"features of the {what}", source, feature_map, progress)

    train = others("labelled", labelled) or Featurised(Features.empty(feature_map.dim), ())
    aim = others("target", target)
    copies = copies_left_out(candidates, () if labelled is None else labelled)
    known = None if potential is None or labelled is None else _known_errors(potential, labelled, progress)
    price = prices(candidates, cost) if isinstance(cost, str) else cost
    disputed = None
    if members:
        progress.start(f"disagreement on {committee_on}", len(pool_features))
        disputed = disagreement(members, candidates, committee_on, on_progress=progress.advance)
        progress.finish(f"mean {disputed.mean():.3g} {UNITS[committee_on]}")
    progress.start(f"choosing {'' if n is None else f'{n} '}of {len(pool_features)}")
    batch = acquire(
        pool_features, train, n,
        build_rule(SelectionConfig(rule=rule, noise=noise), shortlist=shortlist),
        noise=noise, seed=seed, target=aim, cost=price, budget=budget, disagreement=disputed,
        exclude=copies, n_forecast=forecast, known=known,
    )  # fmt: skip
    progress.finish()
    _note_noise_floor(batch, noise)
    structures = _picked_structures(candidates, batch)
    for key, values in (("surveyor_cost", price), ("surveyor_disagreement", disputed)):
        if values is not None:
            for atoms, index in zip(structures, batch.indices, strict=True):
                atoms.info[key] = float(values[index])
    _add_atom_shares(structures, batch, feature_map)
    return Picked(structures, batch)


def _note_noise_floor(batch: Batch, noise: float) -> None:
    """Say from which pick on the residual variance is that of the noise: those labels tell nothing new."""
    above = [pick.rank for pick in batch.picks if pick.std**2 > NOISE_FLOOR * noise]
    first = max(above, default=-1) + 1
    if first < len(batch):
        floor = float(np.sqrt(NOISE_FLOOR * noise))
        notice(
            f"the picks from rank {first} on lie at the noise floor (std ≤ {floor:.2g}): "
            "what is labelled or picked before them says as much"
        )


def _opened(source: str | Path | Potential, device: str | None) -> Potential:
    if not isinstance(source, str | Path):
        return source
    from surveyor.potentials import open_potential

    return open_potential(source, device)


def _check_arguments(
    features: str,
    rule: str,
    target: StructureSource | None,
    n: int | None,
    noise: float,
    budget: float | None,
) -> None:
    """Refuse before anything is computed."""
    FEATURES.find(features, "features")
    RULES.find(rule, "rule")
    check_aim(rule, target)
    check_noise(noise)
    if n is None and budget is None:
        raise SelectionError("neither a number of picks nor a budget", expected="n, or cost and budget")
    if n is not None and n < 1:
        raise SelectionError(f"n = {n}", expected="at least one structure to pick")


def _featurise(
    what: str, structures: Iterable[Atoms], feature_map: FeatureMap, progress: Progress
) -> Featurised:
    progress.start(what, structures.count() if isinstance(structures, StructureFile) else None)
    found = featurise(structures, feature_map, on_progress=progress.advance)
    progress.finish(f"{len(found)} structures")
    return found


def _from_store(path: Path, feature_map: StorableFeatureMap) -> Featurised:
    """Features of a complete store that this feature map could have written.

    Raises:
        FeatureError: the store is of another potential or other settings, or not complete.
    """
    store = open_store(path)
    if difference := store.differing(feature_map.settings):
        key, there, now = difference
        raise FeatureError(
            f"the store {path} was made with {key} {there!r}, now it is {now!r}",
            expected="the potential and feature settings that the store was made with",
            todo="give the same --model, --features, --dim and --seed, or embed the pool again",
        )
    if not store.complete:
        raise FeatureError(
            f"the store {path} is not complete", todo="run the `surveyor embed` command again; it goes on"
        )
    return Featurised(store.features(in_memory=store.n_bytes <= IN_MEMORY), tuple(store.ids))


def _common(known: Sequence[Sequence[int]]) -> tuple[int, ...] | None:
    """Atomic numbers that all know; None where nobody has to know any."""
    return tuple(sorted(set(known[0]).intersection(*known[1:]))) if known else None


def _again(source: StructureSource, elements: Sequence[int] | None) -> Iterable[Atoms]:
    """The source as something that can be iterated again, validated."""
    if isinstance(source, str | Path):
        return StructureFile(Path(source), elements)
    structures = list(source)
    for number, atoms in enumerate(structures):
        validate(atoms, f"structure {number}")
        if elements is not None:
            check_elements(atoms, elements, f"structure {number}")
    return structures


def _picked_structures(candidates: Iterable[Atoms], batch: Batch) -> list[Atoms]:
    by_index = {pick.index: pick for pick in batch.picks}
    found: dict[int, Atoms] = {}
    for index, atoms in enumerate(candidates):
        if index in by_index:
            pick, chosen = by_index[index], without_marks(atoms)
            if structure_id(atoms) != pick.id:
                raise FeatureError(
                    f"structure {index} of the pool is not the one that the feature store holds",
                    expected="the file that was embedded",
                    todo="embed this pool into a new store",
                )
            chosen.calc = None
            chosen.info |= {
                "surveyor_rank": pick.rank,
                "surveyor_std": pick.std,
                "surveyor_id": pick.id,
            }
            if pick.nearest is not None:
                chosen.info |= {"surveyor_nearest": pick.nearest, "surveyor_similarity": pick.similarity}
            found[index] = chosen
            if len(found) == len(by_index):
                break
    if len(found) < len(by_index):
        raise FeatureError(
            f"the pool is shorter than the feature store: {len(found)} of {len(by_index)} picks found",
            expected="the file that was embedded",
        )
    return [found[index] for index in batch.indices]


def _add_atom_shares(structures: Sequence[Atoms], batch: Batch, feature_map: FeatureMap) -> None:
    if batch.directions is None:
        return
    for atoms, direction in zip(structures, batch.directions, strict=True):
        shares = atom_shares(feature_map, atoms, direction)
        if shares is not None:
            atoms.set_array("surveyor_atom_share", shares)


def _known_errors(potential: Potential, labelled: Iterable[Atoms], progress: Progress) -> KnownErrors | None:
    """The potential's errors on labelled structures; None where labels are missing or too few.

    Structures of one reaction are held out together where all name theirs, and repeated ones in any case.
    """
    from surveyor.potentials.base import Shiftable
    from surveyor.potentials.references import shifted_to

    structures = list(labelled)
    if len(structures) < MIN_STRUCTURES or not all(has_labels(atoms) for atoms in structures):
        return None
    if not isinstance(potential, Shiftable):
        notice(f"no calibration: reference energies of the family {potential.family!r} cannot be shifted")
        return None
    progress.start("errors on the labelled", len(structures))
    shifted = shifted_to(potential, structures)
    per_atom, differences = residuals(shifted, structures)
    energy = -1e3 * per_atom  # of the label against the prediction: what the learner has to add
    forces = 1e3 * np.array([np.abs(difference).mean() for difference in differences])
    progress.finish(f"{np.abs(energy).mean():.1f} meV/atom, {forces.mean():.0f} meV/Å")
    groups = [str(atoms.info.get("reaction", "")) for atoms in structures]
    if "" in groups or len(set(groups)) < MIN_FOLDS:
        groups = [structure_id(atoms) for atoms in structures]
    if not (energy.any() and forces.any() and len(set(groups)) >= MIN_FOLDS):
        return None  # the potential's own predictions, or copies of one structure
    return KnownErrors(energy, forces, groups)
