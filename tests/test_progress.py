"""What a person is told while long work goes on, in a log and by `surveyor status`."""

from __future__ import annotations

import gc
import io
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from rich.console import Console

from surveyor.campaign import Campaign, CampaignLock
from surveyor.campaign.standing import Standing, read_stage
from surveyor.cli import progress
from surveyor.cli.progress import Bars, Lines
from surveyor.config import build_plan, load_campaign
from surveyor.potentials.mace import MacePotential
from surveyor.potentials.mace.following import updates_told
from surveyor.progress import OnStep, Silent, in_words
from surveyor.training import Lengthening
from test_campaign_training import config_file, one_round
from test_cli import call


def soon(true: Callable[[], object], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(true())


def test_how_far_it_is_in_words() -> None:
    assert in_words("training", 0, None, "", 0.2) == "training: since 0 s"
    assert (
        in_words("training", 250, 1000, "loss 0.1", 30.0)
        == "training: 250 of 1000, about 90 s left, loss 0.1"
    )
    assert in_words("features", 12, None, "", 3.0) == "features: 12"
    assert in_words("labelling", 4, 4, "", 3.0) == "labelling: 4 of 4, about 0 s left"


def test_a_log_has_a_line_within_a_second_and_then_regularly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    out = io.StringIO()
    lines = Lines(Console(file=out, width=80))
    begin = time.monotonic()
    lines.start("training", 100)
    assert soon(lambda: "training: since " in out.getvalue(), 1.0), "though nothing has come of it yet"
    assert time.monotonic() - begin < 1.0
    lines.at(50, 100, "loss 0.5")
    assert soon(lambda: "training: 50 of 100, about " in out.getvalue())
    assert "left, loss 0.5" in out.getvalue()
    lines.advance(25)
    assert soon(lambda: "training: 75 of 100" in out.getvalue())
    lines.at(1, 300)  # a longer stage counts anew
    assert soon(lambda: "training: 1 of 300" in out.getvalue())
    lines.finish("done")
    said = out.getvalue()
    assert said.splitlines()[-1].startswith("training (done): ")
    time.sleep(0.2)
    assert out.getvalue() == said, "nothing after the end"


def test_short_work_is_silent_and_a_failed_command_leaves_no_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    out, before = io.StringIO(), threading.active_count()
    lines = Lines(Console(file=out))
    lines.start("reading")
    lines.finish()
    assert soon(lambda: threading.active_count() == before)
    assert out.getvalue() == ""
    lines.start("training")
    assert threading.active_count() == before + 1
    del lines  # an error that nobody caught
    gc.collect()
    assert soon(lambda: threading.active_count() == before)
    assert out.getvalue() == ""


def test_a_terminal_shows_a_bar_and_under_it_what_there_is_to_say() -> None:
    out = io.StringIO()
    bars = Bars(Console(file=out, force_terminal=True, width=80))
    bars.start("round 1: training")
    bars.at(420, 1000, "loss 0.034, validation 12.1 meV/atom, 80 meV/Å")
    bars.finish("well")
    assert "420/1000" in out.getvalue()
    assert "loss 0.034, validation 12.1 meV/atom, 80 meV/Å" in out.getvalue()
    assert "round 1: training (well)" in out.getvalue()


def test_updates_are_read_from_the_record_of_steps(tmp_path: Path) -> None:
    path = tmp_path / "steps.txt"
    path.write_text('{"mode": "opt", "loss": 9.0, "epoch": 0}\n')  # of an earlier run
    told = updates_told(path)
    assert next(told) == (0, "")
    error = {"mode": "eval", "head": "Default", "mae_e_per_atom": 0.0123, "mae_f": 0.08}
    steps = [{"mode": "opt", "loss": 0.25, "epoch": 0}, error | {"epoch": None}, error | {"head": "pt_head"}]
    with path.open("a") as file:
        file.write("".join(json.dumps(step) + "\n" for step in steps) + '{"mode": "opt", "lo')
    assert next(told) == (1, "loss 0.25, before 12.3 meV/atom, 80 meV/Å")
    with path.open("a") as file:
        file.write('ss": 0.125, "epoch": 1}\n' + json.dumps(error | {"epoch": 1, "mae_f": 0.07}) + "\n")
    assert next(told) == (2, "loss 0.125, validation 12.3 meV/atom, 70 meV/Å")
    assert next(told) == (2, "loss 0.125, validation 12.3 meV/atom, 70 meV/Å")


class Counting:
    """A trainer that tells two steps and hands back what it got."""

    def __init__(self, on_step: OnStep | None = None) -> None:
        self.on_step = on_step

    def telling(self, on_step: OnStep) -> Counting:
        return Counting(on_step)

    def __call__(self, start: Any, train: Sequence[Atoms], valid: Sequence[Atoms], **_: Any) -> Any:
        if self.on_step is not None:
            self.on_step(1, 2, "")
            self.on_step(2, 2, "loss 1")
        return start


def test_a_stage_says_which_it_is(tmp_path: Path, potential: MacePotential) -> None:
    heard: list[tuple[int, int, str]] = []
    trainer = Lengthening([(2, Counting()), (6, Counting())]).telling(lambda *step: heard.append(step))
    trainer(potential, [], [], seed=0, workdir=tmp_path / "w")
    assert heard == [(1, 2, "stage 1 of at most 2"), (2, 2, "stage 1 of at most 2, loss 1")]


def test_status_names_the_stage_and_what_a_campaign_waits_for(tmp_path: Path, model_file: Path) -> None:
    plan = build_plan(load_campaign(config_file(tmp_path, model_file)))
    folder = tmp_path / "c"
    campaign = Campaign(folder, plan, "manual-lab")
    assert "at rest: round 0 is next" in call("status", folder)
    one_round(campaign)
    campaign.ask()
    assert "waiting: round 1, 4 labels to collect: surveyor label export" in call("status", folder)
    assert json.loads(call("status", folder, "--json"))["waiting"] == 4
    with CampaignLock(folder):
        standing = Standing(Silent(), folder)
        standing.start("round 1: training")
        standing.at(1, 4, "loss 2")
        assert json.loads(call("status", folder, "--json"))["working"]
        time.sleep(0.01)
        stage = read_stage(folder)
        assert stage is not None
        assert (stage.what, stage.done) == ("round 1: training", 0), "not written again at once"
        assert "in progress: round 1: training: since 0 s" in call("status", folder)
        (folder / "progress.json").write_text("{}")
        assert "in progress: round 1" in call("status", folder)
        standing.finish()
        assert not (folder / "progress.json").exists()
