"""Requests whose picks and scores are kept in tests/data/selections.json; `python pinned.py` writes it anew.

Three pools: plain rows, structures of several rows in single precision, and rows of very different length
with copies of each other and of labelled ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pools import by_norm, grouped, pool

from surveyor.acquisition import Featurised, acquire
from surveyor.selection import (
    LCMD,
    Committee,
    FarthestPoint,
    MaxVariance,
    Random,
    Shortlist,
    TargetVariance,
    TopK,
)
from surveyor.types import Features, Selection, Selector

PICKS = Path(__file__).parents[1] / "data" / "selections.json"
NOISE = 1e-3


def situations() -> Iterator[tuple[str, Features, Features]]:
    """Name, pool and labelled structures."""
    plain = Features.one_row_each(pool("random", 90, seed=1))
    several = grouped(pool("clustered", 150, seed=2, dtype=np.float32), seed=2)
    rows = pool("badly scaled", 26, seed=3)
    copies = Features.one_row_each(np.concatenate([rows[:22], rows[:8], np.zeros((2, 12)), rows[20:]]))
    for name, X, train in (
        ("one row", plain, Features.one_row_each(pool("random", 7, seed=4))),
        ("several rows", several, grouped(pool("clustered", 15, seed=5, dtype=np.float32), seed=5)),
        ("copies", copies, Features.one_row_each(rows[22:])),
    ):
        yield name, X, train
        yield f"{name}, nothing labelled", X, Features.empty(12)


def rules(X: Features) -> dict[str, Selector]:
    """Every rule, as it is by default and with what it takes."""
    cost = np.random.default_rng(6).uniform(1, 5, size=len(X))
    target = Features.one_row_each(pool("clustered", 30, seed=7))
    priced = {"cost": cost, "budget": 17.0}
    return {
        "max-variance": MaxVariance(NOISE),
        "max-variance, costs": MaxVariance(NOISE, **priced),
        "top-k": TopK(NOISE),
        "farthest": FarthestPoint(),
        "farthest, costs": FarthestPoint(**priced),
        "lcmd": LCMD(),
        "lcmd, costs": LCMD(**priced),
        "target-variance": TargetVariance(NOISE, sample=20),
        "target-variance, target": TargetVariance(NOISE, target),
        "target-variance, target, costs": TargetVariance(NOISE, target, **priced),
        "committee": Committee(np.round(by_norm(X), 1)),
        "random": Random(),
        "shortlist of max-variance": Shortlist(MaxVariance(NOISE), 20, NOISE),
        "shortlist of lcmd, costs": Shortlist(LCMD(**priced), 20, NOISE),
        "shortlist of target-variance": Shortlist(TargetVariance(NOISE, sample=20), 20, NOISE),
    }


def selections() -> Iterator[tuple[str, Selection]]:
    """What every rule picks in every situation; ties go by a rank that is not the order of the pool.

    The pool with copies is picked to the end, so that it shows which come last.
    """
    for situation, X, train in situations():
        rank = np.random.default_rng(8).permutation(len(X))
        for name, rule in rules(X).items():
            k = len(X) if situation.startswith("copies") and "shortlist" not in name else 12
            found = rule(X, train, k, rng=np.random.default_rng(9), rank=rank)
            yield f"{situation}: {name}", found


def batches() -> Iterator[tuple[str, dict[str, object]]]:
    """What goes with the picks of a batch."""
    for situation, X, train in situations():
        for name, rule in (("max-variance", MaxVariance(NOISE)), ("random", Random())):
            known = Featurised(train, tuple(f"t{number}" for number in range(len(train))))
            candidates = Featurised(X, tuple(f"p{number}" for number in range(len(X))))
            found = acquire(candidates, known, 8, lambda _, r=rule: r, noise=NOISE, seed=2, n_forecast=11)
            assert found.forecast is not None
            yield (
                f"{situation}: {name}",
                {
                    "ids": [pick.id for pick in found.picks],
                    "std": [pick.std for pick in found.picks],
                    "removes": [pick.removes for pick in found.picks],
                    "directions": None if found.directions is None else found.directions[:, :3].tolist(),
                    "forecast": found.forecast.path.tolist(),
                },
            )


def current() -> dict[str, dict[str, object]]:
    """Picks and batches as the code makes them now."""
    return {
        "selections": {
            name: {
                "indices": found.indices.tolist(),
                "scores": found.scores.tolist(),
                "stopped": found.stopped.value,
            }
            for name, found in selections()
        },
        "batches": dict(batches()),
    }


if __name__ == "__main__":
    PICKS.write_text(json.dumps(current(), indent=1) + "\n")
