"""Import mace-torch and e3nn without the lines that they print and the warnings that no user can act on.

mace has to come before e3nn: it lets e3nn read its constants under torch ≥ 2.6.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    import mace
    import mace.calculators

# Its calculator logs "No dtype selected" and the like at every start.
logging.getLogger("root").setLevel(max(logging.getLogger("root").level, logging.WARNING))

__all__ = ["mace"]
