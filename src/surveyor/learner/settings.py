"""What a tangent correction is linear in."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from surveyor.settings import Settings


class TangentSettings(Settings):
    """Which tangent rows a correction is linear in.

    | variable   | meaning                                                                  |
    |------------|--------------------------------------------------------------------------|
    | dim        | columns of the sketch                                                    |
    | probes     | force directions per labelled structure                                  |
    | parameters | `all`, `readout`, `interactions`, or a regular expression on their names |
    | seed       | of sketch and directions                                                 |
    """

    dim: PositiveInt = 3072
    probes: PositiveInt = 12
    parameters: str = "all"
    seed: NonNegativeInt = 0
