"""Fine-tune a CHGNet with chgnet's own trainer, as `training: {command: …}` of a campaign calls it.

python train.py --start start.pth.tar --train train.extxyz --valid valid.extxyz --output tuned.pth.tar
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from ase.io import read
from chgnet.data.dataset import StructureData, get_loader
from chgnet.graph import CrystalGraphConverter
from chgnet.model import CHGNet
from chgnet.trainer import Trainer
from pymatgen.core import Lattice, Structure
from torch.utils.data import DataLoader

VACUUM = 14.0
"""Å around a molecule: chgnet takes crystals, and sees 6 Å far."""


def crystal(atoms) -> Structure:
    """The frame as pymatgen's structure, molecules in a box of vacuum."""
    boxed = atoms.copy()
    if not boxed.pbc.any():
        boxed.center(vacuum=VACUUM / 2)
    return Structure(Lattice(boxed.cell.array), boxed.symbols, boxed.positions, coords_are_cartesian=True)


def loader(path: Path, batch_size: int) -> DataLoader:
    """Energies per atom (eV) and forces (eV/Å), as chgnet's trainer takes them; no isolated atoms."""
    frames = [atoms for atoms in read(path, ":") if len(atoms) > 1]
    data = StructureData(
        structures=[crystal(atoms) for atoms in frames],
        energies=[atoms.info["REF_energy"] / len(atoms) for atoms in frames],
        forces=[atoms.arrays["REF_forces"].tolist() for atoms in frames],
        graph_converter=CrystalGraphConverter(on_isolated_atoms="ignore"),
    )
    return get_loader(data, batch_size=batch_size, pin_memory=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("start", "train", "valid", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    trainer = Trainer(
        model=CHGNet.from_file(str(options.start)),
        targets="ef",
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        optimizer="Adam",
        criterion="Huber",
        torch_seed=options.seed,
        data_seed=options.seed,
        use_device=os.environ.get("CHGNET_DEVICE", "cpu"),
    )
    folder = Path("checkpoints")
    folder.mkdir(exist_ok=True)
    trainer.train(
        loader(options.train, options.batch_size),
        loader(options.valid, options.batch_size),
        save_dir=str(folder),
        train_composition_model=False,
    )
    torch.save({"model": trainer.get_best_model().as_dict()}, options.output)


if __name__ == "__main__":
    main()
