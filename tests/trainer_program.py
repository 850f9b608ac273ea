"""A trainer as its user would write it: fine-tunes the toy family; misbehaves as a file beside it says."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
for option in ("train", "valid", "start", "output", "references"):
    parser.add_argument(f"--{option}", type=Path, required=True)
parser.add_argument("--seed", type=int, required=True)
given = parser.parse_args()

notes = Path(os.environ["MOOD"])
mood = notes.read_text() if notes.exists() else "good"
print("training", mood, flush=True)
if mood == "fail":
    sys.exit("out of memory")
if mood == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if mood == "hang":
    time.sleep(600)
if mood == "idle":
    shutil.copy(given.start, given.output)
if mood == "garbage":
    given.output.write_text("weights")
if Path(mood).is_file():
    shutil.copy(mood, given.output)
if mood != "good":
    sys.exit(0)

import torch  # noqa: E402

from surveyor import read_structures  # noqa: E402
from toy_family import FAMILY, Descent  # noqa: E402

torch.set_num_threads(1)
torch.manual_seed(given.seed)
start = FAMILY.open(str(given.start), device="cpu", dtype=None, head=None)
train, valid = (list(read_structures(path)) for path in (given.train, given.valid))
tuned = Descent(20, 0.01)(start, train, valid, seed=given.seed, workdir=Path())
tuned.save(given.output)
