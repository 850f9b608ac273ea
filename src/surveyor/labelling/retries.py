"""How often, and after which pause, a failed label is tried again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Retries:
    """After attempt number n fails, the next one is due wait · 2ⁿ⁻¹ later.

    | field | meaning                             | unit |
    |-------|-------------------------------------|------|
    | times | attempts after the first one        |      |
    | wait  | pause before the second attempt     | s    |

    A failure that is final (the same input fails the same way) is not tried again.
    """

    times: int = 0
    wait: float = 0.0

    def used_up(self, failures: Sequence[dict[str, Any]]) -> bool:
        """Whether these failed attempts are all that are made."""
        return len(failures) > self.times or any(failure.get("final") for failure in failures)

    def due(self, failures: Sequence[dict[str, Any]]) -> float:
        """When the next attempt may begin, seconds of the Unix epoch; 0: at once."""
        if not failures:
            return 0.0
        # A clock that was set back since must not make anybody wait for the time that it told.
        last = min(float(failures[-1].get("time", 0.0)), time.time())
        return last + self.wait * 2.0 ** (len(failures) - 1)
