"""A campaign from Python: the page in the docs as printed, and what `run` returns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from ase import Atoms

from conftest import rattled
from surveyor.campaign import Campaign, read_campaign, run
from surveyor.errors import CampaignError
from surveyor.labelling import compute
from surveyor.labelling.manual import LabelsAwaitedError
from surveyor.potentials.mace import MacePotential
from surveyor.report import write_report
from surveyor.structures import structure_id, write_structures
from surveyor.types import Failure, Labels
from test_campaign_inputs import EMT, begun, plan_of, template  # noqa: F401

PAGE = Path(__file__).parents[1] / "docs" / "campaign-from-python.md"


def test_the_page_works_as_printed(
    tmp_path: Path,
    potential: MacePotential,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    potential.save(tmp_path / "mine.model")
    write_structures(tmp_path / "pool.extxyz", rattled(16, seed=1))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    assert len(blocks[1].splitlines()) < 10
    exec("\n".join(blocks), {})  # noqa: S102
    assert capsys.readouterr().out.splitlines() == ["0 0", "1 4", "2 8", "all 2 rounds done"]
    by_hand, by_run = (read_campaign(tmp_path / name) for name in ("campaign", "another"))
    assert [record.labels for record in by_hand.rounds] == [0, 4, 8]
    assert by_hand.ledger.structures.keys() == by_run.ledger.structures.keys()
    assert write_report(tmp_path / "campaign", tmp_path / "report.html").is_file()


class Patient:
    """Real labels, as far as people have brought them."""

    method = "emt"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.there: set[str] = set()

    def __call__(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Labels | Failure]]:
        for name in todo.keys() & self.there:
            yield name, compute(EMT, todo[name])
        if left := todo.keys() - self.there:
            raise LabelsAwaitedError(len(left), self.folder)


def test_a_run_that_waits_goes_on_when_the_labels_are_there(begun: Path) -> None:  # noqa: F811
    folder, plan = begun.parent / "campaign", plan_of(begun)
    people = Patient(folder)
    finished, begins = [], []
    asked = Campaign(folder, plan, "emt").ask()
    people.there = {next(iter(asked))}
    waits = run(folder, plan, people, on_begin=lambda: begins.append(1), on_round=finished.append)
    assert (waits.stopped, waits.waiting and waits.waiting.n) == (None, 2)
    assert [record.number for record in waits.rounds] == [0, 1]
    assert finished == []
    people.there = set(asked)
    ends = run(folder, plan, people, on_begin=lambda: begins.append(2), on_round=finished.append)
    assert (ends.stopped, ends.waiting) == ("all 2 rounds done", None)
    assert ends.rounds[2:] == tuple(finished)
    assert ends.rounds[2].labels == 10
    assert begins == [1, 2]
    assert run(folder, plan, people).rounds == ends.rounds


def test_a_label_that_was_not_asked_for_is_refused(begun: Path) -> None:  # noqa: F811
    folder, plan = begun.parent / "campaign", plan_of(begun)
    stranger = rattled(1, seed=99)[0]

    class Wrong:
        method = "emt"

        def __call__(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Labels | Failure]]:
            yield structure_id(stranger), compute(EMT, stranger)

    for control_every in (None, 1):
        with pytest.raises(CampaignError, match="was not asked for"):
            run(folder, replace(plan), Wrong(), control_every=control_every)
    assert len(Campaign(folder, plan, "emt").ledger) == 3
