"""Structures in files and in memory: reading, writing, validating, naming."""

from surveyor.structures.identity import structure_id
from surveyor.structures.labels import has_labels, labels_of, with_labels, without_labels
from surveyor.structures.reading import count_structures, read_structures
from surveyor.structures.source import StructureFile, validated
from surveyor.structures.validation import check_elements, validate
from surveyor.structures.writing import atomic_write, whole_file, write_structures

__all__ = [
    "StructureFile",
    "atomic_write",
    "check_elements",
    "count_structures",
    "has_labels",
    "labels_of",
    "read_structures",
    "structure_id",
    "validate",
    "validated",
    "whole_file",
    "with_labels",
    "without_labels",
    "write_structures",
]
