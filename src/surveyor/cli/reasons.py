"""Reasons as a table, the same for every command that lists them."""

from __future__ import annotations

from rich.table import Table

from surveyor.cli.console import plain_console

SHOWN = 12
"""Rows of a table of reasons; --json has all."""


def print_reasons(title: str, what: str, rows: list[tuple[str, str]]) -> None:
    """A table of `what` and why; nothing where there is none."""
    if not rows:
        return
    from surveyor.labelling.names import shown

    table = Table(what, "reason", title=title)
    for name, reason in rows[:SHOWN]:
        table.add_row(shown(name), shown(reason))
    if len(rows) > SHOWN:
        table.add_row(f"and {len(rows) - SHOWN} more", "")
    plain_console().print(table)
