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

from conftest import rattled
from planted import plant
from surveyor.errors import LabellingError, Notice, said
from surveyor.labelling import Ledger
from surveyor.labelling.batch import export_batch, open_batch
from surveyor.labelling.handoff import collect
from surveyor.labelling.repair import repair
from surveyor.structures import read_structures, structure_id, with_labels, write_structures
from test_ledger import filled, frames_of, label, structures
from test_portable import alike, alike_column, labelled
from test_printed_numbers import energy
from test_results_elsewhere import springs

pytestmark = pytest.mark.fuzz

SEED = 20260201
CONVERSIONS = 200
VALUES = 300
PLANTED = 150
NUMBERS = 2000


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


# ---- odd values through every writer ----------------------------------------------------------------

NAMES = [
    "comment", "a b", "a:b", "a=b", 'a"b', "", "energy", "forces", "stress", "virial", "magmoms", "charges",
    "Lattice", "Properties", "pbc", "species", "pos", "numbers2", "move_mask", "tags", "masses", "\n", "a\\",
    "_JSON", "é", "{", "T", "REF_energy2", "surveyor_doubt", "config_weight", "name'", "free_energy",
    "dipole", "residuenames", "\x00", "a\tb",
]  # fmt: skip
TEXTS = [
    "", " ", "a", "001", "1", "1.0", "T", "F", "true", "nan", "inf", "1 2 3", "1e5", "a\\", "\\", '"', "'",
    "a b", "a\nb", "a\r\nb", "\u2028", "\x00", "_JSON", "_JSON [1]", "{1 2}", "[1, 2]", "[", "total_charge=5",
    'x" total_charge=5 y="', "é", "٣", "=", ",", "a" * 3000, "None", "-", "+1", "0x1", "1_0",
]  # fmt: skip


def odd_value(rng: np.random.Generator) -> object:
    """Anything that files of other formats leave in `info`."""
    shape = tuple(rng.integers(0, 4, size=int(rng.integers(0, 3))))
    choices: list[Callable[[], object]] = [
        lambda: TEXTS[rng.integers(len(TEXTS))],
        lambda: TEXTS[rng.integers(len(TEXTS))],
        lambda: [None, True, 3, -1.5, float("nan"), float("-inf"), 10**30, 1 + 2j, b"x"][rng.integers(9)],
        lambda: rng.normal(size=shape),
        lambda: rng.integers(-9, 9, size=shape),
        lambda: rng.normal(size=shape).astype("f4"),
        lambda: rng.normal(size=shape) > 0,
        lambda: np.array([TEXTS[i] for i in rng.integers(len(TEXTS), size=2)]),
        lambda: [TEXTS[i] for i in rng.integers(len(TEXTS), size=int(rng.integers(0, 4)))],
        lambda: {TEXTS[rng.integers(len(TEXTS))]: [1, [2, "a"]]},
        lambda: np.ma.masked_less(rng.normal(size=3), 0),
        lambda: np.datetime64("2026-01-01"),
        lambda: {1, 2},
        lambda: object(),
    ]
    return choices[rng.integers(len(choices))]()


def odd_column(rng: np.random.Generator, n: int) -> np.ndarray:
    """Anything that can stand in a column of an atom."""
    shape = (n, *[(), (1,), (2,), (3,), (9,), (2, 2), (0,)][rng.integers(7)])
    kinds = ["f8", "f4", "i8", "?", "c16", "O", "U"]
    kind = kinds[rng.integers(len(kinds))]
    if kind in "OU":
        texts = [TEXTS[i] for i in rng.integers(len(TEXTS), size=int(np.prod(shape)))]
        return np.array(texts, dtype=kind if texts else "U1").reshape(shape)
    values = rng.normal(size=shape) * 10.0 ** rng.integers(-9, 12)
    with np.errstate(all="ignore"):
        return values.astype(kind)


