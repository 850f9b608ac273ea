"""From checked configuration to the objects that do the work."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ase import Atoms

from surveyor.acquisition import Rule
from surveyor.campaign import Plan
from surveyor.config.registries import (
    CALCULATORS,
    MANUAL,
    SETTINGS,
)
from surveyor.config.schema import (
    CampaignConfig,
    FeatureConfig,
    LabelConfig,
    ManualSettings,
    SelectionConfig,
    TrainingConfig,
)
from surveyor.errors import ConfigError, notice
from surveyor.features import registry as maps
from surveyor.features.soap import occurring
from surveyor.labelling import (
    CalculatorSpec,
    Engine,
    EngineLabeller,
    LocalEngine,
)
from surveyor.labelling.engines import AnyEngine
from surveyor.labelling.manual import ManualLabeller
from surveyor.learner.settings import TangentSettings
from surveyor.potentials.opening import beside
from surveyor.registry import check_name
from surveyor.selection import Given, Shortlist, make_rule
from surveyor.specs import validate
from surveyor.structures import StructureFile
from surveyor.structures.label_keys import LabelledFrames, read_labelled
from surveyor.training import CommandTrainer, trainer_for
from surveyor.types import Labeller, Potential, Selector, StorableFeatureMap, Trainer


def build_features(
    potential: Potential | None, config: FeatureConfig, seed: int, *sources: Iterable[Atoms]
) -> StorableFeatureMap:
    """The feature map that the configuration names.

    Args:
        potential: None will do for features that take none.
        sources: the structures that it will see; features that ask for the elements take them from there.
    """
    elements = occurring(*sources) if maps.takes(config.kind, "elements") else ()
    given = maps.Given(potential, elements, seed, config.parameters, config.dim, config.layers)
    return maps.make_features(config.kind, given, config.settings)


def build_rule(config: SelectionConfig, *, shortlist: int | None = None) -> Rule:
    """What makes the rule that the configuration names; with a shortlist, among so many structures only."""

    def made(given: Given) -> Selector:
        rule = make_rule(config.rule, given)
        return rule if shortlist is None else Shortlist(rule, shortlist, given.noise)

    return made


def calculator_spec(config: LabelConfig) -> CalculatorSpec:
    """The calculator that the configuration names, by short name or import path.

    Raises:
        ConfigError: there is no such short name, or it does not take these settings.
        LabellingError: the template of a command is malformed.
    """
    name = config.calculator.lower()
    if name in CALCULATORS:
        return CALCULATORS[name](config)
    if not re.search(r"[.:]", name):  # no import path
        check_name(name, {**CALCULATORS, MANUAL: None}, "labels: calculator")
    return CalculatorSpec(config.calculator, config.settings, config.charge_key, config.spin_key)


def build_engine(engine: AnyEngine, processes: int | None) -> Engine:
    """The engine; `processes` is the number of workers of a local one."""
    if isinstance(engine, LocalEngine) and processes is not None:
        return engine.model_copy(update={"processes": processes})
    return engine


def build_labeller(config: LabelConfig, folder: Path, engine: AnyEngine | None = None) -> Labeller:
    """Labels from people, or from an engine that hands results over through a folder of the campaign."""
    if config.calculator.lower() == MANUAL:
        return ManualLabeller(validate(ManualSettings, config.settings, SETTINGS).method, folder)
    return EngineLabeller(
        calculator_spec(config),
        build_engine(engine or LocalEngine(), config.processes),
        spool=folder / "labels" / "spool",
        failed=folder / "labels" / "failed",
        time_limit=config.time_limit,
    )


def build_plan(config: CampaignConfig) -> Plan:
    """Open the potential, check the files, and put the parts together.

    Raises:
        SurveyorError: a file or the potential cannot be used.
    """
    from surveyor.potentials import open_potential
    from surveyor.potentials.base import Shiftable, require

    potential = open_potential(config.model, config.device, head=config.head, python=config.python)
    start = _labelled(config.start, potential)
    test = _labelled(config.test, potential)
    pool = StructureFile(config.pool, potential.elements)
    target = [] if config.target is None else list(StructureFile(config.target, potential.elements))
    replay = _replay(config, potential)
    if test.isolated:
        notice(f"{config.test}: {len(test.isolated)} isolated atoms (config_type=IsolatedAtom) are set aside")
    training = config.training
    if start.structures:
        require(potential, Shiftable, "start: its energies are compared once references are fitted to them")
    threads = training.threads or os.cpu_count() or 1
    seen = (pool, start.structures, test.structures, target)
    return Plan(
        potential=potential,
        feature_map=build_features(potential, config.features, config.seed, *seen),
        rule=build_rule(config.selection),
        noise=config.selection.noise,
        batch=config.selection.batch,
        trainer=_trainer(config, potential, replay),
        continued=training.start == "continued",
        pool=pool,
        start=start.structures,
        isolated=start.isolated,
        test=test.structures,
        replay=replay,
        paths=_paths(config),
        generic=_generic(config, potential),
        target=target,
        stopping=config.stop,
        label_rules=config.labels,
        training_cores=threads,
        valid_fraction=training.valid_fraction,
        correction=_correction(training, potential),
        device=config.device,
        seed=config.seed,
    )


def _correction(training: TrainingConfig, potential: Potential) -> TangentSettings | None:
    """What was asked for; without a word a correction is tried wherever the potential can have one.

    Raises:
        PotentialError: one was asked for, and the potential cannot have it.
    """
    from surveyor.potentials.base import Differentiable, require
    from surveyor.potentials.parameters import parameter_names

    asked = training.correction
    untrained = training.mode == "none"
    if asked is None and (
        untrained or (training.quality != "quick" and isinstance(potential, Differentiable))
    ):
        asked = TangentSettings()
    if not asked:
        return None
    model = require(potential, Differentiable, "training: correction").model
    parameter_names(model, asked.parameters)
    return asked


def _trainer(config: CampaignConfig, potential: Potential, replay: Sequence[Atoms]) -> Trainer:
    """The trainer of the potential's family, or the program that the configuration names."""
    training = config.training
    if training.command is None:
        return trainer_for(potential, training, replay)
    threads = training.threads or os.cpu_count() or 1
    return CommandTrainer(training.command, potential, device=config.device, threads=threads)


