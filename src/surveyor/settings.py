"""Settings that Python and YAML files share: checked where they are made."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings of a thing: unknown keys and wrong values are errors, and nothing changes afterwards.

    Raises:
        ValidationError: of pydantic, a ValueError; `validate` makes a ConfigError of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
