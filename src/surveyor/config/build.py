"""From checked configuration to the objects that do the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from surveyor.acquisition import Rule
from surveyor.campaign import LabelRules, Plan, Stopping
from surveyor.config.registries import FEATURES, RULES
from surveyor.config.schema import (
    CampaignConfig,
    FeatureConfig,
    LabelConfig,
    LocalEngineConfig,
    SelectionConfig,
)
from surveyor.features.store import StorableFeatureMap
from surveyor.labelling import (
    GFN2,
    CalculatorSpec,
    DaskEngine,
    Engine,
    EngineLabeller,
    LocalEngine,
    ParslEngine,
    SlurmEngine,
)
from surveyor.labelling.retries import Retries
from surveyor.labelling.screening import Screening
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


def build_engine(config: CampaignConfig) -> Engine:
    """The engine that the configuration chooses and sizes."""
    settings = config.engine
    if isinstance(settings, LocalEngineConfig):
        return LocalEngine(
            config.labels.processes or max(1, (os.cpu_count() or 1) // settings.cores), settings.cores
        )
    kinds: dict[str, Callable[..., Engine]] = {"slurm": SlurmEngine, "parsl": ParslEngine, "dask": DaskEngine}
    return kinds[settings.kind](**settings.model_dump(exclude={"kind"}))


def build_labeller(config: CampaignConfig, folder: Path) -> EngineLabeller:
    """Labels from an engine, which hands results over through a folder of the campaign."""
    return EngineLabeller(
        calculator_spec(config.labels),
        build_engine(config),
        spool=folder / "labels" / "spool",
        time_limit=config.labels.time_limit,
    )


def build_label_rules(config: LabelConfig) -> LabelRules:
    """What happens to labels that fail or look suspicious."""
    return LabelRules(
        retries=Retries(config.retries, config.retry_wait),
        screening=Screening(config.max_force, config.outlier),
        minimum=config.minimum,
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
    settings = FineTuningSettings(**training.model_dump(exclude={"valid_fraction"}), device=config.device)
    return Plan(
        potential=potential,
        open_potential=_reopener(config),
        shift_references=_shift_references,
        feature_map=build_features(potential, config.features, config.seed),
        rule=build_rule(config.selection),
        noise=config.selection.noise,
        batch=config.selection.batch,
        trainer=FineTuning(settings),
        pool=StructureFile(config.pool, potential.elements),
        start=start,
        test=test,
        target=[] if config.target is None else list(StructureFile(config.target, potential.elements)),
        stopping=Stopping(**config.stop.model_dump()),
        label_rules=build_label_rules(config.labels),
        training_cores=training.threads or os.cpu_count() or 1,
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


def _reopener(config: CampaignConfig) -> Callable[[Path], Potential]:
    from surveyor.potentials import open_potential

    return lambda path: open_potential(path, config.device)


def _shift_references(potential: Potential, structures: Sequence[Atoms]) -> Potential:
    from surveyor.potentials.mace import MacePotential
    from surveyor.training.references import refit_reference_energies

    if not isinstance(potential, MacePotential):
        return potential
    return potential.with_reference_shifts(refit_reference_energies(potential, structures))
