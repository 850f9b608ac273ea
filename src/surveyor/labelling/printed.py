"""Numbers as programs print them: read as a whole, or no numbers at all."""

from __future__ import annotations

import re
from collections import deque

from ase.calculators.calculator import CalculationFailed

NUMBER = (
    r"([-+]?(?:[0-9]+\.?[0-9]*(?:[EeDd][-+]?[0-9]+)?|\.[0-9]+(?:[EeDd][-+]?[0-9]+)?"
    r"|[Nn]a[Nn]|NAN|[Ii]nf(?:inity)?|INF(?:INITY)?))"
)
"""What <number> stands for in a pattern, Fortran's D exponents and NaN included."""

_SPACES = r" \t\r\n\f\v"
_LEFT = rf"{_SPACES}=:;,|(\[{{>\"'"
_RIGHT = rf"{_SPACES}<)\]}}|\""
_MINUS = "-+\u2010-\u2015\u2212"

# In front of a number: a space, or a sign that introduces one; no digits before a comma, and no lone minus.
_LONE_SIGN = "".join(rf"(?<![=:(\s][{_MINUS}]{' ' * n})" for n in (1, 2, 3))
_BEGIN = rf"(?:(?<=[{_LEFT}])|(?<![\s\S]))(?<![0-9][,':;(\[])(?:(?=[-+])|{_LONE_SIGN})"

# Behind it: a space, the end, or punctuation that no digit follows; no exponent, power of ten or imaginary
# part that stands apart.
_END = (
    rf"(?=[{_RIGHT}]|\Z|[.:!?'](?:[{_RIGHT}]|\Z)|[,;](?:[A-Za-z{_RIGHT}]|\Z))"
    r"(?![ \t]+[EeDd][-+][0-9])(?![ \t]*[x×*·][ \t]*10)(?![ \t]*[-+][ \t]*[0-9.eE]+[ \t]*[ij]\b)"
    r"(?![ \t]+[ij]\b)"
)

_LIKE = (
    rf"(?:[{_MINUS}][ ]{{1,3}})?(?![A-Za-z])(?!\*{{25}})\S*(?:\d|\*\*)\S*|[-+]?(?:nan|NaN|NAN|inf|Inf|INF)\S*"
)
"""What stands in the place of a number and is meant as one, be it readable or not."""


class Pattern:
    """A pattern in which `<number>` stands for a whole number.

    What it names next to a number may touch it: in `<number>eV` the unit, in `<number>,<number>` a comma.

    Raises:
        re.error: it is no regular expression.
    """

    def __init__(self, text: str) -> None:
        parts = text.split("<number>")
        strict = loose = wide = parts[0]
        for place, after in enumerate(parts[1:], start=1):
            more = place + 1 < len(parts)
            begin = (
                ""
                if re.search(_NAMED + r"\Z", parts[place - 1]) or _comma(parts[place - 1], place > 1)
                else _BEGIN
            )
            end = "" if re.match(_NAMED + "(?![*?])", after) or _comma(after, more) else _END
            strict += begin + NUMBER + end + after
            loose += f"({_LIKE}){after}"
            wide += rf"((?:{_LIKE})[^\n]*?){after}"
        self.text = text
        self.strict = re.compile(strict, re.MULTILINE)
        self.loose = re.compile(loose, re.MULTILINE) if len(parts) > 1 else self.strict
        self.wide = re.compile(wide, re.MULTILINE) if len(parts) > 1 else self.strict

    @property
    def groups(self) -> int:
        return self.strict.groups

    def last(self, text: str, what: str) -> float | None:
        """The number of the last match; None where nothing matches.

        Raises:
            CalculationFailed: what stands there is no number, or only a part of what stands there is one.
        """
        found = _last(self.strict, text)
        meant = _last(self.wide, text)
        if meant is not None and (found is None or meant.start(1) > found.end(1)):
            raise _no_number(_token(meant), what)
        if found is None:
            return None
        value, behind = found.group(1) or "", text[found.end(1) : found.end(1) + 12]
        apart = re.match(r" [0-9]{3}(?![0-9])", behind) and re.fullmatch(r"[-+]?[0-9]{1,3}", value)
        if apart and found.end() == found.end(1):  # 1 234.5
            raise _no_number(value + behind, what)
        return number(found, 1, what)

    def row(self, line: str, what: str, *, strictly: bool = True) -> list[float] | None:
        """The numbers of a line; None where it does not match.

        Raises:
            CalculationFailed: it matches, but with something that is no number (only if `strictly`).
        """
        match = self.strict.search(line)
        if match is None:
            if strictly and (meant := self.loose.search(line)):
                raise _no_number(meant.group(0).strip(), what)
            return None
        return [number(match, group, what) for group in range(1, self.groups + 1)]


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


_NAMED = r"(?:(?<!\\)[A-Za-z0-9_%/~-]|\\[^A-Za-z0-9\\])"
"""A character of a pattern that stands for itself, and may touch a number: the unit of `<number>eV`."""


def _comma(between: str, columns: bool) -> bool:
    r"""Whether a comma parts two numbers of the pattern, as in `<number>,\s*<number>`."""
    return columns and re.fullmatch(r"(?:\\s[*+]?| )*,(?:\\s[*+]?| )*", between) is not None


def _token(match: re.Match[str]) -> str:
    """What the first group took, to the next spaces on both sides."""
    before = re.search(r"\S*\Z", match.string[max(0, match.start(1) - 40) : match.start(1)])
    return (before.group() if before else "") + str(match.group(1))


def number(match: re.Match[str], group: int, what: str) -> float:
    """The number of a group.

    Raises:
        CalculationFailed: it is none, or goes on before or behind what the group took.
    """
    text, (start, end) = match.group(group) or "", match.span(group)
    around = match.string
    goes_on = re.match(r"\.?[0-9]|[EeDd][-+]?[0-9]", around[end : end + 4]) or (
        end == match.end() and re.match(r"[,'_+-][0-9]", around[end : end + 2])
    )
    begun = around[max(0, start - 1) : start].isdigit() and text[:1] not in "+-"
    if not re.fullmatch(NUMBER, text.strip(" \t")) or goes_on or begun:
        raise _no_number(around[max(0, start - 12) : end + 12], what)
    return float(text.strip(" \t").lower().replace("d", "e"))


def _no_number(text: str, what: str) -> CalculationFailed:
    shown = " ".join(text.split())[:60]
    return CalculationFailed(f"{what}: {shown!r} is not a number, or only a part of it is")
