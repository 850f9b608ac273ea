"""The example of SevenNet in its environment, made small: killed, resumed, trained by sevenn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import surveyor
from surveyor.campaign import read_campaign
from surveyor.potentials.opening import open_alike
from surveyor.structures import read_structures, structure_id, write_structures

ROOT = Path(__file__).parents[1]
ENVIRONMENT = Path(os.environ.get("SURVEYOR_ENVS", ROOT / "envs")) / "sevennet"

pytestmark = [
    pytest.mark.families,
    pytest.mark.skipif(not ENVIRONMENT.is_dir(), reason=f"no {ENVIRONMENT}: make test-families builds it"),
]


def small_example(folder: Path) -> Path:
    """The example's own files, with few frames of two small reactions and few epochs."""
    example = ROOT / "examples" / "sevennet"
    content = yaml.safe_load((example / "campaign.yaml").read_text())
    for role, step in (("pool", 12), ("start", 1), ("test", 3), ("target", 3)):
        frames = read_structures(example / content[role])
        kept = [a for a in frames if a.info["reaction"] in ("malonaldehyde", "formaldehyde")][::step]
        content[role] = str(write_structures(folder / f"{role}.extxyz", kept))
    content["model"]["python"] = str(ENVIRONMENT / "bin" / "python")
    content["selection"]["batch"] = 6
    content["stop"] = {"rounds": 2}
    command = content["training"]["command"]
    command["command"][0] = str(ENVIRONMENT / "bin" / "sevenn")
    text, times = re.subn(r"epoch: 40", "epoch: 8", (example / "input.yaml").read_text())
    assert times == 1
    command["input"] = {"input.yaml": text}
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_campaign_with_sevennet_is_killed_and_goes_on(tmp_path: Path) -> None:
    file = small_example(tmp_path)
    command = [sys.executable, "-m", "surveyor.cli", "run", str(file)]
    for stage in ("labels/spool", "rounds/001/training/log.sevenn"):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
            while run.poll() is None and not (tmp_path / "campaign" / stage).exists():
                time.sleep(0.05)
            assert run.poll() is None, run.communicate()[1].decode()
            run.kill()
            run.communicate()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = read_campaign(tmp_path / "campaign")
    assert [each.labels for each in record.rounds] == [4, 10, 16]
    (journal,) = (tmp_path / "campaign" / "labels").glob("*.extxyz")
    labelled = [structure_id(atoms) for atoms in read_structures(journal)]
    assert len(labelled) == len(set(labelled)) == record.paid == 12
    errors = [each.force_mae for each in record.rounds]
    print("force MAE, meV/Å:", errors, "energy MAE, meV/atom:", [each.energy_mae for each in record.rounds])
    assert errors[2] is not None
    assert errors[0] is not None
    assert errors[2] < 0.9 * errors[0]
    pretrained = surveyor.open_potential("sevennet:7net-0", python=ENVIRONMENT / "bin" / "python")
    tuned = open_alike(pretrained, tmp_path / "campaign" / "rounds" / "002" / "potential.model")
    assert tuned.fingerprint != pretrained.fingerprint
    assert tuned.elements == pretrained.elements


def test_select_with_sevennet(tmp_path: Path) -> None:
    pool = write_structures(
        tmp_path / "pool.extxyz",
        list(read_structures(ROOT / "examples" / "reactions" / "test.extxyz.gz"))[::8],
    )
    python = ENVIRONMENT / "bin" / "python"
    for features in ("tangent", "activations"):
        picked = surveyor.select(pool, None, "sevennet:7net-0", 5, features=features, python=python)
        assert len(set(picked.indices)) == 5
