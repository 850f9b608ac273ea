"""Picks, scores and what goes with a batch stay what they were when they were written down."""

from __future__ import annotations

import json

import numpy as np
from pinned import PICKS, current


def assert_close(found: object, kept: object, where: str) -> None:
    if isinstance(kept, dict):
        assert isinstance(found, dict)
        assert found.keys() == kept.keys(), where
        for key in kept:
            assert_close(found[key], kept[key], f"{where}: {key}")
    elif isinstance(kept, list) and np.asarray(kept).dtype.kind == "f":
        scale = float(np.abs(kept).max())
        np.testing.assert_allclose(found, kept, rtol=1e-9, atol=1e-12 * scale, err_msg=where)
    else:
        assert found == kept, where


def test_picks_and_batches_are_those_written_down() -> None:
    kept = json.loads(PICKS.read_text())
    assert_close(current(), kept, PICKS.name)
