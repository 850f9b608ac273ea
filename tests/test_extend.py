"""`surveyor extend`: more to choose from, and labels of one's own; what was before stays as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import emt_labelled, rattled
from surveyor.campaign import Campaign, CampaignLock, Control
from surveyor.campaign.extending import extend
from surveyor.campaign.extension import EXTENSIONS, read_extensions
from surveyor.campaign.records import read_picks
from surveyor.cli import app
from surveyor.errors import CampaignError, Notice, StructureError
from surveyor.report import figures, read_contents
from surveyor.structures import structure_id, write_structures
from test_campaign_inputs import begun, old, one_round, opened, plan_of, template  # noqa: F401


def test_picks_see_the_larger_pool_and_earlier_ones_stay(begun: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = begun.parent / "campaign"
    before = read_picks(folder / "rounds" / "001" / "selection.json")
    more = rattled(20, seed=50)
    path = write_structures(tmp_path / "more.extxyz", [*more, rattled(12, seed=1)[0]])
    with pytest.warns(Notice, match="1 of 21 structures are there already"):
        (entry,) = extend(folder, plan_of(begun), pool=path)
    path.unlink()  # the campaign has a copy
    assert (entry.kind, entry.frames, entry.round) == ("pool", 20, 2)
    campaign = Campaign(folder, replace(plan_of(begun), batch=25), "emt")
    picks = campaign.ask()
    assert {structure_id(atoms) for atoms in more} & set(picks)
    assert len(picks) == 25
    one_round(campaign)
    assert read_picks(folder / "rounds" / "001" / "selection.json") == before
    assert max(read_picks(folder / "rounds" / "002" / "selection.json").values()) >= 12
    shown = figures(read_contents(folder))  # the map has the new ones, too
    assert shown["added"][0]["source"].endswith("more.extxyz")


def test_the_order_of_the_control_arm_keeps_its_beginning_in_use(begun: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = begun.parent / "campaign"
    before = list(Control(opened(begun)).order)
    extend(folder, plan_of(begun), pool=write_structures(tmp_path / "more.extxyz", rattled(6, seed=50)))
    after = list(Control(opened(begun)).order)
    assert [name for name in after if name in set(before)] == before
    assert len(after) == len(before) + 6
    assert after[-6:] != [structure_id(atoms) for atoms in rattled(6, seed=50)]  # strewn in


def test_labels_of_ones_own_join_the_start_set_and_are_not_paid_for(begun: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = begun.parent / "campaign"
    waiting = opened(begun).ask()
    mine = emt_labelled([*list(waiting.values())[:1], *rattled(2, seed=60)])
    path = write_structures(tmp_path / "mine.extxyz", mine)
    with pytest.raises(CampaignError, match=r"without a word on how they were made"):
        extend(folder, plan_of(begun), labels=path)
    extend(folder, plan_of(begun), labels=path, method="EMT, by hand")
    campaign = opened(begun)
    assert set(campaign.ask()) == set(list(waiting)[1:])
    assert len(campaign.given.start) == 7
    assert len(campaign.given.start_of(1)) == 4  # the round that is over did not know them
    one_round(campaign)
    assert [record.labels for record in campaign.rounds] == [4, 7, 4 + 3 + 3 + 2]
    assert campaign.rounds[-1].paid == 5


def test_a_campaign_that_had_used_its_pool_up_goes_on(begun: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = begun.parent / "campaign"
    stopping = plan_of(begun).stopping.model_copy(update={"rounds": 9})
    plan = replace(plan_of(begun), batch=9, stopping=stopping)
    campaign = Campaign(folder, plan, "emt")
    one_round(campaign)
    assert campaign.stopped == "every structure of the pool is labelled or failed"
    extend(folder, plan, pool=write_structures(tmp_path / "more.extxyz", rattled(4, seed=50)))
    assert Campaign(folder, plan, "emt").stopped is None


def test_what_may_not_be_added(begun: Path, tmp_path: Path) -> None:  # noqa: F811
    folder, plan = begun.parent / "campaign", plan_of(begun)
    test = write_structures(tmp_path / "leak.extxyz", [*emt_labelled(rattled(2, seed=7)), plan.test[1]])
    for kind in ("pool", "labels"):
        with pytest.raises(CampaignError, match=r"leak.extxyz: 1 of its structures are in the test set"):
            extend(folder, plan, **{kind: test}, method="EMT")  # type: ignore[arg-type]
    bare = write_structures(tmp_path / "bare.extxyz", rattled(2, seed=8))
    with pytest.raises(StructureError, match="frame 0: no REF_energy"):
        extend(folder, plan, labels=bare, method="EMT")
    gold = rattled(2, seed=8)
    gold[1].numbers[0] = 79
    with pytest.raises(StructureError, match="frame 1: element Au is unknown"):
        extend(folder, plan, pool=write_structures(tmp_path / "gold.extxyz", gold))
    with pytest.raises(CampaignError, match="none of its 12 structures is new"):
        extend(folder, plan, pool=begun.parent / "pool.extxyz")
    assert read_extensions(folder) == ()


def test_an_addition_that_changed_or_a_record_that_is_damaged_is_named(begun: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = begun.parent / "campaign"
    path = write_structures(tmp_path / "more.extxyz", rattled(4, seed=50))
    (entry,) = extend(folder, plan_of(begun), pool=path)
    record = (folder / EXTENSIONS).read_bytes()
    (folder / EXTENSIONS).write_bytes(record + b'{"number": 2, "ki')  # torn: never happened
    assert read_extensions(folder) == (entry,)
    more = write_structures(tmp_path / "again.extxyz", rattled(2, seed=51))
    assert extend(folder, plan_of(begun), pool=more)[0].number == 2
    write_structures(entry.path(folder), rattled(4, seed=51))
    with pytest.raises(
        CampaignError, match=r"pool-001.extxyz holds something else: 4 structures to choose from"
    ):
        opened(begun)
    (folder / EXTENSIONS).write_bytes(record.replace(b'"pool"', b'"../x"'))
    with pytest.raises(CampaignError, match=r"extensions.jsonl, line 1 is damaged"):
        read_extensions(folder)


def test_the_command_on_a_campaign_of_the_first_version(old: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = old.parent / "campaign"
    (folder / "config.yaml").write_text(
        (folder / "config.yaml").read_text().replace("/srv/project", str(old.parent))
    )
    more = write_structures(tmp_path / "more.extxyz", rattled(3, seed=50))
    runner = CliRunner()
    with CampaignLock(folder):
        taken = runner.invoke(app, ["extend", str(folder), "--pool", str(more)])
    assert taken.exit_code == 2
    assert "in the hands of" in taken.output
    wrong = emt_labelled(rattled(8, seed=61))
    for atoms in wrong:
        atoms.arrays["REF_forces"] *= 0.0  # placeholders, as doctor knows
    mine = write_structures(tmp_path / "mine.extxyz", wrong)
    refused = runner.invoke(app, ["extend", str(folder), "--labels", str(mine), "--method", "EMT"])
    assert refused.exit_code == 2
    assert "placeholders: forces of exactly 0" in refused.output
    done = runner.invoke(app, ["extend", str(folder), "--pool", str(more), "--json"])
    assert done.exit_code == 0, done.output
    shown = runner.invoke(app, ["status", str(folder)]).output.replace("\n", " ")
    assert "3 structures to choose from, " in shown
    assert json.loads(runner.invoke(app, ["status", str(folder), "--json"]).stdout)["added"][0]["frames"] == 3
