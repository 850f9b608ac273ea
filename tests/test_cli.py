"""The terminal: shortest commands, bad input, what is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from typer.testing import CliRunner

from conftest import rattled
from surveyor import picking
from surveyor.cli import app
from surveyor.structures import structure_id, write_structures

runner = CliRunner()


def call(*arguments: object, code: int = 0) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def refused(*arguments: object) -> str:
    """The message of a command that must end with exit code 2 and no traceback."""
    message = call(*arguments, code=2)
    assert "Traceback" not in message
    assert "error: " in message
    return message


@pytest.mark.parametrize(
    "command",
    ["select", "run", "status", "report", "pretrain", "embed", "evaluate", "doctor", "label"],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert f"Example: surveyor {command} " in " ".join(call(command, "--help").replace("│", " ").split())


def test_select_writes_picks_with_rank_and_std(tmp_path: Path, pool_file: Path, model_file: Path) -> None:
    output = tmp_path / "picks.extxyz"
    found = json.loads(call("select", pool_file, "--model", model_file, "-n", 5, "-o", output, "--json"))
    picks = ase.io.read(output, ":")
    pool = ase.io.read(pool_file, ":")
    assert len(set(found["indices"])) == 5
    assert [atoms.info["surveyor_rank"] for atoms in picks] == list(range(5))
    assert [structure_id(atoms) for atoms in picks] == [structure_id(pool[i]) for i in found["indices"]]
    stds = [atoms.info["surveyor_std"] for atoms in picks]
    np.testing.assert_allclose(stds, found["std"])
    assert stds == sorted(stds, reverse=True)
    assert found["nearest"] == [None] * 5
    table = call("select", pool_file, "--model", model_file, "-n", 5, "--features", "activations")
    assert "5 of 40 structures" in table
    assert "nothing written" in table


def test_select_knows_the_labelled_structures(
    tmp_path: Path, pool_file: Path, model_file: Path, labelled_file: Path
) -> None:
    both = write_structures(
        tmp_path / "both.extxyz",
        [*ase.io.read(labelled_file, ":"), *ase.io.read(pool_file, ":"), *rattled(3, seed=1)],
    )
    found = json.loads(call("select", both, "-m", model_file, "-t", labelled_file, "-n", 6, "--json"))
    assert (found["already_labelled"], found["duplicates"]) == (8, 3)
    assert min(found["indices"]) >= 8
    assert all(
        name in {structure_id(a) for a in ase.io.read(labelled_file, ":")} for name in found["nearest"]
    )


def test_random_is_seeded(pool_file: Path, model_file: Path) -> None:
    picks = [
        json.loads(
            call("select", pool_file, "-m", model_file, "-n", 8, "--rule", "random", "--seed", seed, "--json")
        )["indices"]
        for seed in (1, 1, 2)
    ]
    assert picks[0] == picks[1] != picks[2]


def test_bad_input_of_select(tmp_path: Path, pool_file: Path, model_file: Path, labelled_file: Path) -> None:
    assert "no such file" in refused("select", tmp_path / "no.extxyz", "-m", model_file)
    (tmp_path / "empty.extxyz").write_text("")
    assert "holds no structure" in refused("select", tmp_path / "empty.extxyz", "-m", model_file)
    assert "no such file" in refused("select", pool_file, "-m", tmp_path / "no.model")
    (tmp_path / "text.model").write_text("x")
    assert "is not a model file" in refused("select", pool_file, "-m", tmp_path / "text.model")
    message = refused("select", pool_file, "-m", model_file, "-n", 41)
    assert "n = 41 picks, but the pool has 40 candidates" in message
    assert "-n 40" in message
    assert "n = 0" in refused("select", pool_file, "-m", model_file, "-n", 0)
    message = refused("select", labelled_file, "-m", model_file, "-t", labelled_file)
    assert "no candidate is left of 8 pool structures" in message
    assert "one of tangent" in refused("select", pool_file, "-m", model_file, "--features", "soup")
    assert "one of target-variance" in refused("select", pool_file, "-m", model_file, "--rule", "best")
    assert "noise" in refused("select", pool_file, "-m", model_file, "--noise", "-1")
    assert "ends in .extxyz" in refused("select", pool_file, "-m", model_file, "-o", tmp_path / "a.cif")
    assert "cannot write" in refused(
        "select", pool_file, "-m", model_file, "-o", tmp_path / "no" / "a.extxyz"
    )


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("HeH", [[0, 0, 0], [0, 0, 2]]), "pool.extxyz, frame 1: element He is unknown"),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), "pool.extxyz, frame 1: the position of atom 1"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.2]]), "pool.extxyz, frame 1: atoms 0 (H) and 1 (H) are 0.200"),
    ],
)
def test_bad_frames_are_named(tmp_path: Path, model_file: Path, atoms: Atoms, message: str) -> None:
    pool = tmp_path / "pool.extxyz"
    ase.io.write(pool, [*rattled(1, seed=0), atoms], format="extxyz")
    assert message in refused("select", pool, "-m", model_file, "-n", 1)


def test_a_misspelt_key_and_a_missing_campaign(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("pool: a\nfeaturs: {}\n")
    assert "did you mean 'features'" in refused("run", config)
    assert "is not a campaign" in refused("status", tmp_path)
    assert "is not a campaign" in refused("report", tmp_path)


def test_run_status_and_report(tmp_path: Path, model_file: Path, pool_file: Path, test_file: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"pool: {pool_file.name}\ntest: {test_file.name}\nmodel: {model_file}\n"
        "features: {kind: activations}\nselection: {batch: 5}\n"
        "labels: {calculator: ase.calculators.emt.EMT, processes: 1}\n"
        "training: {updates: 4, threads: 1, quality: quick}\nstop: {rounds: 1}\n"
    )
    result = runner.invoke(app, ["run", str(config), "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)  # nothing else
    printed = result.stderr
    assert "0 (before)" in printed
    assert f"you have {summary['potential']}, trained on " in printed
    assert summary["warnings"][-1].startswith("no control")
    atoms = rattled(1, seed=5)[0]
    snippet = [line.strip() for line in printed.splitlines() if line.startswith("    ")]
    exec("\n".join(snippet[-3:]), {"atoms": atoms})  # noqa: S102
    assert atoms.calc.results["forces"].shape == (3, 3)
    assert summary["rounds"] == 1
    assert summary["labels"] == 5
    assert summary["force_mae_before"] > 0
    assert "stopped: all 1 rounds done" in printed
    page = Path(summary["report"]).read_text()
    assert page.count('class="learning') == 2
    assert page.count('<path class="m ') == 40 + 12 + 3  # pool with picks, test, and the legend
    assert (tmp_path / "c" / "rounds" / "001" / "picks.extxyz").is_file()
    assert "all 1 rounds done" in call("status", tmp_path / "c")
    assert json.loads(call("status", tmp_path / "c", "--json"))["labels"] == 5
    assert call("run", config).count("stopped:") == 1  # a finished campaign stays finished
    other = tmp_path / "page.html"
    call("report", tmp_path / "c", "-o", other)
    assert other.read_text() == page


def test_failed_and_suspicious_labels_are_shown_and_released(tmp_path: Path) -> None:
    from surveyor.campaign.records import write_json
    from surveyor.labelling import Ledger
    from surveyor.types import Failure, Labels

    write_json(tmp_path / "state.json", {"schema": 1, "method": "m", "potential": "p"})
    ledger = Ledger(tmp_path / "labels", "m")
    (atoms,) = rattled(1, seed=0)
    name = structure_id(atoms)
    ledger.append(name, atoms, Labels(1.0, np.zeros((len(atoms), 3))))
    ledger.quarantine(name, "a force of 900 eV/Å")
    ledger.append_failure("f" * 32, Failure("no licence"))
    shown = json.loads(call("label", "held", tmp_path, "--json"))
    assert shown == {"failed": {"f" * 32: ["no licence"]}, "quarantined": {name: "a force of 900 eV/Å"}}
    assert "no licence" in call("label", "held", tmp_path)
    assert "1 failed, 1 in quarantine" in call("status", tmp_path)
    assert "begin with 'zz'" in refused("label", "release", tmp_path, "zz")
    assert "no id was given" in refused("label", "release", tmp_path)
    assert "used from the next training on" in call("label", "release", tmp_path, name[:8])
    assert "to be tried again" in call("label", "release", tmp_path, "--all")
    assert "nothing to release" in refused("label", "release", tmp_path, "--all")
    for command in ("held", "release"):
        assert f"Example: surveyor label {command} campaign" in call("label", command, "--help")


def test_a_labelled_file_without_labels_is_refused_before_anything_is_paid(
    tmp_path: Path, model_file: Path, pool_file: Path
) -> None:
    write_structures(tmp_path / "bare.extxyz", rattled(3, seed=5))
    config = tmp_path / "c.yaml"
    config.write_text(f"pool: {pool_file.name}\ntest: bare.extxyz\nmodel: {model_file}\n")
    assert "bare.extxyz, frame 0: no REF_energy" in refused("run", config)


def test_embedded_features_give_the_same_picks(
    tmp_path: Path, pool_file: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "features.zarr"
    made = json.loads(call("embed", pool_file, "-m", model_file, "-o", store, "--dim", 64, "--json"))
    assert (made["structures"], made["dim"]) == (40, 64)
    direct, stored = (
        json.loads(call("select", pool_file, "-m", model_file, "-n", 9, "--dim", 64, "--json", *more))
        for more in ((), ("--store", store))
    )
    assert direct["indices"] == stored["indices"]
    assert "was made with dim 64, now it is 512" in refused(
        "select", pool_file, "-m", model_file, "--store", store
    )
    monkeypatch.setattr(picking, "IN_MEMORY", 1000)  # a store that does not fit
    for rule in ("max-variance", "lcmd", "target-variance"):
        same = ("select", pool_file, "-m", model_file, "-n", 9, "--dim", 64, "--rule", rule, "--json")
        assert json.loads(call(*same))["indices"] == json.loads(call(*same, "--store", store))["indices"]
    variance = (*same[:8], "--rule", "max-variance")
    whole = json.loads(call(*variance, "--json"))
    short = json.loads(call(*variance, "--shortlist", 20, "--store", store, "--json"))
    assert short["certain"] > 0
    assert short["indices"][: short["certain"]] == whole["indices"][: short["certain"]]
    assert "shortlist of 20: the first" in call(*variance, "--shortlist", 20)
    assert "shortlist of 3 structures for 9 picks" in refused(*same[:8], "--shortlist", 3)
    other = write_structures(tmp_path / "other.extxyz", rattled(40, seed=8))
    message = refused("select", other, "-m", model_file, "--dim", 64, "--store", store)
    assert "is not the one that the feature store holds" in message


def test_rules_that_aim_and_rules_that_do_not(
    tmp_path: Path, pool_file: Path, model_file: Path, test_file: Path
) -> None:
    aimed = json.loads(call("select", pool_file, "-m", model_file, "-n", 4, "--target", test_file, "--json"))
    assert len(set(aimed["indices"])) == 4
    result = runner.invoke(
        app,
        ["select", str(pool_file), "-m", str(model_file), "-n", "4", "--json"],
    )
    assert "aiming at a sample of the pool" in result.output
    for rule in ("max-variance", "lcmd", "farthest", "top-k"):
        pointless = ("select", pool_file, "-m", model_file, "--rule", rule, "--target", test_file)
        assert "aims at nothing" in refused(*pointless)
        found = json.loads(call("select", pool_file, "-m", model_file, "-n", 4, "--rule", rule, "--json"))
        assert len(set(found["indices"])) == 4


@pytest.mark.parametrize(
    "command", [["select", "x", "--dim", "0"], ["embed", "x", "-o", "y", "--dim", "0"],
                ["label", "x", "-o", "y", "--processes", "-3"]],
)  # fmt: skip
def test_sizes_below_one_are_refused(command: list[str]) -> None:
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "Invalid value for '--" in " ".join(done.output.split())


@pytest.mark.parametrize("code", ["x = 1", "raise RuntimeError('no licence')", "raise SystemExit(3)"])
def test_a_command_of_a_broken_package_takes_no_other_along(tmp_path: Path, code: str) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[surveyor.commands]\nbroken = broken_command:command\n")
    (tmp_path / "broken_command.py").write_text(code)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "surveyor.cli", "--version"],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("surveyor ")
    assert "no `surveyor broken`: broken_command:command cannot be imported" in done.stderr


def test_doctor_without_a_card(model_file: Path) -> None:
    assert "no card" in call("doctor", "--model", model_file)
