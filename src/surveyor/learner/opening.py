"""Files of corrected potentials: arrays without pickles, and the base by name and checksum."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surveyor.errors import PotentialError
from surveyor.potentials.opening import checksum, families, open_potential, suffix_of
from surveyor.structures.writing import whole_file

if TYPE_CHECKING:
    from surveyor.learner.potential import TangentPotential
    from surveyor.potentials.base import Dtype

SCHEMA = 1
SUFFIX = ".tangent"


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
        from surveyor.learner.settings import TangentSettings
        from surveyor.posterior import Posterior

        path = Path(source)
        about, arrays = _read(path)
        named, file = about["base"]["name"], about["base"]["file"]
        if file is not None:
            beside = _beside(path, str(file), str(about["base"]["sha256"]))
            named = f"{about['base']['family']}:{beside}"
        base = open_potential(named, device, dtype, head=head or about["base"]["head"])
        if dtype is None and base.fingerprint != about["base"]["fingerprint"]:
            raise PotentialError(
                f"{path}: {named} is another potential than the one that was corrected",
                expected=f"the fingerprint {about['base']['fingerprint'][:12]}, not {base.fingerprint[:12]}",
                todo="restore the model that lay beside it, or fit the correction again",
            )
        factor = np.zeros((len(arrays["weights"]),) * 2)
        factor[np.tril_indices(len(factor))] = arrays["factor"]
        posterior = Posterior(
            float(about["noise"]), factor, int(about["n_rows"]), moment=arrays["posterior_moment"]
        )
        regression = Regression(
            posterior, arrays["cross"], arrays["square"], arrays["moment"],
            float(about["power"]), float(about["energy_weight"]),
        )  # fmt: skip
        settings = TangentSettings(**about["settings"])
        return TangentPotential(base, regression, settings, arrays["extra"], origin=named)


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
        if own is None or own.resolve().parent != path.resolve().parent:
            own = path.with_name(f"{path.name.removesuffix(SUFFIX)}.base{suffix_of(potential.base.family)}")
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


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        about = json.loads(arrays["about"].tobytes())
        if about["schema"] > SCHEMA:
            raise PotentialError(
                f"{path} is of a newer version of Surveyor (schema {about['schema']})",
                expected=f"schema {SCHEMA} or older",
                todo="update Surveyor",
            )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise PotentialError(
            f"{path} is no corrected potential: {error}",
            expected="a file that TangentPotential.save wrote",
            todo="fit the correction again, or restore the file from a copy",
        ) from error
    return about, arrays


def _beside(path: Path, name: str, sha256: str) -> Path:
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
            expected=f"SHA-256 {sha256[:16]}…",
            todo="restore that file, or fit the correction again",
        )
    return base
