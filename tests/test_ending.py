"""What the end of a campaign says: what one has, what was reached, what to mind, where it leads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made_campaign import MadeCampaign
from surveyor.campaign.records import write_json
from surveyor.cli.ending import ending_lines
from surveyor.report import ending, figures, read_contents, write_report
from surveyor.report.contents import Contents


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """Four rounds, after which a force MAE of 50 meV/Å is asked for."""
    folder = tmp_path_factory.mktemp("ended") / "c"
    MadeCampaign(folder).rounds(4)
    return read_contents(folder)


def with_errors(
    contents: Contents, energy: Sequence[float], force: Sequence[float], last: Mapping[str, Any] | None = None
) -> Contents:
    """The same campaign with other errors, round by round."""
    metrics = [
        {**old, "energy_mae": e, "force_mae": f}
        for old, e, f in zip(contents.metrics, energy, force, strict=True)
    ]
    metrics[-1] |= last or {}
    return replace(contents, metrics=tuple(metrics))


FALLING = (400.0, 200.0, 150.0, 110.0, 91.3)


def test_what_was_reached_of_what_was_asked(contents: Contents) -> None:
    missed = ending(with_errors(contents, (50, 20, 15, 12, 10), FALLING))
    assert [str(asked) for asked in missed.asked] == ["force MAE 91.3 meV/Å, asked 50: missed"]
    reached = ending(with_errors(contents, (50, 20, 15, 12, 10), (*FALLING[:4], 45.0)))
    assert [asked.reached for asked in reached.asked] == [True]
    more = replace(contents, config={"stop": {"labels": 25}})
    assert [str(asked) for asked in ending(more).asked] == ["labels 20, asked 25: missed"]


def test_where_the_trend_leads(contents: Contents) -> None:
    labels = [m["labels"] for m in contents.metrics]
    force = [400.0, *(1000.0 / n for n in labels[1:])]
    end = ending(with_errors(contents, (50, 20, 15, 12, 10), force))
    assert end.forecast["force_mae"] == (pytest.approx(1000 / (labels[-1] + 100)), "meV/Å")
    told = " ".join(ending_lines(end))
    assert f"100 more labels: energy MAE about {end.forecast['energy_mae'][0]:.3g} meV/atom and force" in told
    flat = ending(with_errors(contents, (50, 20, 21, 22, 23), (400, 200, 210, 220, 230)))
    assert flat.forecast == {}
    assert flat.as_dict()["forecast"] is None


def test_warnings_are_in_words_and_only_where_there_is_reason(contents: Contents) -> None:
    control = {"control": {"energy_mae": 11.0, "force_mae": 99.0}}
    assert ending(with_errors(contents, (50, 20, 15, 12, 10), FALLING, control)).warnings == ()
    (alone,) = ending(with_errors(contents, (50, 20, 15, 12, 10), FALLING)).warnings
    assert alone.startswith("no control")
    worse = ending(with_errors(contents, (5, 20, 15, 12, 10), FALLING, control)).warnings
    assert worse == (
        "the energy error rose from 5.0 to 10.0 meV/atom (+100 %): worse than before any training",
    )
    flat = ending(with_errors(contents, (50, 20, 15, 12, 10), (400, 200, 100, 99.5, 99), control)).warnings
    assert flat[0].startswith("the last two rounds changed the force error by less than 2%")
    earlier = ending(with_errors(contents, (50, 20, 8, 12, 10), FALLING, control)).warnings
    assert earlier == ("the energy error was lower after round 2: 8.0 meV/atom",)
    generic = {
        "before": {"energy_mae": 1.0, "force_mae": 132.0},
        "after": {"energy_mae": 2.0, "force_mae": 318.0},
    }
    forgot = with_errors(contents, (50, 20, 15, 12, 10), FALLING, {**control, "forgetting": generic})
    (told,) = ending(forgot).warnings
    assert "from 132 to 318 meV/Å" in told


def test_what_one_has(contents: Contents, tmp_path: Path) -> None:
    folder = contents.folder / "rounds" / "004"
    end = ending(contents)
    assert (end.potential, end.training_set) == (folder / "potential.model", folder / "train.extxyz")
    lines = list(ending_lines(end))
    assert f"you have {folder / 'potential.model'}, trained on {folder / 'train.extxyz'}:" in lines
    assert lines[-3:] == [f"    {line}" for line in end.snippet]
    write_json(folder / "correction.json", {"chosen": "energies"})
    assert ending(contents).potential == folder / "potential.tangent"
    told = json.loads(json.dumps(figures(contents)))["ending"]
    assert told["potential"] == str(folder / "potential.tangent")
    page = write_report(contents.folder, tmp_path / "page.html").read_text()
    assert "<code>rounds/004/potential.tangent</code>" in page
    assert f"Mind: {end.warnings[0]}." in page
    MadeCampaign(tmp_path / "new").close(0)
    assert ending(read_contents(tmp_path / "new")).potential is None
