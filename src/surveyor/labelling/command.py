"""An external program as a labeller: input from templates, run without a shell, output parsed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat

from surveyor.errors import LabellingError
from surveyor.labelling import keeper as keeping
from surveyor.labelling import scratch
from surveyor.labelling.calculators import CalculatorSpec
from surveyor.labelling.naming import checksum
from surveyor.labelling.outputs import STDERR, STDOUT, OutputSettings, inside, read_output
from surveyor.labelling.templates import render, variables
from surveyor.settings import Settings


class CommandSettings(Settings):
    """An external program.

    | field       | meaning                                                                             |
    |-------------|-------------------------------------------------------------------------------------|
    | command     | program and arguments, each a template; no shell sees them                          |
    | input       | file name → template of its content; written into the scratch folder                |
    | output      | where energy and forces stand                                                       |
    | time_limit  | seconds, after which the program and its children are killed                        |
    | environment | additional variables                                                                |
    | name        | short name of the method; by default the program's                                  |
    | version     | of the program; stands in the name of the method                                    |
    | scratch     | parent of the scratch folders; by default the system's temporary folder             |
    | keep        | `failed`: the scratch folder of a failed label stays, and its failure names it      |
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    command: list[str] = Field(min_length=1)
    output: OutputSettings
    input: dict[Annotated[str, AfterValidator(inside)], str] = Field(default_factory=dict)
    time_limit: PositiveFloat | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    name: str | None = None
    version: str | None = None
    scratch: Path | None = None
    keep: Literal["never", "failed"] = "never"


def command_spec(settings: CommandSettings) -> CalculatorSpec:
    """The specification of a command labeller; its templates are tried on a small molecule first.

    Raises:
        LabellingError: a template is malformed, or uses a name that there is not.
    """
    _filled(settings, Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), charge=0, multiplicity=1)
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
        command, files = _filled(self.settings, self.atoms, self.charge, self.multiplicity)
        with _scratch(self.settings) as folder:
            for name, content in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
            _run(command, folder, self.settings)
            self.results = read_output(self.settings.output, folder, self.atoms)
        # ASE would run the program once more to look for a stress that it does not print.
        self.implemented_properties = list(self.results)


def _filled(
    settings: CommandSettings, atoms: Atoms, charge: int, multiplicity: int
) -> tuple[list[str], dict[str, str]]:
    values = variables(atoms, charge, multiplicity)
    command = [render(part, values, f"the command, {part!r}") for part in settings.command]
    return command, {name: render(text, values, name) for name, text in settings.input.items()}


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


def _run(command: list[str], folder: Path, settings: CommandSettings) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise LabellingError(
            f"there is no program {command[0]!r}",
            expected="a program on PATH, or the path of one, on the machine that labels",
            todo="install it, load its module, or correct labels: settings: command",
        )
    with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
        # Whoever kills a worker at a time limit must not leave a program behind that goes on computing.
        keeper = [sys.executable, "-I", "-S", keeping.__file__, "follow", str(os.getpid())]
        process = subprocess.Popen(  # noqa: S603  (the user's own command, and no shell)
            [*keeper, str(Path(program).absolute()), *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **settings.environment},
        )
        try:
            code = process.wait(settings.time_limit)
        except subprocess.TimeoutExpired:
            _end(process)
            raise CalculationFailed(
                f"{command[0]} was stopped at its time limit of {settings.time_limit:g} s"
            ) from None
        except BaseException:
            _end(process)
            raise
    if code:
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        raise CalculationFailed(f"{command[0]} ended with {how}: {_last_words(folder)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and its children."""
    process.terminate()
    try:
        process.wait(2 * keeping.PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(folder: Path) -> str:
    """The last line with words that the program wrote, standard error first."""
    for name in (STDERR, STDOUT):
        with (folder / name).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 2000))
            lines = file.read().decode(errors="replace").split("\n")
        words = [" ".join(line.split()) for line in lines if re.search("[A-Za-z]", line)]
        if words:
            return words[-1][:160]
    return "it printed nothing"
