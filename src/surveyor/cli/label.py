"""`surveyor label`: a file at once; hand-off, and labels that need a person's eye, join it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from surveyor.cli.guard import guarded
from surveyor.cli.handoff import AsJson, collect, export
from surveyor.cli.held import held, release
from surveyor.cli.options import Overwrite
from surveyor.cli.progress import make_progress
from surveyor.cli.reasons import print_reasons
from surveyor.cli.repair import repair

if TYPE_CHECKING:
    from surveyor.config import LabelConfig


class FileByDefault(TyperGroup):
    """`surveyor label FILE` is short for `surveyor label file FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the command where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["file", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=FileByDefault,
    no_args_is_help=True,
    help="Label a file of structures, hand a batch to people and collect it, or look at labels held back.\n\n"
    "Example: surveyor label picks.extxyz -o labelled.extxyz --calculator pyscf",
)


@app.command("file")
def label_file(
    structures: Annotated[Path, typer.Argument(help="Structures; labels in the file are not looked at.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Labelled structures, .extxyz.")],
    calculator: Annotated[
        str | None,
        typer.Option("--calculator", "-c", help="gfn2-xtb | pyscf | import path of an ASE calculator."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="KEY=VALUE", help="A setting of the calculator; may be repeated."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="A campaign file, or its labels: section, instead.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Worker processes; by default all cores.", min=1)
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Label every structure of a file. The same command goes on after a kill and tries failed ones again.

    Labels are kept in OUTPUT.ledger the moment they arrive; the output is written when all have been tried.
    An output is of one method: with another calculator, other settings or fewer structures, name another one.

    Example: surveyor label picks.extxyz -o labelled.extxyz -c pyscf -s functional=pbe -s basis=def2-svp
    """
    with guarded():
        from surveyor.campaign import CampaignLock
        from surveyor.config import build_labeller
        from surveyor.labelling import Ledger
        from surveyor.labelling.manifest import begin
        from surveyor.structures import read_structures, structure_id, with_labels, write_structures
        from surveyor.structures.labels import labels_of
        from surveyor.structures.writing import check_output
        from surveyor.types import Failure

        check_output(output, overwrite=overwrite, inputs=[structures])
        section = _section(calculator, setting or [], config, processes)
        frames = list(read_structures(structures))
        named = {structure_id(atoms): atoms for atoms in frames}
        folder = output.with_suffix(".ledger")
        failed: dict[str, str] = {}
        new = 0
        with CampaignLock(folder):
            labeller = begin(folder, build_labeller(section, folder), named)
            ledger = Ledger(folder / "labels", labeller.method)
            todo = {name: atoms for name, atoms in named.items() if name not in ledger}
            ledger.prove(todo)
            progress = make_progress()
            progress.start(f"labels by {labeller.method}", len(todo))
            for name, result in labeller(todo):
                if isinstance(result, Failure):
                    ledger.append_failure(name, result)
                    failed[name] = result.reason
                else:
                    ledger.append(name, named[name], result)
                    new += 1
                progress.advance()
            progress.finish()
            found = ledger.structures
            labelled = [
                with_labels(atoms, labels_of(found[name]))
                for atoms in frames
                if (name := structure_id(atoms)) in found
            ]
            write_structures(output, labelled)
        if as_json:
            content = {
                "structures": len(frames), "labelled": len(labelled), "new": new, "failed": failed,
                "method": labeller.method, "output": str(output),
            }  # fmt: skip
            typer.echo(json.dumps(content))
        else:
            print_reasons("labels that failed", "structure", [(n[:8], r) for n, r in failed.items()])
            typer.echo(f"{len(labelled)} of {len(frames)} structures labelled ({new} new) in {output}")
        if failed:
            raise typer.Exit(1)


def _section(
    calculator: str | None, settings: list[str], config: Path | None, processes: int | None
) -> LabelConfig:
    """The labeller that the options name."""
    from surveyor.config import LabelConfig, load_labels
    from surveyor.config.registries import MANUAL
    from surveyor.errors import ConfigError

    if config is not None:
        if calculator or settings:
            raise ConfigError("--config and --calculator or --set", expected="one of them")
        section = load_labels(config)
    else:
        section = LabelConfig(
            calculator=calculator or LabelConfig().calculator, settings=dict(map(_key_value, settings))
        )
    if section.calculator.lower() == MANUAL:
        raise ConfigError(
            "the labels of calculator manual come from people",
            todo="surveyor label export FILE BATCH, and later surveyor label collect BATCH RESULTS",
        )
    return section if processes is None else section.model_copy(update={"processes": processes})


def _key_value(text: str) -> tuple[str, Any]:
    from surveyor.errors import ConfigError
    from surveyor.specs import parse_yaml

    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ConfigError(f"--set {text}", expected="key=value, such as functional=pbe")
    return key, parse_yaml(value, f"--set {key}")


for command in (export, collect, held, release, repair):
    app.command()(command)
