"""`surveyor label export` and `collect`: a batch handed to people, and collected from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surveyor.cli.guard import guarded
from surveyor.cli.options import Overwrite
from surveyor.cli.reasons import SHOWN, print_reasons

if TYPE_CHECKING:
    from surveyor.labelling.batch import BatchFolder
    from surveyor.labelling.handoff import Collected, Judge
    from surveyor.labelling.ledger import Ledger

MISSING = "missing"
"""The word for all that are left, in place of an id."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def export(
    source: Annotated[Path, typer.Argument(help="A campaign's folder, or a file of structures.")],
    batch: Annotated[Path, typer.Argument(help="The folder to write; new, or of the same structures.")],
    separate: Annotated[bool, typer.Option("--separate", help="One xyz file per structure as well.")] = False,
    method: Annotated[
        str, typer.Option(help="Which method will label the file's structures, in your words.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write the structures that wait for labels as files that people label elsewhere.

    Example: surveyor label export campaign batch-1 --separate
    """
    with guarded():
        from surveyor.labelling.batch import export_batch
        from surveyor.labelling.manual import manual_method

        if source.is_dir():
            name, structures = _waiting(source)
            written = export_batch(structures, batch, method=name, campaign=source, separate=separate)
        else:
            from surveyor.structures import read_structures

            frames = list(read_structures(source))
            written = export_batch(
                frames, batch, method=manual_method(method), campaign=None, separate=separate
            )
        if as_json:
            typer.echo(json.dumps({"batch": str(batch), "ids": list(written.structures)}))
        else:
            typer.echo(f"{len(written.structures)} structures in {batch}; collect the results with")
            typer.echo(f"  surveyor label collect {batch} RESULTS")


def collect(
    batch: Annotated[Path, typer.Argument(help="The exported folder.")],
    results: Annotated[
        list[Path] | None, typer.Argument(help="Files that ASE reads, or folders of them.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the labelled structures, .extxyz.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Å; how far an atom may be from its place, for rounded positions.")
    ] = 1e-3,
    align: Annotated[
        bool, typer.Option("--align", help="Turn molecules back that the program moved or turned.")
    ] = False,
    give_up: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="Record that this label, a whole id, will not come; `missing`: all that are left.",
        ),
    ] = None,
    campaign: Annotated[
        Path | None, typer.Option(help="The campaign's folder, if it has moved since the export.")
    ] = None,
    overwrite: Overwrite = False,
    model: Annotated[
        str | None,
        typer.Option(help="The potential that units and signs are held against; a .model file runs code."),
    ] = None,
    trust_units: Annotated[
        bool, typer.Option("--trust-units", help="Take results whose units or signs look wrong.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring labels back, by content: names and order of the files do not matter. Repeat it as they come.

    Example: surveyor label collect batch-1 results/ -o labelled.extxyz
    """
    with guarded():
        from surveyor.campaign import CampaignLock
        from surveyor.labelling import Ledger
        from surveyor.labelling.batch import open_batch
        from surveyor.labelling.handoff import as_dict
        from surveyor.labelling.handoff import collect as look_through
        from surveyor.structures import write_structures
        from surveyor.structures.writing import check_output

        if output is not None:
            check_output(output, overwrite=overwrite, inputs=results or [])
        exported = open_batch(batch)
        target = campaign or exported.campaign or batch
        if campaign or exported.campaign:
            _check_method(target, exported.method)
            _check_chosen(target, exported)
        judge = None if trust_units else _judge(exported, campaign, model)
        with CampaignLock(target):
            ledger = Ledger(target / "labels", exported.method)
            to_give_up = _check_give_up(give_up or [], exported)
            found = look_through(
                exported, results or [], ledger, tolerance=tolerance, align=align, judge=judge
            )
            given_up = _give_up(to_give_up, found, ledger)
            if output is not None:
                journal = ledger.structures
                write_structures(output, [journal[name] for name in exported.structures if name in journal])
        if as_json:
            typer.echo(json.dumps({**as_dict(found, exported.structures), "given_up": given_up}))
        else:
            _print_collected(found, len(exported.structures), given_up)
        if found.rejected:
            raise typer.Exit(1)


def _judge(batch: BatchFolder, campaign: Path | None, model: str | None) -> Judge:
    """What looks at units and signs: the potential that was named, or the campaign's, or the built-in one.

    A `.model` file runs code when it is opened. Of a campaign that only the batch names, which may have come
    from anywhere, none is opened.
    """
    from surveyor.config import load_campaign
    from surveyor.doctor.results import unit_judge
    from surveyor.potentials import open_potential
    from surveyor.potentials.opening import BUILTIN

    python: Path | None = None
    if model is None and (campaign or batch.campaign) is not None:
        settings = load_campaign((campaign or batch.campaign or Path()) / "config.yaml")
        if campaign is not None or not (settings.python or Path(settings.model).exists()):
            model, python = settings.model, settings.python
    source = model or BUILTIN
    name = "the built-in potential" if source == BUILTIN else source
    return unit_judge(lambda: open_potential(source, python=python), name)


def _waiting(folder: Path) -> tuple[str, list[Any]]:
    """Method and waiting structures of a campaign whose labels come from people."""
    from surveyor.campaign import read_campaign
    from surveyor.campaign.waiting import waiting
    from surveyor.config import load_campaign
    from surveyor.structures import StructureFile

    method = str(read_campaign(folder).state["method"])
    _check_method(folder, method)
    settings = load_campaign(folder / "config.yaml")
    return method, list(waiting(folder, StructureFile(settings.pool)).values())


def _check_method(folder: Path, method: str) -> None:
    """Labels of two methods never mix."""
    from surveyor.campaign import read_campaign
    from surveyor.config import load_campaign
    from surveyor.config.registries import MANUAL
    from surveyor.errors import LabellingError

    state = read_campaign(folder).state["method"]
    calculator = load_campaign(folder / "config.yaml").labels.calculator
    if calculator.lower() != MANUAL or state != method:
        raise LabellingError(
            f"the campaign {folder} gets its labels from {state}"
            + ("" if state == method else f", the batch is for {method}"),
            expected="a campaign with labels: calculator: manual, and a batch that was exported from it",
            todo="export a file of structures instead (surveyor label export picks.extxyz BATCH)",
        )


def _check_chosen(folder: Path, batch: BatchFolder) -> None:
    """A batch names its campaign by a path, and may have been anywhere: it must be of that campaign."""
    from surveyor.campaign.records import read_json
    from surveyor.errors import LabellingError

    chosen = {
        pick["id"]
        for path in (folder / "rounds").glob("*/selection.json")
        for pick in read_json(path)["picks"]
    }
    if foreign := [name for name in batch.structures if name not in chosen]:
        raise LabellingError(
            f"the campaign {folder} has not chosen {len(foreign)} of the {len(batch.structures)} structures "
            f"of {batch.folder}, among them {foreign[0]}",
            expected="the campaign that the batch was exported from",
            todo="name it with --campaign",
        )


def _check_give_up(names: list[str], batch: BatchFolder) -> list[str]:
    """The names, if each is a whole id of the batch or `missing`.

    Raises:
        LabellingError: one is not; nothing is given up then.
    """
    from surveyor.errors import LabellingError
    from surveyor.labelling.names import shown

    for name in names:
        if name != MISSING and name not in batch.structures:
            raise LabellingError(
                f"--give-up {shown(repr(name))}: no structure of the batch has this id; nothing was given up",
                expected=f"a whole id of 32 hexadecimal digits, or `{MISSING}` for all that are missing",
                todo="surveyor label collect BATCH --json lists the missing ids",
            )
    return names


def _give_up(names: list[str], found: Collected, ledger: Ledger) -> list[str]:
    """Record a failure for each missing label that will not come; the ids."""
    from surveyor.types import Failure

    given_up = [name for name in found.missing if name in names or MISSING in names]
    for name in given_up:
        ledger.append_failure(name, Failure("given up: no label came", final=True))
        found.missing.remove(name)
    return given_up


def _print_collected(found: Collected, total: int, given_up: list[str]) -> None:
    print_reasons("not taken", "where", [(r.where, r.reason) for r in found.rejected])
    print_reasons("passed over", "file", [(r.where, r.reason) for r in found.passed_over])
    settled = total - len(found.missing)
    typer.echo(
        f"{len(found.new)} new labels, {len(found.known)} there already; {len(found.rejected)} not taken, "
        f"{len(found.passed_over)} passed over; {settled} of {total} settled"
    )
    if found.check:
        typer.echo(found.check)
    if found.new and found.largest_offset > 1e-6:
        typer.echo(f"positions differ from the exported ones by up to {found.largest_offset:.1e} Å")
    if given_up:
        typer.echo(f"given up: {', '.join(name[:8] for name in given_up)}")
    if found.missing:
        names = ", ".join(name[:8] for name in found.missing[:SHOWN])
        more = f" and {len(found.missing) - SHOWN} more" if len(found.missing) > SHOWN else ""
        typer.echo(f"still missing: {names}{more}")
