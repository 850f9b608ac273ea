"""The trainer as a child process, evaluation, checks, and the whole pipeline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as ase_molecule
from ase.io import write

from surveyor.errors import ConfigError, PotentialError, TrainingError
from surveyor.lab.pretraining.dynamics import run_dynamics, scan_pairs
from surveyor.lab.pretraining.evaluate import errors
from surveyor.lab.pretraining.fit import fit, trainer_options
from surveyor.lab.pretraining.recipe import Recipe, load_recipe
from surveyor.lab.pretraining.start import check_start
from surveyor.potentials import open_potential
from surveyor.potentials.mace.run import run_mace_trainer
from surveyor.types import Labels

EXAMPLES = Path(__file__).parents[1] / "examples"
ENERGIES = {1: -10.0, 8: -100.0}
OPTIONS: dict[str, object] = {
    "name": "tiny",
    "model": "MACE",
    "train_file": "train.extxyz",
    "valid_file": "valid.extxyz",
    "energy_key": "REF_energy",
    "forces_key": "REF_forces",
    "E0s": str(ENERGIES),
    "num_channels": 2,
    "max_L": 0,
    "max_ell": 1,
    "correlation": 1,
    "num_interactions": 2,
    "MLP_irreps": "2x0e",
    "radial_MLP": "[4]",
    "r_max": 3.0,
    "batch_size": 2,
    "valid_batch_size": 2,
    "max_num_epochs": 1,
    "default_dtype": "float32",
    "plot": False,
    "seed": 3,
}


TINY_MODEL: dict[str, object] = {
    "channels": 2,
    "max_ell": 1,
    "correlation": 1,
    "radial_mlp": [4],
    "readout": "2x0e",
    "cutoff": 3.0,
    "pair_repulsion": False,
}
"""The architecture of OPTIONS, as a recipe says it."""


def waters(count: int, seed: int) -> list[Atoms]:
    """Rattled water molecules with made-up labels."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = ase_molecule("H2O")
        atoms.positions += 0.05 * rng.normal(size=(3, 3))
        atoms.info = {"REF_energy": -125.0 + 0.1 * rng.normal(), "config_type": "water"}
        atoms.arrays["REF_forces"] = rng.normal(size=(3, 3))
        frames.append(atoms)
    return frames


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    write(tmp_path / "train.extxyz", waters(8, 0))
    write(tmp_path / "valid.extxyz", waters(2, 1))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "train.extxyz", waters(8, 0))
    write(folder / "valid.extxyz", waters(2, 1))
    lines: list[str] = []
    return run_mace_trainer(OPTIONS, workdir=folder, on_line=lines.append), lines


def test_the_trainer_makes_a_model(
    trained: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    path, lines = trained
    assert path.name == "tiny.model"
    assert any("Epoch 0" in line for line in lines)
    assert "Epoch 0" in (path.parent / "mace.log").read_text()
    assert capfd.readouterr().out == ""
    labels = open_potential(path).predict(waters(3, 2))
    assert len(labels) == 3
    assert all(np.isfinite(one.forces).all() for one in labels)


def test_predictions_do_not_depend_on_the_batch(trained: tuple[Path, list[str]]) -> None:
    potential = open_potential(trained[0])
    frames = [*waters(2, 3), Atoms("H", positions=[[0, 0, 0]]), ase_molecule("H2")]
    together = potential.predict(frames)
    for frame, one in zip(frames, together, strict=True):
        (alone,) = potential.predict([frame])
        assert alone.energy == pytest.approx(one.energy, abs=1e-4)
        np.testing.assert_allclose(alone.forces, one.forces, atol=1e-4)
    assert together[2].energy == pytest.approx(ENERGIES[1], abs=1e-5), "an isolated atom has its E0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 4}, "perhaps 'batch_size'"),
        ({"name": None}, "no 'name'"),
        ({"loss": "absurd"}, "does not take these options.*loss"),
        ({"max_num_epochs": "many"}, "max_num_epochs"),
        ({"ema": "yes"}, "true or false"),
        ({"lr_scheduler_gamma": 0.5}, "no effect.*ExponentialLR"),
        ({"ema_decay": 0.9}, "no effect.*ema=true"),
        ({"valid_fraction": 0.2}, "no effect.*valid_file"),
        ({"foundation_model": "m.model"}, "no effect.*foundation"),
        ({"config": "x.yaml"}, "no option 'config'"),
    ],
)
def test_options_that_cannot_act_are_refused(workdir: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=f"(?s){message}"):
        run_mace_trainer(OPTIONS | changes, workdir=workdir)
    assert not (workdir / "mace.log").exists(), "nothing was started"


