"""What a shortlist costs in quality and saves in time, against each rule on the whole pool.

    OMP_NUM_THREADS=1 python benchmarks/shortlist.py --json

The synthetic pool of benchmarks/selection.py, 100,000 × 512 float32, 200 labelled rows, 50 picks.

| measure | meaning                                                                             |
|---------|-------------------------------------------------------------------------------------|
| seconds | CPU time, shortlist included                                                        |
| same    | share of the whole pool's picks that the shortlist gives too                        |
| certain | first picks that are guaranteed to be those of the whole pool (null: no guarantee)  |
| mean    | mean residual variance over the pool after the picks, as a share of that before     |
| largest | the same for the largest                                                            |
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from selection import make_pool, processor, versions
from surveyor.posterior import Posterior
from surveyor.selection import LCMD, FarthestPoint, MaxVariance, Rule, Shortlist, TargetVariance
from surveyor.types import Features, Selection

NOISE = 1e-4
RESULTS = Path(__file__).parent / "results" / "shortlist.json"
RULES: dict[str, Rule] = {
    "max-variance": MaxVariance(NOISE),
    "lcmd": LCMD(),
    "farthest": FarthestPoint(),
    "target-variance (a sample of the pool)": TargetVariance(NOISE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a shortlist saves and loses.")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--labelled", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="*", default=[500, 2_000, 10_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", nargs="?", const=RESULTS, type=Path, help=f"write results (to {RESULTS.name})"
    )
    args = parser.parse_args()
    rows, labelled = make_pool("clusters", args.n, args.d, args.labelled, args.seed)
    pool, train = Features.one_row_each(rows), Features.one_row_each(labelled)
    before = Posterior.fit(train, noise=NOISE)
    start = before.variance(rows)
    results = []
    for name, rule in RULES.items():
        whole: set[int] = set()
        for size in (None, *args.sizes):
            chooser = rule if size is None else Shortlist(rule, size, NOISE)
            begin = time.process_time()
            found: Selection = chooser(pool, train, args.k, rng=np.random.default_rng(args.seed))
            spent = time.process_time() - begin
            picks = set(found.indices.tolist())
            whole = whole or picks
            left = before.condition(pool.take(found.indices)).variance(rows)
            result = {
                "rule": name,
                "shortlist": size,
                "seconds": round(spent, 3),
                "same": round(len(picks & whole) / len(whole), 3),
                "certain": found.certain,
                "mean": round(float(left.mean() / start.mean()), 4),
                "largest": round(float(left.max() / start.max()), 4),
            }
            results.append(result)
            print(json.dumps(result), flush=True)
    report = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/shortlist.py " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"processor": processor(), "load_average": os.getloadavg()},
        "versions": versions(),
        "pool": {key: getattr(args, key) for key in ("n", "d", "k", "labelled", "seed")},
        "noise": NOISE,
        "results": results,
    }
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
