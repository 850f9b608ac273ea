"""Feature maps and strategies that benchmark files may name without writing them out."""

from __future__ import annotations

from typing import Any

MAPS: dict[str, dict[str, Any]] = {
    "tangent": {"kind": "tangent"},
    "tangent-random": {"kind": "tangent", "weights": "random"},
    "activations": {"kind": "activations"},
    "activations-random": {"kind": "activations", "weights": "random"},
    "force-tangent": {"kind": "force-tangent"},
    "energy-force-tangent": {"kind": "energy-force-tangent"},
    "soap": {"kind": "soap"},
}

STRATEGIES: dict[str, dict[str, Any]] = {
    "random": {"rule": "random"},
    "soap-max-variance": {"rule": "max-variance", "features": "soap"},
    "committee-energy": {"rule": "committee", "disagreement": "energies"},
    "committee-forces": {"rule": "committee", "disagreement": "forces"},
    "activations-max-variance": {"rule": "max-variance", "features": "activations"},
    "activations-lcmd": {"rule": "lcmd", "features": "activations"},
    "activations-random-max-variance": {"rule": "max-variance", "features": "activations-random"},
    "tangent-max-variance": {"rule": "max-variance", "features": "tangent"},
    "tangent-max-variance-calm": {
        "rule": "max-variance",
        "features": "tangent",
        "shortlist": {"by": "force"},
    },
    "tangent-max-variance-low": {
        "rule": "max-variance",
        "features": "tangent",
        "shortlist": {"by": "energy"},
    },
    "tangent-random-max-variance": {"rule": "max-variance", "features": "tangent-random"},
    "tangent-lcmd": {"rule": "lcmd", "features": "tangent"},
    "tangent-lcmd-fresh": {"rule": "lcmd", "features": "tangent", "refresh": True},
    "tangent-pool-target": {"rule": "target-variance", "features": "tangent"},
    "tangent-random-pool-target": {"rule": "target-variance", "features": "tangent-random"},
    "activations-pool-target": {"rule": "target-variance", "features": "activations"},
    "force-tangent-pool-target": {"rule": "target-variance", "features": "force-tangent"},
    "soap-pool-target": {"rule": "target-variance", "features": "soap"},
    "tangent-aimed": {"rule": "target-variance", "features": "tangent", "target": "task"},
    "force-tangent-max-variance": {"rule": "max-variance", "features": "force-tangent"},
    "energy-force-tangent-max-variance": {"rule": "max-variance", "features": "energy-force-tangent"},
    "energy-force-tangent-lcmd": {"rule": "lcmd", "features": "energy-force-tangent"},
}
