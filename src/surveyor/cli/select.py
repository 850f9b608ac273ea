"""`surveyor select`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from surveyor.cli.guard import guarded
from surveyor.cli.options import Device, FeatureKind, Model, Overwrite, Python, SketchSize
from surveyor.cli.picks import picks_json, print_forecast, print_picks
from surveyor.cli.progress import make_progress

Pool = Annotated[
    Path, typer.Argument(help="Unlabelled structures: any file that ASE reads, also .gz .xz .bz2.")
]
Train = Annotated[Path | None, typer.Option("--train", "-t", help="Structures that are labelled already.")]
Number = Annotated[
    int | None, typer.Option("-n", help="How many to pick [default: 20, or what --budget pays for].")
]
RuleName = Annotated[str, typer.Option("--rule", help="How to choose.")]
Target = Annotated[
    Path | None,
    typer.Option(help="Unlabelled structures that you will simulate, e.g. a NEB path [default: the pool]."),
]
Committee = Annotated[
    list[str] | None,
    typer.Option(help="A fine-tuned potential for the rule committee; give it twice or more."),
]
CommitteeOn = Annotated[str, typer.Option(help="What the committee disagrees on: energies | forces.")]
Cost = Annotated[
    str | None,
    typer.Option(
        help="What a label costs: atoms^3 (any power), or the key of info that holds it. Picks then "
        "bring the most per cost."
    ),
]
Budget = Annotated[float | None, typer.Option(help="What the picks may cost together.")]
Shortlist = Annotated[
    int | None,
    typer.Option(help="Consider only so many structures, of largest residual variance (huge pools)."),
]
Store = Annotated[Path | None, typer.Option(help="Features of the pool that `surveyor embed` wrote.")]
Noise = Annotated[float, typer.Option(help="λ of the posterior, as a share of the mean squared norm.")]
Seed = Annotated[int, typer.Option(help="Of sketch and random draws.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the picks here (.extxyz), best first.")
]
Forecast = Annotated[
    int, typer.Option(help="Look this many labels ahead: what each is worth, and where to stop.")
]
MinGain = Annotated[float, typer.Option(help="Least gain a label, per cent of the start, for --forecast.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON: indices, ids, std, nearest, removes, forecast.")
]


def select(
    pool: Pool,
    model: Model = "builtin",
    train: Train = None,
    n: Number = None,
    features: FeatureKind = "tangent",
    rule: RuleName = "target-variance",
    target: Target = None,
    committee: Committee = None,
    committee_on: CommitteeOn = "forces",
    cost: Cost = None,
    budget: Budget = None,
    shortlist: Shortlist = None,
    store: Store = None,
    dim: SketchSize = 512,
    noise: Noise = 1e-4,
    seed: Seed = 0,
    device: Device = None,
    python: Python = None,
    output: Output = None,
    overwrite: Overwrite = False,
    forecast: Forecast = 0,
    min_gain: MinGain = 0.1,
    as_json: AsJson = False,
) -> None:
    """Pick the structures of a pool whose labels will teach the potential most.

    Example: surveyor select pool.extxyz --model builtin -n 20 -o picks.extxyz
    """
    with guarded():
        from surveyor.errors import SelectionError
        from surveyor.picking import select as pick
        from surveyor.selection import rules_that_take
        from surveyor.structures import write_structures
        from surveyor.structures.writing import check_output

        if output is not None:
            check_output(output, overwrite=overwrite, inputs=[pool, train, target])
        if forecast < 0 or not min_gain > 0:
            raise SelectionError(
                f"--forecast {forecast} --min-gain {min_gain}",
                expected="a forecast of 0 labels or more, and a gain above 0 per cent a label",
            )
        if rule in rules_that_take("target") and target is None:
            typer.echo(
                "aiming at a sample of the pool; --target FILE aims at what you will simulate", err=True
            )
        picked = pick(
            pool, train, model, 20 if n is None and budget is None else n,
            features=features, rule=rule, target=target, store=store,
            committee=committee or (), committee_on=committee_on,
            cost=cost, budget=budget, shortlist=shortlist,
            dim=dim, noise=noise, seed=seed, device=device, python=python, forecast=forecast,
            progress=make_progress(),
        )  # fmt: skip
        if output is not None:
            write_structures(output, picked.structures)
        if as_json:
            typer.echo(json.dumps(picks_json(picked, output, min_gain)))
        else:
            print_picks(picked, output, committee_on if committee else None, shortlist)
            if picked.batch.forecast is not None:
                print_forecast(picked.batch, min_gain)
