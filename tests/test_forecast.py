"""The forecast against conditioning one by one, and what the terminal says of it."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import emt_labelled, rattled
from surveyor.acquisition import Featurised, acquire
from surveyor.calibration import Calibration, Calibrations, WithoutFold
from surveyor.cli import app
from surveyor.errors import SelectionError
from surveyor.forecast import Forecast, forecast, points_up_to, sample
from surveyor.posterior import Posterior, condition_in_turn
from surveyor.selection import LCMD, MaxVariance, Random, TargetVariance
from surveyor.structures import write_structures
from surveyor.types import Features

runner = CliRunner()
NOISE = 1e-3


def random_features(n: int, seed: int, *, rows: int = 1, dim: int = 12) -> Features:
    rng = np.random.default_rng(seed)
    scale = 1 / (1 + np.arange(dim))
    return Features(rng.normal(size=(n * rows, dim)) * scale, np.repeat(np.arange(n), rows), n)


def ramp(slope: float) -> Calibration:
    knots, values = np.array([0.0, 9.0]), np.array([0.0, 9.0 * slope])
    fold = WithoutFold(knots, values, np.ones(30))
    return Calibration(knots, values, (fold,), "meV", 0.8, np.ones(30, dtype=bool))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("block", [1, 4, 256])
def test_the_forecast_is_conditioning_one_by_one(rows: int, block: int) -> None:
    train, picks, pool = (random_features(n, n, rows=rows) for n in (2, 11, 50))
    posterior = Posterior.fit(train, noise=NOISE)
    calibrations = Calibrations(energy=ramp(2.0), forces=ramp(3.0), without=())
    steps = list(condition_in_turn(posterior, picks, block=block))
    found = forecast(steps, pool, calibrations=calibrations)
    means, errors = [], []
    for index in range(len(picks) + 1):
        after = posterior.condition(picks.take(range(index)))
        means.append(after.variance(pool.values).mean())
        stds = np.sqrt(after.variance(pool.values).reshape(-1, rows).mean(axis=1))
        errors.append(2 * stds.mean())
    np.testing.assert_allclose(found.path, np.sqrt(np.array(means) / means[0]), rtol=1e-7)
    np.testing.assert_array_equal(found.labels, [0, 1, 2, 5, 10, 11])
    assert found.energy is not None
    assert found.forces is not None
    np.testing.assert_allclose(found.energy, np.array(errors)[found.labels], rtol=1e-6)
    np.testing.assert_allclose(found.forces, 1.5 * found.energy)
    assert (np.diff(found.path) <= 0).all()


def test_gain_and_enough() -> None:
    path = np.array([1.0, 0.8, 0.79, 0.6, 0.5995, 0.5990])
    found = Forecast(path, np.array([0, 1, 2, 5]), None, None, 9)
    np.testing.assert_allclose(found.gain[1:], [20, 1, 100 * (0.79 - 0.599) / 3])
    assert np.isnan(found.gain[0])
    assert found.enough(0.1) == 3  # the small gain of the second label is pooled with the large third
    assert found.enough(0.01) is None
    assert found.enough(15.0) == 1
    with pytest.raises(SelectionError, match="min-gain"):
        found.enough(0.0)


def test_points_and_sample() -> None:
    assert points_up_to(500).tolist() == [0, 1, 2, 5, 10, 20, 50, 100, 200, 500]
    assert points_up_to(30).tolist() == [0, 1, 2, 5, 10, 20, 30]
    pool = random_features(30, 1)
    assert sample(pool, 30, 0) is pool
    drawn = sample(pool, 10, 0)
    assert len(drawn) == 10
    np.testing.assert_array_equal(drawn.values, sample(pool, 10, 0).values)
    with pytest.raises(SelectionError, match="empty pool"):
        forecast(list(condition_in_turn(Posterior.fit(pool, noise=NOISE), pool)), Features.empty(12))


@pytest.mark.parametrize("selector", [MaxVariance(NOISE), TargetVariance(NOISE), LCMD(), Random()])
def test_a_forecast_does_not_change_the_picks(selector: object) -> None:
    pool = Featurised(random_features(60, 1), tuple(map(str, range(60))))
    labelled = Featurised(random_features(5, 2), tuple(map(str, range(60, 65))))
    plain, ahead = (
        acquire(pool, labelled, 4, lambda _: selector, noise=NOISE, seed=0, n_forecast=n)  # type: ignore[arg-type,return-value]
        for n in (0, 25)
    )
    assert plain.picks == ahead.picks
    assert plain.stopped == ahead.stopped
    assert plain.forecast is None
    assert ahead.forecast is not None
    assert ahead.forecast.labels[-1] == 25
    left = 1.0
    for pick, share in zip(ahead.picks, ahead.forecast.path[1:], strict=False):
        left *= 1 - pick.removes
        assert share**2 == pytest.approx(left)


def run(*arguments: object, code: int = 0) -> str:
    result = runner.invoke(app, ["select", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def test_the_terminal_shows_the_forecast(pool_file: Path, model_file: Path, tmp_path: Path) -> None:
    common = (pool_file, "-m", model_file, "-n", 3, "--features", "activations")
    text = run(*common, "--forecast", 500)
    assert "removes / %" in text
    assert "uncalibrated" in text
    assert "gain per label" in text
    assert "% of the start" in text
    found = json.loads(run(*common, "--forecast", 20, "--json"))
    assert len(found["removes"]) == len(found["indices"]) == 3
    assert found["forecast"]["labels"] == [0, 1, 2, 5, 10, 20]
    assert found["forecast"]["std"][0] == 1
    assert found["forecast"]["energy_meV_per_atom"] is None
    assert found["forecast"]["coverage"] is None
    assert json.loads(run(*common, "--json"))["forecast"] is None
    labelled = write_structures(tmp_path / "many.extxyz", emt_labelled(rattled(40, seed=7)))
    found = json.loads(run(*common, "-t", labelled, "--forecast", 10, "--json"))["forecast"]
    assert len(found["energy_meV_per_atom"]) == len(found["labels"])
    assert found["energy_meV_per_atom"][0] >= found["energy_meV_per_atom"][-1] > 0
    assert found["forces_meV_per_angstrom"][-1] > 0
    assert found["coverage"]["structures"] == 40
    assert "held-out" in run(*common, "-t", labelled, "--forecast", 10)
    text = run(*common, "-t", labelled, "--forecast", 10)
    assert "uncalibrated" not in text
    assert "forces / meV/Å" in text
    found = json.loads(run(*common, "-t", labelled, "--json"))
    assert found["forecast"] is None
    assert found["errors"]["coverage"]["structures"] == 40
    for key in ("energy_meV_per_atom", "forces_meV_per_angstrom", "energy_half_width", "forces_half_width"):
        assert len(found["errors"][key]) == 3
        assert all(value is None or value > 0 for value in found["errors"][key])
    table = run(*common, "-t", labelled)
    assert "energy / meV/atom" in table
    assert "errors expected" in table
    assert json.loads(run(*common, "--json"))["errors"] is None
    assert "--forecast -1" in run(*common, "--forecast", -1, code=2)
    assert "--min-gain 0" in run(*common, "--min-gain", 0, code=2)


def test_written_picks_carry_atom_shares(pool_file: Path, model_file: Path, tmp_path: Path) -> None:
    run(pool_file, "-m", model_file, "-n", 3, "--dim", 64, "-o", tmp_path / "picks.extxyz")
    for atoms in ase.io.read(tmp_path / "picks.extxyz", ":"):
        assert atoms.arrays["surveyor_atom_share"].sum() == pytest.approx(1, abs=1e-6)
