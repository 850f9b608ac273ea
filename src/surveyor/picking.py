"""`surveyor.select`: one batch, for people with their own loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from surveyor.acquisition import Batch, Featurised, acquire, featurise
from surveyor.config import FEATURES, RULES, FeatureConfig, SelectionConfig, build_features, build_selector
from surveyor.errors import ConfigError, SelectionError
from surveyor.posterior import check_noise
from surveyor.progress import Progress, Silent
from surveyor.structures import StructureFile, structure_id, validate
from surveyor.types import FeatureMap, Features, StructureSource

if TYPE_CHECKING:
    from surveyor.potentials.mace import MacePotential


@dataclass(frozen=True, eq=False)
class Picked:
    """The chosen structures, best first, and how they were chosen.

    `structures` are copies with `surveyor_rank`, `surveyor_std`, `surveyor_id` and, where there were labelled
    structures, `surveyor_nearest` (id) and `surveyor_similarity` in `info`.
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
    model: str | Path | MacePotential,
    n: int,
    *,
    features: str = "tangent",
    rule: str = "max-variance",
    dim: int = 512,
    noise: float = 1e-4,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Picked:
    """Pick the n structures of a pool whose labels will teach the potential most.

    Args:
        pool: a file, or structures that can be iterated more than once; labels in it are not looked at.
        labelled: a file or structures that are labelled already; None before the first label.
        model: an opened potential, or what `open_potential` takes.
        n: number of picks.
        features: `tangent` or `activations`.
        rule: `max-variance` or `random`.
        dim: sketch size of tangent features.
        noise: λ of the posterior, as a share of the pool's mean squared feature norm.
        seed: of sketch and random draws.

    Raises:
        SurveyorError: bad input of any kind; the message says what to do.
    """
    for name, value, registry in (("features", features, FEATURES), ("rule", rule, RULES)):
        if value not in registry:
            raise ConfigError(f"{name}={value!r}", expected="one of " + ", ".join(registry))
    check_noise(noise)
    if n < 1:
        raise SelectionError(f"n = {n}", expected="at least one structure to pick")
    progress = progress or Silent()
    if isinstance(model, str | Path):
        from surveyor.potentials import open_potential

        model = open_potential(model, device)
    candidates = _again(pool, model.elements)
    feature_map = build_features(model, FeatureConfig(kind=features, dim=dim), seed)
    selector = build_selector(SelectionConfig(rule=rule, noise=noise))
    pool_features = _featurise("features of the pool", candidates, feature_map, progress)
    train = (
        Featurised(Features.empty(feature_map.dim), ())
        if labelled is None
        else _featurise("features of the labelled", _again(labelled, model.elements), feature_map, progress)
    )
    progress.start(f"choosing {n} of {len(pool_features)}")
    batch = acquire(pool_features, train, n, selector, noise=noise, seed=seed)
    progress.finish()
    return Picked(_picked_structures(candidates, batch), batch)


def _featurise(
    what: str, structures: Iterable[Atoms], feature_map: FeatureMap, progress: Progress
) -> Featurised:
    progress.start(what, structures.count() if isinstance(structures, StructureFile) else None)
    found = featurise(structures, feature_map, on_progress=progress.advance)
    progress.finish(f"{len(found)} structures")
    return found


def _again(source: StructureSource, elements: Sequence[int]) -> Iterable[Atoms]:
    """The source as something that can be iterated again, validated."""
    if isinstance(source, str | Path):
        return StructureFile(Path(source), elements)
    return [validate(atoms, f"structure {number}") for number, atoms in enumerate(source)]


def _picked_structures(candidates: Iterable[Atoms], batch: Batch) -> list[Atoms]:
    by_index = {pick.index: pick for pick in batch.picks}
    found: dict[int, Atoms] = {}
    for index, atoms in enumerate(candidates):
        if index in by_index:
            pick, chosen = by_index[index], atoms.copy()
            chosen.calc = None
            chosen.info |= {
                "surveyor_rank": pick.rank,
                "surveyor_std": pick.std,
                "surveyor_id": structure_id(atoms),
            }
            if pick.nearest is not None:
                chosen.info |= {"surveyor_nearest": pick.nearest, "surveyor_similarity": pick.similarity}
            found[index] = chosen
            if len(found) == len(by_index):
                break
    return [found[index] for index in batch.indices]
