"""The recipe of a pretrained potential: every choice and seed, in one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from surveyor.errors import ConfigError
from surveyor.specs import read_yaml, validate

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MoleculesSpec(_Spec):
    """Which molecules."""

    count: Positive = 4000
    max_heavy_atoms: Annotated[int, Field(ge=2, le=20)] = 12
    ion_share: Share = 0.06


class FramesSpec(_Spec):
    """Which geometries of each molecule; temperatures in K, forces in eV/Å, lengths in Å."""

    temperatures: tuple[float, ...] = (100.0, 300.0, 600.0, 900.0, 1200.0)
    displaced_per_molecule: int = 7
    relaxation_steps: int = 12
    relaxation_frames: int = 3
    md_share: Share = 0.25
    md_temperatures: tuple[float, ...] = (300.0, 600.0, 1000.0)
    md_steps: int = 120
    md_every: Positive = 15
    dimers: int = 2500
    per_dimer: Positive = 2
    dimer_max_heavy_atoms: Positive = 10
    dimer_reach: float = 6.0
    scans: bool = True
    max_force: float = 25.0
    scan_max_force: float = 60.0


class LabellingSpec(_Spec):
    """How labels are made, and after how many frames to stop (the tasks come in a seeded, mixed order)."""

    method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB"
    processes: Positive = 2
    max_frames: Positive | None = None


class SplitSpec(_Spec):
    """Shares of the molecules (never of the frames) kept from training."""

    valid: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    held_out: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05


class ModelSpec(_Spec):
    """The MACE architecture; cutoff in Å."""

    channels: Positive = 32
    max_L: Annotated[int, Field(ge=0, le=3)] = 0  # noqa: N815 - as mace names it
    max_ell: Annotated[int, Field(ge=1, le=4)] = 3
    correlation: Annotated[int, Field(ge=1, le=4)] = 3
    interactions: Positive = 2
    cutoff: Annotated[float, Field(gt=1.0)] = 5.0
    radial_basis: Positive = 8
    radial_mlp: tuple[Positive, ...] = (64, 64, 64)
    readout: str = "16x0e"
    pair_repulsion: bool = True


class TrainingSpec(_Spec):
    """The trainer's settings; the learning rate falls from `lr` to `lr_end` over the epochs.

    `start` is a `.model` file to go on from, of the architecture that `model` describes; without it weights
    are drawn at random.
    """

    start: Path | None = None
    epochs: Positive = 20
    batch_size: Positive = 32
    valid_batch_size: Positive = 64
    lr: Annotated[float, Field(gt=0)] = 0.01
    lr_end: Annotated[float, Field(gt=0)] = 1e-4
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    weight_decay: float = 5e-7
    loss: Literal["weighted", "l1l2energyforces", "universal"] = "l1l2energyforces"
    energy_weight: float = 10.0
    forces_weight: float = 10.0
    clip_grad: float = 10.0
    max_train_frames: Positive | None = None
    max_valid_frames: Positive = 1500
    threads: Positive = 1


class ChecksSpec(_Spec):
    """What is measured after training: a sample of held-out frames to ship, MD, an extra test file."""

    sample: Positive = 500
    md_molecules: int = 20
    md_steps: int = 20000
    md_step_fs: float = 0.5
    extra_tests: Path | None = None
    extra_frames: Positive = 3000


class ReplaySpec(_Spec):
    """How many training frames are published with the weights, to be replayed in fine-tuning."""

    frames: Positive = 1200


class Recipe(_Spec):
    """Everything that `surveyor pretrain` needs; the same recipe gives the same labels and the same split."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "builtin"
    seed: Annotated[int, Field(ge=0)] = 0
    molecules: MoleculesSpec = MoleculesSpec()
    frames: FramesSpec = FramesSpec()
    labelling: LabellingSpec = LabellingSpec()
    split: SplitSpec = SplitSpec()
    model: ModelSpec = ModelSpec()
    training: TrainingSpec = TrainingSpec()
    checks: ChecksSpec = ChecksSpec()
    replay: ReplaySpec = ReplaySpec()

    @model_validator(mode="after")
    def _falling_rate(self) -> Recipe:
        if self.training.lr_end > self.training.lr:
            raise ValueError("training.lr_end must not be above training.lr")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; relative paths in it are relative to the file.

    `extends: other.yaml` takes over another recipe, of which single keys are then replaced.

    Raises:
        ConfigError: no such file, no valid YAML, an unknown key (with the closest one) or a wrong value.
    """
    return validate(Recipe, _read(path, ()), path)


def _read(path: Path, extending: tuple[Path, ...]) -> dict[str, Any]:
    content = read_yaml(path)
    for section, key in (("checks", "extra_tests"), ("training", "start")):
        part = content.get(section)
        if isinstance(part, dict) and isinstance(part.get(key), str):
            part[key] = str(path.parent / part[key])  # an absolute path stays as it is
    other = content.pop("extends", None)
    if other is None:
        return content
    if not isinstance(other, str):
        raise ConfigError(f"{path.name}: extends = {other!r}", expected="the file of another recipe")
    extending = (*extending, path.resolve())
    if (path.parent / other).resolve() in extending:
        raise ConfigError(f"{path.name} extends {other}, which extends it", todo="take one 'extends' out")
    below = _read(path.parent / other, extending)
    validate(Recipe, below, path.parent / other)  # its mistakes are named as its own
    for key, value in content.items():
        sections = isinstance(value, dict) and isinstance(below.get(key), dict)
        below[key] = below[key] | value if sections else value
    return below
