"""What a campaign folder says; reading only, at any time, by anyone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from surveyor.errors import CampaignError
from surveyor.labelling.ledger import Ledger
from surveyor.labelling.names import check_method_name, is_structure_id
from surveyor.structures.writing import atomic_write, write_json
from surveyor.types import TRAINING_SETTINGS

SCHEMA = 1
STATE = "state.json"
DONE = "DONE"


@dataclass(frozen=True)
class RoundRecord:
    """One finished round.

    | field          | meaning                                                                  | unit     |
    |----------------|--------------------------------------------------------------------------|----------|
    | number         | 0 is the potential before fine-tuning                                    |          |
    | labels         | labelled structures so far, those given at the start included            |          |
    | paid           | labels paid for so far                                                   |          |
    | failed         | labels that failed in this round                                         |          |
    | energy_mae, energy_rmse | errors on the test structures; None without any                 | meV/atom |
    | force_mae, force_rmse   | the same                                                        | meV/Å    |
    | pearson_energy, pearson_force | correlation of std with the errors                        |          |
    | std            | residual standard deviation of each test structure, as a share of the    |          |
    |                | pool's root mean square feature norm                                     |          |
    | energy_each    | error of each test structure                                             | meV/atom |
    | force_each     | error of each test structure                                             | meV/Å    |
    | training_settings | what the trainer did: option → value in use                           |          |
    | forgetting     | before, after → energy_mae and force_mae on the generic sample, offsets  | meV/atom,|
    |                | per element taken off; empty without one                                 | meV/Å    |
    | control        | errors of the random control arm, and the gain over it; empty without one | meV/atom,|
    |                |                                                                          | meV/Å    |
    | seconds        | stage → wall time                                                        | s        |
    | quarantined    | labels of this round that are held back                                  |          |
    | core_seconds   | labelling, training → what it cost                                       | s × cores |
    | predicted_gain | forecast fall of the pool's residual std per label of the next batch, of  | %        |
    |                | what it is now; None where no limit asks for it                          |          |
    | notes          | what a person should know about the round                                |          |
    | stopped        | why the campaign ended after this round, or None                         |          |
    """

    number: int
    labels: int
    paid: int
    failed: int = 0
    energy_mae: float | None = None
    energy_rmse: float | None = None
    force_mae: float | None = None
    force_rmse: float | None = None
    pearson_energy: float | None = None
    pearson_force: float | None = None
    std: list[float] = field(default_factory=list)
    energy_each: list[float] = field(default_factory=list)
    force_each: list[float] = field(default_factory=list)
    training_settings: dict[str, Any] = field(default_factory=dict)
    forgetting: dict[str, dict[str, float]] = field(default_factory=dict)
    control: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    quarantined: int = 0
    core_seconds: dict[str, float] = field(default_factory=dict)
    predicted_gain: float | None = None
    notes: list[str] = field(default_factory=list)
    stopped: str | None = None


@dataclass(frozen=True)
class CampaignRecord:
    """A campaign as its folder shows it."""

    folder: Path
    state: dict[str, Any]
    rounds: tuple[RoundRecord, ...]

    @cached_property
    def ledger(self) -> Ledger:
        """The labels, failures and quarantine, read when they are asked for."""
        return Ledger(self.folder / "labels", str(self.state["method"]), read_only=True, paid=self.paid)

    @property
    def failures(self) -> dict[str, list[str]]:
        """id → reasons of the failed attempts, of structures that have no label."""
        return self.ledger.failures

    @property
    def quarantined(self) -> dict[str, str]:
        """id → why its label is held back."""
        return self.ledger.quarantined

    @property
    def paid(self) -> int:
        """Labels that were paid for until the last round was closed."""
        return max((record.paid for record in self.rounds), default=0)

    @property
    def core_hours(self) -> float:
        """What labelling and training have cost so far."""
        return core_hours(self.rounds)

    @property
    def stopped(self) -> str | None:
        return self.rounds[-1].stopped if self.rounds else None


def core_hours(rounds: Iterable[RoundRecord]) -> float:
    """What labelling and training of these rounds cost."""
    return sum(sum(record.core_seconds.values()) for record in rounds) / 3600


def wall_hours(rounds: Iterable[RoundRecord]) -> float:
    """How long these rounds worked; pauses, and what interrupted runs did in vain, not counted."""
    return sum(sum(record.seconds.values()) for record in rounds) / 3600


def round_folder(folder: Path, number: int) -> Path:
    """`rounds/003` and the like."""
    return folder / "rounds" / f"{number:03d}"


def read_json(path: Path) -> Any:
    """Content of a JSON file of a campaign.

    Raises:
        CampaignError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise CampaignError(
            f"{path} cannot be read: {error}",
            expected="a file that Surveyor wrote",
            todo="restore it from a copy",
        ) from error


