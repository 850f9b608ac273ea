"""A process in another environment that answers questions, one after the other."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import weakref
from importlib.metadata import version
from pathlib import Path
from typing import IO, BinaryIO, cast

import surveyor.errors
from surveyor import keeper
from surveyor.errors import PotentialError, SurveyorError, notice
from surveyor.potentials.elsewhere.messages import Message, read, write

PROTOCOL = 1
PAGE = "docs/another-environment.md"
LAST_WORDS = 500
"""Characters of what a process printed that are shown when it has ended."""


class Process:
    """`python -m surveyor.serving` with the Python of another environment.

    It ends when nothing refers to it any more, and when this process ends, however it does. What it prints
    goes to a file of its own and is shown only if it ends by itself.

    Args:
        python: path of the Python.

    Raises:
        PotentialError: there is no such Python, or no Surveyor of this version in its environment.
    """

    def __init__(self, python: Path) -> None:
        self.python = python.expanduser().absolute()  # not resolved: the link tells the environment
        if not (self.python.is_file() and os.access(self.python, os.X_OK)):
            raise PotentialError(
                f"there is no Python {self.python}",
                expected="that of an environment which holds the family and surveyor itself",
                todo=f"make one ({PAGE}), or correct `python`",
            )
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by the finalizer)
        self._busy = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603  (no shell)
            # -P: what lies in the current folder is not imported
            keeper.kept([str(self.python), "-P", "-m", "surveyor.serving"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
        )
        self._finalizer = weakref.finalize(self, _end, self._process, self._printed)
        hello = self._answer().said
        self._pid = int(hello.get("pid", 0))
        if (there := hello.get("surveyor")) != (here := version("surveyor")) or hello["protocol"] != PROTOCOL:
            self._finalizer()
            raise PotentialError(
                f"surveyor {there} in the environment of {self.python}, {here} here",
                expected="the same version in both",
                todo=f"install it there: {self.python} -m pip install surveyor=={here}",
            )

    @property
    def pid(self) -> int:
        """Of the process that answers."""
        return self._pid

    def ask(self, question: Message) -> Message:
        """The answer to a question.

        Raises:
            SurveyorError: what the other process raised; or a PotentialError where it ended or was ended.
        """
        with self._busy:
            if not self._finalizer.alive:
                raise self._ended("was ended")
            try:
                write(cast(BinaryIO, self._process.stdin), question)
            except BrokenPipeError:
                pass  # the answer, or that there is none, tells why
            except BaseException:  # a part of the question may be on its way
                self._finalizer()
                raise
            answer = self._answer()
        for text in answer.said.get("notices", ()):
            notice(str(text))
        if error := answer.said.get("error"):
            raise self._raised(error)
        return answer

    def _answer(self) -> Message:
        try:
            answer = read(cast(BinaryIO, self._process.stdout))
        except BaseException:  # Ctrl-C: the rest of this answer would be taken for the next
            self._finalizer()
            raise
        if answer is None:
            code = self._process.wait()
            ended = self._ended(f"ended with signal {-code}" if code < 0 else f"ended with exit code {code}")
            self._finalizer()
            raise ended
        return answer

    def _ended(self, how: str) -> PotentialError:
        words = ""
        with contextlib.suppress(OSError, ValueError):
            self._printed.seek(max(0, self._printed.seek(0, os.SEEK_END) - LAST_WORDS))
            words = " ".join(self._printed.read().decode(errors="replace").split())
        return PotentialError(
            f"the process of {self.python} {how}" + (f": {words}" if words else ""),
            expected="a process that answers",
            todo="run the same command again, and if it happens again, mend that environment "
            f"({PAGE}); what was finished is kept",
        )

    def _raised(self, error: dict[str, str]) -> SurveyorError:
        """The error of the other process as one of this, by the name of its class."""
        kind = getattr(surveyor.errors, error["kind"], PotentialError)
        if not (isinstance(kind, type) and issubclass(kind, SurveyorError)):
            kind = PotentialError
        return kind(error["got"], expected=error.get("expected"), todo=error.get("todo"))


def _end(process: subprocess.Popen[bytes], printed: IO[bytes]) -> None:
    for stream in (process.stdin, process.stdout, printed):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
    keeper.end(process)
