"""Training that goes on for as long as held-out labels gain by it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from surveyor.metrics import Errors, enough_held_out, errors, pays
from surveyor.potentials.base import Shiftable, Trainable, require
from surveyor.potentials.fine_tuning import STAGES, FineTuningSettings
from surveyor.progress import OnStep, Telling
from surveyor.structures.writing import emptied, write_json
from surveyor.training.references import ReferenceFit
from surveyor.types import TRAINING_SETTINGS, Potential, Trainer


class Lengthening:
    """Trainer: a short training, and longer ones that each go on from what the one before made.

    A longer one is begun while the last one lowered the errors of the held-out structures by more than chance
    (`surveyor.metrics.pays`), and while it is expected to end before the time limit. Its result is kept if it
    lowers them in the same way: a tie goes to the shorter training. Held-out structures that are too few to
    tell anything apart leave it at the first.

    Args:
        stages: trainers with their number of steps, in their order.
        time_limit: of all stages together, s.
    """

    def __init__(self, stages: Sequence[tuple[int, Trainer]], time_limit: float | None = None) -> None:
        self.stages = stages
        self.time_limit = time_limit

    def telling(self, on_step: OnStep) -> Lengthening:
        """The same trainer, whose stages tell how far they are, and which of them it is."""

        def told(number: int, trainer: Trainer) -> Trainer:
            def on_own_step(done: int, total: int, note: str) -> None:
                stage = f"stage {number} of at most {len(self.stages)}"
                on_step(done, total, f"{stage}, {note}" if note else stage)

            return trainer.telling(on_own_step) if isinstance(trainer, Telling) else trainer

        stages = [(updates, told(i, trainer)) for i, (updates, trainer) in enumerate(self.stages, start=1)]
        return Lengthening(stages, self.time_limit)

    def __call__(
        self,
        start: Potential,
        train: Sequence[Atoms],
        valid: Sequence[Atoms],
        *,
        seed: int,
        workdir: Path,
        references: Mapping[int, float] | None = None,
    ) -> Potential:
        emptied(workdir)
        stages = self.stages if enough_held_out(valid) else self.stages[:1]
        best, before, kept = start, None, 0
        done: list[dict[str, Any]] = []
        begin = time.perf_counter()
        for number, (updates, trainer) in enumerate(stages, start=1):
            if done and not self._in_time(begin, done[-1], updates):
                break
            started = time.perf_counter()
            tuned = trainer(
                best, train, valid, seed=seed, workdir=workdir / str(number), references=references
            )
            seconds = time.perf_counter() - started
            after = errors(tuned, valid) if valid else None
            done.append({"updates": updates, "seconds": seconds, **_numbers(after)})
            if before and after and not pays(before, after, valid):
                break
            best, before, kept = tuned, after, number
        _keep(workdir, kept, done)
        return best

    def _in_time(self, begin: float, last: Mapping[str, Any], updates: int) -> bool:
        if self.time_limit is None:
            return True
        expected = float(last["seconds"]) * updates / int(last["updates"])
        return time.perf_counter() - begin + expected <= self.time_limit


def trainer_for(potential: Potential, settings: FineTuningSettings, replay: Sequence[Atoms] = ()) -> Trainer:
    """The family's trainer, as often as the quality allows; of mode none, one that leaves the weights alone.

    Raises:
        PotentialError: the potential cannot be trained so.
    """
    if settings.mode == "none":
        require(potential, Shiftable, "training: mode none")
        return ReferenceFit()
    potential = require(potential, Trainable, "a training without training: command")
    lengths = [factor * settings.updates for factor in STAGES[settings.quality]]
    if len(lengths) == 1:
        return potential.trainer(settings, replay)
    of_length = (settings.model_copy(update={"updates": updates}) for updates in lengths)
    trainers = [potential.trainer(each, replay) for each in of_length]
    return Lengthening(list(zip(lengths, trainers, strict=True)), settings.time_limit)


def _numbers(found: Errors | None) -> dict[str, float]:
    return {} if found is None else {"energy_mae": found.energy_mae, "force_mae": found.force_mae}


def _keep(workdir: Path, kept: int, done: Sequence[Mapping[str, Any]]) -> None:
    """The settings of the stage that is kept, where its trainer wrote them, and what each stage came to."""
    own = workdir / str(kept) / TRAINING_SETTINGS
    settings = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else {}
    settings["updates_in_all"] = sum(stage["updates"] for stage in done[:kept])
    for number, stage in enumerate(done, start=1):
        came = "kept" if number <= kept else "no gain, not kept"
        errors_of = (
            f", held-out errors {stage['energy_mae']:.1f} meV/atom and {stage['force_mae']:.0f} meV/Å"
            if "energy_mae" in stage
            else ""
        )
        settings[f"stage_{number}"] = (
            f"{stage['updates']} updates, {stage['seconds']:.0f} s{errors_of}: {came}"
        )
    write_json(workdir / TRAINING_SETTINGS, settings)
