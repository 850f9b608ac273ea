"""`surveyor.select`: one batch, for people with their own loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from ase import Atoms

from surveyor.acquisition import Featurised, acquire, featurise
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
from surveyor.features.store import IN_MEMORY, open_store
from surveyor.metrics import residuals
from surveyor.picked import Picked, marked_structures, note_noise_floor
from surveyor.posterior import check_noise
from surveyor.potentials.opening import opened
from surveyor.prices import prices
from surveyor.progress import Progress, Silent
from surveyor.selection import RULES
from surveyor.structures import StructureFile, structure_id, validated
from surveyor.structures.copies import copies_left_out
from surveyor.structures.labels import has_labels
from surveyor.types import (
    FeatureMap,
    Features,
    FloatArray,
    Potential,
    StorableFeatureMap,
    StructureSource,
)


def select(
    pool: StructureSource,
    labelled: StructureSource | None = None,
    model: str | Path | Potential = "builtin",
    n: int | None = 20,
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
    python: str | Path | None = None,
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
        device: on which the potentials are opened; None takes a GPU where there is one.
        python: of another environment, in which the potentials are opened; None: this one.
        forecast: how many labels to look ahead; the result is in `batch.forecast`. 0: no forecast.

    Where `labelled` holds 20 or more structures with labels, uncertainties are calibrated to meV/atom and
    meV/Å: `batch.errors`, `batch.calibrations`, and the errors of the forecast; but not with `soap`, which
    knows no potential.

    Raises:
        SurveyorError: bad input of any kind; the message says what to do.
    """
    _check_numbers({"n": n, "shortlist": shortlist, "dim": dim, "seed": seed, "forecast": forecast}, Integral)
    _check_numbers({"noise": noise, "budget": budget}, Real)
    if isinstance(committee, str | Path):
        raise SelectionError(f"committee is {str(committee)!r}", expected="a list of two potentials or more")
    _check_arguments(features, rule, target, n, noise, cost, budget, len(committee), committee_on)
    progress = progress or Silent()
    potential = opened(model, device, python) if takes(features, "potential") else None
    members = [opened(source, device, python) for source in committee]
    candidates, known, aims = _structures(pool, labelled, target, potential, members)
    seen = [candidates] if store else [candidates, known or (), aims or ()]
    feature_map = build_features(potential, FeatureConfig(kind=features, dim=dim), seed, *seen)
    pool_features = _of_pool(candidates, feature_map, store, progress)
    train = _others("labelled", known, feature_map, progress)
    aim = _others("target", aims, feature_map, progress)
    errors = None if potential is None or known is None else _known_errors(potential, known, progress)
    price = prices(candidates, cost) if isinstance(cost, str) else cost
    disputed = _disputed(members, candidates, len(pool_features), committee_on, progress)
    progress.start(f"choosing {'' if n is None else f'{n} '}of {len(pool_features)}")
    batch = acquire(
        pool_features, train or Featurised(Features.empty(feature_map.dim), ()), n,
        build_rule(SelectionConfig(rule=rule, noise=noise), shortlist=shortlist),
        noise=noise, seed=seed, target=aim, cost=price, budget=budget, disagreement=disputed,
        exclude=copies_left_out(candidates, known or ()), n_forecast=forecast, known=errors,
    )  # fmt: skip
    progress.finish()
    note_noise_floor(batch, noise)
    marks = {"surveyor_cost": price, "surveyor_disagreement": disputed}
    return Picked(marked_structures(candidates, batch, feature_map, marks), batch)


def _check_numbers(given: Mapping[str, object], kind: type[Integral] | type[Real]) -> None:
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise SelectionError(
                f"{name} is {value!r}", expected="a whole number" if kind is Integral else "a number"
            )


def _check_arguments(
    features: str,
    rule: str,
    target: StructureSource | None,
    n: int | None,
    noise: float,
    cost: str | FloatArray | None,
    budget: float | None,
    members: int,
    committee_on: str,
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
    check_price(rule, cost, budget)
    check_committee(rule, members)
    check_quantity(committee_on)


def _structures(
    pool: StructureSource,
    labelled: StructureSource | None,
    target: StructureSource | None,
    potential: Potential | None,
    members: Sequence[Potential],
) -> tuple[Iterable[Atoms], Iterable[Atoms] | None, Iterable[Atoms] | None]:
    """Pool, labelled and target, each of elements that all potentials which look at it know."""
    known = [] if potential is None else [potential.elements]
    shared = [*known, shared_elements(members)] if members else known
    return (
        _again(pool, _common(shared)),
        None if labelled is None else _again(labelled, _common(known)),
        None if target is None else _again(target, _common(known)),
    )


def _disputed(
    members: Sequence[Potential], candidates: Iterable[Atoms], count: int, quantity: str, progress: Progress
) -> FloatArray | None:
    """How far the members of a committee lie apart about each candidate; None without a committee."""
    if not members:
        return None
    progress.start(f"disagreement on {quantity}", count)
    found = disagreement(members, candidates, quantity, on_progress=progress.advance)
    progress.finish(f"mean {found.mean():.3g} {UNITS[quantity]}")
    return found


def _featurise(
    what: str, structures: Iterable[Atoms], feature_map: FeatureMap, progress: Progress
) -> Featurised:
    progress.start(what, structures.count() if isinstance(structures, StructureFile) else None)
    found = featurise(structures, feature_map, on_progress=progress.advance)
    progress.finish(f"{len(found)} structures")
    return found


def _others(
    what: str, structures: Iterable[Atoms] | None, feature_map: FeatureMap, progress: Progress
) -> Featurised | None:
    return (
        None
        if structures is None
        else _featurise(f"features of the {what}", structures, feature_map, progress)
    )


def _of_pool(
    candidates: Iterable[Atoms],
    feature_map: StorableFeatureMap,
    store: str | Path | None,
    progress: Progress,
) -> Featurised:
    if store is not None:
        return _from_store(Path(store), feature_map)
    return _featurise("features of the pool", candidates, feature_map, progress)


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
    return validated(source, elements)


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
    energy = 1e3 * per_atom
    forces = 1e3 * np.array([np.abs(difference).mean() for difference in differences])
    progress.finish(f"{np.abs(energy).mean():.1f} meV/atom, {forces.mean():.0f} meV/Å")
    groups = [str(atoms.info.get("reaction", "")) for atoms in structures]
    if "" in groups or len(set(groups)) < MIN_FOLDS:
        groups = [structure_id(atoms) for atoms in structures]
    if not (energy.any() and forces.any() and len(set(groups)) >= MIN_FOLDS):
        return None  # the potential's own predictions, or copies of one structure
    return KnownErrors(energy, forces, groups)
