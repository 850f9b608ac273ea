"""The pictures of a benchmark: what they show where there is much to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from surveyor.lab.benchmark import figures
from surveyor.lab.benchmark.curves import ErrorRatio


def test_few_curves_all_have_a_look_of_their_own() -> None:
    names = [f"rule-{i}" for i in range(figures.MANY)]
    looks = figures._looks(names, ["rule-0"])
    assert [look["label"] for look in looks.values()] == names
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == figures.MANY


def test_of_many_curves_only_the_main_ones_have_a_name() -> None:
    names = [f"rule-{i}" for i in range(figures.MANY + 1)]
    looks = figures._looks(names, ["rule-3", "rule-7", "not-here"])
    assert sorted(looks) == sorted(names)
    assert {name for name, look in looks.items() if "label" in look} == {"rule-3", "rule-7"}
    assert looks["rule-3"]["color"] != looks["rule-7"]["color"] != looks["rule-0"]["color"] == "0.75"


@pytest.mark.parametrize("interval", [(None, None), (0.5, 0.9)])
def test_ratios_have_a_row_for_every_strategy(
    tmp_path: Path, interval: tuple[float | None, float | None]
) -> None:
    ratio = ErrorRatio(0.7, *interval)
    path = tmp_path / "ratios.svg"
    figures.error_ratios({"energy": {"one": {"a": ratio, "b": ratio}}, "force": {"two": {"b": ratio}}}, path)
    text = path.read_text()
    assert all(f"<!-- {name} -->" in text for name in ("one", "two", "a", "b", "mean, 95 % interval"))


def test_clouds_of_points_are_small_and_the_same_each_time(tmp_path: Path) -> None:
    std = [0.001 * number for number in range(2000)]
    frames = {"energy": std, "force": [None, *std[1:]], "std": {"tangent": std}}
    paths = [tmp_path / name for name in ("one.png", "two.png", "lines.svg")]
    for path in paths:
        figures.std_against_error(frames, {"tangent": "pretrained"}, path)
    one, two, lines = (path.read_bytes() for path in paths)
    assert one == two
    assert one.startswith(b"\x89PNG")
    assert b"Software" not in one
    assert len(one) < len(lines) / 2
