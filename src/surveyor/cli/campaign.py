"""`surveyor run`, `status` and `report`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from surveyor.cli.console import plain_console
from surveyor.cli.ending import ending_lines
from surveyor.cli.guard import guarded
from surveyor.cli.options import Overwrite
from surveyor.cli.progress import make_progress

if TYPE_CHECKING:
    from surveyor.campaign import CampaignRecord, RoundRecord
    from surveyor.progress import Stage

Folder = Annotated[Path, typer.Argument(help="The campaign's folder.")]


def run(
    config: Annotated[Path, typer.Argument(help="The campaign file, YAML.")],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", "-o", help="Campaign folder; by default the file's name without .yaml."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end; tables go to standard error.")
    ] = False,
) -> None:
    """Run a campaign: choose, label, fine-tune, evaluate, again and again. The same command resumes.

    Example: surveyor run examples/reactions/campaign.yaml -o campaign
    """
    with guarded():
        from surveyor.campaign import run as run_campaign
        from surveyor.config import build_labeller, build_plan, load_campaign
        from surveyor.config.resume import check_config, keep_config
        from surveyor.report import ending, read_contents

        settings = load_campaign(config)
        target = folder or config.with_suffix("")
        check_config(settings, target)  # before a model is opened
        outcome = run_campaign(
            target,
            build_plan(settings),
            build_labeller(settings.labels, target, settings.engine),
            control_every=None if settings.control is None else settings.control.every,
            progress=make_progress(),
            on_begin=lambda: keep_config(settings, target),
            on_round=_say,
        )
        if outcome.waiting is not None:
            typer.echo(f"waiting: {outcome.waiting}", err=True)
            if as_json:
                typer.echo(json.dumps({**_summary(outcome.rounds, None), "waiting": outcome.waiting.n}))
            return
        page = _write_report(target)
        end = ending(read_contents(target))
        console = plain_console(stderr=as_json)
        console.print(_table(outcome.rounds))
        for line in _details(outcome.rounds):
            console.print(line, soft_wrap=True)
        console.print(f"stopped: {outcome.stopped}")
        for line in ending_lines(end):
            console.print(line, soft_wrap=True)
        console.print(f"report:  {page}", soft_wrap=True)
        if as_json:
            typer.echo(json.dumps(_summary(outcome.rounds, page) | end.as_dict()))


def status(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show where a campaign stands; works at any time, also while it runs.

    Example: surveyor status campaign
    """
    with guarded():
        from surveyor.campaign import read_campaign
        from surveyor.campaign.extension import read_extensions

        record = read_campaign(folder)
        if as_json:
            typer.echo(
                json.dumps(
                    {
                        **_summary(record.rounds, None),
                        "stopped": record.stopped,
                        **_standing_as_json(record),
                        "failed": len(record.failures),
                        "quarantined": len(record.quarantined),
                        "core_hours": record.core_hours,
                        "added": [asdict(addition) for addition in read_extensions(folder)],
                    }
                )
            )
            return
        console = plain_console()
        console.print(_table(record.rounds))
        for line in _details(record.rounds):
            console.print(line, soft_wrap=True)
        console.print(_standing_in_words(record), soft_wrap=True)
        console.print(f"cost:    {record.core_hours:.3g} core hours of labelling and training")
        for addition in read_extensions(folder):
            console.print(f"added:   {addition}", soft_wrap=True)
        if record.failures or record.quarantined:
            console.print(
                f"labels:  {len(record.failures)} failed, {len(record.quarantined)} in quarantine; "
                f"surveyor label held {folder} shows them",
                soft_wrap=True,
            )


def _standing(record: CampaignRecord) -> tuple[bool, Stage | None, int]:
    """What a campaign is at: whether a process works on it, its stage, and how many labels it lacks."""
    from surveyor.campaign.lock import at_work
    from surveyor.campaign.standing import read_stage
    from surveyor.campaign.waiting import awaited

    works = at_work(record.folder)
    lacks = 0 if record.stopped else len(awaited(record.folder, record) or ())
    return works, read_stage(record.folder) if works else None, lacks


def _standing_as_json(record: CampaignRecord) -> dict[str, object]:
    works, stage, lacks = _standing(record)
    told = None if stage is None else asdict(stage) | {"seconds_left": stage.seconds_left}
    return {"working": works, "stage": told, "waiting": lacks}


