"""What fine-tuning costs on structures of the pretraining kind."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from surveyor.campaign.records import RoundRecord
from surveyor.metrics import errors_but_offsets
from surveyor.types import Potential


def forgetting(
    pretrained: Potential, tuned: Potential | None, generic: Sequence[Atoms], rounds: Sequence[RoundRecord]
) -> dict[str, dict[str, float]]:
    """Errors on the generic sample before any fine-tuning and after this round's.

    The sample's labels are of the pretraining level and the tuned potential speaks another one: constants per
    element are fitted and taken off both times.

    Args:
        pretrained: the potential before any round.
        tuned: the potential of this round; None in round 0.
        generic: the sample; empty where forgetting is not measured.
        rounds: the finished rounds; the first one knows the errors before.
    """
    if not generic:
        return {}
    known = rounds[0].forgetting.get("before") if rounds else None
    found = {"before": known or _errors(pretrained, generic)}
    if tuned is not None:
        found["after"] = _errors(tuned, generic)
    return found


def _errors(potential: Potential, generic: Sequence[Atoms]) -> dict[str, float]:
    energy, force = errors_but_offsets(potential, generic)
    return {"energy_mae": energy, "force_mae": force}
