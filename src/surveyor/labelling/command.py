"""An external program as a labeller: input from templates, run without a shell, output parsed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from surveyor.errors import LabellingError
from surveyor.labelling import scratch
from surveyor.labelling.calculators import CalculatorSpec
from surveyor.labelling.naming import checksum
from surveyor.labelling.outputs import OutputSettings, read_output
from surveyor.labelling.programs import Program
from surveyor.labelling.templates import variables


class CommandSettings(Program):
    """An external program; see `Program`.

    | field       | meaning                                                                             |
    |-------------|-------------------------------------------------------------------------------------|
    | output      | where energy and forces stand                                                       |
    | name        | short name of the method; by default the program's                                  |
    | version     | of the program; stands in the name of the method                                    |
    | scratch     | parent of the scratch folders; by default the system's temporary folder             |
    | keep        | `failed`: the scratch folder of a failed label stays, and its failure names it      |
    """

    output: OutputSettings
    name: str | None = None
    version: str | None = None
    scratch: Path | None = None
    keep: Literal["never", "failed"] = "never"


def command_spec(settings: CommandSettings) -> CalculatorSpec:
    """The specification of a command labeller; its templates are tried on a small molecule first.

    Raises:
        LabellingError: a template is malformed, or uses a name that there is not.
    """
    settings.filled(variables(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), charge=0, multiplicity=1))
    content = settings.model_dump(mode="json")
    harmless = ("time_limit", "scratch", "keep", "name", "version")
    decisive = {k: v for k, v in content.items() if k not in harmless}
    files = _files(settings)
    name = settings.name or Path(settings.command[0]).name
    return CalculatorSpec(
        path="surveyor.labelling.command:Command",
        settings={"settings": settings},
        charge_key="charge",
        spin_key="multiplicity",
        name="-".join(filter(None, (name, settings.version))),
        packages=(),
        decisive=json.dumps({**decisive, **({"files": files} if files else {})}, sort_keys=True),
        before=json.dumps(decisive, sort_keys=True),
    )


LAUNCHERS = {"mpirun", "mpiexec", "mpiexec.hydra", "orterun", "srun", "aprun", "jsrun", "env", "nice", "time"}
"""Programs that start the one that computes."""


def _files(settings: CommandSettings) -> dict[str, str]:
    """Checksums of the program, unless its version is given, and of the files that arguments name."""
    first, *rest = settings.command
    found = {}
    if not settings.version:
        program = shutil.which(first)
        if Path(first).name in LAUNCHERS:
            # The value of an option may bear a program's name; the first one that is no launcher counts.
            others = (shutil.which(part) for part in rest if not part.startswith("-"))
            program = next((path for path in others if path and Path(path).name not in LAUNCHERS), None)
        if program:
            found["program"] = checksum(Path(program).resolve())
    for number, part in enumerate(rest):
        # Relative names are of the scratch folder.
        if (
            Path(part).is_absolute()
            and Path(part).is_file()
            and not (settings.version and os.access(part, os.X_OK))
        ):
            found[f"argument {number}"] = checksum(Path(part).resolve())
    return found


class Command(Calculator):  # type: ignore[misc]
    """Runs the program in a scratch folder of its own and reads energy and forces.

    Args:
        settings: what to run and to read; a mapping is checked.
        charge: total charge in e.
        multiplicity: 2S+1.

    Raises:
        LabellingError: there is no such program.
        CalculationFailed: it ended with an error, took too long, or left no numbers.
    """

    implemented_properties: list[str] = ["energy", "forces", "stress"]  # noqa: RUF012  (ASE's own attribute)

    def __init__(
        self, settings: CommandSettings | Mapping[str, Any], *, charge: int = 0, multiplicity: int = 1
    ) -> None:
        super().__init__()
        self.settings = CommandSettings.model_validate(settings)
        self.charge, self.multiplicity = charge, multiplicity

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Run the program; see the class."""
        super().calculate(atoms, properties, system_changes)
        values = variables(self.atoms, self.charge, self.multiplicity)
        with _scratch(self.settings) as folder:
            try:
                failure = self.settings.run(values, folder)
            except FileNotFoundError as error:
                raise LabellingError(
                    f"there is no program {str(error)!r}",
                    expected="a program on PATH, or the path of one, on the machine that labels",
                    todo="install it, load its module, or correct labels: settings: command",
                ) from error
            if failure:
                raise CalculationFailed(failure)
            self.results = read_output(self.settings.output, folder, self.atoms)
        # ASE would run the program once more to look for a stress that it does not print.
        self.implemented_properties = list(self.results)


@contextlib.contextmanager
def _scratch(settings: CommandSettings) -> Iterator[Path]:
    """A new folder that goes when the block ends; inside the scratch folder of a worker it goes with that."""
    if settings.scratch is None and scratch.current is not None:
        yield Path(tempfile.mkdtemp(prefix="command-", dir=scratch.current))
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix="surveyor-", dir=settings.scratch))
    except OSError as error:
        raise LabellingError(
            f"no scratch folder in {settings.scratch or tempfile.gettempdir()}: {error.strerror}",
            expected="a folder that exists and is writable",
            todo="set labels: settings: scratch",
        ) from error
    try:
        yield folder
    except CalculationFailed as error:
        if settings.keep == "failed":
            raise CalculationFailed(f"{error}; see {folder}") from error
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
