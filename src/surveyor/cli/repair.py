"""`surveyor label repair`: a journal of labels that something else has damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from surveyor.cli.guard import guarded


def repair(
    folder: Annotated[Path, typer.Argument(help="A campaign's folder, or the OUTPUT.ledger of a labelling.")],
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on where a journal is missing altogether.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Keep every label of a damaged journal whose checksum holds; the damaged file is set aside.

    Example: surveyor label repair campaign
    """
    with guarded():
        from surveyor.campaign import CampaignLock
        from surveyor.errors import LabellingError
        from surveyor.labelling.repair import repair as mend

        # The journals' own folder will do, too: it is what the error names.
        owner = folder.parent if folder.name == "labels" else folder
        if owner.name == "control":
            owner = owner.parent
        if not (owner / "labels").is_dir():
            raise LabellingError(
                f"{folder} holds no journal of labels",
                expected="a campaign's folder, or the OUTPUT.ledger of `surveyor label`",
                todo="check the path",
            )
        with CampaignLock(owner):
            places = [place for place in (owner / "labels", owner / "control" / "labels") if place.is_dir()]
            found = [one for place in places for one in mend(place, accept_loss=accept_loss)]
        if as_json:
            content = [
                {"journal": str(one.journal), "labels": one.labels, "lost": one.lost,
                 "aside": None if one.aside is None else str(one.aside)}
                for one in found
            ]  # fmt: skip
            typer.echo(json.dumps(content))
            return
        for one in found:
            if one.aside is None and not one.lost:
                typer.echo(f"{one.journal}: whole, {one.labels} labels")
                continue
            typer.echo(f"{one.journal}: {one.labels} labels kept, {one.lost} lost")
            if one.aside is not None:
                typer.echo(f"  the damaged file is now {one.aside}")
