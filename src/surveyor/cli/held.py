"""`surveyor label held` and `surveyor label release`: labels that failed or are in quarantine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from surveyor.cli.console import plain_console
from surveyor.cli.guard import guarded

Folder = Annotated[Path, typer.Argument(help="The campaign's folder.")]


def held(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the labels of a campaign that failed or are in quarantine, and why.

    Example: surveyor label held campaign
    """
    with guarded():
        from surveyor.campaign import read_campaign

        record = read_campaign(folder)
        if as_json:
            typer.echo(json.dumps({"failed": record.failures, "quarantined": record.quarantined}))
            return
        table = Table(title="labels that are not used")
        for column in ("structure", "state", "attempts", "reason"):
            table.add_column(column, justify="right" if column == "attempts" else "left")
        for name, reasons in record.failures.items():
            table.add_row(name, "failed", str(len(reasons)), _lines(reasons[-1]))
        for name, reason in record.quarantined.items():
            table.add_row(name, "quarantine", "", _lines(reason))
        plain_console(soft_wrap=True).print(table)


def _lines(reason: str) -> str:
    """The reason line by line, without what a terminal would act on."""
    from surveyor.labelling.names import shown

    return "\n".join(shown(line) for line in reason.splitlines())


def release(
    folder: Folder,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Ids, or their beginnings.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Trust labels in quarantine from now on, and let failed structures be tried again.

    Example: surveyor label release campaign 3f9a02
    """
    with guarded():
        from surveyor.campaign import CampaignLock, read_campaign
        from surveyor.errors import CampaignError
        from surveyor.labelling import Ledger

        record = read_campaign(folder)
        there = [*record.failures, *record.quarantined]
        chosen = there if everything else [_the_one(name, there) for name in names or []]
        if not chosen:
            raise CampaignError(
                f"nothing to release in {folder}" if everything else "no id was given",
                expected="ids that `surveyor label held` shows, or --all",
            )
        with CampaignLock(folder):
            ledger = Ledger(folder / "labels", str(record.state["method"]))
            for name in dict.fromkeys(chosen):
                what = ledger.release(name)
                typer.echo(
                    f"{name}: released; "
                    + ("used from the next training on" if what == "label" else "to be tried again")
                )


def _the_one(beginning: str, there: list[str]) -> str:
    from surveyor.errors import CampaignError

    found = [name for name in there if beginning.strip() and name.startswith(beginning)]
    if len(found) != 1:
        raise CampaignError(
            f"{len(found)} labels that failed or are in quarantine begin with {beginning!r}",
            expected="an id, or as much of it as tells it from the others",
            todo="surveyor label held FOLDER shows them",
        )
    return found[0]
