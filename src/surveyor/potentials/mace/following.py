"""How far mace's trainer is, read from the files that it writes while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from surveyor.potentials.mace.effective import HEAD


def lines_of(path: Path) -> Iterator[list[str]]:
    """Each time that it is asked: whole lines that have come to the file since; first, those from now on."""
    position = path.stat().st_size if path.is_file() else 0
    while True:
        content = b""
        if path.is_file():
            with path.open("rb") as file:
                file.seek(position)
                content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        position += len(whole)
        yield whole.decode("utf-8", "replace").splitlines()


def updates_told(path: Path) -> Iterator[tuple[int, str]]:
    """Each time that it is asked: gradient updates so far, and the last loss and validation errors in words.

    Args:
        path: the trainer's record of steps, `results/<name>_run-<seed>_train.txt`.
    """
    done, loss, errors = 0, "", ""
    for lines in lines_of(path):
        for line in lines:
            entry = _entry(line)
            if entry.get("mode") == "opt":
                done += 1
                loss = f"loss {entry['loss']:.3g}"
            elif entry.get("mode") == "eval" and entry.get("head") == HEAD:
                errors = _errors(entry)
        yield done, ", ".join(filter(None, (loss, errors)))


def _entry(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _errors(entry: dict[str, Any]) -> str:
    energy, forces = entry.get("mae_e_per_atom"), entry.get("mae_f")
    if energy is None or forces is None:
        return ""
    when = "before" if entry.get("epoch") is None else "validation"
    return f"{when} {1e3 * energy:.1f} meV/atom, {1e3 * forces:.0f} meV/Å"
