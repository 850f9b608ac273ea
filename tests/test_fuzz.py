"""Whatever files and programs do to labels: none is lost in silence, none is paid for twice.

`make test-fuzz` prints the counts; every draw is seeded.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest

from surveyor.errors import LabellingError, Notice, said
from surveyor.labelling import Ledger
from surveyor.labelling.repair import repair
from test_ledger import filled, frames_of, label, structures

pytestmark = pytest.mark.fuzz

SEED = 20260201
CONVERSIONS = 200


def opened(folder: Path) -> tuple[list[str], bool] | None:
    """The ids of the labels, and whether something was said; None where opening was refused."""
    said.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            ledger = Ledger(folder, "m")
        except LabellingError:
            return None
    for name, atoms in ledger.structures.items():
        expected = label(structures()[name])
        assert atoms.info["REF_energy"] == expected.energy
        np.testing.assert_array_equal(atoms.arrays["REF_forces"], expected.forces)
    return list(ledger.structures), any(issubclass(one.category, Notice) for one in told)


def outcome(folder: Path, damaged: bytes, names: list[str], content: bytes) -> str:
    """What became of a journal with this content."""
    path = folder / "m.extxyz"
    path.write_bytes(damaged)
    count = folder / "m.paid.json"
    count.write_text(f'{{"labels": {len(names)}}}')
    found = opened(folder)
    if found is None:
        return "refused, unchanged" if path.read_bytes() == damaged else "CHANGED ALTHOUGH REFUSED"
    held, noted = found
    if sorted(held) == sorted(names):
        return "read whole"
    if held == names[:-1] and noted and content.startswith(damaged.rstrip(b"\0")):
        return "the last label torn, said, computed again"
    return "LOST IN SILENCE"


def test_every_bit_of_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = filled(tmp_path, 3).path.read_bytes()
    names = list(structures(3))
    counts: Counter[str] = Counter()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        counts[outcome(tmp_path, bytes(damaged), names, content)] += 1
    with capsys.disabled():
        print(f"\n{8 * len(content)} flipped bits of a journal of 3 labels: {dict(counts)}")
    assert set(counts) == {"refused, unchanged"}


def conversions(rng: np.random.Generator) -> dict[str, Callable[[bytes], bytes]]:
    """What editors, archivers, version control and converters do to a text file, and people to its frames."""

    def some(content: bytes, size: int) -> tuple[int, int]:
        begin = int(rng.integers(0, len(content) - 1))
        return begin, min(len(content), begin + int(rng.integers(1, size)))

    def without(content: bytes) -> bytes:
        begin, end = some(content, 200)
        return content[:begin] + content[end:]

    def twice(content: bytes) -> bytes:
        begin, end = some(content, 200)
        return content[:end] + content[begin:]

    def inserted(content: bytes) -> bytes:
        begin, _ = some(content, 2)
        return content[:begin] + rng.bytes(int(rng.integers(1, 9))) + content[begin:]

    def zeroed(content: bytes) -> bytes:
        begin, end = some(content, 200)
        return content[:begin] + bytes(end - begin) + content[end:]

    def frames(content: bytes, order: Callable[[int], list[int]]) -> bytes:
        parts = frames_of(content)
        return b"".join(parts[i] for i in order(len(parts)))

    def by_ase(content: bytes) -> bytes:
        target = io.StringIO()
        ase.io.write(
            target, ase.io.read(io.StringIO(content.decode()), ":", format="extxyz"), format="extxyz"
        )
        return target.getvalue().encode()

    return {
        "CRLF": lambda c: c.replace(b"\n", b"\r\n"),
        "CR": lambda c: c.replace(b"\n", b"\r"),
        "CRLF somewhere": lambda c: c[: (k := some(c, 2)[0])] + c[k:].replace(b"\n", b"\r\n"),
        "gzip": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "UTF-16": lambda c: c.decode("latin-1").encode("utf-16"),
        "byte order mark": lambda c: b"\xef\xbb\xbf" + c,
        "upper case": bytes.upper,
        "tabs": lambda c: c.replace(b"  ", b"\t"),
        "blanks at line ends": lambda c: c.replace(b"\n", b" \n"),
        "blanks stripped": lambda c: b"\n".join(line.rstrip() for line in c.split(b"\n")),
        "no last line end": lambda c: c.rstrip(b"\n"),
        "another last line end": lambda c: c + b"\n",
        "ASE": by_ase,
        "bytes lost": without,
        "bytes twice": twice,
        "bytes inserted": inserted,
        "bytes zeroed": zeroed,
        "cut": lambda c: c[: some(c, 2)[0]],
        "cut, with zeros": lambda c: c[: some(c, 2)[0]] + bytes(512),
        "a frame lost": lambda c: frames(c, lambda n: sorted(rng.permutation(n)[1:].tolist())),
        "frames in another order": lambda c: frames(c, lambda n: rng.permutation(n).tolist()),
        "fewer digits": lambda c: c.replace(b"0000 ", b" "),
        "emptied": lambda _: b"",
    }


def test_conversions_of_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(SEED)
    content = filled(tmp_path, 5).path.read_bytes()
    names = list(structures(5))
    kinds = conversions(rng)
    counts: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for number in range(CONVERSIONS):
        chosen = [list(kinds)[number % len(kinds)], *rng.choice(list(kinds), size=number // 100)]
        damaged = content
        for kind in chosen:
            try:
                damaged = kinds[kind](damaged) if len(damaged) > 2 else damaged
            except (ValueError, IndexError, KeyError):  # not a text any more
                continue
        found = outcome(tmp_path, damaged, names, content)
        counts[found] += 1
        if found == "refused, unchanged":
            (mended,) = repair(tmp_path)
            aside = mended.aside or mended.journal  # whole frames, but not all of them, stay as they are
            assert aside.read_bytes() == damaged
            if mended.aside is not None:
                mended.aside.unlink()
            again = opened(tmp_path)
            assert again is not None
            assert set(again[0]) <= set(names)
            kept["labels kept by repair"] += mended.labels
            kept["labels lost, and said"] += mended.lost
    with capsys.disabled():
        print(f"\n{CONVERSIONS} conversions of a journal of 5 labels: {dict(counts)}; repair: {dict(kept)}")
    assert set(counts) <= {"read whole", "refused, unchanged", "the last label torn, said, computed again"}
