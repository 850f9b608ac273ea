"""Campaign files: defaults, errors, resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from surveyor.campaign.records import read_json
from surveyor.config import calculator_spec, load_campaign, resolved_yaml
from surveyor.config.build import build_engine
from surveyor.config.resume import keep_config
from surveyor.config.schema import CampaignConfig
from surveyor.errors import CampaignError, ConfigError
from surveyor.labelling import GFN2, DaskEngine, LocalEngine, ParslEngine, SlurmEngine
from surveyor.specs import parse_yaml


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


NAMES = "abcdefgh"


def nested(first: str, value: str) -> str:
    """Nine levels of a value that names the level before ten times."""
    lines = [f"  a: &a {first}"]
    lines += [
        f"  {name}: &{name} " + value.replace("ALIASES", ", ".join([f"*{last}"] * 10))
        for last, name in zip(NAMES, NAMES[1:] + "i", strict=True)
    ]
    return "pool: p.extxyz\nlabels:\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested("[x, y]", "[ALIASES]"), r"campaign.yaml, line \d: more than 50,000 values"),
        (nested("{x: 1}", "{<<: [ALIASES]}"), "more than 50,000 values"),
        (nested("{x: 1}", "{y: [ALIASES]}"), "more than 50,000 values"),
        ("pool: &a [*a]", "an alias within what it stands for"),
        ("pool: &a {x: {y: *a}}", "an alias within what it stands for"),
        ("pool: &a {<<: *a}", "an alias within what it stands for"),
        ("pool: " + "[" * 900 + "]" * 900, "nested too deeply"),
        ("pool: " + "{a: " * 60 + "1" + "}" * 60, "line 1: values nested too deeply"),
        ("pool: a\nmodel: b\npool: c", "line 3: the key 'pool' stands there twice"),
        ("pool: a\nstop: {labels: 3, labels: 4}", "line 2: the key 'labels' stands there twice"),
        ("pool: 2024-13-45", "is not YAML: month must be in"),
        ("pool: !!int x", "is not YAML"),
        ("pool: a\0", "is not YAML"),
        ("? [a]\n: b", "is not YAML"),
        ("pool: *nowhere", "is not YAML"),
        ("pool: a\n---\npool: b", "is not YAML"),
        ("# " + "x" * 2**20, "1,048,578 bytes"),
    ],
)
def test_yaml_that_multiplies_contradicts_itself_or_never_ends(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_campaign(config(tmp_path, text))


def test_honest_aliases_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = config(tmp_path, "")
    path.write_text(
        "pool: p.extxyz\ntraining: &t {updates: 3}\nlabels: {settings: {a: &x [1, 2], b: *x}}", "utf-8-sig"
    )
    assert load_campaign(path).labels.settings == {"a": [1, 2], "b": [1, 2]}
    with pytest.raises(ConfigError, match="is not a file"):
        load_campaign(tmp_path)
    path.write_bytes(b"pool: M\xfcller.extxyz")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_campaign(path)


def test_a_file_of_a_campaign_that_is_nested_without_end_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for content in (b"[" * 100_000, b"\xff\xfe", b"{", b"9" * 5000):
        path.write_bytes(content)
        with pytest.raises(CampaignError, match="cannot be read"):
            read_json(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_campaign(tmp_path / "none.yaml")


def test_engines_are_chosen_and_sized(tmp_path: Path) -> None:
    def engine(text: str) -> object:
        settings = load_campaign(config(tmp_path, "pool: a\n" + text))
        return build_engine(settings.engine, settings.labels.processes)

    assert engine("labels: {processes: 3}") == LocalEngine(processes=3)
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


@pytest.mark.parametrize("number", [":".join(["59"] * 3000), "9" * 5000, "0x" + "f" * 5000])
def test_a_number_that_python_could_not_print_is_refused(number: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml, line 2: a number of [\d,]+ characters"):
        parse_yaml(f"a: 1\nb: [{number}]\n", "c.yaml")


@pytest.mark.parametrize(
    ("model", "training", "rate"),
    [
        ("medium-mpa-0", {}, 1e-3),
        ("mace:mh-1", {"mode": "lora"}, 1e-2),
        ("mace:mh-1", {"mode": "replay"}, 1e-4),
        ("small", {"learning_rate": 0.02}, 0.02),
        ("small", {"recipe": None}, 5e-3),
        ("builtin", {}, 5e-3),
        ("builtin", {"recipe": "foundation"}, 1e-3),
        ("own.model", {}, 5e-3),
        ("mace:../models/own", {}, 5e-3),
        ("chgnet:0.3.0", {}, 5e-3),
    ],
)
def test_published_models_are_trained_by_the_published_recipe(
    model: str, training: dict[str, object], rate: float
) -> None:
    config = CampaignConfig.model_validate({"pool": "pool.extxyz", "model": model, "training": training})
    assert config.training.learning_rate == rate
    if rate == 1e-3:
        assert (config.training.ema_decay, config.training.clip_grad) == (0.999, 1.0)
