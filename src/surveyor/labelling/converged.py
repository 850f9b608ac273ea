"""Did the program say that it did not converge? ASE's readers take energy and forces all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from surveyor.structures.archives import open_bytes

CHUNK = 2**20
OVERLAP = 512
"""Bytes; no pattern matches more, so that none is lost between two chunks."""
HEAD = 2**16
"""Bytes at the beginning in which a program gives its name."""
NELM = 60
"""VASP's own limit of electronic steps, where the file names none."""

DATA_FORMATS = frozenset(
    {"extxyz", "xyz", "traj", "json", "db", "cif", "vasp", "proteindatabank", "bundletrajectory", "cube"}
)
"""Formats that are no output of a program: what they say is data, and not looked at."""


@dataclass(frozen=True)
class Program:
    """How a program's output says that its numbers are no result.

    `signature` stands at the beginning of its output, `bad` where it did not converge or failed, and `end`
    only where it came to its end (None: not asked for).
    """

    name: str
    signature: bytes
    bad: bytes
    end: bytes | None = None


PROGRAMS = (
    Program(
        "ORCA",
        rb"\* O   R   C   A \*",
        rb"SCF NOT CONVERGED|(?i:wave ?function (?:is )?not fully converged)|ORCA finished by error"
        rb"|aborting the run",
        rb"ORCA TERMINATED NORMALLY",
    ),
    Program(
        "Gaussian",
        rb"Entering Gaussian System|Gaussian\(R\) \d\d",
        rb"Convergence failure|Convergence criterion not met|SCF has not converged|Error termination",
        rb"Normal termination of Gaussian",
    ),
    Program("CP2K", rb"CP2K\|", rb"SCF run NOT converged|outer SCF loop FAILED to converge|\[ABORT\]"),
    Program("Quantum ESPRESSO", rb"Program PWSCF", rb"convergence NOT achieved|Error in routine"),
    Program(
        "FHI-aims",
        rb"Invoking FHI-aims",
        rb"(?i:self-consistency cycle (?:did not converge|not converged)|scf cycle (?:did )?not converged?)",
    ),
    Program(
        "NWChem",
        rb"Northwest Computational Chemistry Package",
        rb"Calculation failed to converge|(?i:\b(?:scf|dft)\b[^\n]{0,60}"
        rb"(?:did not converge|failed to converge|not converged))",
    ),
    Program(
        "Psi4",
        rb"Psi4: An Open-Source",
        rb"(?i:could not converge|scf did not converge|failed to converge)|Psi4 encountered an error",
    ),
    Program(
        "Q-Chem",
        rb"Welcome to Q-Chem|Q-Chem, Inc",
        rb"(?i:scf failed to converge)|Q-Chem fatal error",
        rb"Thank you very much for using Q-Chem",
    ),
    Program(
        "xtb",
        rb"xtb version|x T B",
        rb"abnormal termination of xtb|convergence criteria cannot be satisfied"
        rb"|(?i:(?:scf|scc|iterator)[^\n]{0,40}(?:not converged|did not converge))",
    ),
    Program("GPAW", rb"___ ___ ___ _ _ _", rb"(?i:did not converge|not converged)"),
    Program(
        "Turbomole",
        rb"(?i:turbomole|t u r b o m o l e)",
        rb"(?i:(?:dscf|ridft|scf|escf)[^\n]{0,60}did not converge)|ended abnormally|(?i:scf not converged)",
    ),
    Program("ABINIT", rb"of ABINIT", rb"was not enough SCF cycles to converge"),
    Program(
        "CASTEP",
        rb"CASTEP version|CCC   AA    SSS",
        rb"has not reached the groundstate|max\. SCF cycles performed",
    ),
    Program("DFTB+", rb"DFTB\+", rb"SCC is NOT converged"),
    Program("SIESTA", rb"(?i:siesta)", rb"SCF_NOT_CONV|(?i:scf did not converge)"),
    Program(
        "GAMESS", rb"GAMESS VERSION", rb"SCF IS UNCONVERGED|SCF HAS NOT CONVERGED|TERMINATED -?ABNORMALLY"
    ),
    Program("MOPAC", rb"MOPAC", rb"(?i:unable to achieve self-consistence|failed to achieve scf)"),
    Program("Octopus", rb"(?i:octopus)", rb"(?i:scf \*?not\*? converged)"),
    Program("PySCF", rb"(?i:pyscf)", rb"SCF not converged"),
)

ANY = Program(
    "the program", b"", rb"(?i:\bscf (?:run |cycle |has |did |is |was )?not (?:been )?converged?\b)"
)
"""For the output of a program that is not among those above."""


