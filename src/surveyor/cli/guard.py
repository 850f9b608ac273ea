"""Errors at the border of the program: one message, exit code 2."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import typer

from surveyor.errors import Notice, SurveyorError


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Print errors that a user can mend without a traceback; SURVEYOR_DEBUG=1 shows it."""
    # e3nn and torch warn about their own internals; nobody at the terminal can act on that.
    warnings.filterwarnings("ignore", module=r"(torch|e3nn|mace|torch_ema|matscipy)(\.|$)")
    warnings.filterwarnings("ignore", message=".*TorchScript type system.*")
    warnings.filterwarnings("default", category=Notice)  # whatever PYTHONWARNINGS says of the others
    shown = warnings.showwarning
    warnings.showwarning = functools.partial(_show, shown)
    try:
        yield
    except SurveyorError as error:
        if os.environ.get("SURVEYOR_DEBUG"):
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        if os.environ.get("SURVEYOR_DEBUG") or error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EROFS,
        ):
            raise
        typer.echo(
            f"error: {error.strerror}: {error.filename or 'while writing'}\n"
            "  to do:    free space or choose another folder, and run the same command again",
            err=True,
        )
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; the same command goes on from here", err=True)
        sys.exit(130)
    finally:
        warnings.showwarning = shown


def _show(others: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any) -> None:
    """A notice as one line for a person; warnings of other packages as Python shows them."""
    if issubclass(category, Notice):
        typer.echo(f"note: {message}", err=True)
    else:
        others(message, category, *place)
