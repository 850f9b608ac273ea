"""Labelling: structures in, quantum-chemical energies and forces out, each kept the moment it arrives."""

from surveyor.labelling.calculators import GFN2, CalculatorSpec, compute
from surveyor.labelling.engines import DaskEngine, Engine, LocalEngine, ParslEngine, SlurmEngine
from surveyor.labelling.labeller import EngineLabeller, labeller_of
from surveyor.labelling.ledger import Ledger

__all__ = [
    "GFN2",
    "CalculatorSpec",
    "DaskEngine",
    "Engine",
    "EngineLabeller",
    "Ledger",
    "LocalEngine",
    "ParslEngine",
    "SlurmEngine",
    "compute",
    "labeller_of",
]
