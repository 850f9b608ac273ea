"""The HTML page of a campaign: self-contained, opens offline."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader

from surveyor import __version__
from surveyor.campaign import read_campaign
from surveyor.labelling import Ledger
from surveyor.report.plots import learning_curve, uncertainty
from surveyor.structures.writing import atomic_write


def write_report(folder: Path, output: Path) -> Path:
    """Write the page of a campaign, finished or not.

    Raises:
        CampaignError: the folder is not a campaign.
        SurveyorError: the page cannot be written.
    """
    record = read_campaign(folder)
    ledger = Ledger(folder / "labels", record.state["method"], read_only=True)
    config = folder / "config.yaml"
    # Everything shown is escaped: formulas, reasons and paths come from files that others wrote.
    environment = Environment(
        loader=PackageLoader("surveyor.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value, digits=1: "–" if value is None else f"{value:.{digits}f}"
    html = environment.get_template("page.html").render(
        name=folder.resolve().name,
        version=__version__,
        state=record.state,
        rounds=record.rounds,
        stopped=record.stopped,
        curve=learning_curve(record.rounds),
        scatter=uncertainty(record.rounds[-1]) if record.rounds else None,
        failures=ledger.failures,
        n_labels=len(ledger),
        config=config.read_text(encoding="utf-8") if config.exists() else "",
    )
    return atomic_write(output, lambda file: file.write(html))
