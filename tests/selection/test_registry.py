"""One registry: the help, the docs and `select` know what it holds, and a rule of one's own is one line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import rattled
from pages import extended  # noqa: F401 - a fixture
from surveyor import select
from surveyor.cli import app
from surveyor.errors import ConfigError
from surveyor.potentials.mace import MacePotential
from surveyor.selection import RULES, Given, make_rule, max_variance, random, target_variance
from surveyor.selection.registry import summary
from surveyor.structures import write_structures

DOCS = Path(__file__).parents[2] / "docs"


def squeezed(text: str) -> str:
    """Without the frames and line breaks of a terminal's help."""
    return re.sub(r"[\s│]+", " ", text)


def test_the_help_of_select_lists_the_rules_with_what_they_do() -> None:
    shown = CliRunner().invoke(app, ["select", "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"}).output
    for name in RULES:
        assert f"{name}: {summary(name)}" in squeezed(shown)


def named() -> list[str]:
    """Rules by name; other tests of this process may have called some by import path."""
    return [name for name in RULES if ":" not in name]


def test_the_docs_name_every_rule_in_both_tables() -> None:
    page = (DOCS / "choosing-rules.md").read_text()
    for name in named():
        assert len(re.findall(rf"^\| `{name}` \|", page, flags=re.MULTILINE)) >= 2


def test_a_rule_takes_what_it_has_settings_for() -> None:
    given = Given(noise=0.5, cost=np.ones(3), budget=2.0, disagreement=np.arange(3.0))
    made = {name: make_rule(name, given) for name in named()}
    assert {name for name, rule in made.items() if getattr(rule, "noise", None) == 0.5} == {
        "target-variance",
        "max-variance",
        "top-k",
    }
    assert {name for name, rule in made.items() if getattr(rule, "budget", None) == 2.0} == {
        "target-variance",
        "max-variance",
        "lcmd",
        "farthest",
    }


def test_functions_of_arrays_say_what_they_take() -> None:
    X = np.random.default_rng(0).normal(size=(20, 4))
    assert (
        max_variance(X, X[:2], 3, 1e-2).indices.tolist()
        == max_variance(k=3, X_train=X[:2], X_pool=X, noise=1e-2).indices.tolist()
    )
    for call in (lambda: max_variance(X, X[:2], 3, nose=1.0), lambda: random(X, X[:2])):
        with pytest.raises(TypeError):
            call()
    assert target_variance.__name__ == "target_variance"
    assert "TargetVariance" in str(target_variance.__doc__)


@pytest.mark.usefixtures("extended")
def test_a_rule_of_ones_own_goes_through_select(
    potential: MacePotential, model_file: Path, tmp_path: Path
) -> None:
    pool, labelled = rattled(20, seed=1), rattled(3, seed=2)
    picked = select(pool, labelled, potential, 5, features="activations", rule="my_rules:Longest")
    scores = picked.batch.scores
    assert scores is not None
    assert (np.diff(scores) <= 0).all()
    with pytest.raises(ConfigError, match="weighs none"):
        select(pool, labelled, potential, 5, features="activations", rule="my_rules:Longest", cost="atoms^1")

    plain = select(pool, labelled, potential, 5, features="activations", rule="least-alike")
    assert plain.batch.scores is not None
    assert plain.batch.scores[0] == pytest.approx(1 - plain.batch.picks[0].similarity, abs=1e-5)
    cost = np.linspace(1.0, 3.0, 20)
    bought = select(
        pool, labelled, potential, None, features="activations", rule="least-alike", cost=cost, budget=6.0
    )
    assert cost[bought.indices].sum() <= 6.0
    assert bought.batch.stopped == "budget spent"

    file = write_structures(tmp_path / "pool.extxyz", pool)
    known = write_structures(tmp_path / "known.extxyz", labelled)
    command = ["select", file, "-m", model_file, "-t", known, "-n", 5, "--features", "activations"]
    shown = CliRunner().invoke(app, [str(word) for word in (*command, "--rule", "least-alike", "--json")])
    assert f'"indices": {plain.indices}' in shown.stdout
    text = CliRunner().invoke(app, ["select", "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"}).output
    assert "least-alike: Least alike labelled structures and picks, by cosine." in squeezed(text)
