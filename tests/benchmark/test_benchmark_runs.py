"""Whole benchmarks on a tiny potential: every strategy, resuming, refusing, reporting."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from typer.testing import CliRunner

from conftest import emt_labelled, rattled
from surveyor.cli import app
from surveyor.errors import ConfigError, SurveyorError
from surveyor.lab.benchmark import benchmark, load_benchmark
from surveyor.lab.benchmark.grid import changed, maps_needed, open_results, plan
from surveyor.lab.benchmark.latent import components, silhouette
from surveyor.lab.benchmark.maps import principal_axes
from surveyor.lab.benchmark.records import pack, read_runs
from surveyor.lab.benchmark.report import write_report
from surveyor.lab.benchmark.schema import Shortlist
from surveyor.lab.benchmark.scoring import Scores, Truth, agreement
from surveyor.lab.benchmark.standard import STRATEGIES
from surveyor.lab.benchmark.strategies import alarming, outside
from surveyor.metrics import errors
from surveyor.potentials.mace import MacePotential
from surveyor.structures import write_structures
from surveyor.types import Labels

LINEARISED = {"kind": "linearised", "dim": 32, "probes": 2, "seeds": 1}


def frames(n: int, seed: int) -> list[Atoms]:
    labelled = emt_labelled(rattled(n, seed=seed))
    for number, atoms in enumerate(labelled):
        atoms.info["config_type"] = "ab"[number % 3 == 0]
    return labelled


def write_file(folder: Path, model: Path, **keys: Any) -> Path:
    write_structures(folder / "pool.extxyz", frames(40, seed=1))
    write_structures(folder / "test.extxyz", frames(24, seed=2))
    targets = rattled(4, seed=3)
    write_structures(folder / "target.extxyz", targets)
    task: dict[str, Any] = {name: f"{name}.extxyz" for name in ("pool", "test", "target")} | {
        "start": 4,
        "batch": 4,
        "rounds": 2,
    }
    content = {
        "model": str(model),
        "tasks": {"tiny": task},
        "strategies": {"random": None, "tangent-lcmd": None},
        "learners": {"linearised": LINEARISED},
        "uncertainty": ["tangent", "tangent-random"],
        "maps": {"tangent": {"kind": "tangent", "dim": 32}},
        "report": {"notes": "**Read this first.**"},
        **keys,
    }
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_every_strategy_runs_and_starts_from_the_same_labels(tmp_path: Path, model_file: Path) -> None:
    pytest.importorskip("dscribe")
    trained = [name for name, s in STRATEGIES.items() if s["rule"] == "committee" or s.get("refresh")]
    strategies = dict.fromkeys(name for name in STRATEGIES if name not in trained)
    spec = load_benchmark(write_file(tmp_path, model_file, strategies=strategies))
    folder = tmp_path / "results"
    outcome = benchmark(spec, folder, processes=1)
    runs = {run["strategy"]: run for run in read_runs(folder)}
    assert set(runs) == set(strategies)
    assert outcome.done_now == len(strategies)
    first = runs["random"]
    for run in runs.values():
        assert [point["labels"] for point in run["points"]] == [0, 4, 8, 12]
        assert run["picks"][0] == first["picks"][0]
        assert run["points"][:2] == first["points"][:2]
        chosen = [name for batch in run["picks"] for name in batch]
        assert len(set(chosen)) == 12
        assert set(run["by_kind"]) == {"a", "b"}
        assert len(run["by_reaction"]["H2O"]["energy_mae"]) == 4
        assert set(run["points"][-1]["uncertainty"]) == {"tangent", "tangent-random"}
    assert len({tuple(run["picks"][1]) for run in runs.values()}) > 8
    assert first["points"][0]["force_mae"] > first["points"][-1]["force_mae"] > 0


def test_a_rerun_does_what_is_missing_and_the_report_reads_it(tmp_path: Path, model_file: Path) -> None:
    path = write_file(tmp_path, model_file, learners={"linearised": {**LINEARISED, "seeds": 2}})
    folder = tmp_path / "results"
    run = CliRunner().invoke(app, ["benchmark", str(path), "-o", str(folder), "-p", "1", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.output.splitlines()[-1])["done_now"] == 4
    record = folder / "runs" / "linearised" / "tiny" / "random" / "001.json"
    before = json.loads(record.read_text())
    record.unlink()
    assert benchmark(load_benchmark(path), folder, processes=1).done_now == 1
    after = json.loads(record.read_text())
    for key in ("points", "picks", "by_kind", "settings"):
        assert after[key] == before[key]
    page, summary = write_report(folder, tmp_path / "docs" / "results.md")
    assert summary["tasks"]["tiny"]["seeds"] == 2
    assert summary["reduction_energy"] == summary["tasks"]["tiny"]["reduction_energy"]
    assert json.loads((folder / "summary.json").read_text()) == summary
    text = page.read_text()
    assert text.startswith("# Benchmark results\n\n**Read this first.**\n\n4 runs")
    figures = list((tmp_path / "docs" / "results-figures").iterdir())
    assert all(f"results-figures/{figure.name}" in text for figure in figures)
    assert text.count("![") == len(figures) >= 4
    assert {figure.suffix for figure in figures if figure.stem.endswith(("-std", "-latent"))} == {".png"}
    assert {figure.suffix for figure in figures if figure.stem.endswith(("-curves", "-targets"))} == {".svg"}
    shown = CliRunner().invoke(app, ["benchmark", "report", str(folder)])
    assert shown.exit_code == 0
    assert "labels saved by tangent-lcmd against random" in shown.output


def test_a_run_goes_on_beside_the_archive_and_the_page_is_the_same(tmp_path: Path, model_file: Path) -> None:
    path = write_file(tmp_path, model_file)
    folder, page = tmp_path / "results", tmp_path / "docs" / "results.md"
    benchmark(load_benchmark(path), folder, processes=1)

    def written() -> dict[str, bytes]:
        write_report(folder, page)
        made = [folder / "summary.json", *(file for file in page.parent.rglob("*") if file.is_file())]
        return {file.name: file.read_bytes() for file in made}

    before = written()
    pack(folder)
    assert not (folder / "runs").exists()
    assert written() == before
    write_file(tmp_path, model_file, learners={"linearised": {**LINEARISED, "seeds": 2}})
    spec = load_benchmark(path)
    assert benchmark(spec, folder, processes=1).done_now == 2
    assert sorted(run.seed for run in plan(spec) if run.path(folder).is_file()) == [1, 1]
    assert len(read_runs(folder)) == 4
    assert benchmark(spec, folder, processes=1).done_now == 0


def test_a_changed_file_is_refused_and_a_longer_one_is_not(tmp_path: Path, model_file: Path) -> None:
    path = write_file(tmp_path, model_file)
    folder = tmp_path / "results"
    benchmark(load_benchmark(path), folder, processes=1)
    write_file(tmp_path, model_file, learners={"linearised": {**LINEARISED, "dim": 16}})
    with pytest.raises(ConfigError, match=r"learners\.linearised\.dim: 32, the file now says 16"):
        benchmark(load_benchmark(path), folder, processes=1)
    more = {"random": None, "tangent-lcmd": None, "tangent-max-variance": None}
    write_file(tmp_path, model_file, strategies=more)
    assert benchmark(load_benchmark(path), folder, processes=1).done_now == 1
    page, _ = write_report(folder, tmp_path / "docs" / "results.md")
    assert "results-figures/linearised-ratios.svg" in page.read_text()
    ratios = (tmp_path / "docs" / "results-figures" / "linearised-ratios.svg").read_text()
    assert "<!-- tangent-max-variance -->" in ratios
    assert "<!-- random -->" not in ratios  # the baseline has no row of its own


def test_a_map_that_cannot_be_is_refused_before_any_work(tmp_path: Path, model_file: Path) -> None:
    maps = {"deep": {"kind": "activations", "layers": [8]}}
    strategies = {"random": None, "deep": {"rule": "lcmd", "features": "deep"}}
    path = write_file(tmp_path, model_file, maps=maps, strategies=strategies, uncertainty=[])
    folder = tmp_path / "results"
    with pytest.raises(SurveyorError, match="layer"):
        benchmark(load_benchmark(path), folder, processes=1)
    assert not folder.exists()


def test_the_smoke_benchmark_needs_the_core_installation_only() -> None:
    path = Path(__file__).parents[2] / "examples" / "benchmark-smoke.yaml"
    spec = load_benchmark(path)
    asked = {own.kind for _, own, _ in maps_needed(spec, plan(spec))}
    assert asked == {"tangent", "force-tangent", "activations"}


def test_tasks_of_the_same_structures_share_their_features(tmp_path: Path, model_file: Path) -> None:
    path = write_file(tmp_path, model_file)
    content = yaml.safe_load(path.read_text())
    content["tasks"]["longer"] = {**content["tasks"]["tiny"], "rounds": 3}
    path.write_text(yaml.safe_dump(content))
    folder = tmp_path / "results"
    benchmark(load_benchmark(path), folder, processes=1)
    # rows of `tangent`, of its random twin, three of the learner; and the potential's own predictions
    assert len(list((folder / "cache" / "features").glob("*.npz"))) == 6
    runs = {run["task"]: run for run in read_runs(folder) if run["strategy"] == "random"}
    assert runs["longer"]["points"][:2] == runs["tiny"]["points"][:2]


def test_results_of_an_older_version_lack_new_keys_and_go_on(tmp_path: Path, model_file: Path) -> None:
    spec = load_benchmark(write_file(tmp_path, model_file))
    folder = tmp_path / "results"
    open_results(spec, "fingerprint", folder)
    path = folder / "benchmark.yaml"
    older = yaml.safe_load(path.read_text())
    del older["learners"]["linearised"]["choose"]
    del older["tasks"]["tiny"]["labels"]
    path.write_text(yaml.safe_dump(older))
    open_results(spec, "fingerprint", folder)
    assert yaml.safe_load(path.read_text())["learners"]["linearised"]["choose"] == "loo"
    older["learners"]["linearised"]["choose"] = "evidence"
    path.write_text(yaml.safe_dump(older))
    with pytest.raises(ConfigError, match=r"choose: 'evidence', the file now says 'loo'"):
        open_results(spec, "fingerprint", folder)
    open_results(spec, "fingerprint", tmp_path / "others")
    with pytest.raises(ConfigError, match="one pretrained potential"):
        open_results(spec, "another", tmp_path / "others")


def test_what_may_change() -> None:
    old = {"model": "a", "tasks": {"x": {"batch": 1}}, "learners": {"l": {"seeds": 3, "strategies": None}}}
    assert changed(old, old) is None
    assert changed(old, {**old, "tasks": {"x": {"batch": 1}, "y": {}}}) is None
    assert changed(old, {**old, "learners": {"l": {"seeds": 5, "strategies": ["r"]}}}) is None
    assert changed(old, {**old, "learners": {"l": {"seeds": 2, "strategies": None}}}) == (
        "learners.l.seeds",
        3,
        2,
    )
    assert changed(old, {**old, "tasks": {}}) == ("tasks.x", {"batch": 1}, None)
    assert changed(old, {**old, "tasks": {"x": {"batch": 1, "more": 2}}}) == ("tasks.x.more", None, 2)


def test_runs_come_seed_by_seed_and_targets_only_where_there_are_any(
    tmp_path: Path, model_file: Path
) -> None:
    learners = {"linearised": {**LINEARISED, "seeds": 3}, "few": {**LINEARISED, "strategies": ["random"]}}
    path = write_file(tmp_path, model_file, learners=learners)
    runs = plan(load_benchmark(path))
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert len(runs) == 3 * 2 + 1
    aimless = yaml.safe_load(path.read_text())
    aimless["tasks"]["tiny"].pop("target")
    aimless["strategies"]["tangent-aimed"] = None
    path.write_text(yaml.safe_dump(aimless))
    assert not any(run.strategy == "tangent-aimed" for run in plan(load_benchmark(path)))


def test_what_is_reported_unless_the_file_says_otherwise(tmp_path: Path, model_file: Path) -> None:
    def chosen(**keys: Any) -> tuple[str, str, str]:
        report = load_benchmark(write_file(tmp_path, model_file, **keys)).report
        return report.baseline, report.default, report.learner

    assert chosen() == ("random", "tangent-lcmd", "linearised")
    tuned = {"linearised": LINEARISED, "fine-tuning": {"kind": "fine-tuning", "seeds": 1}}
    many = dict.fromkeys(["tangent-lcmd", "tangent-pool-target", "random"])
    assert chosen(strategies=many, learners=tuned) == ("random", "tangent-pool-target", "fine-tuning")
    assert chosen(strategies=dict.fromkeys(["tangent-lcmd"]))[:2] == ("tangent-lcmd", "tangent-lcmd")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"strategies": {"x": {"rule": "lcdm", "features": "tangent"}}}, "did you mean 'lcmd'"),
        ({"strategies": {"x": {"rule": "lcmd"}}}, "without features"),
        ({"strategies": {"x": {"rule": "lcmd", "features": "tangnt"}}}, "did you mean 'tangent'"),
        ({"strategies": {"a b": {"rule": "random"}}}, "should match pattern"),
        ({"tasks": {"x": {"kind": "h2", "pool": "p.xyz", "test": "t.xyz"}}}, "kind"),
        ({"tasks": {"x": {"pool": "pool.extxyz", "test": "t.extxyz", "tset": 1}}}, "did you mean 'test'"),
        (
            {"tasks": {"x": {"pool": "p.xyz", "test": "t.xyz", "labels": {"calculater": "gfn2-xtb"}}}},
            "did you mean 'calculator'",
        ),
        ({"learners": {"l": {**LINEARISED, "sed": 1}}}, "did you mean 'seeds'"),
        ({"learners": {"l": {**LINEARISED, "strategies": ["rondom"]}}}, "did you mean 'random'"),
        ({"report": {"default": "tangent-lcdm"}}, "report: default = 'tangent-lcdm'"),
        ({"report": {"learner": "fine-tuning"}}, "report: learner = 'fine-tuning'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, model_file: Path, keys: dict[str, Any], message: str) -> None:
    path = write_file(tmp_path, model_file, **keys)
    with pytest.raises(ConfigError, match=message):
        load_benchmark(path)


def test_the_linearised_learner_has_no_committee(tmp_path: Path, model_file: Path) -> None:
    learners = {"l": {**LINEARISED, "strategies": ["committee-forces"]}}
    path = write_file(tmp_path, model_file, strategies={"committee-forces": None}, learners=learners)
    with pytest.raises(ConfigError, match="needs trained potentials"):
        plan(load_benchmark(path))


def test_scores_are_those_of_the_metrics(potential: MacePotential) -> None:
    labelled = frames(24, seed=5)
    scores = Scores.of(potential.predict(labelled), Truth.of(labelled))
    twin = errors(potential, labelled)
    found = scores.summary()
    for key in ("energy_mae", "energy_rmse", "force_mae", "force_rmse"):
        assert found[key] == pytest.approx(getattr(twin, key), rel=1e-4)
    np.testing.assert_allclose(scores.energy_each, twin.energy_each)
    found = agreement(scores.energy_each, scores, seed=0)
    assert found["pearson_energy"] == pytest.approx(1.0)
    assert found["spearman_energy"] == pytest.approx(1.0)
    del labelled[0].arrays["REF_forces"]
    partial = Scores.of(potential.predict(labelled), Truth.of(labelled))
    assert partial.summary()["energy_mae"] == scores.summary()["energy_mae"]
    assert partial.summary(np.arange(24) == 0)["force_mae"] is None


def test_a_shortlist_leaves_the_extreme_out() -> None:
    pool = rattled(8, seed=0)
    base = [Labels(float(i), np.full((len(a), 3), float(i))) for i, a in enumerate(pool)]
    values = alarming(base, pool, "force")
    assert outside(values, [str(i) for i in range(8)], Shortlist(share=0.75)) == {"6", "7"}
    energies = alarming(base, pool, "energy")
    assert energies[:4] == pytest.approx(0.0)  # four formulas, each frame the lowest of its own
    assert energies[4:] == pytest.approx([4.0 / len(a) for a in pool[4:]])


def test_silhouette_and_components_of_groups_far_apart() -> None:
    rng = np.random.default_rng(0)
    near = np.concatenate([rng.normal(size=(10, 4)), rng.normal(size=(10, 4))])
    far = near + np.repeat([[0.0], [50.0]], 10, axis=0)
    names = ["a"] * 10 + ["b"] * 10
    assert silhouette(far, names) > 0.9
    assert abs(silhouette(near, names)) < 0.2
    slow = []
    for i in range(20):
        distance = np.linalg.norm(near - near[i], axis=1)
        own = np.array(names) == names[i]
        a, b = distance[own].sum() / 9, distance[~own].mean()
        slow.append((b - a) / max(a, b))
    assert silhouette(near, names) == pytest.approx(np.mean(slow))
    assert components(far).shape == (20, 2)
    assert np.ptp(components(far)[:, 0]) > 1.5


def test_principal_axes_keep_inner_products() -> None:
    rng = np.random.default_rng(0)
    for shape in ((12, 40), (40, 12)):
        X = rng.normal(size=shape)
        reduced = X @ principal_axes(X, 12)
        np.testing.assert_allclose(reduced @ reduced.T, X @ X.T, atol=1e-9)
        assert principal_axes(X, 5).shape == (shape[1], 5)


def test_a_run_that_fails_does_not_cost_the_others(tmp_path: Path, model_file: Path) -> None:
    narrow = {"rule": "top-k", "features": "tangent", "shortlist": {"by": "force", "share": 0.1}}
    path = write_file(tmp_path, model_file, strategies={"narrow": narrow, "random": None})
    folder = tmp_path / "results"
    with pytest.raises(SurveyorError, match=r"1 of 2 runs failed; run linearised/tiny/narrow/0: ") as error:
        benchmark(load_benchmark(path), folder, processes=1)
    assert "tries the failed ones again" in str(error.value)
    assert [run["strategy"] for run in read_runs(folder)] == ["random"]


@pytest.mark.slow
def test_fine_tuning_with_a_committee_goes_on_after_a_kill(tmp_path: Path, model_file: Path) -> None:
    pair = {"rule": "committee", "members": 2}
    strategies = {"random": None, "pair": pair, "tangent-lcmd-fresh": None}
    tuning = {"kind": "fine-tuning", "seeds": 1, "training": {"updates": 2, "batch_size": 2}}
    path = write_file(tmp_path, model_file, strategies=strategies, learners={"fine-tuning": tuning})
    folder = tmp_path / "results"
    trainings = folder / "cache" / "trainings"
    command = [sys.executable, "-m", "surveyor.cli", "benchmark", str(path), "-o", str(folder), "-p", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 900
    while len(list(trainings.glob("*.npz"))) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    assert process.poll() is None, "it ended by itself"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {file.name: file.stat().st_mtime_ns for file in trainings.glob("*.npz")}
    assert done
    finished = subprocess.run(command, capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr.decode()
    assert {name: (trainings / name).stat().st_mtime_ns for name in done} == done  # nothing was trained twice
    runs = {run["strategy"]: run for run in read_runs(folder)}
    assert [point["labels"] for point in runs["pair"]["points"]] == [0, 4, 8, 12]
    # three of random; the committee shares none, since it predicts the pool too: 2 × 2 and the last;
    # three whose potentials are looked through
    assert len(list(trainings.glob("*.npz"))) == 3 + 2 * 2 + 1 + 3
    assert len(list(trainings.glob("*.model"))) == 3
    assert [point["labels"] for point in runs["tangent-lcmd-fresh"]["points"]] == [0, 4, 8, 12]
    assert not list(trainings.glob("*.work"))
