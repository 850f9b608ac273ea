"""`surveyor doctor`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from surveyor.cli.guard import guarded
from surveyor.cli.options import Device, Python
from surveyor.cli.progress import make_progress

if TYPE_CHECKING:
    from surveyor.doctor.findings import Finding

STYLES = {"ok": "green", "warning": "yellow", "error": "bold red", "not checked": "dim"}


def doctor(
    data: Annotated[
        list[Path] | None, typer.Argument(help="Structures, labelled or not: any file that ASE reads.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Labelled structures that are kept for measuring errors.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="builtin, a .model file that you trust, or a MACE model name; "
            "by default the campaign's, or builtin.",
        ),
    ] = None,
    campaign: Annotated[
        Path | None, typer.Option("--campaign", "-c", help="A campaign file, or a campaign's folder.")
    ] = None,
    device: Device = None,
    python: Python = None,
    seed: Annotated[int, typer.Option(help="Of the sample of frames that the model predicts.")] = 0,
    time_limit: Annotated[
        float, typer.Option(help="Seconds that the campaign's calculator gets for one frame.", min=0.1)
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: ok, findings.")] = False,
) -> None:
    """Check a data file, a model and a campaign before money is spent on labels.

    Exit code 0: no errors (there may be warnings); 1: errors were found; 2: the command itself is wrong.

    Example: surveyor doctor labelled.extxyz --test test.extxyz

    Example: surveyor doctor --campaign campaign.yaml --json

    Example: surveyor doctor --model my.model
    """
    with guarded():
        from surveyor.doctor.examine import examine
        from surveyor.doctor.findings import Level, worst

        findings = list(
            examine(
                make_progress(), data=data or (), test=test, campaign=campaign, model=model,
                device=device, python=python, seed=seed, time_limit=time_limit,
            )
        )  # fmt: skip
        failed = worst(findings) is Level.ERROR
        if as_json:
            rows = [finding.as_dict() for finding in findings]
            typer.echo(json.dumps({"ok": not failed, "worst": worst(findings), "findings": rows}))
        else:
            _print(findings)
        if failed:
            raise typer.Exit(1)


def _print(findings: Sequence[Finding]) -> None:
    table = Table(title="surveyor doctor")
    for column in ("verdict", "check", "what was found → what to do"):
        table.add_column(column)
    subject = None
    for finding in findings:
        if finding.subject != subject:
            subject = finding.subject
            table.add_section()
            table.add_row("", "", f"[bold]{escape(subject)}[/bold]")
        verdict = finding.verdict
        todo = f"\n→ {verdict.todo}" if verdict.todo else ""
        level = f"[{STYLES[verdict.level]}]{verdict.level}[/]"
        table.add_row(level, finding.check, escape(verdict.found + todo))
    console = Console()
    console.print(table)
    counts = Counter(finding.verdict.level.value for finding in findings)
    console.print(", ".join(f"{counts[level]} {level}" for level in STYLES if counts[level]))
