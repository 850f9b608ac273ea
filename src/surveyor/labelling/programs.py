"""External programs: command and input from templates, run without a shell, ended with all they started."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat

from surveyor import keeper
from surveyor.labelling.outputs import STDERR, STDOUT, inside
from surveyor.labelling.templates import render
from surveyor.settings import Settings


class Program(Settings):
    """An external program.

    | field       | meaning                                                                             |
    |-------------|-------------------------------------------------------------------------------------|
    | command     | program and arguments, each a template; no shell sees them                          |
    | input       | file name → template of its content; written into the folder in which it runs       |
    | time_limit  | seconds, after which the program and its children are killed                        |
    | environment | additional variables                                                                |
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    command: list[str] = Field(min_length=1)
    input: dict[Annotated[str, AfterValidator(inside)], str] = Field(default_factory=dict)
    time_limit: PositiveFloat | None = None
    environment: dict[str, str] = Field(default_factory=dict)

    def filled(self, values: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
        """Command, and name → content of the input files.

        Raises:
            LabellingError: a template is malformed, or uses a name that there is not.
        """
        command = [render(part, values, f"the command, {part!r}") for part in self.command]
        return command, {name: render(text, values, name) for name, text in self.input.items()}

    def run(self, values: Mapping[str, Any], folder: Path) -> str | None:
        """Write the input and run the program in a folder, which keeps what it prints.

        Returns:
            None, or why it failed: `ended with exit code 1: …`.

        Raises:
            LabellingError: a template is malformed, or uses a name that there is not.
            FileNotFoundError: there is no such program.
        """
        command, files = self.filled(values)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        program = shutil.which(command[0])
        if program is None:
            raise FileNotFoundError(command[0])
        with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
            # Whoever is killed above it must not leave a program behind that goes on computing.
            process = subprocess.Popen(  # noqa: S603  (the user's own command, and no shell)
                keeper.kept([str(Path(program).absolute()), *command[1:]]),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **self.environment},
            )
            try:
                code = process.wait(self.time_limit)
            except subprocess.TimeoutExpired:
                keeper.end(process)
                return f"{command[0]} was stopped at its time limit of {self.time_limit:g} s"
            except BaseException:
                keeper.end(process)
                raise
        if not code:
            return None
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        return f"{command[0]} ended with {how}: {_last_words(folder)}"


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
