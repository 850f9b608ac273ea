"""The code that stands on a page, as the files that its readers would write."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from surveyor.features import FEATURES
from surveyor.selection import RULES

EXTENDING = Path(__file__).parents[1] / "docs" / "extending.md"


def files_of(page: Path) -> dict[str, str]:
    """Name → content of the Python files of a page; blocks of one file go one behind the other."""
    found: dict[str, str] = {}
    for name, code in re.findall(r"```python\n# ([\w.]+)[^\n]*\n(.*?)```", page.read_text(), re.DOTALL):
        found[name] = found.get(name, "") + code
    return found


def entry_points_of(page: Path) -> dict[str, dict[str, str]]:
    """Group → name → target, of everything that a page announces."""
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    return tomllib.loads("".join(blocks))["project"]["entry-points"]  # type: ignore[no-any-return]


@pytest.fixture
def extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The extensions of the page, installed as pip would leave them; the folder that they lie in."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name, code in files_of(EXTENDING).items():
        (folder / name).write_text(code)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    info = folder / "extensions-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extensions\nVersion: 1.0\n")
    groups = entry_points_of(EXTENDING)
    lines = [
        f"[{group}]\n" + "".join(f"{a} = {b}\n" for a, b in own.items()) for group, own in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(folder))
    kept = [(registry, dict(registry)) for registry in (RULES, FEATURES)]
    yield folder
    for registry, before in kept:
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]