def _standing_in_words(record: CampaignRecord) -> str:
    number = len(record.rounds)
    if record.stopped:
        return f"stopped: {record.stopped}"
    works, stage, lacks = _standing(record)
    if works:
        return f"in progress: {stage or f'round {number}'}"
    if not lacks:
        return f"at rest: round {number} is next; the same surveyor run command goes on"
    labels = f"{lacks} label{'s' if lacks != 1 else ''}"
    if str(record.state["method"]).startswith("manual"):
        return (
            f"waiting: round {number}, {labels} to collect: surveyor label export {record.folder} BATCH, "
            "then surveyor label collect BATCH RESULTS"
        )
    return f"at rest: round {number} lacks {labels}; the same surveyor run command goes on"


def report(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default FOLDER/report.html.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON; write no page unless -o names one.")
    ] = False,
) -> None:
    """Write a campaign as one HTML page that opens anywhere; works at any time, also while it runs.

    Example: surveyor report campaign -o report.html
    """
    with guarded():
        from surveyor.report import figures, read_contents
        from surveyor.structures.writing import check_place

        if output is not None:
            check_place(output, overwrite=overwrite)
        progress = make_progress()
        progress.start("report")
        page = None if as_json and output is None else _write_report(folder, output)
        found = json.dumps(figures(read_contents(folder)), allow_nan=False) if as_json else None
        progress.finish()
        typer.echo(found or page)


def _write_report(folder: Path, output: Path | None = None) -> Path:
    from surveyor.report import write_report

    return write_report(folder, output or folder / "report.html")


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _say(record: RoundRecord) -> None:
    """A round, as soon as it is finished."""
    typer.echo(
        f"round {record.number}: {record.labels} labels, "
        f"energy MAE {_number(record.energy_mae)} meV/atom, force MAE {_number(record.force_mae)} meV/Å",
        err=True,
    )
    for note in record.notes:
        typer.echo(f"  {note}", err=True)


def _table(rounds: tuple[RoundRecord, ...]) -> Table:
    table = Table(title="rounds")
    for column in (
        "round", "labels", "failed", "held", "energy MAE\nmeV/atom", "force MAE\nmeV/Å",
        "Pearson\nstd, force", "time\ns",
    ):  # fmt: skip
        table.add_column(column, justify="right", no_wrap=column == "round")
    for record in rounds:
        table.add_row(
            "0 (before)" if record.number == 0 else str(record.number),
            str(record.labels),
            str(record.failed),
            str(record.quarantined),
            _number(record.energy_mae),
            _number(record.force_mae),
            _number(record.pearson_force, 2),
            _number(sum(record.seconds.values()), 0),
        )
    return table


def _details(rounds: tuple[RoundRecord, ...]) -> list[str]:
    """What the last training really did, what it cost elsewhere, and whether random would have done."""
    from surveyor.campaign.control import verdicts

    if not rounds:
        return []
    lines, last = [], rounds[-1]
    used = last.training_settings
    if "trained_parameters" in used:
        lines.append(
            f"training: {used['mode']}, {used['trained_parameters']:,} of {used['parameters']:,} parameters, "
            f"{used['updates']} updates of {used['batch_size']}, learning rate {used['learning_rate']:g}, "
            f"{used['loss']}, best epoch {used['best_epoch']} of {used['epochs']}"
        )
        if used.get("stress_structures"):
            lines.append(
                f"stress:   of {used['stress_structures']} structures, "
                + (
                    "trained on"
                    if used.get("stress_used")
                    else f"not trained on ({used['loss']} has no term for it)"
                )
            )
    if "after" in last.forgetting:
        before, after = last.forgetting["before"], last.forgetting["after"]
        lines.append(
            f"generic sample: energy MAE {_number(before['energy_mae'])} → {_number(after['energy_mae'])} "
            f"meV/atom, force MAE {_number(before['force_mae'])} → {_number(after['force_mae'])} meV/Å"
        )
    return [*lines, *verdicts(rounds)]


def _summary(rounds: tuple[RoundRecord, ...], page: Path | None) -> dict[str, object]:
    first, last = (rounds[0], rounds[-1]) if rounds else (None, None)
    return {
        "rounds": max(0, len(rounds) - 1),
        "labels": last.paid if last else 0,
        "labelled": last.labels if last else 0,
        "energy_mae_before": first.energy_mae if first else None,
        "energy_mae_after": last.energy_mae if last else None,
        "force_mae_before": first.force_mae if first else None,
        "force_mae_after": last.force_mae if last else None,
        "report": None if page is None else str(page),
    }