@pytest.mark.slow
def test_a_failing_trainer_shows_its_last_lines(workdir: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)exit code 1.*absent\.extxyz.*mace\.log"):
        run_mace_trainer(OPTIONS | {"train_file": "absent.extxyz"}, workdir=workdir)


@pytest.mark.slow
def test_a_trainer_that_writes_no_model_is_an_error(workdir: Path) -> None:
    (workdir / "tiny.model").write_text("of an earlier run")
    with pytest.raises(TrainingError, match=r"(?s)wrote no model.*dry_run"):
        run_mace_trainer(OPTIONS | {"dry_run": True}, workdir=workdir)


def below(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill"])
def test_no_trainer_outlives_its_parent(workdir: Path, how: signal.Signals) -> None:
    script = (
        "import json, signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from surveyor.potentials.mace.run import run_mace_trainer\n"
        "def show(_): print('line', flush=True)\n"
        "run_mace_trainer(json.loads(sys.argv[1]), workdir=Path(sys.argv[2]), on_line=show)\n"
    )
    options = json.dumps(OPTIONS | {"max_num_epochs": 100000})
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, options, str(workdir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert parent.stdout is not None
    assert b"line\n" in iter(parent.stdout.readline, b"")  # behind what an import prints
    (keeper,), (trainer,) = below(parent.pid), below(*below(parent.pid))
    os.kill(parent.pid, how)
    parent.wait(timeout=20)
    parent.stdout.close()
    for _ in range(200):
        states = [Path(f"/proc/{pid}/status") for pid in (keeper, trainer)]
        if all(not state.exists() or "State:\tZ" in state.read_text() for state in states):
            return
        time.sleep(0.05)
    raise AssertionError("the trainer is still running")


@pytest.mark.slow
def test_recipe_options_are_all_in_use(workdir: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "small",
            "model": TINY_MODEL | {"pair_repulsion": True},
            "training": {"epochs": 2, "batch_size": 4, "lr": 0.01, "lr_end": 0.001, "max_valid_frames": 2},
        }
    )
    run_mace_trainer(trainer_options(recipe, ENERGIES, resume=False), workdir=workdir)
    resumed = run_mace_trainer(
        trainer_options(recipe, ENERGIES, resume=True) | {"max_num_epochs": 3}, workdir=workdir
    )
    assert resumed.is_file()
    log = (workdir / "mace.log").read_text()
    assert "Loading checkpoint" in log
    assert "Epoch 2" in log


def going_on(start: Path, **changes: object) -> Recipe:
    training = {"start": start, "epochs": 1, "batch_size": 4, "lr": 1e-12, "lr_end": 1e-12}
    return Recipe.model_validate({"name": "more", "model": TINY_MODEL | changes, "training": training})


@pytest.mark.slow
def test_training_goes_on_from_the_start(trained: tuple[Path, list[str]], workdir: Path) -> None:
    made = fit(going_on(trained[0]), ENERGIES, workdir)
    assert open_potential(made).n_parameters == open_potential(trained[0]).n_parameters
    frames = waters(3, 6)
    for before, after in zip(
        open_potential(trained[0]).predict(frames), open_potential(made).predict(frames), strict=True
    ):
        assert after.energy == pytest.approx(before.energy, abs=1e-4)
        np.testing.assert_allclose(after.forces, before.forces, atol=1e-4)


@pytest.mark.parametrize(
    ("key", "value", "has"),
    [("channels", 4, "2"), ("max_L", 1, "0"), ("cutoff", 3.5, "3.0"), ("pair_repulsion", True, "False")],
)
def test_a_start_of_another_architecture_is_refused(
    trained: tuple[Path, list[str]], key: str, value: object, has: str
) -> None:
    with pytest.raises(ConfigError, match=rf"tiny\.model.*: model\.{key}: {value!r} \({has} there\)\n"):
        check_start(going_on(trained[0], **{key: value}))


def test_all_that_differs_from_the_start_is_named(trained: tuple[Path, list[str]]) -> None:
    with pytest.raises(
        ConfigError, match=r"model\.channels: 4 \(2 there\), model\.cutoff: 3\.5 \(3\.0 there\)"
    ):
        check_start(going_on(trained[0], channels=4, cutoff=3.5))


def test_a_start_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PotentialError, match=r"(?s)no file.*training\.start"):
        check_start(going_on(tmp_path / "none.model"))
    (tmp_path / "text.model").write_text("text")
    with pytest.raises(PotentialError, match="not a model file"):
        check_start(going_on(tmp_path / "text.model"))


