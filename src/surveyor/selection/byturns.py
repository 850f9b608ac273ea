"""Two rules by turns: a share of the picks by target-variance, the others by herding; each sees all picks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surveyor.errors import SelectionError
from surveyor.selection.herding import Herding
from surveyor.selection.rule import Request, Score, Ties
from surveyor.selection.targets import TargetVariance


@dataclass(frozen=True, eq=False)
class ByTurns(TargetVariance):
    """Target-variance and herding by turns: picks that teach, among picks that look like the pool.

    Pick number i (from 0) is made by target-variance where ⌊(i + 1) s⌋ > ⌊i s⌋, and by herding otherwise;
    both count every pick as labelled. Scores are those of whichever rule made the pick.

    | symbol | variable | shape  | meaning                                        |
    |--------|----------|--------|------------------------------------------------|
    | s      | share    | scalar | of the picks by target-variance, from 0 to 1   |

    Others are settings of `TargetVariance`.
    """

    share: float = 0.5

    def score(self, request: Request) -> Score:
        if not 0 <= self.share <= 1:
            raise SelectionError(f"share = {self.share}", expected="from 0 to 1")
        first = super().score(request)
        return Turns(first, Herding().score(request), self.share)


class Turns(Score):
    """The score of whichever rule has its turn."""

    def __init__(self, first: Score, second: Score, share: float) -> None:
        self._first, self._second, self._share = first, second, share
        self._picked = 0

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        first = np.floor((self._picked + 1) * self._share) > np.floor(self._picked * self._share)
        return (self._first if first else self._second).best(allowed)

    def take(self, structure: int) -> None:
        self._picked += 1
        self._first.take(structure)
        self._second.take(structure)