def test_odd_values_through_every_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(SEED)
    counts: Counter[str] = Counter()
    ledger = Ledger(tmp_path / "labels", "m")
    taken = {}
    for number in range(VALUES):
        atoms = labelled()
        atoms.positions[0, 0] += 1e-3 * number
        atoms.info["surveyor_id"] = structure_id(atoms)
        key, name = NAMES[rng.integers(len(NAMES))], NAMES[rng.integers(len(NAMES))]
        value, column = odd_value(rng), odd_column(rng, len(atoms))
        atoms.info = {"first": 1, key: value, **atoms.info, "last": "x"}
        if name not in atoms.arrays:
            atoms.arrays[name] = column
        said.clear()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            path = write_structures(tmp_path / "picks.extxyz", [labelled(), atoms, labelled()])
            batch = export_batch([atoms], tmp_path / f"b{number}", method="m", campaign=None, separate=True)
            again = open_batch(batch.folder)
            ledger.prove({structure_id(atoms): atoms})
            ledger.append(structure_id(atoms), atoms, label(atoms))
        taken[structure_id(atoms)] = label(atoms)
        notices = "\n".join(str(one.message) for one in heard)
        first, back, last = read_structures(path, check=False)
        assert first.info["REF_energy"] == last.info["REF_energy"] == back.info["REF_energy"] == -76.25
        assert back.info["total_charge"] == -1
        assert list(again.structures) == [structure_id(atoms)] == [structure_id(back)]
        results = back.calc.results if back.calc else {}
        for what, said_of, old, new in (
            ("info", f"info {key!r} is left out", value, back.info.get(key, results.get(key))),
            ("column", f"column {name!r} is left out", column, back.arrays.get(name, results.get(name))),
        ):
            if said_of in notices:
                counts[f"{what}: left out, named"] += 1
            elif key in atoms.info and (alike if what == "info" else alike_column)(old, new):
                counts[f"{what}: came back equal"] += 1
            else:
                counts[f"{what}: LOST IN SILENCE"] += 1
    opened_again = Ledger(tmp_path / "labels", "m").structures
    assert list(opened_again) == list(taken)
    for name, expected in taken.items():
        assert opened_again[name].info["REF_energy"] == expected.energy
        np.testing.assert_array_equal(opened_again[name].arrays["REF_forces"], expected.forces)
    with capsys.disabled():
        print(
            f"\n{VALUES} frames of odd info and columns: {dict(counts)}; "
            f"all {len(taken)} labels in the journal"
        )
    assert not any("SILENCE" in outcome for outcome in counts)


# ---- results beside anything ------------------------------------------------------------------------


def test_planted_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(SEED)
    asked = rattled(8, 10, ("CH3OH",))
    export_batch(asked, tmp_path / "batch", method="m", campaign=None, separate=False)
    results = tmp_path / "results"
    planted = plant(results, rng, PLANTED)
    for number, atoms in enumerate(asked):
        path = results / f"{['0', 'p050', 'zz'][number % 3]}-{number}.extxyz"
        ase.io.write(path, with_labels(atoms, springs(atoms)), format="extxyz")
    ledger = Ledger(tmp_path / "labels", "m")
    found = collect(open_batch(tmp_path / "batch"), [results], ledger)
    assert {structure_id(atoms) for atoms in asked} == set(found.new) == set(ledger.structures)
    for atoms in asked:
        expected = springs(atoms)
        kept = ledger.structures[structure_id(atoms)]
        assert kept.info["REF_energy"] == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(kept.arrays["REF_forces"], expected.forces, atol=1e-7)
    assert not (tmp_path / "EXECUTED").exists()
    again = collect(open_batch(tmp_path / "batch"), [results], ledger)
    assert not again.new
    with capsys.disabled():
        print(
            f"\n{len(planted)} odd files beside 8 results: {len(found.new)} taken, "
            f"{len(found.rejected)} refused, {len(found.passed_over)} passed over; "
            "none executed, no traceback, no hang"
        )


# ---- numbers ----------------------------------------------------------------------------------------

SOUND = [
    "{:.8f}",
    "{:.3f}",
    "{!r}",
    "{:.6E}",
    "{:+.5e}",
    "{:.8f} ",
    "{:.4f}\t",
    "{:.5E} Eh",
    "{:.2f}  (note)",
]
SPOILT = [
    "{:,.3f}x", "{a}{b}", "{a}.{b}", "{a},{b}", "{a}e", "{a}_{b}", "{a}*{b}", "********", "{a}***", "{a}eV",
    "{a}i", "{a}j", "{a}+{b}j", "{a}±{b}", "{a}-{b}", "{a}+{b}", "{a}'000", "{a}e+", "0x{b}", "{a}/{b}",
    "{a}..{b}", "{a}%", "−{b}", "- {b}", "{a}-103", "{a}:{b}", "({a},{b})", "{a}?{b}", "{a}\x00{b}", "{a}D",
    "1,{b}", "{a}\xa0000", "~{b}", "NaN{b}", "{a}Inf",
]  # fmt: skip


def test_number_formats(capsys: pytest.CaptureFixture[str]) -> None:
    from ase.calculators.calculator import CalculationFailed

    rng = np.random.default_rng(SEED)
    counts: Counter[str] = Counter()
    for number in range(NUMBERS):
        value = float(rng.normal() * 10.0 ** rng.integers(-6, 7))
        if number % 2:
            text = SOUND[rng.integers(len(SOUND))].format(value)
            wanted = float(text.split()[0])
        else:
            form = SPOILT[rng.integers(len(SPOILT))]
            text, wanted = form.format(abs(value), a=f"{value:.4f}", b=f"{abs(value):.3f}"), None
        try:
            found = energy(f"E = 1.25\nE = {text}\nEnd")
        except CalculationFailed:
            counts["sound: REFUSED" if wanted is not None else "spoilt: refused"] += 1
            continue
        counts["sound: read" if found == wanted else f"READ AS {found}: {text!r}"] += 1
    with capsys.disabled():
        print(f"\n{NUMBERS} printed numbers: {dict(counts)}")
    assert set(counts) == {"sound: read", "spoilt: refused"}
