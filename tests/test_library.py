"""The library as a person meets it: what is there, how it shows itself, and what it says of wrong types."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.emt import EMT

import surveyor
from conftest import emt_labelled, rattled
from surveyor.errors import SurveyorError
from surveyor.metrics import errors
from surveyor.potentials.mace import MacePotential
from surveyor.structures import write_structures


def test_what_is_announced_is_there_and_nothing_else_is_shown() -> None:
    assert set(surveyor.__all__) <= set(dir(surveyor))
    for name in dir(surveyor):
        assert getattr(surveyor, name) is not None
        assert name == "__version__" or not name.startswith("_")
    assert not {"sys", "annotations", "Any", "import_module"} & set(dir(surveyor))
    assert (resources.files("surveyor") / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = surveyor.nothing


def test_submodules_are_there_and_load_when_they_are_used() -> None:
    code = (
        "import sys, surveyor\n"
        "assert not {'torch', 'ase', 'numpy', 'surveyor.features'} & set(sys.modules)\n"
        "assert surveyor.metrics.errors.__name__ == 'errors'\n"
        "assert 'torch' not in sys.modules\n"
        "assert surveyor.Posterior is surveyor.posterior.Posterior\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert surveyor.features.Tangent.__name__ == "Tangent"


def test_select_needs_nothing_but_a_pool() -> None:
    assert len(surveyor.select(rattled(40, seed=1), features="activations")) == 20


def test_public_objects_show_themselves_in_a_line(potential: MacePotential, tmp_path: Path) -> None:
    pool = rattled(12, seed=1)
    picked = surveyor.select(pool, None, potential, 7, features="activations")
    assert repr(picked).startswith("Picked(7 of 12 structures: ")
    assert repr(picked).endswith(", …)")
    store = surveyor.embed(
        write_structures(tmp_path / "pool.extxyz", pool),
        surveyor.features.Activations(potential),
        tmp_path / "features.zarr",
    )
    posterior = surveyor.Posterior.fit(store.features(), noise=0.1)
    found = errors(potential, emt_labelled(pool[:3]))
    for thing in (picked, picked.batch, store, posterior, found, *potential.predict(pool[:1]), potential):
        assert len(repr(thing)) < 160
        assert "\n" not in repr(thing)
        assert "array(" not in repr(thing)


POOL = rattled(6, seed=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: surveyor.select(POOL[0], None, p, 2), "Atoms where structures are expected"),
        (lambda p: surveyor.select(None, None, p, 2), "NoneType where structures are expected"),
        (lambda p: surveyor.select([*POOL, "a"], None, p, 2), "structure 6: str"),
        (lambda p: surveyor.select(POOL, 3, p, 2), "int where structures are expected"),
        (lambda _: surveyor.select(POOL, None, EMT(), 2), "EMT where a potential is expected"),
        (lambda p: surveyor.select(POOL, None, p, "2"), "n is '2'"),
        (lambda p: surveyor.select(POOL, None, p, 2.5), "n is 2.5"),
        (lambda p: surveyor.select(POOL, None, p, 2, noise="small"), "noise is 'small'"),
        (lambda p: surveyor.select(POOL, None, p, 2, committee="a.model"), "committee is 'a.model'"),
        (lambda p: surveyor.select(POOL, None, p, 2, rule=surveyor.selection.LCMD), "rule is <class"),
        (lambda _: surveyor.read_structures(3), "int where a file is expected"),
        (lambda _: surveyor.structure_id("x"), "structure: str"),
        (lambda _: surveyor.write_structures("x.extxyz", POOL[0]), "Atoms where structures are expected"),
        (lambda p: surveyor.embed(POOL, p, "x.zarr"), "MacePotential where a feature map is expected"),
        (lambda _: surveyor.Posterior.fit(np.ones((3, 2)), noise=0.1), "ndarray where features are expected"),
        (lambda p: surveyor.Campaign("x", p, "emt"), "MacePotential as the plan"),
    ],
)
def test_wrong_types_are_named(
    call: Callable[[MacePotential], Any],
    message: str,
    potential: MacePotential,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SurveyorError, match=message) as told:
        call(potential)
    assert told.value.expected
    assert not list(tmp_path.iterdir()), "nothing was begun"
