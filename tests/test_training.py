"""Fine-tuning with mace-torch's own trainer, for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from conftest import emt_labelled, rattled
from surveyor.errors import StructureError, TrainingError
from surveyor.metrics import errors
from surveyor.potentials.mace import MacePotential
from surveyor.potentials.mace.fine_tuning import FineTuning, FineTuningSettings
from surveyor.potentials.references import refit_reference_energies
from surveyor.structures import with_labels
from surveyor.types import Labels, Potential


def test_reference_energies_absorb_shifts_of_the_labels(potential: MacePotential) -> None:
    structures = rattled(12, seed=0)
    shift = {1: 0.3, 6: -1.0, 7: 2.0, 8: 5.0}
    labelled = [
        with_labels(atoms, Labels(labels.energy + sum(shift[z] for z in atoms.numbers), labels.forces))
        for atoms, labels in zip(structures, potential.predict(structures), strict=True)
    ]
    found = refit_reference_energies(potential, labelled)
    assert found == pytest.approx(shift, abs=1e-3)
    # Elements that the labels do not hold keep their energy; one kind of molecule is still fitted exactly.
    water = refit_reference_energies(potential, [labelled[0]])
    assert water[6] == pytest.approx(0, abs=1e-6)
    assert 2 * water[1] + water[8] == pytest.approx(2 * 0.3 + 5.0, abs=1e-4)
    with pytest.raises(TrainingError, match="no labelled structure"):
        refit_reference_energies(potential, [])


def test_no_learning_rate_changes_nothing_but_the_references(
    tmp_path: Path, potential: MacePotential
) -> None:
    labelled = emt_labelled(rattled(8, seed=0))
    # As small as it may be for float32 weights to move at all: no movement is an error.
    still = FineTuning(FineTuningSettings(updates=2, learning_rate=1e-7, threads=1))
    tuned = still(potential, labelled, [], seed=0, workdir=tmp_path / "w")
    assert tuned.elements == potential.elements
    for a, b in zip(potential.predict(labelled), tuned.predict(labelled), strict=True):
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-5)
    shifted = potential.with_reference_shifts(refit_reference_energies(potential, labelled))
    assert errors(tuned, labelled).energy_mae == pytest.approx(errors(shifted, labelled).energy_mae, rel=1e-2)


def trained(potential: MacePotential, labelled: list[Atoms], workdir: Path) -> Potential:
    tune = FineTuning(FineTuningSettings(updates=30, learning_rate=2e-2, batch_size=64, threads=1))
    return tune(potential, labelled[:6], labelled[6:], seed=3, workdir=workdir)


def test_fine_tuning_lowers_the_errors(tmp_path: Path, potential: MacePotential) -> None:
    labelled = emt_labelled(rattled(8, seed=0, names=("H2O", "NH3")))
    tuned = trained(potential, labelled, tmp_path / "a")
    # What is fixed in the start is no parameter of what came of it.
    names = [[name for name, _ in each.model.named_parameters()] for each in (potential, tuned)]  # type: ignore[attr-defined]
    assert names[0] == names[1]
    after = errors(tuned, labelled)
    assert after.force_mae < 0.7 * errors(potential, labelled).force_mae


@pytest.mark.slow
def test_fine_tuning_is_seeded(tmp_path: Path, potential: MacePotential) -> None:
    labelled = emt_labelled(rattled(8, seed=0, names=("H2O", "NH3")))
    first, again = (trained(potential, labelled, tmp_path / name).fingerprint for name in ("a", "b"))
    assert first == again


def test_what_cannot_be_trained_on(tmp_path: Path, potential: MacePotential) -> None:
    with pytest.raises(TrainingError, match="no labelled structure"):
        FineTuning()(potential, [], [], seed=0, workdir=tmp_path)
    with pytest.raises(StructureError, match="training structure 0: no REF_energy"):
        FineTuning()(potential, rattled(1, seed=0), [], seed=0, workdir=tmp_path)
