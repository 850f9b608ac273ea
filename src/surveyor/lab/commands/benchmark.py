"""`surveyor benchmark`: the runs, and the page about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from surveyor.cli.console import plain_console
from surveyor.cli.guard import guarded
from surveyor.cli.options import Overwrite
from surveyor.cli.progress import make_progress


class RunByDefault(TyperGroup):
    """`surveyor benchmark FILE` means `surveyor benchmark run FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


benchmark = typer.Typer(
    name="benchmark",
    cls=RunByDefault,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Measure how many labels each strategy needs: tasks × strategies × seeds → learning curves.\n\n"
    "Example: surveyor benchmark examples/benchmark-smoke.yaml -o results",
)


@benchmark.command()
def run(
    config: Annotated[Path, typer.Argument(help="The benchmark file, YAML.")],
    folder: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Results folder; by default the file's name without .yaml."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", "-p", help="Runs at a time, one thread each; all cores.", min=1),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Do the runs that the results folder does not hold yet. The same command resumes.

    Example: surveyor benchmark examples/benchmark-smoke.yaml -o results
    """
    with guarded():
        from surveyor.campaign import CampaignLock
        from surveyor.lab.benchmark import benchmark as conduct
        from surveyor.lab.benchmark import load_benchmark

        spec = load_benchmark(config)
        target = folder or config.with_suffix("")
        with CampaignLock(target):
            outcome = conduct(spec, target, processes=processes, progress=make_progress())
        typer.echo(f"{outcome.total} runs in {target}, {outcome.done_now} of them done now", err=True)
        typer.echo(f"next: surveyor benchmark report {target}", err=True)
        if as_json:
            typer.echo(
                json.dumps({"runs": outcome.total, "done_now": outcome.done_now, "folder": str(target)})
            )


@benchmark.command()
def report(
    folder: Annotated[Path, typer.Argument(help="The results folder.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page, Markdown; by default FOLDER/results.md.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write the page, its figures and summary.json, from the runs that are finished.

    Example: surveyor benchmark report results -o docs/results.md
    """
    with guarded():
        from surveyor.lab.benchmark.report import write_report
        from surveyor.structures.writing import check_place

        if output is not None:
            check_place(output, overwrite=overwrite)
        page, summary = write_report(folder, output or folder / "results.md")
        if as_json:
            typer.echo(json.dumps(summary))
            return
        plain_console().print(_table(summary))
        typer.echo(f"{page}\n{folder / 'summary.json'}")


@benchmark.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="The results folder.", exists=True, file_okay=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print what was packed as JSON.")] = False,
) -> None:
    """Move the records of finished runs into one archive; `report` and `run` read it as it is.

    Example: surveyor benchmark pack results
    """
    with guarded():
        from surveyor.campaign import CampaignLock
        from surveyor.lab.benchmark.records import pack as pack_records

        with CampaignLock(folder):
            packed = pack_records(folder)
        if as_json:
            content = {"archive": str(packed.path), "records": packed.records, "bytes": packed.size}
            typer.echo(json.dumps({**content, "sha256": packed.sha256}))
            return
        typer.echo(f"{packed.records} records in {packed.path}, {packed.size / 1e6:.1f} MB")
        typer.echo(f"SHA-256 {packed.sha256}")


def _table(summary: dict[str, object]) -> Table:
    table = Table(title=f"labels saved by {summary['default']} against {summary['baseline']}")
    columns = ("task", "seeds", "energy", "forces", "Pearson\nstd, force", "random\nweights")
    for column in columns:
        table.add_column(column, justify="left" if column == "task" else "right")
    tasks = summary["tasks"]
    rows = [*tasks.items(), ("all", summary["average"])] if isinstance(tasks, dict) else []
    for name, values in rows:
        table.add_row(
            name,
            str(values.get("seeds", "")),
            *(
                _share(values[f"reduction_{k}"], values[f"reduction_{k}_is_bound"])
                for k in ("energy", "force")
            ),
            *(_number(values[key]) for key in ("pearson_force", "pearson_force_random_weights")),
        )
    return table


def _share(value: float | None, bound: bool) -> str:
    return "–" if value is None else f"{'≤ ' if bound else ''}{100 * value:.0f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
