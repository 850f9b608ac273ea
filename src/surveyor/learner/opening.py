"""Files of corrected potentials: arrays without pickles, and the base by name and checksum."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt

from surveyor.errors import PotentialError
from surveyor.learner.settings import TangentSettings
from surveyor.potentials.opening import checksum, families, open_potential, suffix_of
from surveyor.structures.real import real
from surveyor.structures.writing import whole_file
from surveyor.types import Float64Array

if TYPE_CHECKING:
    from surveyor.learner.potential import TangentPotential
    from surveyor.potentials.base import Dtype

SCHEMA = 1
SUFFIX = ".tangent"


class _Base(BaseModel):
    """The potential that is corrected: a published one by name, or a file in the same folder."""

    model_config = ConfigDict(frozen=True)

    family: str
    fingerprint: str
    head: str | None
    name: str | None
    file: str | None
    sha256: str | None


class _About(BaseModel):
    """What stands beside the arrays."""

    model_config = ConfigDict(frozen=True)

    schema_: int = Field(alias="schema")
    base: _Base
    elements: tuple[PositiveInt, ...]
    settings: TangentSettings
    noise: FiniteFloat = Field(gt=0)
    n_rows: int = Field(ge=0)
    power: FiniteFloat = Field(ge=0)
    energy_weight: FiniteFloat = Field(gt=0)


class Tangent:
    """Opens what `TangentPotential.save` wrote; the base lies in the same folder, or is known by name."""

    suffixes = (SUFFIX,)

    def names(self) -> Sequence[str]:
        return ()

    def open(
        self, source: str, *, device: str | None, dtype: Dtype | None, head: str | None
    ) -> TangentPotential:
        from surveyor.learner.potential import TangentPotential
        from surveyor.learner.regression import Regression
        from surveyor.posterior import Posterior

        path = Path(source)
        about, arrays = _read(path)
        named = _named(path, about.base)
        base = open_potential(named, device, dtype, head=head or about.base.head)
        if dtype is None and base.fingerprint != about.base.fingerprint:
            raise PotentialError(
                f"{path}: {named} is another potential than the one that was corrected",
                expected=f"the fingerprint {about.base.fingerprint[:12]}, not {base.fingerprint[:12]}",
                todo="restore the model that lay beside it, or fit the correction again",
            )
        factor = np.zeros((about.settings.dim,) * 2)
        factor[np.tril_indices(len(factor))] = arrays["factor"]
        posterior = Posterior(about.noise, factor, about.n_rows, moment=arrays["posterior_moment"])
        regression = Regression(
            posterior, arrays["cross"], arrays["square"], arrays["moment"], about.power, about.energy_weight
        )
        return TangentPotential(base, regression, about.settings, arrays["extra"], origin=named)


FAMILY = Tangent()


def save(potential: TangentPotential, path: Path) -> None:
    """Write a corrected potential; its base is saved beside it unless it lies there, or has a name.

    Raises:
        SurveyorError: the folder cannot be written.
    """
    regression, posterior = potential.regression, potential.regression.posterior
    base: dict[str, Any] = {
        "family": potential.base.family,
        "fingerprint": potential.base.fingerprint,
        "head": getattr(potential.base, "head", None),
        "name": potential.origin,
        "file": None,
        "sha256": None,
    }
    own = _file_of(potential.origin)
    if potential.origin is None or own is not None:
        if own is None or own.parent.resolve() != path.parent.resolve():
            own = path.with_name(f"{path.name.removesuffix(SUFFIX)}.base{suffix_of(potential.base)}")
            potential.base.save(own)
        base |= {"name": None, "file": own.name, "sha256": checksum(own)}
    about = {
        "schema": SCHEMA,
        "base": base,
        "elements": list(potential.elements),
        "settings": potential.settings.model_dump(),
        "noise": posterior.noise,
        "n_rows": posterior.n_rows,
        "power": regression.power,
        "energy_weight": regression.energy_weight,
    }
    arrays = {
        "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        "weights": regression.weights,
        "shifts": potential.shifts,
        "extra": potential.extra,
        "factor": posterior.factor[np.tril_indices(posterior.dim)],
        "posterior_moment": posterior.moment,
        "cross": regression.cross,
        "square": regression.square,
        "moment": regression.moment,
    }
    with whole_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def _file_of(origin: str | None) -> Path | None:
    """The file that a potential was opened from, with or without its family's name before it."""
    if origin is None:
        return None
    family, colon, rest = origin.partition(":")
    path = Path(rest if colon and family in families() else origin)
    return path if path.is_file() else None


def _read(path: Path) -> tuple[_About, dict[str, Float64Array]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        content = json.loads(arrays["about"].tobytes())
        if content["schema"] > SCHEMA:
            raise PotentialError(
                f"{path} is of a newer version of Surveyor (schema {content['schema']})",
                expected=f"schema {SCHEMA} or older",
                todo="update Surveyor",
            )
        about = _About.model_validate(content)
        dim, elements = about.settings.dim, len(about.elements)
        shapes = {
            "factor": (dim * (dim + 1) // 2,),
            "posterior_moment": (dim,),
            "cross": (dim, elements),
            "square": (elements, elements),
            "moment": (elements,),
            "extra": (elements,),
        }
        return about, {name: real(arrays[name], shape, name) for name, shape in shapes.items()}
    except PotentialError:
        raise
    except Exception as error:  # of whatever numpy, zip and JSON make of a damaged file
        raise PotentialError(
            f"{path} is no corrected potential: {' '.join(str(error).split())[:200]}",
            expected="a file that TangentPotential.save wrote",
            todo="fit the correction again, or restore the file from a copy",
        ) from error


def _named(path: Path, base: _Base) -> str:
    """What the base is opened from: never a file that lies elsewhere, which nobody has named."""
    if base.file is not None:
        return f"{base.family}:{_beside(path, base.file, base.sha256)}"
    if base.name is None or _file_of(base.name) is not None:
        raise PotentialError(
            f"{path} corrects {base.name or 'nothing'}",
            expected="a published potential by name, or a file in the same folder",
            todo="fit the correction again; open only files from people you trust",
        )
    return base.name


def _beside(path: Path, name: str, sha256: str | None) -> Path:
    """The base's file in the same folder, once its checksum is right: opening it may run code in it."""
    base = path.with_name(Path(name).name)
    if not base.is_file():
        raise PotentialError(
            f"{path} corrects {base.name}, which is not there",
            expected="the base potential in the same folder",
            todo="copy both files together",
        )
    if checksum(base) != sha256:
        raise PotentialError(
            f"{path} corrects another {base.name} than the one that lies beside it",
            expected=f"SHA-256 {sha256 and sha256[:16]}…",
            todo="restore that file, or fit the correction again",
        )
    return base
