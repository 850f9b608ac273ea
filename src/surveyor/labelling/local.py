"""Labels from worker processes of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from surveyor.errors import LabellingError
from surveyor.labelling.calculators import CalculatorSpec
from surveyor.labelling.engines import LocalEngine
from surveyor.labelling.labeller import EngineLabeller


class LocalLabeller(EngineLabeller):
    """Labels with an ASE calculator in worker processes of this machine, one thread each.

    Args:
        spec: the calculator.
        processes: number of worker processes; None takes the number of cores.
        spool: folder where workers leave finished results until they are collected; None takes a
            temporary folder.
        failed: folder where the files of failed calculations are kept; None: they are not.
        time_limit: seconds for each label; None: no limit.

    Raises:
        LabellingError: the calculator cannot be imported, or there would be no process.
    """

    def __init__(
        self,
        spec: CalculatorSpec,
        *,
        processes: int | None = None,
        spool: Path | None = None,
        failed: Path | None = None,
        time_limit: float | None = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise LabellingError(f"processes={processes}", expected="one process or more")
        self.processes = processes or os.cpu_count() or 1
        super().__init__(
            spec, LocalEngine(processes=self.processes), spool=spool, failed=failed, time_limit=time_limit
        )