def _paths(config: CampaignConfig) -> dict[str, Path]:
    """Role → the file that it comes from."""
    named = {
        "pool": config.pool,
        "start": config.start,
        "test": config.test,
        "target": config.target,
        "model": Path(config.model),
        "replay": _replay_file(config),
        "forgetting": _generic_file(config),
    }
    return {role: path for role, path in named.items() if path is not None}


def _labelled(path: Path | None, potential: Potential) -> LabelledFrames:
    """Labelled structures of a file, all of them checked before anything is paid for."""
    return LabelledFrames() if path is None else read_labelled(path, potential.elements)


def _replay_file(config: CampaignConfig) -> Path | None:
    if config.training.mode != "replay":
        return None
    return config.training.replay or beside(config.model, "replay")


def _replay(config: CampaignConfig, potential: Potential) -> Sequence[Atoms]:
    """The structures of the pretraining level that the mode replay takes.

    Raises:
        ConfigError: none is named, and none lies beside the model.
    """
    if config.training.mode != "replay":
        return []
    path = _replay_file(config)
    if path is None:
        raise ConfigError(
            f"mode: replay, but no structures to replay lie beside the model {config.model!r}",
            expected="labelled structures of the level that the model was pretrained at",
            todo="name a file, training: {replay: file.extxyz}, or take mode naive or frozen",
        )
    return _labelled(path, potential).structures


def _generic_file(config: CampaignConfig) -> Path | None:
    return None if config.forgetting is False else config.forgetting or beside(config.model, "held-out")


def _generic(config: CampaignConfig, potential: Potential) -> Sequence[Atoms]:
    """The sample on which forgetting is measured; none where it is switched off or nothing is at hand."""
    return _labelled(_generic_file(config), potential).structures
