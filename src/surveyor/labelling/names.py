"""Names that come from files: fit to become part of a path, or refused; and foreign text, fit to be shown."""

from __future__ import annotations

import re
from pathlib import Path

from surveyor.errors import LabellingError

METHOD = "[A-Za-z0-9+-][A-Za-z0-9.+-]{0,199}"
ID = "[0-9a-f]{32}"
"""Regular expressions of the names of methods and of whole ids."""


def check_method_name(method: object, where: str = "method") -> str:
    """The name of a method, which names the files of its labels; `where` it stands is for the message.

    Raises:
        LabellingError: it is no plain name: empty, too long, with a slash, a leading dot, …
    """
    if not isinstance(method, str) or not re.fullmatch(METHOD, method):
        raise LabellingError(
            f"{where}: the method {shown(repr(method)[:80])} cannot name a file",
            expected="up to 200 letters, digits and . + -, not beginning with a dot",
            todo="take the name as Surveyor wrote it",
        )
    return method


def is_structure_id(name: object) -> bool:
    """Whether it is a whole id: 32 hexadecimal digits."""
    return isinstance(name, str) and re.fullmatch(ID, name) is not None


def shown(text: str | Path) -> str:
    """Foreign text on one line, letter by letter: what is not printable is written as an escape."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in str(text)
    )
