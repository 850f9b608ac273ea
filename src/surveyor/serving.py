"""The other end of `potentials.elsewhere`: it opens potentials here for a process of another environment.

    python -m surveyor.serving

Questions come on standard input and answers go to standard output (`potentials.elsewhere.messages`); whatever
else is printed goes to standard error. It ends when standard input does.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from surveyor.errors import Notice, SurveyorError
from surveyor.potentials.elsewhere.messages import Message, read, unpacked, write
from surveyor.potentials.elsewhere.process import PROTOCOL
from surveyor.types import Potential, StorableFeatureMap


class Server:
    """What was opened so far, and how each question is answered."""

    def __init__(self) -> None:
        self.potentials: list[Potential] = []
        self.feature_maps: list[StorableFeatureMap] = []
        self.answers: Mapping[str, Callable[[Message], Message]] = {
            "open": self._open,
            "predict": self._predict,
            "save": self._save,
            "shift": self._shift,
            "feature_map": self._feature_map,
            "features": self._features,
        }

    def answer(self, question: Message) -> Message:
        """The answer, or what went wrong; with the notices that were made."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                found = self.answers[question.said["do"]](question)
                said, arrays = dict(found.said), found.arrays
            except Exception as error:  # of whatever the family's library raises: the other process tells
                said, arrays = {"error": _told(error)}, {}
        for warning in caught:
            if warning.category is not Notice:
                print(warning.message, file=sys.stderr)
        notices = [str(warning.message) for warning in caught if warning.category is Notice]
        return Message({**said, "notices": notices}, arrays)

    def _open(self, question: Message) -> Message:
        from surveyor.potentials import open_potential

        said = question.said
        return self._kept(open_potential(said["source"], said["device"], said["dtype"], head=said["head"]))

    def _kept(self, potential: Potential) -> Message:
        from surveyor.potentials.base import Shiftable
        from surveyor.potentials.opening import suffix_of

        self.potentials.append(potential)
        return Message(
            {
                "number": len(self.potentials) - 1,
                "family": potential.family,
                "fingerprint": potential.fingerprint,
                "elements": [int(z) for z in potential.elements],
                "suffix": suffix_of(potential),
                "shiftable": isinstance(potential, Shiftable),
            }
        )

    def _potential(self, question: Message) -> Potential:
        return self.potentials[int(question.said["potential"])]

    def _predict(self, question: Message) -> Message:
        labels = self._potential(question).predict(unpacked(question.arrays))
        arrays = {
            "energies": np.array([each.energy for each in labels], dtype=np.float64),
            "forces": np.concatenate([np.zeros((0, 3)), *(each.forces for each in labels)]),
        }
        stresses = [each.stress for each in labels if each.stress is not None]
        if labels and len(stresses) == len(labels):
            arrays["stresses"] = np.stack(stresses)
        return Message({}, arrays)

    def _save(self, question: Message) -> Message:
        self._potential(question).save(Path(question.said["path"]))
        return Message({})

    def _shift(self, question: Message) -> Message:
        from surveyor.potentials.base import Shiftable, require

        shiftable = require(self._potential(question), Shiftable, "shifting reference energies")
        return self._kept(shiftable.with_reference_shifts(dict(question.said["shifts"])))

    def _feature_map(self, question: Message) -> Message:
        from surveyor.features.registry import Given, make_features

        said = question.said
        given = Given(self._potential(question), **said["given"])
        made = make_features(said["name"], given, said["settings"])
        self.feature_maps.append(made)
        about = {"number": len(self.feature_maps) - 1, "dim": made.dim, "settings": dict(made.settings)}
        return Message(about)

    def _features(self, question: Message) -> Message:
        found = self.feature_maps[question.said["feature_map"]](unpacked(question.arrays))
        return Message({}, {"values": np.asarray(found.values), "owner": found.owner})


def _told(error: Exception) -> dict[str, Any]:
    if isinstance(error, SurveyorError):
        known = next(kind for kind in type(error).__mro__ if kind.__module__ == "surveyor.errors")
        return {"kind": known.__name__, "got": error.got, "expected": error.expected, "todo": error.todo}
    return {"kind": "PotentialError", "got": f"{type(error).__name__}: {error} (in {sys.executable})"}


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for messages alone: whoever reads or prints gets others."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return questions, answers


def main() -> None:
    """Answer until nobody asks any more."""
    questions, answers = _streams()
    server = Server()
    try:
        hello = {"protocol": PROTOCOL, "surveyor": version("surveyor"), "pid": os.getpid()}
        write(answers, Message(hello))
        while (question := read(questions)) is not None:
            write(answers, server.answer(question))
    except BrokenPipeError:
        pass  # nobody waits for it any more


if __name__ == "__main__":
    main()
