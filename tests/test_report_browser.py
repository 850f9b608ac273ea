"""The page in headless Chromium: offline, no complaint, everything drawn, structures on hover."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from made_campaign import MadeCampaign
from surveyor.report import read_contents, write_report
from surveyor.structures import structure_id

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]


@dataclass
class Opened:
    """A page, with all that it asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install surveyor[browser]")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))  # a fresh profile
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeCampaign:
    return MadeCampaign(tmp_path_factory.mktemp("made") / "c").map().rounds(3, reason="<b>no</b> licence")


def opened(browser: Browser, path: Path, **context: Any) -> Opened:
    # Without motion: a mark that is asked for its place must not be scrolling.
    page = browser.new_context(offline=True, reduced_motion="reduce", **context).new_page()
    found = Opened(page)

    def block(route: Any) -> None:
        found.requests.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

    page.route("**/*", block)
    page.on("console", lambda message: found.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.goto(path.as_uri())
    return found


@pytest.fixture
def report(browser: Browser, made: MadeCampaign) -> Iterator[Opened]:
    path = write_report(made.folder, made.folder / "report.html")
    found = opened(browser, path, viewport={"width": 1200, "height": 900})
    yield found
    # Whatever a test did: the page asked for itself alone, and nothing went wrong.
    assert found.requests == [path.as_uri()]
    assert found.complaints == []
    found.page.context.close()


def place(page: Page, name: str) -> int:
    """Position of a structure in the page's data."""
    data = json.loads(str(page.locator("#data").text_content()))
    return [entry["id"] for entry in data["structures"]].index(name)


def lengths(atoms: Atoms) -> NDArray[np.float64]:
    """Distances of all pairs over the sum of their covalent radii."""
    radii = covalent_radii[atoms.numbers]
    return np.array(
        [atoms.get_distance(i, j) / (radii[i] + radii[j]) for i, j in combinations(range(len(atoms)), 2)]
    )


def test_marks_are_as_many_as_data(report: Opened, made: MadeCampaign) -> None:
    page, contents = report.page, read_contents(made.folder)
    for selector, count in {
        ".learning .point": 2 * len(contents.record.rounds),
        ".trust .dotted": 2 * len(made.test),
        "#map .m": len(made.pool) + len(made.start) + len(made.test),
        "#map .m.pick": len(contents.picks),
        "#map .m.failed": 3,
        "#picks tbody tr": len(contents.picks),
        "#rounds tbody tr": len(contents.record.rounds),
    }.items():
        assert page.locator(selector).count() == count, selector
    # Drawn means seen: every mark lies inside the axes.
    boxes = page.evaluate(
        """() => [document.querySelector('#map .axis'), ...document.querySelectorAll('#map .m')].map(node => {
            const box = node.getBoundingClientRect();
            return [box.left, box.right, box.top, box.bottom];
        })"""
    )
    left, right, top, bottom = boxes[0]
    for box in boxes[1:]:
        assert left <= (box[0] + box[1]) / 2 <= right
        assert top <= (box[2] + box[3]) / 2 <= bottom


def test_a_hovered_point_shows_its_structure(report: Opened, made: MadeCampaign) -> None:
    page = report.page
    card = page.locator("#card")
    assert not card.is_visible()
    for pick in read_contents(made.folder).picks[::4]:
        atoms = made.pool[pick.index]
        mark = page.locator(f"#map .m[data-s='{place(page, pick.id)}']")
        mark.scroll_into_view_if_needed()
        box = mark.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert card.is_visible()
        # Where marks overlap the uppermost answers: the card is of whatever structure it names.
        shown = card.locator("code").inner_text()
        if shown == pick.id[:12]:
            assert card.locator("strong").inner_text().replace("\n", "") == atoms.get_chemical_formula()
            assert card.locator("circle.atom").count() == len(atoms)
            assert f"pick {pick.rank + 1} of round {pick.round}" in card.inner_text()
        page.mouse.move(2, 2)
        assert not card.is_visible()


def test_drawings_have_the_bonds_of_the_molecule(report: Opened, made: MadeCampaign) -> None:
    page = report.page
    for atoms in made.test[:8]:
        shares = lengths(atoms)
        # The points of the energy panel are the test structures, one by one.
        page.locator(f".trust .dotted[data-s='{place(page, structure_id(atoms))}']").first.dispatch_event(
            "pointerover", {"bubbles": True}
        )
        assert page.locator("#card circle.atom").count() == len(atoms)
        assert page.locator("#card line.bond:not(.partial)").count() == (shares <= 1.2).sum()
        assert page.locator("#card line.partial").count() == ((shares > 1.2) & (shares < 1.4)).sum()
        assert "test structure, after round 3" in page.locator("#card").inner_text()


def test_table_rows_show_structures_sort_and_filter(report: Opened, made: MadeCampaign) -> None:
    page, picks = report.page, read_contents(made.folder).picks
    row = page.locator("#picks tbody tr").nth(6)
    row.hover()
    assert page.locator("#card circle.atom").count() == len(made.pool[picks[6].index])
    stds = "() => [...document.querySelectorAll('#picks tbody tr')].map(r => +r.cells[3].dataset.v)"
    heading = page.locator("#picks th:nth-child(4) button")
    heading.click()
    assert page.evaluate(stds) == sorted(p.std for p in picks)
    heading.click()
    assert page.evaluate(stds) == sorted((p.std for p in picks), reverse=True)
    assert page.locator("#picks th[aria-sort=descending]").count() == 1
    page.select_option("#of-round", "2")
    assert page.locator("#picks tbody tr:visible").count() == 5
    page.locator("#trouble summary").click()
    assert "<b>no</b> licence" in page.locator("#failures").inner_text()


def test_keyboard_touch_and_escape(report: Opened) -> None:
    page = report.page
    card = page.locator("#card")
    page.locator("#map").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert card.is_visible()
    first = page.locator("#say").inner_text()
    page.keyboard.press("ArrowLeft")
    second = page.locator("#say").inner_text()
    assert first
    assert second != first
    page.keyboard.press("Escape")
    assert not card.is_visible()
    mark = page.locator("#map .m.pick").last
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert "pinned" in str(card.get_attribute("class"))
    page.mouse.move(3, 3)
    assert card.is_visible()
    before = card.locator("circle.atom").first.get_attribute("cx")
    drawing = card.locator("svg").bounding_box()
    assert drawing is not None
    page.mouse.move(drawing["x"] + 60, drawing["y"] + 60)
    page.mouse.down()
    page.mouse.move(drawing["x"] + 160, drawing["y"] + 90)
    page.mouse.up()
    assert card.locator("circle.atom").first.get_attribute("cx") != before
    page.keyboard.press("Escape")
    assert not card.is_visible()


def test_the_legend_hides_and_the_theme_switches(report: Opened) -> None:
    page = report.page
    page.uncheck("[data-show=pool]")
    assert page.locator("#map .m.pool:not([hidden])").count() == 0
    assert page.locator("#map .m.pick:not([hidden])").count() == 15
    page.check("[data-show=pool]")
    assert page.locator("#map .m.pool:not([hidden])").count() == 45
    colour = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate(colour) != light


def test_nothing_is_wider_than_a_telephone(browser: Browser, made: MadeCampaign) -> None:
    path = write_report(made.folder, made.folder / "report.html")
    found = opened(browser, path, viewport={"width": 360, "height": 700}, color_scheme="dark", has_touch=True)
    assert found.page.evaluate("() => document.documentElement.scrollWidth") <= 360
    mark = found.page.locator("#map .m.pick").first
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    found.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert found.page.locator("#card circle.atom").count() > 0
    inside = found.page.locator("#card").bounding_box()
    assert inside is not None
    assert inside["x"] >= 0
    assert inside["x"] + inside["width"] <= 360
    assert found.complaints == []
    found.page.context.close()


@pytest.mark.parametrize("rounds", [None, 0, 1])
def test_half_finished_campaigns_open_without_complaint(
    browser: Browser, tmp_path: Path, rounds: int | None
) -> None:
    made = MadeCampaign(tmp_path / "c", test=rounds == 1)
    if rounds is not None:
        made.map().rounds(rounds)
    found = opened(browser, write_report(made.folder, made.folder / "report.html"))
    assert found.complaints == []
    assert len(found.requests) == 1
    found.page.context.close()


def test_a_hostile_page_could_not_call_home(browser: Browser, made: MadeCampaign) -> None:
    path = write_report(made.folder, made.folder / "report.html")
    planted = path.with_name("planted.html")
    planted.write_text(
        path.read_text().replace(
            "</main>",
            "<img src='https://example.invalid/x.png'><script>document.title = 'owned'</script></main>",
        )
    )
    found = opened(browser, planted)
    assert found.page.title() == "c · Surveyor"
    assert found.requests == [planted.as_uri()]
    assert sum("Content Security Policy" in complaint for complaint in found.complaints) == 2
    found.page.context.close()