def test_errors_are_split_by_kind_element_and_size() -> None:
    frames = waters(4, 0)
    predicted = [Labels(a.info["REF_energy"] + 0.3, a.arrays["REF_forces"] + 0.1) for a in frames]
    result = errors(frames, predicted, lambda atoms: str(atoms.info["config_type"]))
    assert result["total"]["energy_mae"] == pytest.approx(100.0)
    assert result["total"]["forces_mae"] == pytest.approx(100.0)
    assert result["by_config_type"]["water"]["frames"] == 4
    assert result["forces_mae_by_element"] == pytest.approx({"H": 100.0, "O": 100.0})
    assert list(result["by_heavy_atoms"]) == ["00-02"]


def test_checks_run_on_any_model(trained: tuple[Path, list[str]]) -> None:
    potential = open_potential(trained[0])
    pairs = scan_pairs(potential, (1, 8))
    assert set(pairs) == {"H-H", "H-O", "O-O"}
    result = run_dynamics(potential, waters(2, 5), steps=50, step_fs=0.5, seed=0)
    assert result["molecules"] == 2
    assert result == run_dynamics(potential, waters(2, 5), steps=50, step_fs=0.5, seed=0)


@pytest.mark.slow
def test_interrupted_dynamics_end_as_if_they_had_not_been(
    trained: tuple[Path, list[str]], tmp_path: Path
) -> None:
    potential, starts, state = open_potential(trained[0]), waters(2, 5), tmp_path / "dynamics.npz"
    whole = run_dynamics(potential, starts, steps=200, step_fs=1.0, seed=0)
    assert whole["drift_mean_mev_per_atom_ps"] or whole["broken"]

    def killed(step: int, _: int) -> None:
        if step == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_dynamics(potential, starts, steps=200, step_fs=1.0, seed=0, state=state, on_step=killed)
    seen: list[int] = []
    resumed = run_dynamics(
        potential, starts, steps=200, step_fs=1.0, seed=0, state=state, on_step=lambda n, _: seen.append(n)
    )
    assert seen == [150, 200], "steps that were kept are not done again"
    assert resumed == whole
    other = run_dynamics(potential, starts, steps=200, step_fs=1.0, seed=1, state=state)
    assert other == run_dynamics(potential, starts, steps=200, step_fs=1.0, seed=1), "another run begins anew"


@pytest.mark.slow
def test_smoke_recipe_end_to_end(tmp_path: Path) -> None:
    from mace.calculators import MACECalculator

    from surveyor.lab.pretraining.run import pretrain

    recipe = load_recipe(EXAMPLES / "pretrain-smoke.yaml")
    stages: list[str] = []
    output = pretrain(recipe, tmp_path, on_progress=lambda stage, *_: stages.append(stage))
    assert output == tmp_path / "smoke.model"
    assert {"labels", "training", "evaluation", "card"} <= set(stages)
    card = json.loads(output.with_suffix(".json").read_text())
    assert card["data"]["held_out"]["frames"] > 0
    assert np.isfinite(card["errors"]["held_out"]["total"]["energy_mae"])
    from surveyor.potentials.opening import beside
    from surveyor.structures import read_structures

    replay = beside(str(output), "replay")
    assert replay is not None
    assert len(list(read_structures(replay))) == min(recipe.replay.frames, card["data"]["train"]["frames"])
    assert beside(str(output), "held-out") is not None
    atoms = ase_molecule("CH3OH")
    atoms.calc = MACECalculator(model_paths=str(output), device="cpu", default_dtype="float32")
    assert np.isfinite(atoms.get_forces()).all()
    stages.clear()
    assert pretrain(recipe, tmp_path, on_progress=lambda stage, *_: stages.append(stage)) == output
    assert set(stages) == {"card"}, "finished stages are not done again"
