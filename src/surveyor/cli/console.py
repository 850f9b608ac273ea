"""The console that tables and lines go to: text that is not ours is shown letter by letter."""

from __future__ import annotations

from rich.console import Console


def plain_console(*, stderr: bool = False, quiet: bool = False, soft_wrap: bool = False) -> Console:
    """A console that takes nothing for markup or emoji: not `[/red]`, not `:smile:`."""
    return Console(
        stderr=stderr, quiet=quiet, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
    )
