"""Features are computed once a campaign, the pool is gone through once a round, records are read once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ase import Atoms

from conftest import emt_labelled, rattled
from surveyor.campaign import Campaign, Control, Plan
from surveyor.campaign.extending import extend
from surveyor.campaign.records import read_picks
from surveyor.errors import CampaignError, FeatureError, Notice, said
from surveyor.features import Tangent
from surveyor.structures import structure_id, write_structures
from surveyor.types import Features, StorableFeatureMap
from test_campaign_inputs import begun, old, one_round, plan_of, template  # noqa: F401


class Counting:
    """A feature map that knows which structures it was given."""

    def __init__(self, feature_map: StorableFeatureMap) -> None:
        self.feature_map = feature_map
        self.dim, self.settings = feature_map.dim, feature_map.settings
        self.seen: list[str] = []

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        self.seen += [structure_id(atoms) for atoms in structures]
        return self.feature_map(structures)


class Passes:
    """A pool that counts how often it is gone through."""

    def __init__(self, structures: Iterable[Atoms]) -> None:
        self.structures = structures
        self.count = 0

    def __iter__(self) -> Iterator[Atoms]:
        self.count += 1
        yield from self.structures


def counted(path: Path) -> tuple[Plan, Counting]:
    plan = plan_of(path)
    counting = Counting(plan.feature_map)
    return replace(plan, feature_map=counting), counting


def picks(campaign: Campaign, number: int) -> dict[str, int]:
    return read_picks(campaign.folder / "rounds" / f"{number:03d}" / "selection.json")


def test_a_second_campaign_on_the_folder_computes_no_features(begun: Path) -> None:  # noqa: F811
    plan, counting = counted(begun)
    campaign = Campaign(begun.parent / "campaign", plan, "emt")
    assert len(campaign.ask()) == 3
    one_round(campaign)  # its evaluation needs those of start and test, too
    assert len(Control(campaign).order) == 12
    assert counting.seen == []
    known = picks(campaign, 2)
    shutil.rmtree(campaign.folder / "features")  # as in a campaign of an earlier version
    shutil.rmtree(campaign.folder / "rounds" / "002")
    again = Campaign(campaign.folder, plan, "emt")
    again.ask()
    assert len(counting.seen) == 12 + 4
    assert picks(again, 2).keys() & known.keys() == set()  # they are labelled now


def test_features_of_what_was_added_alone_are_computed(begun: Path, tmp_path: Path) -> None:  # noqa: F811
    plan, counting = counted(begun)
    folder, more, mine = begun.parent / "campaign", rattled(5, seed=50), emt_labelled(rattled(2, seed=60))
    extend(folder, plan, pool=write_structures(tmp_path / "more.extxyz", more))
    extend(folder, plan, labels=write_structures(tmp_path / "mine.extxyz", mine), method="EMT, by hand")
    campaign = Campaign(folder, plan, "emt")
    one_round(campaign)
    assert sorted(counting.seen) == sorted(structure_id(atoms) for atoms in [*more, *mine])
    assert campaign.pool.featurised.ids[12:] == tuple(structure_id(atoms) for atoms in more)
    one_round(Campaign(folder, plan, "emt"))
    assert len(counting.seen) == 7


def test_a_damaged_store_and_one_of_other_features_are_made_again(begun: Path) -> None:  # noqa: F811
    plan, counting = counted(begun)
    folder = begun.parent / "campaign"
    wanted = Campaign(folder, plan, "emt").pool.featurised
    block = folder / "features" / "pool.zarr" / "blocks" / "000000" / "values" / "c" / "0" / "0"
    content = bytearray(block.read_bytes())
    content[len(content) // 2] ^= 1
    block.write_bytes(content)
    with pytest.warns(Notice, match=r"pool.zarr is damaged: .*: these features are computed again"):
        found = Campaign(folder, plan, "emt").pool.featurised
    assert (found.features.values == wanted.features.values).all()
    assert len(counting.seen) == 12
    other = Counting(Tangent(plan.potential, dim=8))  # type: ignore[arg-type]
    campaign = Campaign(folder, replace(plan, feature_map=other), "emt")
    with pytest.warns(Notice, match=r"made with dim 16, now asked with 8: these features are computed again"):
        assert campaign.pool.featurised.features.dim == 8
    assert len(other.seen) == 12


def test_a_store_of_another_width_is_made_again_and_no_store_is_left_alone(begun: Path) -> None:  # noqa: F811
    plan, counting = counted(begun)
    folder = begun.parent / "campaign"
    wanted = Campaign(folder, plan, "emt").pool.featurised
    store = folder / "features" / "pool.zarr"
    for file in (store / "zarr.json", store / "blocks" / "000000" / "values" / "zarr.json"):
        about = json.loads(file.read_text())
        if "shape" in about:
            about["chunk_grid"]["configuration"]["chunk_shape"][0] = 0
        else:
            about["attributes"]["dim"] = 7
        file.write_text(json.dumps(about))
        counting.seen.clear()
        with pytest.warns(Notice, match=r"pool.zarr is damaged: .*: these features are computed again"):
            found = Campaign(folder, plan, "emt").pool.featurised
        assert (found.features.values == wanted.features.values).all()
        assert len(counting.seen) == 12
        said.clear()
    shutil.rmtree(store)
    store.mkdir()
    (store / "mine.txt").write_text("of somebody")
    with pytest.raises(FeatureError, match="is not empty and no feature store"):
        _ = Campaign(folder, plan, "emt").pool.featurised
    assert (store / "mine.txt").read_text() == "of somebody"


def test_a_state_without_a_potential_is_a_message(begun: Path) -> None:  # noqa: F811
    state = begun.parent / "campaign" / "state.json"
    content = json.loads(state.read_text())
    del content["potential"]
    state.write_text(json.dumps(content))
    with pytest.raises(CampaignError, match="was started with potential None"):
        Campaign(state.parent, plan_of(begun), "emt")


def test_the_pool_is_gone_through_once_a_round(tmp_path: Path, begun: Path) -> None:  # noqa: F811
    passes = Passes(list(plan_of(begun).pool))
    plan = replace(plan_of(begun), pool=passes, batch=2)
    campaign = Campaign(tmp_path / "new", plan, "emt")
    one_round(campaign)
    assert passes.count == 3  # what it holds, features and all else, and a sample for the map of the report
    for number in (1, 2, 3):
        one_round(campaign)
        assert passes.count == 3 + number


def test_finished_rounds_are_read_once(begun: Path) -> None:  # noqa: F811
    campaign = Campaign(begun.parent / "campaign", plan_of(begun), "emt")
    for path in campaign.folder.glob("rounds/*/metrics.json"):
        path.write_text("{")
    one_round(campaign)
    assert [record.labels for record in campaign.rounds] == [4, 7, 10]
    assert campaign.stopped == "all 2 rounds done"
