"""The HTML page of a campaign: one file, opens offline, asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from surveyor import __version__
from surveyor.progress import duration
from surveyor.report.contents import Contents, read_contents
from surveyor.report.costs import costs_of
from surveyor.report.drawing import drawings, element_styles
from surveyor.report.ending import ending
from surveyor.report.latent import facts_of, map_view, round_colours, structures_of
from surveyor.report.learning import learning_curves
from surveyor.report.trouble import trouble_of
from surveyor.report.trust import errors_by_group, trust_of_rounds
from surveyor.report.verdict import standing, verdict
from surveyor.structures.writing import GENERATOR, atomic_write


def write_report(folder: Path, output: Path) -> Path:
    """Write the page of a campaign, finished or not.

    Raises:
        CampaignError: the folder is not a campaign, or a file in it is damaged.
        LabellingError: the journal of labels is damaged.
        SurveyorError: the page cannot be written.
    """
    html = render(read_contents(folder))
    return atomic_write(output, lambda file: file.write(html))


def render(contents: Contents) -> str:
    """The page as text."""
    environment = _environment()
    script = environment.get_template("page.js").render()
    curves = learning_curves(contents)
    trust = trust_of_rounds(contents)
    view = map_view(contents)
    structures = structures_of(contents)
    drawn = drawings(structures)
    facts = facts_of(contents, structures)
    formulas = {name: atoms.get_chemical_formula() for name, atoms in structures.items()}
    data: dict[str, Any] = {
        "elements": element_styles(drawn),
        "structures": [
            {"id": name, "f": formulas[name], "t": facts[name], **drawn.get(name, {})} for name in structures
        ],
    }
    end = ending(contents)
    return environment.get_template("page.html").render(
        name=contents.folder.resolve().name,
        version=__version__,
        contents=contents,
        method=contents.record.state["method"],
        rounds=contents.record.rounds,
        standing=standing(contents),
        verdict=verdict(contents, curves),
        warnings=end.warnings,
        potential=end.potential and end.potential.relative_to(contents.folder),
        curves=curves,
        trust=trust,
        latest=trust[max(trust)] if trust else [],
        groups=errors_by_group(contents),
        view=view,
        colours=round_colours(tuple(sorted({pick.round for pick in contents.picks}))),
        number={name: place for place, name in enumerate(structures)},
        formulas=formulas,
        energies={name: atoms.info["REF_energy"] for name, atoms in contents.labelled.items()},
        trouble=trouble_of(contents),
        costs=costs_of(contents),
        data=data,
        generator=Markup(GENERATOR),  # noqa: S704  a constant
        script=Markup(script),  # noqa: S704  our own file, rendered with nothing in it
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


@cache
def _environment() -> Environment:
    # Everything shown is escaped: formulas, reasons and paths come from files that others wrote.
    environment = Environment(
        loader=PackageLoader("surveyor.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["formula"] = _formula
    environment.filters["duration"] = duration
    environment.globals["zip"] = zip
    environment.globals["pairs"] = lambda points: [(point.labels, point.error) for point in points]
    return environment


def _number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "–"
    grouped = f"{value:,.{digits}f}" if abs(value) >= 10_000 else f"{value:.{digits}f}"
    return grouped.replace(",", "\u202f").replace("-", "−")


def _formula(text: str) -> Markup:
    """Chemical formula with its counts as subscripts."""
    return Markup(re.sub(r"(\d+)", r"<sub>\1</sub>", str(escape(text))))  # noqa: S704  escaped one step before
