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

RULES = {"pool-target": "target-variance", "max-variance": "max-variance", "lcmd": "lcmd"}
"""How the name of a strategy ends → its rule; target-variance aims at a sample of the pool."""

STRATEGIES: dict[str, dict[str, Any]] = {
    "random": {"rule": "random"},
    "committee-energy": {"rule": "committee", "disagreement": "energies"},
    "committee-forces": {"rule": "committee", "disagreement": "forces"},
    **{f"{key}-{end}": {"rule": rule, "features": key} for key in MAPS for end, rule in RULES.items()},
    "tangent-aimed": {"rule": "target-variance", "features": "tangent", "target": "task"},
    "tangent-lcmd-fresh": {"rule": "lcmd", "features": "tangent", "refresh": True},
    **{
        f"tangent-max-variance-{name}": {
            "rule": "max-variance",
            "features": "tangent",
            "shortlist": {"by": by},
        }
        for name, by in (("calm", "force"), ("low", "energy"))
    },
}
