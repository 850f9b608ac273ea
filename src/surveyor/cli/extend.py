"""`surveyor extend`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surveyor.cli.guard import guarded
from surveyor.cli.progress import make_progress

if TYPE_CHECKING:
    from surveyor.types import Potential


def extend(
    folder: Annotated[Path, typer.Argument(help="The campaign's folder.")],
    pool: Annotated[
        Path | None,
        typer.Option("--pool", help="Structures to choose from as well: a file that ASE reads."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Labelled structures of your own, trained on from now on.")
    ] = None,
    method: Annotated[str, typer.Option(help="How these labels were made, in your words.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add structures or labels of your own to a campaign, finished or not; `surveyor run` goes on with them.

    Example: surveyor extend campaign --pool more.extxyz

    Example: surveyor extend campaign --labels mine.extxyz --method "the campaign's own, computed by hand"
    """
    with guarded():
        from surveyor.campaign import CampaignLock, read_campaign
        from surveyor.campaign.extending import extend as add
        from surveyor.config import build_plan, load_campaign
        from surveyor.errors import CampaignError

        if pool is None and labels is None:
            raise CampaignError("nothing to add", expected="--pool FILE, --labels FILE or both")
        read_campaign(folder)
        with CampaignLock(folder):
            plan = build_plan(load_campaign(folder / "config.yaml"))
            if labels is not None:
                _examine(labels, plan.potential)
            added = add(folder, plan, pool=pool, labels=labels, method=method)
        if as_json:
            typer.echo(json.dumps([asdict(entry) for entry in added]))
            return
        for entry in added:
            typer.echo(f"added: {entry}")
        typer.echo("run the campaign's file again to go on")


def _examine(labels: Path, potential: Potential) -> None:
    """Refuse labels in which `surveyor doctor` finds an error.

    Raises:
        CampaignError: with the first finding.
    """
    from surveyor.doctor.checks import examine_file
    from surveyor.doctor.dataset import Role
    from surveyor.doctor.findings import Level
    from surveyor.errors import CampaignError

    findings = examine_file(labels, Role.START, potential, make_progress(), [], seed=0)
    faults = [finding for finding in findings if finding.verdict.level is Level.ERROR]
    if faults:
        more = f" (and {len(faults) - 1} more errors)" if len(faults) > 1 else ""
        raise CampaignError(
            f"{labels.name}: {faults[0].check}: {faults[0].verdict.found}{more}",
            expected="labels in which `surveyor doctor` finds no error",
            todo=faults[0].verdict.todo or f"surveyor doctor {labels}",
        )
