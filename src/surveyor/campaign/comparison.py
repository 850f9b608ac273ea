"""Is active learning beating random here, and how sure is that?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from surveyor.campaign.records import RoundRecord
from surveyor.metrics import Errors
from surveyor.types import Float64Array

DRAWS = 4000


def compare(record: RoundRecord, control: Errors, test: Sequence[Atoms], *, seed: int) -> dict[str, Any]:
    """Gains of a round over its control, with 95 % intervals, and a sentence.

    | key                                 | meaning                                        | unit     |
    |-------------------------------------|------------------------------------------------|----------|
    | energy_gain, energy_gain_low, _high | error of the control minus that of the round   | meV/atom |
    | force_gain, force_gain_low, _high   | the same                                       | meV/Å    |
    | verdict                             | in words                                       |          |

    Gains are means over the test structures.
    """
    groups = _groups(test)
    result: dict[str, Any] = {}
    parts = []
    for name, unit, own, other in (
        ("energy", "meV/atom", record.energy_each, control.energy_each),
        ("force", "meV/Å", record.force_each, control.force_each),
    ):
        own_each = np.asarray(own)
        gain, low, high = paired_bootstrap(other - own_each, groups, seed=seed)
        result |= {f"{name}_gain": gain, f"{name}_gain_low": low, f"{name}_gain_high": high}
        stands = "ahead of" if low > 0 else "behind" if high < 0 else "not told apart from"
        parts.append(
            f"{stands} random in {name} ({own_each.mean():.1f} against {other.mean():.1f} {unit}; "
            f"gain {gain:.1f}, 95 % interval {low:.1f} to {high:.1f})"
        )
    result["verdict"] = f"at {record.labels} labels, active learning is {parts[0]} and {parts[1]}"
    return result


def paired_bootstrap(
    differences: Float64Array, groups: Sequence[str], *, seed: int
) -> tuple[float, float, float]:
    """Mean of paired differences, and the 2.5 and 97.5 per cent points of its bootstrap distribution.

    Whole groups are drawn, with replacement: frames of one reaction are no independent evidence.

    Args:
        differences: one a test structure.
        groups: the group of each.
        seed: of the draws.
    """
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(place, weights=differences)
    sizes = np.bincount(place)
    drawn = np.random.default_rng([seed, 14]).integers(len(names), size=(DRAWS, len(names)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


def _groups(test: Sequence[Atoms]) -> list[str]:
    """The reaction of each structure; where there are fewer than two reactions, each is a group."""
    reactions = [str(atoms.info.get("reaction", "")) for atoms in test]
    if len(set(reactions)) < 2 or "" in reactions:
        return [str(number) for number in range(len(test))]
    return reactions
