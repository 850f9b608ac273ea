"""Labels for a benchmark: from the file that holds them, or from a calculator, once for all runs."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from surveyor.config import LabelConfig, calculator_spec
from surveyor.errors import LabellingError
from surveyor.lab.benchmark.cached import cached
from surveyor.labelling import compute
from surveyor.labelling.results import read_result, write_result
from surveyor.structures import labels_of
from surveyor.types import Failure, Labels


class Oracle:
    """id and structure → labels.

    Computed labels lie in a folder under the id, a content hash: every run, task and later benchmark of the
    same folder shares them, and processes wait for one another rather than compute a label twice.

    Args:
        config: the calculator; None where frames carry their labels.
        folder: of the computed labels.
    """

    def __init__(self, config: LabelConfig | None, folder: Path) -> None:
        self._spec = None if config is None else calculator_spec(config)
        self._folder = folder if self._spec is None else folder / self._spec.method
        self.computed = 0

    @property
    def computes(self) -> bool:
        return self._spec is not None

    def __call__(self, name: str, atoms: Atoms) -> Labels | Failure:
        spec = self._spec
        if spec is None:
            return labels_of(atoms, f"pool frame {name[:8]}")

        path = self._folder / f"{name}.json"

        def work() -> None:
            self.computed += 1
            write_result(path, compute(spec, atoms))

        cached(path, work)
        try:
            return read_result(path, len(atoms))
        except ValueError as error:
            raise LabellingError(
                f"{path}: {error}", expected="a label that a benchmark left", todo="delete the file"
            ) from error
