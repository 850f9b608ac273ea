"""A NequIP with random weights, as `nequip-train` would leave it before its first step.

python plugins/surveyor-nequip/tests/fresh.py nequip.ckpt
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from surveyor_nequip.checkpoints import built
from surveyor_nequip.potential import NequIPPotential

SETTINGS: dict[str, Any] = {
    "_target_": "nequip.model.NequIPGNNModel",
    "seed": 0,
    "model_dtype": "float32",
    "r_max": 5.0,
    "type_names": ["O", "H", "C", "N"],
    "num_layers": 4,
    "l_max": 2,
    "parity": False,
    "num_features": 32,
    "avg_num_neighbors": 10.0,
    "per_type_energy_scales": 1.5,
    "per_type_energy_shifts": -3.0,
}


def fresh(**settings: object) -> NequIPPotential:
    """One whose settings differ so."""
    changed = {**SETTINGS, **settings}
    return NequIPPotential(built(changed), changed)


if __name__ == "__main__":
    fresh().save(Path(sys.argv[1]))
