"""The page of a campaign: whole, safe, and true to the folder, whatever state the folder is in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from conftest import rattled
from made_campaign import METHOD, MadeCampaign
from surveyor.acquisition import Featurised
from surveyor.campaign import CampaignLock, latent_map
from surveyor.campaign.latent_map import principal_axes, read_map, write_map
from surveyor.cli import app
from surveyor.errors import CampaignError
from surveyor.report import figures, read_contents, write_report
from surveyor.report.chart import Scale, make_axes
from surveyor.report.drawing import drawings
from surveyor.report.learning import fit_trend
from surveyor.structures import structure_id
from surveyor.types import Features
from tiny import random_crystal, random_molecule

VOID = {"meta", "link", "br", "input", "hr", "img"}
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    """A strict reader: every tag is closed in order, every id is there once."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))
        assert set(self.references) <= set(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for key, value in attrs:
            assert not key.startswith("on"), key
            if key == "class":
                self.classes.update((value or "").split())
            elif key == "id":
                self.ids.append(value or "")
            elif key == "href" and str(value).startswith("#"):
                self.references.append(str(value)[1:])
            elif key == "aria-labelledby":
                self.references.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.text += " " + data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


def page_of(made: MadeCampaign) -> Page:
    return Page(write_report(made.folder, made.folder / "report.html").read_text())


@pytest.fixture
def finished(tmp_path: Path) -> MadeCampaign:
    return MadeCampaign(tmp_path / "c").map().rounds(3, reason="SCF did not converge")


def test_the_page_draws_what_the_folder_says(finished: MadeCampaign) -> None:
    page = page_of(finished)
    contents = read_contents(finished.folder)
    assert page.classes["learning"] == page.classes["trust"] == 2
    assert page.classes["point"] == 2 * 4
    assert page.classes["dotted"] == 2 * 24
    assert page.classes["ahead"] == 2
    legend = 4  # symbols of pool, test, start, and of each round and the failures below
    assert page.classes["m"] == 45 + 24 + 6 + 15 + legend + 3
    assert page.classes["see"] == 15 + 3
    assert page.words.count("SCF did not converge") == 1 + 3  # by reason, and one by one
    for record in contents.record.rounds:
        assert f"{record.energy_mae:.1f}" in page.text
        assert f"{record.force_rmse:.1f}" in page.text
    assert "Stopped: all 3 rounds done" in page.words
    assert "with 12 labels paid" in page.words
    assert "The target of 50 meV/Å for the force error is" in page.words
    assert "6.4 min in all" in page.words  # 3 × (0.5 + 36 + 90) + 2 s
    structures = {entry["id"]: entry for entry in page.data["structures"]}
    assert len(structures) == 60 + 6 + 24
    for atoms in [*finished.pool, *finished.start, *finished.test]:
        assert structures[structure_id(atoms)]["z"] == atoms.numbers.tolist()


def test_the_page_asks_nothing_of_the_network(finished: MadeCampaign) -> None:
    page = page_of(finished)
    assert re.findall(r"https?://[^\"' ]+", page.html) == ["http://www.w3.org/2000/svg"]
    assert not page.tags["img"]
    assert page.tags["link"] == 1  # the empty icon
    assert page.tags["script"] == 2
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page.html


def test_a_report_escapes_what_it_shows(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path / "a <b>&amp; campaign", group=EVIL).map().rounds(2, reason=EVIL)
    (made.folder / "config.yaml").write_text(f"# {EVIL}\nmodel: x\n")
    path = made.folder / "rounds" / "002" / "metrics.json"
    path.write_text(
        json.dumps(
            {**json.loads(path.read_text()), "training_settings": {EVIL: EVIL}, "quarantined": {EVIL: 2}}
        )
    )
    page = page_of(made)
    assert page.tags["script"] == 2
    assert not page.tags["img"]
    assert not page.tags["b"] - page.classes["tile"]
    assert "a <b>&amp; campaign" in page.words
    assert page.words.count(EVIL) >= 4
    facts = [dict(entry["t"]) for entry in page.data["structures"]]
    assert sum(fact.get("reason") == EVIL for fact in facts) == 2
    assert sum(fact.get("group") == EVIL for fact in facts) == 24


def test_half_finished_campaigns(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path / "c")
    assert "The first figures come" in page_of(made).words
    made.map().close(0)
    page = page_of(made)
    assert "In progress: round 1, choosing structures" in page.words
    assert "Before any fine-tuning: energy MAE" in page.words
    chosen = made.select(1)
    page = page_of(made)
    assert "In progress: round 1, 0 of 5 labels are in" in page.words
    assert page.classes["waiting"] == 5 + 1
    assert len(page.data["structures"]) == 90  # those that wait can be looked at, too
    made.label(chosen, reason="no licence")
    assert "In progress: round 1, training on 4 paid labels" in page_of(made).words
    made.close(1)
    page = page_of(made)
    assert page.classes["point"] == 2 * 2
    assert "ahead" not in page.classes
    with CampaignLock(made.folder):
        assert page_of(made).html == page.html


def test_without_test_structures_start_map_or_config(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path / "c", test=False, start=0).rounds(2)
    (made.folder / "config.yaml").unlink()
    page = page_of(made)
    assert "There are no test structures" in page.words
    assert "This campaign has no map yet" in page.words
    assert "started from Python" in page.words
    assert page.classes["learning"] == page.classes["trust"] == 0
    assert page.classes["see"] == 10
    made.map()
    assert page_of(made).classes["m"] == 50 + 10 + 3
    assert read_map(made.folder).frames["test"] == []


def test_failures_only(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path / "c").map()
    made.close(0)
    made.label(made.select(1)[:1], reason="no licence")
    page = page_of(made)
    assert "1 of 1 labels failed" in page.words
    assert "In progress: round 1, 1 of 5 labels are in" in page.words
    (made.folder / "labels" / f"{METHOD}.extxyz").write_text("3\ntorn")  # a label as it is being written
    assert page_of(made).html == page.html


def test_what_only_some_campaigns_write_down(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path / "c").map()
    made.close(0, control={"energy_mae": 71.0, "force_mae": 333.0})
    made.label(made.select(1))
    made.close(
        1,
        control={"energy_mae": 61.0, "force_mae": 222.0},
        training_settings={"loss": "huber", "lr": 0.01},
        forgetting={
            "before": {"energy_mae": 1.5, "force_mae": 21.5},
            "after": {"energy_mae": 17.5, "force_mae": 88.5},
        },
        quarantined={"|F| above 50 eV/Å": 2},
        core_seconds={"labelling": 26100.0, "training": 36.0},
        predicted_gain=0.625,
        notes=["round 1 went on with 4 of 5 labels"],
    )
    page = page_of(made)
    assert page.classes["hollow"] == 4
    for text in (
        "huber",
        "21.5",
        "88.5",
        "|F| above 50 eV/Å",
        "quarantined",
        "7.250",
        "0.62",
        "went on with 4",
    ):
        assert text in page.words
    found = figures(read_contents(made.folder))
    assert found["quarantined"] == {"|F| above 50 eV/Å": 2}
    assert found["core_hours"] == {"selection": None, "labelling": 7.25, "training": 0.01, "evaluation": None}
    assert found["core_hours_exact"]
    assert found["forgetting"]["after"]["force_mae"] == 88.5


def test_figures_for_programs(finished: MadeCampaign) -> None:
    result = CliRunner().invoke(app, ["report", str(finished.folder), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["labels"] == {"paid": 12, "failed": 3, "quarantined": 0}
    assert found["outcomes"] == {"labelled": 12, "failed": 3}
    assert [r["number"] for r in found["rounds"]] == [0, 1, 2, 3]
    assert found["seconds"]["labelling"] == 108.0
    assert found["labels_per_core_hour"] == pytest.approx(12 / (108 / 3600))
    assert not found["core_hours_exact"]
    assert {g["name"]: g["n"] for g in found["groups"]} == dict.fromkeys(("CH3OH", "CH4", "H2O", "NH3"), 6)
    assert found["calibration"]["3"]["force"]["structures"] == 24
    assert not (finished.folder / "report.html").exists()


def test_groups_are_means_over_their_structures(finished: MadeCampaign) -> None:
    contents = read_contents(finished.folder)
    last = contents.record.rounds[-1]
    for group in figures(contents)["groups"]:
        own = [i for i, atoms in enumerate(finished.test) if atoms.info["reaction"] == group["name"]]
        assert group["force_mae"] == pytest.approx(np.mean([last.force_each[i] for i in own]))


def test_a_power_law_is_found_and_a_rise_is_not_forecast() -> None:
    labels = [20, 40, 80, 160]
    trend = fit_trend(labels, [100 * n**-0.5 for n in labels])
    assert trend is not None
    assert (trend.factor, trend.exponent) == pytest.approx((100, 0.5))
    assert trend(400) == pytest.approx(5)
    assert trend.labels_for(5) == pytest.approx(400)
    assert fit_trend(labels, [1, 2, 3, 4]) is None
    assert fit_trend(labels[:2], [2.0, 1.0]) is None
    assert fit_trend([20, 20, 20], [3.0, 2.0, 1.0]) is None


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8),
    st.booleans(),
    st.lists(st.floats(-1e7, 1e7), max_size=3),
)
def test_scales_keep_order_and_stay_inside(values: list[float], log: bool, others: list[float]) -> None:
    scale = make_axes(values, values, "x", "y", log_x=log).x
    places = [scale(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(scale.start <= scale(value) <= scale.stop for value in [*values, *others])
    assert all(scale.start <= tick.at <= scale.stop for tick in scale.ticks)
    assert len(scale.ticks) >= 2


def test_a_logarithmic_scale_by_hand() -> None:
    scale = Scale(1, 1000, 0, 300, log=True)
    assert [scale(value) for value in (0.0, 1, 10, 100, 1000, 5000)] == [0, 0, 100, 200, 300, 300]
    assert [tick.label for tick in scale.ticks] == ["1", "10", "100", "1000"]


# ---- the map -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(50, 6), (6, 50), (3, 3), (1, 4), (5, 1)])
def test_principal_axes_are_those_of_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(size=shape) @ np.diag(np.geomspace(1, 0.1, shape[1]))
    mean, axes, shares = principal_axes(rows)
    _, values, vectors = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    kept = min(2, int((values > 1e-9 * (values[0] or 1)).sum()))
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-12)
    for place in range(kept):
        slow = vectors[place] * np.sign(vectors[place][np.abs(vectors[place]).argmax()])
        np.testing.assert_allclose(axes[place], slow, atol=1e-8)
        np.testing.assert_allclose(shares[place], values[place] ** 2 / (values**2).sum(), atol=1e-10)
    assert not axes[kept:].any()
    assert not shares[kept:].any()


def _featurised(structures: list[Any], values: np.ndarray[Any, Any]) -> Featurised:
    return Featurised(Features.one_row_each(values), tuple(structure_id(a) for a in structures))


def test_a_sample_stands_for_a_large_pool_and_every_pick_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_map, "MAX_POINTS", 20)
    monkeypatch.setattr(latent_map, "MAX_ATOMS", 40)
    monkeypatch.setattr(latent_map, "BLOCK", 7)
    made = MadeCampaign(tmp_path / "c").map().rounds(3)
    found = read_map(made.folder)
    assert found is not None
    assert found.pool.shape == (60, 2)
    assert sum(len(atoms) for atoms in found.frames["pool"]) <= 40
    assert 5 <= len(found.frames["pool"]) <= 20
    for index, atoms in zip(found.kept["pool"], found.frames["pool"], strict=True):
        assert structure_id(made.pool[index]) == atoms.info["surveyor_id"]
        np.testing.assert_allclose(atoms.positions, made.pool[index].positions, atol=1e-6)
    page = page_of(made)
    assert page.classes["pick"] == 15 + 3
    marked = re.findall(r'class="m pick r\d" d="M([\d.]+),([\d.]+)m', page.html)
    assert len(marked) == 15
    assert len(set(marked)) > 10


def test_coordinates_are_the_projection(tmp_path: Path) -> None:
    structures = rattled(12, seed=5)
    values = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)
    pool, empty = _featurised(structures, values), _featurised([], np.zeros((0, 4)))
    write_map(tmp_path, pool, empty, _featurised(structures[:3], values[:3]),
              {"pool": structures, "start": [], "test": structures[:3]}, seed=0)  # fmt: skip
    found = read_map(tmp_path)
    assert found is not None
    mean, axes, shares = principal_axes(values.astype(np.float64))
    slow = np.array([[axis @ (row - mean) for axis in axes] for row in values.astype(np.float64)])
    np.testing.assert_allclose(found.pool, slow, atol=1e-5)
    np.testing.assert_allclose(found.test, found.pool[:3])
    np.testing.assert_allclose(found.explained, shares)


