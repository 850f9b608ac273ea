"""A campaign's trainings: where they start, what they record, what they forget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from typer.testing import CliRunner

from conftest import emt_labelled, rattled
from surveyor.campaign import Campaign, Plan, read_campaign
from surveyor.campaign.forgetting import forgetting
from surveyor.cli import app
from surveyor.config import build_plan, load_campaign
from surveyor.errors import ConfigError
from surveyor.labelling import CalculatorSpec, compute
from surveyor.metrics import errors_but_offsets, residuals
from surveyor.potentials.mace import MacePotential
from surveyor.progress import Silent
from surveyor.structures import with_labels, write_structures
from surveyor.structures.composition import element_offsets
from surveyor.types import Labels

EMT = CalculatorSpec("ase.calculators.emt.EMT")


def config_file(folder: Path, model: Path, **changes: object) -> Path:
    write_structures(folder / "pool.extxyz", rattled(24, seed=1))
    write_structures(folder / "start.extxyz", emt_labelled(rattled(4, seed=2)))
    write_structures(folder / "test.extxyz", emt_labelled(rattled(6, seed=3)))
    write_structures(folder / "generic.extxyz", emt_labelled(rattled(10, seed=4)))
    content: dict[str, object] = {
        "pool": "pool.extxyz",
        "start": "start.extxyz",
        "test": "test.extxyz",
        "model": str(model),
        "features": {"dim": 32},
        "selection": {"batch": 4},
        "labels": {"calculator": "ase.calculators.emt.EMT"},
        "training": {"updates": 6, "threads": 1, "quality": "quick"},
        "forgetting": "generic.extxyz",
        "stop": {"rounds": 2},
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def one_round(campaign: Campaign) -> None:
    for name, atoms in campaign.ask().items():
        campaign.tell(name, compute(EMT, atoms))
    campaign.advance()


class Nudge:
    """A trainer that costs nothing: it shifts the reference energies, and knows what it started from."""

    def __init__(self) -> None:
        self.starts: list[str] = []

    def __call__(self, start: Any, train: Sequence[Atoms], valid: Sequence[Atoms], **_: Any) -> MacePotential:
        self.starts.append(start.fingerprint)
        return start.with_reference_shifts({1: 0.1 * len([*train, *valid])})


@pytest.mark.parametrize("continued", [False, True])
def test_where_each_round_starts(tmp_path: Path, model_file: Path, continued: bool) -> None:
    plan = build_plan(load_campaign(config_file(tmp_path, model_file)))
    trainer = Nudge()
    plan = replace(plan, trainer=trainer, continued=continued)
    campaign = Campaign(tmp_path / "c", plan, "emt")
    for _ in range(4):
        one_round(campaign)
    folder = tmp_path / "c" / "rounds"
    before = [plan.potential, *(plan.open_potential(folder / f"00{n}/potential.model") for n in (1, 2))]
    expected = before if continued else [plan.potential] * 3
    assert trainer.starts == [potential.fingerprint for potential in expected]


class Heard(Silent):
    """What a campaign tells of its stages."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.steps: list[tuple[int, int, str]] = []
        self.advanced = 0

    def start(self, what: str, total: int | None = None) -> None:
        self.stages.append((what, total))
        self.advanced = 0

    def advance(self, steps: int = 1) -> None:
        self.advanced += steps

    def at(self, done: int, total: int, note: str = "") -> None:
        self.steps.append((done, total, note))


def test_a_round_records_its_training_and_what_it_forgot(tmp_path: Path, model_file: Path) -> None:
    plan = build_plan(load_campaign(config_file(tmp_path, model_file)))
    heard = Heard()
    campaign = Campaign(tmp_path / "c", plan, "emt", progress=heard)
    one_round(campaign)
    one_round(campaign)
    assert (heard.stages[-1], heard.advanced) == (("round 1: evaluation", 6), 6)
    done, total, note = heard.steps[-1]
    assert done == total >= 6, "every update of the training was told"
    assert note.startswith("loss ")
    assert note.endswith(" meV/Å")
    first, last = read_campaign(tmp_path / "c").rounds
    assert first.training_settings == {}
    assert first.forgetting.keys() == {"before"}
    metrics = json.loads((tmp_path / "c" / "rounds" / "001" / "metrics.json").read_text())
    assert metrics["training_settings"]["updates"] >= 6
    assert metrics["training_settings"]["mode"] == "naive"
    assert all(not isinstance(value, dict | list) for value in metrics["training_settings"].values())
    tuned = plan.open_potential(tmp_path / "c" / "rounds" / "001" / "potential.model")
    for potential, when in ((plan.potential, "before"), (tuned, "after")):
        energy, force = errors_but_offsets(potential, plan.generic)
        assert last.forgetting[when] == pytest.approx({"energy_mae": energy, "force_mae": force}, rel=1e-4)
    out = CliRunner().invoke(app, ["status", str(tmp_path / "c")]).output
    assert "training: naive, 2,992 of 2,992 parameters" in out
    assert "generic sample: energy MAE" in out