@dataclass(frozen=True)
class Convergence:
    """What an output says: of the whole, and of each of its ionic steps where it tells them apart."""

    whole: str | None = None
    steps: tuple[str | None, ...] = ()

    def of(self, frame: int = -1) -> str | None:
        """Why this frame is no result, or None; of VASP an ionic step, of others the whole."""
        if self.steps and -len(self.steps) <= frame < len(self.steps):
            return self.steps[frame]
        return self.whole


def convergence(path: Path, format: str | None = None) -> Convergence:
    """What a program's output says of its convergence; read in pieces, so that its size does not matter.

    Args:
        format: as ASE names it, where it is known; the content decides what program it is.

    Raises:
        StructureError, OSError, EOFError, zlib.error, lzma.LZMAError: it cannot be read.
    """
    if format in DATA_FORMATS:
        return Convergence()
    if format in ("turbomole-gradient", "turbomole"):
        problem = path.with_name("dscf_problem")
        return Convergence(f"Turbomole left {problem.name} beside it" if problem.exists() else None)
    with open_bytes(path) as file:
        head = file.read(HEAD)
    with open_bytes(path) as file:
        if format == "vasp-xml" or b"<modeling>" in head:
            return _vasp_xml(file)
        if format == "vasp-out" or re.search(rb"^\s*vasp\.\d", head):
            return _vasp_out(file)
        return Convergence(_text(file, _program(head)))


def _program(head: bytes) -> Program:
    return next((program for program in PROGRAMS if re.search(program.signature, head)), ANY)


def _text(file: IO[bytes], program: Program) -> str | None:
    wanted = [b"(?P<bad>" + program.bad + b")"]
    if program.end is not None:
        wanted.append(b"(?P<end>" + program.end + b")")
    ended = program.end is None
    for match in _matches(file, re.compile(b"|".join(wanted))):
        if match["bad"] is not None:
            said = " ".join(match["bad"].decode("utf-8", "replace").split())
            return f"{program.name} says {said!r}"
        ended = True
    return None if ended else f"{program.name} did not come to its end"


def _matches(file: IO[bytes], pattern: re.Pattern[bytes]) -> Iterator[re.Match[bytes]]:
    """All matches in a file, of which only a piece is in memory."""
    rest = b""
    while chunk := file.read(CHUNK):
        data = rest + chunk
        safe, done = len(data) - OVERLAP, 0
        for match in pattern.finditer(data):
            if match.start() >= safe:
                break
            done = match.end()
            yield match
        rest = data[max(done, safe, 0) :]
    yield from pattern.finditer(rest)


_XML = re.compile(
    rb"(?P<step><scstep\b)|(?P<begin><calculation\b)|(?P<end></calculation>)"
    rb"""|name=["']NELM["'][^>]{0,40}>\s{0,20}(?P<nelm>\d{1,9})"""
)


def _vasp_xml(file: IO[bytes]) -> Convergence:
    limit, electronic = NELM, 0
    steps: list[int] = []
    for match in _matches(file, _XML):
        if match["nelm"]:
            limit = int(match["nelm"])
        elif match["begin"]:
            electronic = 0
        elif match["step"]:
            electronic += 1
        else:
            steps.append(electronic)
            electronic = 0
    return _at_limit([*steps, *([electronic] if electronic else [])], limit)


def _at_limit(steps: list[int], limit: int) -> Convergence:
    reasons = tuple(
        f"VASP's electronic steps ended at their limit, NELM = {limit}" if count >= limit else None
        for count in steps
    )
    return Convergence(reasons[-1] if reasons else None, reasons)


_OUTCAR = re.compile(
    rb"Iteration\s{1,9}(?P<ionic>\d{1,9})\(\s{0,9}(?P<electronic>\d{1,9})\)"
    rb"|(?P<reached>aborting loop because EDIFF is reached)|(?P<missed>EDIFF was not reached)"
    rb"|\bNELM\s{0,9}=\s{0,9}(?P<nelm>\d{1,9})"
)


def _vasp_out(file: IO[bytes]) -> Convergence:
    limit = NELM
    steps: dict[int, int] = {}
    ionic = 0
    for match in _matches(file, _OUTCAR):
        if match["nelm"]:
            limit = int(match["nelm"])
        elif match["ionic"]:
            ionic = int(match["ionic"])
            steps[ionic] = max(steps.get(ionic, 0), int(match["electronic"]))
        else:  # what the last electronic step of this ionic step came to
            steps[ionic] = 0 if match["reached"] else 10**9
    return _at_limit(list(steps.values()), limit)
