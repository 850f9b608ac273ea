"""The latent map as marks, and what is known about every structure that a mark stands for."""

from __future__ import annotations

from dataclasses import dataclass

from ase import Atoms
from matplotlib import colormaps
from matplotlib.colors import to_hex

from surveyor.report.chart import Axes, make_axes
from surveyor.report.contents import Contents, Pick
from surveyor.structures.identity import total_charge, total_spin
from surveyor.structures.labels import ENERGY_KEY

Fact = tuple[str, str]


@dataclass(frozen=True)
class Mark:
    """One structure on the map."""

    id: str
    x: float
    y: float
    kind: str
    round: int | None = None
    outcome: str | None = None


@dataclass(frozen=True, eq=False)
class MapView:
    """Marks in the order in which they are drawn, and the axes that hold them."""

    marks: tuple[Mark, ...]
    axes: Axes
    n_pool: int
    n_pool_shown: int
    rounds: tuple[int, ...]
    kinds: tuple[str, ...]

    def of(self, kind: str) -> list[Mark]:
        return [mark for mark in self.marks if mark.kind == kind]


def map_view(contents: Contents) -> MapView | None:
    """Pool sample, test and start structures, and all picks on top; None where there is no map."""
    found = contents.map
    if found is None:
        return None
    picked = {pick.index for pick in contents.picks}
    marks: list[Mark] = []
    for kind, places in (("pool", found.pool), ("test", found.test), ("start", found.start)):
        for index, atoms in zip(found.kept[kind].tolist(), found.frames[kind], strict=True):
            if kind != "pool" or index not in picked:
                x, y = places[index].tolist()
                marks.append(Mark(str(atoms.info["surveyor_id"]), x, y, kind))
    for pick in contents.picks:
        if pick.index >= len(found.pool):
            continue  # added since; the next round draws the map again
        x, y = found.pool[pick.index].tolist()
        marks.append(Mark(pick.id, x, y, "pick", pick.round, pick.outcome))
    shares = [f"{100 * share:.0f} % of the variance" for share in found.explained]
    axes = make_axes(
        [mark.x for mark in marks], [mark.y for mark in marks],
        f"first principal component ({shares[0]})", f"second ({shares[1]})",
        width=960, height=560,
    )  # fmt: skip
    rounds = tuple(sorted({pick.round for pick in contents.picks}))
    kinds = tuple(kind for kind in ("pool", "test", "start") if any(mark.kind == kind for mark in marks))
    shown = sum(mark.kind == "pool" for mark in marks) + len(picked)
    return MapView(tuple(marks), axes, len(found.pool), shown, rounds, kinds)


def round_colours(rounds: tuple[int, ...]) -> dict[int, tuple[str, str]]:
    """A colour of every round, early to late, for a light and for a dark background."""
    plasma = colormaps["plasma"]
    shares = {number: place / max(1, len(rounds) - 1) for place, number in enumerate(rounds)}
    return {n: (to_hex(plasma(0.02 + 0.76 * s)), to_hex(plasma(0.34 + 0.62 * s))) for n, s in shares.items()}


def structures_of(contents: Contents) -> dict[str, Atoms]:
    """Every structure that can be shown, the most telling ones first: labels, picks, test, start, pool."""
    found = {**contents.labelled, **contents.chosen}
    if contents.map is not None:
        for kind in ("test", "start", "pool"):
            for atoms in contents.map.frames[kind]:
                found.setdefault(str(atoms.info["surveyor_id"]), atoms)
    return found


def facts_of(contents: Contents, structures: dict[str, Atoms]) -> dict[str, list[Fact]]:
    """id → what to say beside the drawing."""
    test = _ids(contents, "test")
    start = set(_ids(contents, "start"))
    picks = {pick.id: pick for pick in contents.picks}
    last = contents.record.rounds[-1] if contents.record.rounds else None
    places = {name: place for place, name in enumerate(test)} if last and len(last.std) == len(test) else {}
    facts: dict[str, list[Fact]] = {}
    for name, atoms in structures.items():
        said: list[Fact] = []
        if name in picks:
            said += _of_pick(picks[name], contents)
        elif name in places and last is not None:
            place = places[name]
            said += [
                ("role", f"test structure, after round {last.number}"),
                ("predicted std", f"{last.std[place]:.3g}"),
                ("energy error", f"{last.energy_each[place]:.1f} meV/atom"),
                ("force error", f"{last.force_each[place]:.1f} meV/Å"),
            ]
        elif name in test:
            said.append(("role", "test structure"))
        else:
            said.append(("role", "labelled at the start" if name in start else "in the pool, not labelled"))
        charge, spin = total_charge(atoms), total_spin(atoms)
        if charge or spin != 1:
            said.append(("charge, multiplicity", f"{charge:+d}, {spin}".replace("-", "−")))
        if ENERGY_KEY in atoms.info:
            said.append(("energy", f"{float(atoms.info[ENERGY_KEY]):.3f} eV".replace("-", "−")))
        group = atoms.info.get("reaction", atoms.info.get("config_type"))
        if group is not None:
            said.append(("group", str(group)))
        facts[name] = said
    return facts


def _of_pick(pick: Pick, contents: Contents) -> list[Fact]:
    said: list[Fact] = [
        ("role", f"pick {pick.rank + 1} of round {pick.round}"),
        ("label", "in, trained on" if pick.outcome == "labelled" else pick.outcome),
    ]
    if pick.std is not None:
        said.append(("predicted std", f"{pick.std:.3g}"))
    if pick.removes is not None:
        said.append(("removes", f"{100 * pick.removes:.2f} % of variance"))
    if pick.nearest is not None and pick.similarity is not None:
        said.append(("nearest labelled", f"{pick.nearest[:8]} ({pick.similarity:.3f})"))
    if pick.outcome == "failed":
        said.append(("reason", contents.failures[pick.id][-1]))
    if pick.outcome == "quarantined":
        said.append(("reason", contents.quarantined[pick.id]))
    return said


def _ids(contents: Contents, kind: str) -> list[str]:
    return [] if contents.map is None else [str(a.info["surveyor_id"]) for a in contents.map.frames[kind]]
