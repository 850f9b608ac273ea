"""A page of Markdown: lines, tables, and the figures in a folder beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class Page:
    """Lines of Markdown, and the folder of their figures."""

    def __init__(self, output: Path) -> None:
        self.lines: list[str] = []
        self.folder = output.parent / f"{output.stem}-figures"

    def add(self, *lines: str) -> None:
        self.lines.extend(lines)

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        names = list(columns)
        self.add("| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1))
        self.add(*("| " + " | ".join(row) + " |" for row in rows), "")

    def figure(self, name: str, caption: str) -> Path:
        """Show a figure here, and say where to write it.

        Args:
            name: the file's: `.svg` for lines, `.png` for clouds of points, which are many times smaller so.
        """
        path = self.folder / name
        self.add(f"![{caption}]({self.folder.name}/{path.name})", "", f"*{caption}*", "")
        return path