def test_several_rows_a_structure_are_placed_by_the_first() -> None:
    values = np.arange(12.0).reshape(6, 2)
    features = Features(values, np.array([0, 0, 1, 2, 2, 2]), 3)
    np.testing.assert_array_equal(latent_map._first_rows(features), values[[0, 2, 3]])


def test_a_damaged_map_is_named(finished: MadeCampaign) -> None:
    whole = (finished.folder / "map.npz").read_bytes()
    (finished.folder / "map.npz").write_bytes(whole[:100])
    with pytest.raises(CampaignError, match=r"map\.npz cannot be read"):
        write_report(finished.folder, finished.folder / "r.html")
    (finished.folder / "map.npz").write_bytes(b"")
    with pytest.raises(CampaignError, match=r"map\.npz cannot be read"):
        write_report(finished.folder, finished.folder / "r.html")


# ---- drawings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [random_molecule, random_crystal])
def test_drawings_keep_distances_and_handedness(make: Any) -> None:
    atoms = make(np.random.default_rng(3), 6)
    drawn = drawings({"a": atoms})["a"]
    points = np.array(drawn["p"]).reshape(-1, 3) / 100
    np.testing.assert_allclose(
        np.linalg.norm(points[:, None] - points, axis=-1), atoms.get_all_distances(), atol=0.03
    )
    assert np.ptp(points, axis=0)[0] >= np.ptp(points, axis=0)[2] - 0.02
    edges, turned = atoms.positions[1:4] - atoms.positions[0], points[1:4] - points[0]
    assert np.sign(np.linalg.det(edges)) == np.sign(np.linalg.det(turned))
    if atoms.pbc.any():
        cell = np.array(drawn["cell"]).reshape(4, 3) / 100
        np.testing.assert_allclose(cell[1:] @ cell[1:].T, atoms.cell.array @ atoms.cell.array.T, atol=0.2)
        inside = (points - cell[0]) @ np.linalg.inv(cell[1:])
        np.testing.assert_allclose(inside, atoms.get_scaled_positions(wrap=False), atol=0.02)


def test_too_many_atoms_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = rattled(3, seed=0)
    monkeypatch.setattr("surveyor.report.drawing.MAX_TOTAL", len(first) + len(third))
    assert list(drawings({"a": first, "b": second, "c": third})) != ["a", "b", "c"]
    monkeypatch.setattr("surveyor.report.drawing.MAX_ATOMS", 3)
    assert list(drawings({"a": first, "b": second})) == ["a"]