def test_before_is_measured_once(potential: MacePotential, tmp_path: Path, model_file: Path) -> None:
    plan: Plan = build_plan(load_campaign(config_file(tmp_path, model_file)))
    first = forgetting(potential, None, plan.generic, [])
    from surveyor.campaign import RoundRecord

    known = RoundRecord(0, 0, 0, forgetting={"before": {"energy_mae": 1.0, "force_mae": 2.0}})
    later = forgetting(potential, potential, plan.generic, [known])
    assert later["before"] == {"energy_mae": 1.0, "force_mae": 2.0}
    assert later["after"] == first["before"]
    assert forgetting(potential, potential, [], [known]) == {}


def test_offsets_between_levels_of_theory_are_no_errors(potential: MacePotential) -> None:
    frames = rattled(20, seed=9)
    constants = {1: 7.0, 6: -1000.0, 7: 3.0, 8: 55.0}
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, len(frames))
    labelled = [
        with_labels(a, Labels(p.energy + e * len(a) + sum(constants[z] for z in a.numbers), p.forces + 0.5))
        for a, p, e in zip(frames, potential.predict(frames), noise, strict=True)
    ]
    energy, force = errors_but_offsets(potential, labelled)
    assert force == pytest.approx(500.0, rel=1e-4)
    assert 0 < energy < 1e3 * np.abs(noise).mean() * 1.3  # offsets of tens of eV/atom are gone
    # The twin: normal equations with a pseudo-inverse.
    values, forces = residuals(potential, labelled)
    np.testing.assert_allclose(np.concatenate(forces), 0.5, rtol=1e-4)  # label minus prediction
    shares = np.array([[np.mean(a.numbers == z) for z in (1, 6, 7, 8)] for a in labelled])
    expected = np.linalg.pinv(shares.T @ shares) @ shares.T @ values
    np.testing.assert_allclose(
        element_offsets(values, labelled, (1, 6, 7, 8)), expected, rtol=1e-6, atol=1e-7
    )


def test_keys_of_the_training_section(tmp_path: Path, model_file: Path) -> None:
    replayed = load_campaign(
        config_file(tmp_path, model_file, training={"mode": "replay", "replay": "generic.extxyz"})
    )
    assert replayed.training.loss == "universal"
    assert replayed.training.replay == tmp_path / "generic.extxyz"
    assert len(build_plan(replayed).trainer.stages[-1][1].replay) == 10  # type: ignore[attr-defined]
    frozen = load_campaign(config_file(tmp_path, model_file, training={"mode": "frozen"}))
    assert frozen.training.freeze == "interactions"
    for training, message in (
        ({"mode": "replay", "loss": "weighted"}, "trains with the loss universal"),
        ({"replay": "generic.extxyz"}, "replay has no effect without mode: replay"),
        ({"mode": "naive", "freeze": "products"}, "freeze has no effect without mode: frozen"),
        ({"mode": "adapters"}, "training.mode"),
        ({"lora_rank": 2}, "lora_rank has no effect without mode: lora"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_campaign(config_file(tmp_path, model_file, training=training))
    with pytest.raises(ConfigError, match="no structures to replay lie beside the model"):
        build_plan(load_campaign(config_file(tmp_path, model_file, training={"mode": "replay"})))


def test_the_generic_sample(tmp_path: Path, model_file: Path) -> None:
    assert len(build_plan(load_campaign(config_file(tmp_path, model_file))).generic) == 10
    for off in (False, None):  # nothing lies beside this model
        assert not build_plan(load_campaign(config_file(tmp_path, model_file, forgetting=off))).generic
    builtin = build_plan(load_campaign(config_file(tmp_path, Path("builtin"))))
    assert len(builtin.generic) == 10
    builtin = build_plan(
        load_campaign(config_file(tmp_path, Path("builtin"), forgetting=None, training={"mode": "replay"}))
    )
    assert len(builtin.generic) == 500
    assert 800 <= len(builtin.trainer.stages[0][1].replay) <= 1500  # type: ignore[attr-defined]
