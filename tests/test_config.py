"""Campaign files: defaults, errors, resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from surveyor.config import calculator_spec, load_campaign, resolved_yaml
from surveyor.config.build import build_engine
from surveyor.config.resume import keep_config
from surveyor.errors import CampaignError, ConfigError
from surveyor.labelling import GFN2, DaskEngine, LocalEngine, ParslEngine, SlurmEngine


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    return path


def test_the_shortest_file_works_and_paths_start_at_the_file(tmp_path: Path) -> None:
    settings = load_campaign(config(tmp_path, "pool: data/pool.extxyz\n"))
    assert settings.pool == tmp_path / "data" / "pool.extxyz"
    assert settings.model == "builtin"
    assert calculator_spec(settings.labels) == GFN2
    (tmp_path / "own.model").write_text("")
    settings = load_campaign(config(tmp_path, "pool: p.extxyz\nmodel: own.model\n"))
    assert settings.model == str(tmp_path / "own.model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pol: a.extxyz", r"unknown key 'pol'\n(.|\n)*did you mean 'pool'"),
        ("start: a.extxyz", "the key 'pool' is missing"),
        ("pool: a\nselection: {bach: 3}", r"unknown key 'selection.bach'\n(.|\n)*did you mean 'batch'"),
        ("pool: a\nselection: {batch: 0}", "selection.batch = 0: Input should be greater than 0"),
        ("pool: a\nselection: {rule: max-varance}", "did you mean 'max-variance'"),
        ("pool: a\nfeatures: {kind: tangents}", "did you mean 'tangent'"),
        ("pool: a\nstop: {force_mae: .nan}", "stop.force_mae"),
        ("pool: a\nlabels: {minimum: 2}", "labels.minimum = 2"),
        ("pool: a\nengine: {kind: slurmy}", "engine"),
        (
            "pool: a\nengine: {kind: slurm, partitoin: long}",
            r"slurm.partitoin'\n(.|\n)*did you mean 'partition'",
        ),
        ("pool: a\nengine: {kind: local, partition: long}", r"partition"),
        ("- a\n- b", "expected: a mapping"),
        ("pool: [", "is not YAML"),
        ("pool: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_campaign(config(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_campaign(tmp_path / "none.yaml")


def test_engines_are_chosen_and_sized(tmp_path: Path) -> None:
    def engine(text: str) -> object:
        settings = load_campaign(config(tmp_path, "pool: a\n" + text))
        return build_engine(settings.engine, settings.labels.processes)

    assert engine("labels: {processes: 3}") == LocalEngine(3)
    assert engine("engine: {kind: slurm, workers: 50, cores: 8, partition: long, hours: 12}") == SlurmEngine(
        workers=50, cores=8, partition="long", hours=12
    )
    assert engine("engine: {kind: parsl, blocks: 2, setup: [module load orca]}") == ParslEngine(
        blocks=2, setup=("module load orca",)
    )
    assert engine("engine: {kind: dask, scheduler: 'tcp://head:8786'}") == DaskEngine(
        scheduler="tcp://head:8786"
    )
    written = resolved_yaml(load_campaign(config(tmp_path, "pool: a\nengine: {kind: dask}")))
    assert yaml.safe_load(written)["engine"] == {"kind": "dask", "workers": 4, "cores": 1, "scheduler": None}


def test_a_campaign_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """Settings that came later had their defaults then."""
    now = load_campaign(config(tmp_path, "pool: a.extxyz"))
    old = yaml.safe_load(resolved_yaml(now))
    del old["engine"], old["labels"]["retries"], old["stop"]["min_gain"]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.yaml").write_text(yaml.safe_dump(old))
    keep_config(now, tmp_path / "c")
    other = load_campaign(config(tmp_path, "pool: a.extxyz\nlabels: {max_force: 5}"))
    with pytest.raises(CampaignError, match=r"labels\.max_force"):
        keep_config(other, tmp_path / "c")


def test_a_campaign_keeps_its_settings_but_may_go_on_longer(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    first = load_campaign(config(tmp_path, "pool: a.extxyz\nstop: {rounds: 2}"))
    keep_config(first, folder)
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert written.pop("pool") == "../a.extxyz"  # moves with the campaign
    whole = yaml.safe_load(resolved_yaml(first))
    assert {"pool": whole.pop("pool"), **written} == {"pool": str(tmp_path / "a.extxyz"), **whole}
    keep_config(
        load_campaign(config(tmp_path, "pool: a.extxyz\nstop: {rounds: 9}\nlabels: {processes: 7}")), folder
    )
    with pytest.raises(CampaignError, match=r"started with selection.batch: 20, the file now says 30"):
        keep_config(load_campaign(config(tmp_path, "pool: a.extxyz\nselection: {batch: 30}")), folder)
