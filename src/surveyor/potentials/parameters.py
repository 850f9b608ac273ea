"""Subsets of a model's parameters, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from surveyor.errors import PotentialError

SUBSETS = {"all": "", "readout": r"^readouts?\.", "interactions": r"^(interactions|products)\."}
"""Short names of subsets → the regular expression that they stand for."""


def parameter_names(model: torch.nn.Module, pattern: str = "all") -> list[str]:
    """Names of a subset of the parameters, in the model's own order.

    Args:
        model: the model.
        pattern: one of `SUBSETS`, or a regular expression that is searched for in the names.

    Raises:
        PotentialError: nothing matches, or the expression is malformed.
    """
    names = [name for name, _ in model.named_parameters()]
    try:
        chosen = [name for name in names if re.search(SUBSETS.get(pattern, pattern), name)]
    except re.error as error:
        raise PotentialError(
            f"parameters={pattern!r} is no regular expression ({error})",
            expected="all, readout, interactions, or a regular expression",
        ) from error
    if not chosen:
        raise PotentialError(f"no parameter matches {pattern!r}", expected="one of " + ", ".join(names))
    return chosen


def parameter_sizes(model: torch.nn.Module, names: Sequence[str]) -> list[int]:
    """Number of entries of each named parameter."""
    parameters = dict(model.named_parameters())
    return [parameters[name].numel() for name in names]
