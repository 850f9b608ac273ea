"""The comparison of rules: what its table says of made-up records, and that the page says what it says."""

from __future__ import annotations

from pathlib import Path

from importers.kinds import MANY_SYSTEMS, ONE_SYSTEM
from rules import RECORDS, SPEC, Line, lines_of, read, table
from surveyor.lab.benchmark import load_benchmark

PAGE = Path(__file__).parents[2] / "docs" / "rules-evidence.md"


def line(task: str, rule: str, seed: int, labels: int, energy: float, force: float) -> Line:
    own = {"learner": "closed-form", "task": task, "rule": rule, "seed": seed}
    return {**own, "labels": labels, "energy": energy, "force": force}


def made_up() -> list[Line]:
    """A rule with half of random's energy errors and twice its force errors, the first labels left out."""
    found = []
    for task in ("h2-16", "sn2-mp2"):
        for seed in (0, 1):
            for labels, error in ((20, 9.0), (60, 4.0 + seed), (100, 2.0)):
                found.append(line(task, "random", seed, labels, error, 10 * error))
                gain = 1.0 if labels == 20 else 0.5
                found.append(line(task, "half", seed, labels, error * gain, 10 * error / gain))
    return found


def test_ratios_are_of_equal_labels_and_leave_out_the_first() -> None:
    rows = table(made_up(), "closed-form").splitlines()
    assert rows[2:] == [
        "| h2-16 | 2 | 0.50 / 2.00 |",
        "| **one system**, mean of 1 | | 0.500 / 2.000 |",
        "| sn2-mp2 | 2 | 0.50 / 2.00 |",
        "| **many systems**, mean of 1 | | 0.500 / 2.000 |",
        "| **worst task** | | 0.50 / 2.00 |",
    ]


def test_seeds_that_only_one_of_both_has_do_not_count() -> None:
    lines = [one for one in made_up() if (one["rule"], one["seed"]) != ("half", 1)]
    worse = [line("h2-16", "random", 5, labels, 1.0, 1.0) for labels in (20, 60, 100)]
    assert "| h2-16 | 3 | 0.50 / 2.00 |" in table(lines + worse, "closed-form")


def test_a_record_becomes_a_line_for_every_number_of_labels() -> None:
    point = {"energy_mae": 3.0, "force_mae": 50.0}
    points = [{"labels": n, **point} for n in (0, 20, 60)]
    record = {"learner": "closed-form", "task": "t", "strategy": "herding", "seed": 4, "points": points}
    assert list(lines_of(record)) == [line("t", "herding", 4, n, 3.0, 50.0) for n in (20, 60)]


def test_every_task_of_the_comparison_has_an_importer() -> None:
    assert set(load_benchmark(SPEC).tasks) == {*ONE_SYSTEM, *MANY_SYSTEMS}
    assert len(ONE_SYSTEM) + len(MANY_SYSTEMS) >= 12


def test_the_page_holds_the_table_of_the_records() -> None:
    lines = read(RECORDS)
    keys = [tuple(one[key] for key in ("learner", "task", "rule", "seed", "labels")) for one in lines]
    assert len(set(keys)) == len(keys)
    assert table(lines, "closed-form") in PAGE.read_text()
