"""Checks for structures that stand twice, in one file or in training and test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from surveyor.doctor.dataset import Dataset
from surveyor.doctor.findings import Verdict, error, frames_text, ok, warning
from surveyor.structures.copies import near_copies
from surveyor.types import Float64Array

SAME = 1e-3
"""Å; distances that differ by less belong to one geometry, turned, mirrored or with like atoms swapped."""
NEAR = 0.02
"""Å; the root mean square difference of distances between a frame and a near-copy of it."""
BLOCKS = 8
CONFLICT = 0.1
"""eV; more than two labels of one geometry may differ by."""
FEW = 0.02
"""Share of turned copies that symmetric molecules may have."""
LEAK = 0.1
"""Share of test frames with a near-copy in training from which errors on the test set mislead."""
MANY = 20
"""Reactions in a test set from which it is to tell about new reactions, not about these."""
INTERLEAVED = 1.5
FOLLOWING = 0.6
"""Distance of consecutive frames / of any frames, below which they are of a trajectory or path."""
MAX_DISTANCES = 512
MANY_ATOMS = 500
"""Atoms beyond which the distances are those of a sample: all would take memory like their square."""


def copies(data: Dataset) -> Verdict:
    """No two labelled frames of one content hash, within 1e-5 Å, or of one geometry: rms |d − d'| < 1e-3 Å.

    d are the interatomic distances in the order of the atoms: equal for turned and mirrored copies. Copies
    whose energies differ by more than 0.1 eV contradict each other.
    """
    first: dict[str, int] = {}
    pairs: set[tuple[int, int]] = set()
    for number, name in enumerate(data.ids):
        if name and first.setdefault(name, number) != number:
            pairs.add((first[name], number))
    repeated = sorted(j for _, j in pairs)
    near = _near_copies(data, first)
    again = {*repeated, *(j for _, j in near)}
    turned = {
        (i, j)
        for i, j in near_pairs(data, data, SAME)
        if i not in again and j not in again and _same_order(data.structures[i], data.structures[j])
    }
    conflicting = sorted(
        (i, j)
        for i, j in pairs | near | turned
        if data.has_labels
        and abs(data.energy[i] - data.energy[j]) > CONFLICT
        and data.composition[i] == data.composition[j]
    )
    if conflicting:
        i, j = conflicting[0]
        return error(
            f"{len(conflicting)} pairs of one geometry with different energies: frames {i} and {j} differ by "
            f"{abs(data.energy[i] - data.energy[j]):.2f} eV",
            "keep the right one: two states, two levels of theory, or an unconverged calculation",
        )
    later = sorted({j for _, j in turned})
    found = [f"{len(repeated)} of {len(data)} frames repeat an earlier one"] if repeated else []
    found += [f"{len(near)} of {len(data)} are within 1e-5 Å of another one"] if near else []
    found += [f"{len(later)} of {len(data)} are turned or mirrored copies"] if later else []
    if not found:
        return ok("all different")
    text = "; ".join(found)
    if not data.has_labels:
        return ok(f"{text}: selection takes one of each" if not later else text)
    if again:
        return warning(
            f"{text} ({frames_text(sorted(again))})",
            "take the copies out: training and errors count them more than once",
        )
    if len(later) > FEW * len(data):
        return warning(f"{text} ({frames_text(later)})", "keep one of each: a second label teaches nothing")
    return ok(text)


def _near_copies(data: Dataset, first: dict[str, int]) -> set[tuple[int, int]]:
    """Pairs of frames within 1e-5 Å of each other; `first`: id → frame."""
    sound = [data.structures[i] for i in np.flatnonzero(data.sound).tolist() if data.ids[i]]
    found = ((first[a], first[b]) for a, b in near_copies(sound).items())
    return {(min(pair), max(pair)) for pair in found}


def _same_order(a: Atoms, b: Atoms) -> bool:
    """Whether one structure is the other, turned or mirrored, atom by atom."""
    if not np.array_equal(a.numbers, b.numbers):
        return False
    some = np.linspace(0, len(a) - 1, min(len(a), MANY_ATOMS)).round().astype(np.intp)
    return bool(np.sqrt(np.mean((pdist(a.positions[some]) - pdist(b.positions[some])) ** 2)) < SAME)


def leakage(train: Dataset, test: Dataset) -> Verdict:
    """No test frame in training, and under 10 % with a near-copy there: rms |d − d'| < 0.02 Å.

    Nor, where training is labelled, a split by frame: where both have frames of one trajectory (equal
    `reaction` or such, and `config_type`), the median distance from test to training is over 1.5 × that
    within training; and of 20 test reactions or more, fewer than half stand in both.
    """
    seen = set(train.ids) - {""}
    same = [i for i, name in enumerate(test.ids) if name in seen]
    if same:
        return error(
            f"{len(same)} of {len(test)} test frames are in {train.name} too ({frames_text(same)})",
            f"take them out of {train.name}: errors on frames that were trained on say nothing",
        )
    near = sorted({j for _, j in near_pairs(train, test, NEAR)})
    split = "split by reaction or trajectory, never by frame: errors on near-copies say nothing"
    if len(near) > LEAK * len(test):
        return warning(
            f"{len(near)} of {len(test)} test frames have a near-copy in {train.name} ({frames_text(near)})",
            split,
        )
    key = train.group_key
    if train.has_labels and key is not None and key == test.group_key:
        wide, wanted = set(train.groups(key)), set(test.groups(key))
        if len(wanted) >= MANY and len(wide & wanted) > len(wanted) / 2:
            return warning(
                f"{len(wide & wanted)} of {len(wanted)} test {key}s are in {train.name} too", split
            )
        ratio = _interleaving(train, test, key)
        if ratio is not None and ratio < INTERLEAVED:
            return warning(
                f"test frames of {key}s in {train.name} are as near to its frames as these are to each other "
                f"({ratio:.2f} ×)",
                split,
            )
    return ok(f"no frame in both, {len(near)} near-copies")


def _interleaving(train: Dataset, test: Dataset, key: str) -> float | None:
    """Median distance test → nearest of training / training → nearest other, within groups of both.

    Only of groups whose frames follow on each other: independent draws may well be as near.
    """
    parts = [_by_group(data, data.groups(key, kind=True)) for data in (train, test)]
    outward: list[Float64Array] = []
    inward: list[Float64Array] = []
    for name in sorted(parts[0].keys() & parts[1].keys()):
        own, others = parts[0][name], parts[1][name]
        if len(own) < 3 or _order(own) > FOLLOWING:
            continue
        tree = cKDTree(own / np.sqrt(own.shape[1]))
        outward.append(tree.query(others / np.sqrt(own.shape[1]))[0])
        inward.append(tree.query(own / np.sqrt(own.shape[1]), k=2)[0][:, 1])
    if not outward:
        return None
    return float(np.median(np.concatenate(outward)) / max(np.median(np.concatenate(inward)), 1e-12))


def _order(rows: Float64Array) -> float:
    """Median distance of consecutive frames / of frames half the set apart: 1 for independent draws."""
    half = len(rows) // 2
    near = np.sqrt(((rows[1:] - rows[:-1]) ** 2).mean(axis=1))
    far = np.sqrt(((rows[half:] - rows[: len(rows) - half]) ** 2).mean(axis=1))
    return float(np.median(near) / max(np.median(far), 1e-12))


def _by_group(data: Dataset, groups: Sequence[str]) -> dict[tuple[str, str], Float64Array]:
    """(group, formula) → sorted distances of at most 400 of its frames."""
    rows: dict[tuple[str, str], list[Float64Array]] = defaultdict(list)
    for formula, shapes in _shapes(data).items():
        for frame, distances in zip(shapes.frames, shapes.distances, strict=True):
            rows[groups[frame], formula].append(distances)
    return {name: np.stack(some)[:: max(1, len(some) // 400)] for name, some in rows.items()}


@dataclass(frozen=True, eq=False)
class _Shapes:
    """Geometries of one composition: frame numbers (m,) and sorted distances (m, P) in Å."""

    frames: list[int]
    distances: Float64Array


@lru_cache(maxsize=8)
def _shapes(data: Dataset) -> dict[str, _Shapes]:
    members: dict[str, list[int]] = defaultdict(list)
    for number in np.flatnonzero(data.sound).tolist():
        atoms = data.structures[number]
        if len(atoms) > 1 and not atoms.pbc.any():
            members[data.composition[number][0]].append(int(number))
    return {
        formula: _Shapes(frames, np.stack([distances_of(data.structures[i]) for i in frames]))
        for formula, frames in members.items()
    }


def distances_of(atoms: Atoms) -> Float64Array:
    """Interatomic distances in Å, sorted within each pair of elements; at most 512 of them, evenly drawn."""
    if len(atoms) > MANY_ATOMS:  # an even sample of them, by element, in the order of the atoms
        order = np.argsort(atoms.numbers, kind="stable")
        atoms = atoms[order[np.linspace(0, len(atoms) - 1, MANY_ATOMS).round().astype(np.intp)]]
    i, j = np.triu_indices(len(atoms), 1)
    kinds = np.sort(np.stack([atoms.numbers[i], atoms.numbers[j]]), axis=0)
    distances = pdist(atoms.positions)
    ordered: Float64Array = distances[np.lexsort((distances, kinds[1], kinds[0]))]
    if len(ordered) > MAX_DISTANCES:
        return ordered[np.linspace(0, len(ordered) - 1, MAX_DISTANCES).round().astype(np.intp)]
    return ordered


def near_pairs(first: Dataset, second: Dataset, radius: float) -> set[tuple[int, int]]:
    """Frames i of the first and j of the second with rms |d_i − d_j| < radius; i < j within one file.

    Means over blocks of d, scaled, are nearer to each other than d themselves: a tree of them finds the
    candidates, and the full vectors decide.
    """
    found: set[tuple[int, int]] = set()
    own = first is second
    theirs = _shapes(second)
    for formula, shapes in _shapes(first).items():
        if formula not in theirs:
            continue
        others = theirs[formula]
        tree, queries = cKDTree(_block_means(shapes.distances)), _block_means(others.distances)
        for position, near in enumerate(tree.query_ball_point(queries, radius)):
            candidates = np.array([c for c in near if not own or c < position], dtype=np.intp)
            if not len(candidates):
                continue
            gaps = shapes.distances[candidates] - others.distances[position]
            close = candidates[np.sqrt((gaps**2).mean(axis=1)) < radius]
            found.update((shapes.frames[c], others.frames[position]) for c in close.tolist())
    return found


def _block_means(distances: Float64Array) -> Float64Array:
    """(m, 8) means over blocks, scaled so that |b − b'| ≤ rms |d − d'|."""
    blocks: Sequence[Float64Array] = np.array_split(distances, min(BLOCKS, distances.shape[1]), axis=1)
    share = [np.sqrt(block.shape[1] / distances.shape[1]) for block in blocks]
    return np.column_stack([s * block.mean(axis=1) for s, block in zip(share, blocks, strict=True)])
