"""Published data → the files of the tasks that the grids in this folder name.

    python benchmarks/import_tasks.py ../shared/data -o benchmarks/data

writes TASK.pool.extxyz, TASK.test.extxyz, TASK.target.extxyz and TASK.latent.extxyz for every task. What is
written is compared with `tasks.json`: how many frames each file of the committed grids had, and the SHA-256
of their ids.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from ase import Atoms

from importers.acetylacetone import acetylacetone
from importers.frames import Frames
from importers.h2 import h2_combustion
from importers.rdb7 import rdb7_biased, rdb7_paths
from importers.sn2 import sn2_mp2
from surveyor.structures import structure_id, write_structures

TASKS: dict[str, Callable[[Path], Frames]] = {
    "h2-combustion": h2_combustion,
    "rdb7-paths": rdb7_paths,
    "sn2-mp2": sn2_mp2,
    "acetylacetone": acetylacetone,
    "rdb7-biased": rdb7_biased,
}
KNOWN = Path(__file__).with_name("tasks.json")


def content(frames: Iterable[Atoms]) -> dict[str, int | str]:
    """Number of frames, and the SHA-256 of their ids in this order."""
    ids = [structure_id(atoms) for atoms in frames]
    return {"frames": len(ids), "sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest()}


def write_task(name: str, data: Path, folder: Path) -> dict[str, dict[str, int | str]]:
    """Write the files of a task; what is in each, by part."""
    frames = TASKS[name](data)
    parts = {field.name: list(getattr(frames, field.name)) for field in fields(frames)}
    for part, members in parts.items():
        if members:
            write_structures(folder / f"{name}.{part}.extxyz", members)
    return {part: content(members) for part, members in parts.items() if members}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the published files")
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=", ".join(TASKS))
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    known = json.loads(KNOWN.read_text())
    args.output.mkdir(parents=True, exist_ok=True)
    same = True
    for name in args.tasks:
        for part, found in write_task(name, args.data, args.output).items():
            if found != known[name][part]:
                same = False
                print(f"{name}, {part}: {found}, the grids had {known[name][part]}", file=sys.stderr)
    if not same:
        print("other frames than those of the committed grids: don't join their runs", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
