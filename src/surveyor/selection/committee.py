"""Query by committee: the structures on which several potentials disagree most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surveyor.errors import SelectionError
from surveyor.selection.rule import Fixed, Request, Rule, Score
from surveyor.selection.validation import per_row
from surveyor.types import FloatArray


@dataclass(frozen=True, eq=False)
class Committee(Rule):
    """Largest disagreement among several potentials; the usual way, for comparison.

    Scores are the disagreements, in their unit (eV/atom or eV/Å; see `surveyor.disagreement`). A pick does
    not change the disagreement on others, so that near-copies are picked together; exact copies of labelled
    structures and of earlier picks come last.

    | variable     | shape         | meaning                                  |
    |--------------|---------------|------------------------------------------|
    | disagreement | (structures,) | one number a pool structure, finite, ≥ 0 |

    Source: Seung, Opper & Sompolinsky, COLT 1992, doi:10.1145/130385.130417 (query by committee).
    """

    disagreement: FloatArray | None

    def score(self, request: Request) -> Score:
        if self.disagreement is None:
            raise SelectionError(
                "the rule 'committee' without a committee",
                expected="the disagreement of two potentials or more",
                todo="name them: --committee a.model --committee b.model",
            )
        values = per_row(self.disagreement, len(request.pool), "disagreement")
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise SelectionError(
                "a disagreement that is negative or not finite",
                expected="one finite number ≥ 0 a pool structure",
                todo="look at the predictions of the committee for that structure",
            )
        return Fixed(values, request.rank)
