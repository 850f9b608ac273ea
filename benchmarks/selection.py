"""Time and check the selection rules on one core, against plain numpy, bmdal_reg and scikit-matter.

    python benchmarks/selection.py --json
    python benchmarks/selection.py --json --n 1000000 --d 512 --k 200

Every method runs alone in a process of one thread. `pass_seconds` is the CPU time of one float32
matrix-vector product over the pool in that process, before or after the method, whichever is less;
`passes` is the method's CPU time in units of it. At the top of the results stands the least of all methods.
`seconds` is wall time, which other load on the machine lengthens. `identical_to_plain_greedy` compares all
picks with plain greedy selection in float64 (plain LCMD for lcmd, plain farthest-point for farthest).
bmdal_reg and scikit-matter are optional: a method whose
package is missing is left out.

The pool is synthetic and seeded: 300 clusters of sizes ∝ rank^-0.8, centres and deviations with a standard
deviation ∝ i^-0.75 along the i-th of `d` randomly rotated axes, a lognormal scale for each cluster (0.5)
and each row (0.3), mean squared norm 1. Labelled rows come from 40 % of the clusters. `--pool gaussian` is
the hard case instead: isotropic, nothing to tell one row from another.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

NOISE = 1e-4
RESULTS = Path(__file__).parent / "results" / "selection.json"
TARGET_POOL, TARGETS, TARGET_PICKS = 100_000, 500, 50
REFERENCE = {
    "max-variance": "plain-greedy",
    "plain-greedy-float32": "plain-greedy",
    "bmdal-maxdet": "plain-greedy",
    "bmdal-maxdet-float64": "plain-greedy",
    "target-variance": "plain-target-variance",
    "lcmd": "plain-lcmd",
    "bmdal-lcmd": "plain-lcmd",
    "farthest": "plain-farthest",
}


def make_pool(kind: str, n: int, d: int, labelled: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) pool rows and (labelled, d) labelled rows, float32."""
    rng = np.random.default_rng(seed)
    rows = np.empty((n + labelled, d), dtype=np.float32)
    if kind == "gaussian":
        for start in range(0, len(rows), 20_000):
            block = rows[start : start + 20_000]
            block[:] = rng.standard_normal(block.shape, dtype=np.float32) / np.sqrt(d)
        return rows[:n], rows[n:]
    clusters = 300
    spectrum = np.arange(1, d + 1) ** -0.75
    spectrum = (spectrum / np.linalg.norm(spectrum)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    centres = rng.standard_normal((clusters, d), dtype=np.float32) * spectrum
    scale = np.exp(0.5 * rng.standard_normal(clusters, dtype=np.float32))
    weight = np.arange(1, clusters + 1) ** -0.8
    seen = rng.permutation(clusters)[: 2 * clusters // 5]
    member = np.concatenate(
        [rng.choice(clusters, size=n, p=weight / weight.sum()), rng.choice(seen, size=labelled)]
    )
    for start in range(0, len(rows), 20_000):
        own = member[start : start + 20_000]
        size = scale[own] * np.exp(0.3 * rng.standard_normal(len(own), dtype=np.float32))
        deviation = rng.standard_normal((len(own), d), dtype=np.float32) * spectrum
        rows[start : start + 20_000] = (centres[own] + size[:, None] * deviation) @ rotation
    rows /= np.sqrt(np.mean(np.einsum("ij,ij->i", rows[:20_000], rows[:20_000])))
    return rows[:n], rows[n:]


def plain_greedy(X: np.ndarray, train: np.ndarray, k: int, dtype: type) -> np.ndarray:
    """Score all rows, take the best, condition on it: one product with the pool for every pick."""
    X, train = X.astype(dtype, copy=False), train.astype(np.float64)
    factor = np.linalg.cholesky(train @ train.T + NOISE * np.eye(len(train)))
    V = np.linalg.solve(factor, train)
    variance = np.einsum("ij,ij->i", X, X)
    for start in range(0, len(X), 8192):
        along = X[start : start + 8192] @ V.T.astype(dtype)
        variance[start : start + 8192] -= np.einsum("ij,ij->i", along, along)
    picks = []
    for _ in range(k):
        best = int(variance.argmax())
        picks.append(best)
        row = X[best].astype(np.float64)
        residual = row - V.T @ (V @ row)
        direction = residual / np.sqrt(row @ residual + NOISE)
        V = np.concatenate([V, direction[None]])
        variance -= (X @ direction.astype(dtype)) ** 2
        variance[best] = -np.inf
    return np.array(picks)


def plain_target_variance(X: np.ndarray, train: np.ndarray, k: int) -> np.ndarray:
    """Targets drawn from the pool as the rule draws them; one product with the pool, in float64, a pick."""
    drawn = np.sort(np.random.default_rng(0).choice(len(X), size=min(500, len(X)), replace=False))
    X, train = X.astype(np.float64), train.astype(np.float64)
    inverse = np.linalg.inv(train.T @ train / NOISE + np.eye(X.shape[1]))  # of the posterior's precision
    moment = X[drawn].T @ X[drawn] / len(drawn)
    variance, taught = np.empty(len(X)), np.empty(len(X))
    for start in range(0, len(X), 8192):
        rows = X[start : start + 8192]
        mapped = rows @ inverse
        variance[start : start + 8192] = np.einsum("ij,ij->i", rows, mapped)
        taught[start : start + 8192] = np.einsum("ij,ij->i", mapped @ moment, mapped)
    picks = []
    for _ in range(k):
        gain = taught / (variance + NOISE)
        gain[picks] = -np.inf
        best = int(gain.argmax())
        picks.append(best)
        direction = inverse @ X[best] / np.sqrt(variance[best] + NOISE)
        other = inverse @ (moment @ direction)
        a, b = (X @ np.stack([direction, other], axis=1)).T
        taught += (direction @ moment @ direction) * a**2 - 2 * a * b
        variance -= a**2
        inverse -= np.outer(direction, direction)
    return np.array(picks)


def plain_distances(X: np.ndarray, train: np.ndarray, k: int, *, clusters: bool) -> np.ndarray:
    """LCMD (clusters) or farthest-point sampling in float64: one product with the pool for every pick."""
    X, train = X.astype(np.float64), train.astype(np.float64)
    norms = np.einsum("ij,ij->i", X, X)
    distance = np.full(len(X), np.inf)
    nearest = np.zeros(len(X), dtype=np.int32)

    def take(centre: np.ndarray, number: int) -> None:
        fresh = np.maximum(norms + centre @ centre - 2 * (X @ centre), 0.0)
        closer = fresh < distance
        distance[closer] = fresh[closer]
        nearest[closer] = number

    half = np.einsum("ij,ij->i", train, train) / 2
    for start in range(0, len(X), 8192):
        rows = slice(start, start + 8192)
        nearness = X[rows] @ train.T - half
        nearest[rows] = nearness.argmax(axis=1)
        distance[rows] = np.maximum(norms[rows] - 2 * nearness.max(axis=1), 0.0)
    picks: list[int] = []
    for number in range(len(train), len(train) + k):
        if clusters:
            sizes = np.bincount(nearest, weights=distance)
            among = np.flatnonzero(nearest == sizes.argmax())
            best = int(among[distance[among].argmax()])
        else:
            best = int(distance.argmax())
        picks.append(best)
        take(X[best], number)
        distance[best] = 0.0
    return np.array(picks)


def import_bmdal() -> tuple[Any, Any, Any]:
    np.Inf = np.inf  # type: ignore[attr-defined]  # noqa: NPY201 - bmdal_reg 3.0.2 predates NumPy 2
    import torch
    from bmdal_reg.bmdal.algorithms import select_batch
    from bmdal_reg.bmdal.feature_data import TensorFeatureData

    torch.set_num_threads(1)
    return torch, select_batch, TensorFeatureData


def bmdal(X: np.ndarray, train: np.ndarray, k: int, method: str, *, double: bool = False) -> np.ndarray:
    torch, select_batch, TensorFeatureData = import_bmdal()
    data = {
        "train": TensorFeatureData(torch.as_tensor(train)),
        "pool": TensorFeatureData(torch.as_tensor(X)),
    }
    # for maxdet, its faster way to the same picks: posterior features first, then conditioning on picks
    posterior = [("train", [NOISE**0.5, 1.0])] if method == "maxdet" else []
    picks, _ = select_batch(
        k,
        [torch.nn.Linear(1, 1)],  # a model is asked for, and not used by the linear kernel
        data,
        None,
        base_kernel="linear",
        kernel_transforms=posterior,
        selection_method=method,
        allow_float64=double,
        **({"maxdet_sigma": NOISE**0.5, "sel_with_train": False} if method == "maxdet" else {}),
    )
    return np.asarray(picks.numpy())


def skmatter_fps(X: np.ndarray, train: np.ndarray, k: int) -> np.ndarray:  # noqa: ARG001
    """It measures no distance to labelled rows: it starts from row 0, so its picks are its own."""
    from skmatter.sample_selection import FPS

    return np.asarray(FPS(n_to_select=k, initialize=0).fit(X).selected_idx_)


def methods(X: np.ndarray, train: np.ndarray, k: int) -> dict[str, Callable[[], np.ndarray]]:
    from surveyor.selection import farthest, lcmd, max_variance, target_variance, top_k

    return {
        "max-variance": lambda: max_variance(X, train, k, noise=NOISE).indices,
        "lcmd": lambda: lcmd(X, train, k).indices,
        "farthest": lambda: farthest(X, train, k).indices,
        "top-k": lambda: top_k(X, train, k, noise=NOISE).indices,
        "target-variance": lambda: target_variance(X, train, None, k, noise=NOISE).indices,
        "target-variance-targets": lambda: (
            target_variance(X[:TARGET_POOL], train, X[-TARGETS:], TARGET_PICKS, noise=NOISE).indices
        ),
        "plain-greedy": lambda: plain_greedy(X, train, k, np.float64),
        "plain-target-variance": lambda: plain_target_variance(X, train, k),
        "plain-greedy-float32": lambda: plain_greedy(X, train, k, np.float32),
        "plain-lcmd": lambda: plain_distances(X, train, k, clusters=True),
        "plain-farthest": lambda: plain_distances(X, train, k, clusters=False),
        "bmdal-maxdet": lambda: bmdal(X, train, k, "maxdet"),
        "bmdal-maxdet-float64": lambda: bmdal(X, train, k, "maxdet", double=True),
        "bmdal-lcmd": lambda: bmdal(X, train, k, "lcmd"),
        "skmatter-fps": lambda: skmatter_fps(X, train, k),
    }


NAMES = tuple(methods(np.zeros((0, 1)), np.zeros((0, 1)), 0))


def one_pass(X: np.ndarray) -> float:
    vector, least = X[0].copy(), np.inf
    for _ in range(5):
        start = time.process_time()
        X @ vector
        least = min(least, time.process_time() - start)
    return least


def work(name: str, folder: Path, k: int) -> None:
    """Run one method in this process; the last line printed is its result."""
    X, train = np.load(folder / "pool.npy"), np.load(folder / "labelled.npy")
    call = methods(X, train, k)[name]
    try:  # imports are not part of the time
        if name.startswith("bmdal"):
            import_bmdal()
        elif name.startswith("skmatter"):
            import skmatter.sample_selection  # noqa: F401
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    before = one_pass(X)
    wall, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picks = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    single = min(before, one_pass(X))
    result = {
        "seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "pass_seconds": round(single, 4),
        "passes": round(cpu / single, 1),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
        "picks": picks.tolist(),
    }
    print(json.dumps(result))


def run(name: str, folder: Path, k: int) -> dict[str, object]:
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    done = subprocess.run(
        [sys.executable, __file__, "--work", name, "--folder", str(folder), "--k", str(k)],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def compare(results: dict[str, dict[str, object]]) -> None:
    for name, reference in REFERENCE.items():
        mine, plain = results.get(name, {}).get("picks"), results.get(reference, {}).get("picks")
        if isinstance(mine, list) and isinstance(plain, list):
            results[name]["identical_to_plain_greedy"] = mine == plain
            same = [a == b for a, b in zip(mine, plain, strict=True)]
            results[name]["same_first_picks"] = same.index(False) if False in same else len(same)
    for result in results.values():
        picks = result.pop("picks", None)
        if isinstance(picks, list):
            result["first_picks"] = picks[:5]


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("surveyor", "numpy", "scipy", "torch", "bmdal_reg", "skmatter"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark the selection rules on one core.")
    parser.add_argument("--n", type=int, default=1_000_000, help="pool rows")
    parser.add_argument("--d", type=int, default=512, help="columns")
    parser.add_argument("--k", type=int, default=200, help="picks")
    parser.add_argument("--labelled", type=int, default=200, help="labelled rows")
    parser.add_argument("--pool", choices=("clusters", "gaussian"), default="clusters")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", choices=NAMES)
    parser.add_argument(
        "--json", nargs="?", const=RESULTS, type=Path, help=f"write results (to {RESULTS.name})"
    )
    parser.add_argument("--folder", type=Path, help="where the pool is kept while it is needed")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.folder, args.k)
        return
    # bmdal_reg in float64 takes 20 GB of memory for 1,000,000 × 512
    large = args.n * args.d > 10**8
    chosen = args.methods or [name for name in NAMES if not (large and name == "bmdal-maxdet-float64")]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        X, train = make_pool(args.pool, args.n, args.d, args.labelled, args.seed)
        np.save(Path(folder) / "pool.npy", X)
        np.save(Path(folder) / "labelled.npy", train)
        del X, train
        results: dict[str, dict[str, object]] = {}
        for name in chosen:
            results[name] = run(name, Path(folder), args.k)
            shown = {key: value for key, value in results[name].items() if key != "picks"}
            print(f"{name:22s} {json.dumps(shown)}", flush=True)
    compare(results)
    report = {
        "command": "python benchmarks/selection.py " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"processor": processor(), "threads": 1, "load_average": os.getloadavg()},
        "versions": versions(),
        "pool": {key: getattr(args, key) for key in ("pool", "n", "d", "k", "labelled", "seed")},
        "noise": NOISE,
        "target_variance": {"n": min(args.n, TARGET_POOL), "targets": TARGETS, "k": TARGET_PICKS},
        "pass_seconds": min(
            (r["pass_seconds"] for r in results.values() if "pass_seconds" in r), default=None
        ),
        "methods": results,
    }
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
