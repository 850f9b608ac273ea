"""The random control arm: the same number of labels, no label paid for twice, and an honest comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from typer.testing import CliRunner

from conftest import rattled
from surveyor.campaign import Campaign, Control, LabelRules, Plan, read_campaign, run
from surveyor.campaign.comparison import compare, paired_bootstrap
from surveyor.campaign.records import RoundRecord
from surveyor.cli import app
from surveyor.config import build_plan, load_campaign
from surveyor.errors import CampaignError, ConfigError
from surveyor.labelling import compute
from surveyor.metrics import Errors
from surveyor.potentials.mace import MacePotential
from surveyor.structures import structure_id
from surveyor.types import Failure, Labels
from test_campaign_training import EMT, config_file


class CountingLabeller:
    """Real EMT labels; keeps count, and may be stopped or made to fail."""

    method = "emt"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.until: int | None = None
        self.failing: set[str] = set()

    def __call__(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Labels | Failure]]:
        for name, atoms in todo.items():
            if self.until is not None and len(self.calls) >= self.until:
                raise KeyboardInterrupt
            self.calls.append(name)
            yield name, Failure("no convergence") if name in self.failing else compute(EMT, atoms)


class RefitTrainer:
    """Trains nothing but the reference energies: fast, and better with more and other labels."""

    def __init__(self) -> None:
        self.trained_on: list[set[str]] = []

    def __call__(self, start: Any, train: Sequence[Atoms], valid: Sequence[Atoms], **_: Any) -> MacePotential:
        from surveyor.potentials.references import refit_reference_energies

        self.trained_on.append({structure_id(atoms) for atoms in [*train, *valid]})
        return start.with_reference_shifts(refit_reference_energies(start, [*train, *valid]))


@pytest.fixture
def plan(tmp_path: Path, model_file: Path) -> Plan:
    config = load_campaign(config_file(tmp_path, model_file, forgetting=False, control="random"))
    assert config.control is not None
    rules = LabelRules(retries=1, retry_wait=0.01)
    return replace(build_plan(config), trainer=RefitTrainer(), label_rules=rules)


def go_on(folder: Path, plan: Plan, labeller: CountingLabeller) -> Campaign:
    run(folder, plan, labeller, control_every=1)
    return Campaign(folder, plan, "emt")


def test_both_arms_have_as_many_labels_and_none_is_paid_for_twice(tmp_path: Path, plan: Plan) -> None:
    labeller = CountingLabeller()
    campaign = go_on(tmp_path / "c", plan, labeller)
    rounds = campaign.rounds
    assert [r.labels for r in rounds] == [4, 8, 12]
    assert [r.control.get("labels") for r in rounds] == [None, 8, 12]
    assert len(labeller.calls) == len(set(labeller.calls))
    own = set(campaign.ledger.structures)
    control = Control(campaign)
    paid = set(control.ledger.structures)
    assert own | paid == set(labeller.calls)

    start = {structure_id(atoms) for atoms in plan.start}
    first, second = plan.trainer.trained_on[1], plan.trainer.trained_on[3]  # type: ignore[attr-defined]
    assert first < second  # the control's sets are beginnings of one order
    assert start < first
    assert second - start <= own | paid
    # The order does not depend on what the campaign chose: it is that of a campaign which chose otherwise.
    other = Control(Campaign(tmp_path / "other", replace(plan, batch=1), "emt"))
    assert list(other.order)[:8] == list(control.order)[:8]
    assert second - start == set(list(other.order)[:8])
    # The campaign's own training set holds no label that only the control asked for.
    assert plan.trainer.trained_on[2] == start | own  # type: ignore[attr-defined]


def test_the_campaign_is_the_same_with_and_without_a_control(tmp_path: Path, plan: Plan) -> None:
    labeller = CountingLabeller()
    with_control = go_on(tmp_path / "c", plan, labeller)
    alone = Campaign(tmp_path / "alone", plan, "emt")
    while alone.stopped is None:
        alone.step(labeller)
    for number in (1, 2):
        one, two = (
            json.loads((folder / "rounds" / f"00{number}" / "selection.json").read_text())
            for folder in (with_control.folder, alone.folder)
        )
        assert one == two
    for a, b in zip(with_control.rounds, alone.rounds, strict=True):
        assert (a.energy_mae, a.labels) == (pytest.approx(b.energy_mae), b.labels)


def test_any_interruption_is_made_up_for(tmp_path: Path, plan: Plan) -> None:
    undisturbed = go_on(tmp_path / "quiet", plan, CountingLabeller())
    folder, calls = tmp_path / "stopped", 0
    for _ in range(60):
        labeller = CountingLabeller()
        labeller.until = 2  # two labels, then Ctrl-C
        try:
            campaign = go_on(folder, plan, labeller)
        except KeyboardInterrupt:
            calls += len(labeller.calls)
            continue
        calls += len(labeller.calls)
        break
    assert campaign.stopped == undisturbed.stopped
    for a, b in zip(campaign.rounds, undisturbed.rounds, strict=True):
        assert {**a.control, "paid": 0, "shared": 0} == {**b.control, "paid": 0, "shared": 0}
    known = {*campaign.ledger.structures, *Control(campaign).ledger.structures}
    assert calls == len(known)


def test_failed_labels_are_passed_over(tmp_path: Path, plan: Plan) -> None:
    campaign = Campaign(tmp_path / "c", plan, "emt")
    order = list(Control(campaign).order)
    labeller = CountingLabeller()
    labeller.failing = {order[1], order[6]}
    campaign = go_on(tmp_path / "c", plan, labeller)
    for record in campaign.rounds[1:]:
        assert record.control["labels"] == record.labels
    labeller.failing = set(order)
    with pytest.raises(CampaignError, match="labels of the random control failed; the first: no convergence"):
        Control(campaign).labelled(3, 20, labeller)


def test_every_other_round(tmp_path: Path, plan: Plan) -> None:
    campaign = Campaign(tmp_path / "c", plan, "emt")
    control = Control(campaign, every=2)
    labeller = CountingLabeller()
    while campaign.stopped is None:
        campaign.step(labeller)
        control.catch_up(labeller)
    assert [bool(record.control) for record in campaign.rounds] == [False, False, True]


def test_what_is_said_about_random(tmp_path: Path, plan: Plan) -> None:
    campaign = go_on(tmp_path / "c", plan, CountingLabeller())
    control = campaign.rounds[-1].control
    assert control["verdict"].startswith("at 12 labels, active learning is ")
    assert control["energy_gain_low"] <= control["energy_gain"] <= control["energy_gain_high"]
    out = CliRunner().invoke(app, ["status", str(tmp_path / "c")]).output
    assert control["verdict"] in out.replace("\n", " ")
    assert read_campaign(tmp_path / "c").rounds[-1].control == control


def test_verdicts() -> None:
    rng = np.random.default_rng(0)
    test = rattled(40, seed=0)
    for atoms in test:
        del atoms.info["reaction"]

    def verdict(own: float, other: float) -> str:
        own_each, other_each = own + rng.normal(0, 1, 40), other + rng.normal(0, 1, 40)
        record = RoundRecord(1, 30, 20, energy_each=own_each.tolist(), force_each=own_each.tolist())
        return compare(record, Errors(0, 0, 0, 0, other_each, other_each), test, seed=0)["verdict"]

    assert "is ahead of random in energy (" in verdict(20, 23)
    assert "is behind random in energy (" in verdict(23, 20)
    assert "is not told apart from random in energy (" in verdict(20, 20.1)


def test_the_bootstrap_against_its_twin() -> None:
    """A plain loop that draws whole groups; and for single structures the textbook standard error."""
    rng = np.random.default_rng(1)
    differences, groups = rng.normal(1.0, 2.0, 30), [f"r{i % 6}" for i in range(30)]
    mean, low, high = paired_bootstrap(differences, groups, seed=3)
    drawn = []
    for _ in range(4000):
        names = rng.choice(6, 6)
        drawn.append(np.concatenate([differences[np.arange(30) % 6 == n] for n in names]).mean())
    assert mean == pytest.approx(differences.mean())
    assert [low, high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist(), abs=0.06)
    many = rng.normal(0, 1, 2000)
    _, low, high = paired_bootstrap(many, [str(i) for i in range(2000)], seed=0)
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.1)
    # Copies within a group are no new evidence.
    _, low_copies, high_copies = paired_bootstrap(
        np.repeat(many[:50], 40), [str(i // 40) for i in range(2000)], seed=0
    )
    assert high_copies - low_copies > 4 * (high - low)


def test_the_key_in_the_file(tmp_path: Path, model_file: Path) -> None:
    config = load_campaign(config_file(tmp_path, model_file, control={"rule": "random", "every": 2}))
    assert config.control is not None
    assert config.control.every == 2
    for changes, message in (
        ({"control": "lcmd"}, "control.rule"),
        ({"control": "random", "test": None}, "control needs test structures"),
        ({"control": {"every": 2}, "training": {"start": "continued"}}, "every must be 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_campaign(config_file(tmp_path, model_file, **changes))
