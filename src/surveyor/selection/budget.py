"""What labels cost, and what the picks may still cost together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from surveyor.errors import SelectionError
from surveyor.selection.validation import per_row
from surveyor.types import Float64Array, FloatArray, IndexArray


@dataclass(eq=False)
class Budget:
    """Prices, the total allowed, and what the picks have cost so far.

    | variable | shape                 | meaning                                |
    |----------|-----------------------|----------------------------------------|
    | price    | (structures,) or None | of each label, > 0; None: not weighed  |
    | limit    | scalar or None        | the picks cost no more; None: no limit |
    | spent    | scalar                | by the picks so far                    |
    """

    price: Float64Array | None = None
    limit: float | None = None
    spent: float = 0.0

    @classmethod
    def of(cls, cost: FloatArray | None, limit: float | None, n_structures: int) -> Self:
        """A budget of which nothing is spent.

        Raises:
            SelectionError: costs not positive and finite, one each; a limit without costs, or not > 0.
        """
        if cost is None:
            if limit is not None:
                raise SelectionError(
                    f"budget = {limit!r} without costs",
                    expected="cost and budget together",
                    todo="pass cost=, one positive number a pool structure",
                )
            return cls()
        price = per_row(cost, n_structures, "cost")
        if not (np.isfinite(price).all() and (price > 0).all()):
            raise SelectionError("a cost that is not positive and finite", expected="costs > 0, in any unit")
        if limit is not None and not limit > 0:
            raise SelectionError(f"budget = {limit!r}", expected="a positive number in the unit of the costs")
        return cls(price, limit)

    @property
    def weight(self) -> Float64Array | None:
        """What a score is multiplied by, one over the price (structures,); None where nothing is weighed."""
        return None if self.price is None else 1.0 / self.price

    def too_dear(self) -> IndexArray:
        """Structures that no longer fit."""
        if self.price is None or self.limit is None:
            return np.zeros(0, dtype=np.intp)
        return np.flatnonzero(self.price > self.limit - self.spent)

    def pay(self, structure: int) -> None:
        """Spend the price of a pick."""
        if self.price is not None:
            self.spent += float(self.price[structure])