def _mapping(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise _strange(path, f"a {type(content).__name__}, not a mapping")
    return content


def _strange(path: Path, why: str) -> CampaignError:
    return CampaignError(
        f"{path} is damaged: {why}", expected="a file that Surveyor wrote", todo="restore it from a copy"
    )


_ROUND: TypeAdapter[RoundRecord] = TypeAdapter(RoundRecord)


def _read_round(path: Path, number: int) -> RoundRecord:
    content = _mapping(path)
    held = content.get("quarantined")
    if isinstance(held, dict):  # by reason, in some early campaigns
        content["quarantined"] = sum(count for count in held.values() if isinstance(count, int))
    try:
        record = _ROUND.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _strange(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if record.number != number:
        raise _strange(path, f"it says round {record.number}")
    return record


def read_picks(path: Path) -> dict[str, int]:
    """id → pool index of the picks in a `selection.json`, best first.

    Raises:
        CampaignError: it is damaged.
    """
    picks = _mapping(path).get("picks")
    if not isinstance(picks, list):
        raise _strange(path, "no list of picks")
    found: dict[str, int] = {}
    for rank, pick in enumerate(picks):
        name, index = (pick.get("id"), pick.get("index")) if isinstance(pick, dict) else (None, None)
        if not isinstance(name, str) or not is_structure_id(name) or name in found:
            raise _strange(path, f"pick {rank} has the id {name!r}")
        if type(index) is not int or index < 0:
            raise _strange(path, f"pick {rank} has the index {index!r}")
        found[name] = index
    return found


def keep_settings(workdir: Path, target: Path) -> None:
    """Keep the effective settings that a trainer left in its working folder, if it left any."""
    if (workdir / TRAINING_SETTINGS).is_file():
        write_json(target / TRAINING_SETTINGS, _mapping(workdir / TRAINING_SETTINGS))


def training_settings(folder: Path, number: int) -> dict[str, Any]:
    """The effective settings of a round's training; empty where none are known."""
    path = round_folder(folder, number) / TRAINING_SETTINGS
    return dict(_mapping(path)) if path.is_file() else {}


def write_round(folder: Path, record: RoundRecord) -> None:
    """Write the metrics, then the mark that the round is complete."""
    write_metrics(folder, record)
    atomic_write(
        round_folder(folder, record.number) / DONE, lambda file: file.write(f"round {record.number}\n")
    )


def write_metrics(folder: Path, record: RoundRecord) -> None:
    """What a round knows about itself."""
    write_json(round_folder(folder, record.number) / "metrics.json", asdict(record))


def read_campaign(folder: Path) -> CampaignRecord:
    """Read a campaign folder without owning it.

    Raises:
        CampaignError: it is not a campaign folder, or of a newer schema, or a record in it is damaged.
        LabellingError: its method is no name of a file.
    """
    if not (folder / STATE).is_file():
        raise CampaignError(
            f"{folder} is not a campaign: it has no {STATE}",
            expected="the folder that `surveyor run campaign.yaml` made",
            todo="check the path, or start the campaign first",
        )
    state = _mapping(folder / STATE)
    schema = state.get("schema")
    if schema != SCHEMA:
        raise CampaignError(
            f"{folder / STATE} has schema {schema!r}",
            expected=f"schema {SCHEMA}",
            todo="use the version of Surveyor that started the campaign",
        )
    check_method_name(state.get("method"), str(folder / STATE))
    rounds: list[RoundRecord] = []
    while (round_folder(folder, len(rounds)) / DONE).is_file():
        rounds.append(_read_round(round_folder(folder, len(rounds)) / "metrics.json", len(rounds)))
    return CampaignRecord(folder, state, tuple(rounds))
