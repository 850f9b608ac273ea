"""Real numbers, whole: what a calculator or a file gives for them is looked at before it is believed."""

from __future__ import annotations

import numpy as np

from surveyor.types import Float64Array, Labels


class NotRealError(ValueError):
    """It is no array of finite real numbers of the right shape."""


def real_labels(energy: object, forces: object, stress: object, n_atoms: int) -> Labels:
    """Labels of finite real numbers: eV, (n_atoms, 3) eV/Å, and None or (6,) eV/Å³.

    Raises:
        NotRealError: one of them is something else.
    """
    return Labels(
        energy=float(real(energy, (), "energy")),
        forces=real(forces, (n_atoms, 3), "forces"),
        stress=None if stress is None else real(stress, (6,), "stress"),
    )


def real(value: object, shape: tuple[int, ...], what: str) -> Float64Array:
    """The value as float64; an array of one element passes for a scalar.

    Args:
        shape: what it must have; () for a scalar.
        what: for the message.

    Raises:
        NotRealError: complex, masked, text, another shape, NaN or inf: never a part of it is taken.
    """
    if np.ma.is_masked(value):
        raise NotRealError(f"{what}: masked values")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise NotRealError(f"{what}: no array of numbers ({type(error).__name__})") from None
    if array.dtype.kind not in "fiu":
        kind = {"c": "complex numbers", "b": "truth values"}.get(
            array.dtype.kind, "nothing" if value is None else f"no numbers, but {type(value).__name__}"
        )
        raise NotRealError(f"{what}: {kind}, not real numbers")
    if shape == () and array.size == 1:
        array = array.reshape(())
    if array.shape != shape:
        raise NotRealError(f"{what} of shape {array.shape}, expected {shape}")
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise NotRealError(f"{what}: NaN or inf")
    return numbers
