"""Structures at the border: reading, writing, validating, naming, splitting."""

from surveyor.structures.identity import duplicates, structure_id
from surveyor.structures.labels import has_labels, labels_of, with_labels, without_labels
from surveyor.structures.reading import count_structures, read_structures
from surveyor.structures.source import StructureFile
from surveyor.structures.splits import split_by_group
from surveyor.structures.validation import check_elements, validate
from surveyor.structures.writing import atomic_write, whole_file, write_structures

__all__ = [
    "StructureFile",
    "atomic_write",
    "check_elements",
    "count_structures",
    "duplicates",
    "has_labels",
    "labels_of",
    "read_structures",
    "split_by_group",
    "structure_id",
    "validate",
    "whole_file",
    "with_labels",
    "without_labels",
    "write_structures",
]
