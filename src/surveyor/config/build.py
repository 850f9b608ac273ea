"""From checked configuration to the objects that do the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from surveyor.acquisition import Rule
from surveyor.campaign import Plan, Stopping
from surveyor.config.registries import FEATURES, RULES
from surveyor.config.schema import CampaignConfig, FeatureConfig, LabelConfig, SelectionConfig
from surveyor.errors import ConfigError
from surveyor.features.store import StorableFeatureMap
from surveyor.labelling import GFN2, CalculatorSpec, LocalLabeller
from surveyor.potentials.opening import beside
from surveyor.structures import StructureFile, labels_of
from surveyor.types import Potential

if TYPE_CHECKING:
    from surveyor.potentials.mace import MacePotential


def build_features(potential: MacePotential, config: FeatureConfig, seed: int) -> StorableFeatureMap:
    """The feature map that the configuration names."""
    return FEATURES[config.kind](potential, config, seed)


def build_rule(config: SelectionConfig) -> Rule:
    """The rule that the configuration names, waiting for its target."""
    return lambda target: RULES[config.rule](config.noise, target)


def calculator_spec(config: LabelConfig) -> CalculatorSpec:
    """The calculator that the configuration names."""
    if config.calculator.lower() in ("gfn2-xtb", "gfn2"):
        return CalculatorSpec(
            GFN2.path, {**GFN2.settings, **config.settings}, GFN2.charge_key, GFN2.spin_key, GFN2.name
        )
    return CalculatorSpec(config.calculator, config.settings, config.charge_key, config.spin_key)


def build_labeller(config: LabelConfig, folder: Path) -> LocalLabeller:
    """Labels from local processes, which hand results over through a folder of the campaign."""
    return LocalLabeller(
        calculator_spec(config), processes=config.processes, spool=folder / "labels" / "spool"
    )


def build_plan(config: CampaignConfig) -> Plan:
    """Open the potential, check the files, and put the parts together.

    Raises:
        SurveyorError: a file or the potential cannot be used.
    """
    from surveyor.potentials import open_potential
    from surveyor.training import FineTuning, FineTuningSettings

    potential = open_potential(config.model, config.device, head=config.head)
    start = _labelled(config.start, potential)
    test = _labelled(config.test, potential)
    training = config.training
    not_the_trainers = {"valid_fraction", "start", "replay", "freeze"}
    settings = FineTuningSettings(
        **training.model_dump(exclude=not_the_trainers),
        freeze=training.freeze or "interactions",
        device=config.device,
    )
    return Plan(
        potential=potential,
        open_potential=_reopener(config),
        shift_references=_shift_references,
        feature_map=build_features(potential, config.features, config.seed),
        rule=build_rule(config.selection),
        noise=config.selection.noise,
        batch=config.selection.batch,
        trainer=FineTuning(settings, replay=_replay(config, potential)),
        continued=training.start == "continued",
        pool=StructureFile(config.pool, potential.elements),
        start=start,
        test=test,
        generic=_generic(config, potential),
        target=[] if config.target is None else list(StructureFile(config.target, potential.elements)),
        stopping=Stopping(**config.stop.model_dump()),
        valid_fraction=training.valid_fraction,
        seed=config.seed,
    )


def _labelled(path: Path | None, potential: MacePotential) -> list[Atoms]:
    """Labelled structures of a file, all of them checked before anything is paid for."""
    if path is None:
        return []
    structures = list(StructureFile(path, potential.elements))
    for number, atoms in enumerate(structures):
        labels_of(atoms, f"{path.name}, frame {number}")
    return structures


def _replay(config: CampaignConfig, potential: MacePotential) -> list[Atoms]:
    """The structures of the pretraining level that the mode replay takes.

    Raises:
        ConfigError: none is named, and none lies beside the model.
    """
    if config.training.mode != "replay":
        return []
    path = config.training.replay or beside(config.model, "replay")
    if path is None:
        raise ConfigError(
            f"mode: replay, but no structures to replay lie beside the model {config.model!r}",
            expected="labelled structures of the level that the model was pretrained at",
            todo="name a file, training: {replay: file.extxyz}, or take mode naive or frozen",
        )
    return _labelled(path, potential)


def _generic(config: CampaignConfig, potential: MacePotential) -> list[Atoms]:
    """The sample on which forgetting is measured; none where it is switched off or nothing is at hand."""
    if config.forgetting is False:
        return []
    return _labelled(config.forgetting or beside(config.model, "held-out"), potential)


def _reopener(config: CampaignConfig) -> Callable[[Path], Potential]:
    from surveyor.potentials import open_potential

    return lambda path: open_potential(path, config.device)


def _shift_references(potential: Potential, structures: Sequence[Atoms]) -> Potential:
    from surveyor.potentials.mace import MacePotential
    from surveyor.training.references import refit_reference_energies

    if not isinstance(potential, MacePotential):
        return potential
    return potential.with_reference_shifts(refit_reference_energies(potential, structures))
