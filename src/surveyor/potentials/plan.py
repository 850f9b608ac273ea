"""From a model to a plan of its gradients: which rule covers which parameters, and whether it is right.

| a module                                          | is covered by                                 |
|---------------------------------------------------|-----------------------------------------------|
| that the family names in `rules()`                | the family's own rule, with all that it holds |
| of a class of torch or e3nn that is known         | the rule of its class, where that holds       |
| whose output rows depend on their own inputs only | `RowLocal`, vmap(vjp)                         |
| any other                                         | a loop: one backward pass per structure       |

What the rows of a module are (nodes, edges, …) is read off the length of its input on three probe structures.
On these the whole plan is compared with the loop, once a model; what differs goes to the loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from weakref import WeakKeyDictionary

import numpy as np
import torch
from ase import Atoms

from surveyor.errors import PotentialError, notice
from surveyor.potentials.base import Batch, Differentiable
from surveyor.potentials.gradients import GradientPlan
from surveyor.potentials.rows import Rows
from surveyor.potentials.rules import Whole, rules_for
from surveyor.potentials.taps import Block, Rule

SIZES = ((2, 3, 5), (3, 4, 8), (2, 6, 9), (4, 9, 14))
"""Atoms of the probe structures; the first for which every domain has a length of its own are taken."""

SPACING = 1.3
"""Å between the atoms of a probe structure."""

_looped: WeakKeyDictionary[torch.nn.Module, dict[tuple[str, ...], frozenset[str]]] = WeakKeyDictionary()
"""Model → names that were asked for → those of them whose rules the loop has refuted."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module, on the probe structures."""

    inputs: tuple[object, ...]
    by_name: bool
    output: object


def gradient_plan(potential: Differentiable, names: Sequence[str]) -> GradientPlan:
    """How to take the gradients of all structures of a batch with respect to the named parameters."""
    asked = tuple(names)
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        batch = probe_batch(potential)
        kinds = _Kinds(potential, batch, frozenset(asked))
        known = _looped.setdefault(potential.model, {})
        looped = known.get(asked)
        if looped is None:
            looped = known[asked] = _refuted(potential, kinds, asked)
    plan = kinds.plan(asked, looped)
    if plan.rest:
        modules = sorted({_owner(potential.model, name) for name in plan.rest})
        notice(
            f"no fast rule for the parameters of {', '.join(modules)}: "
            "their gradients take a backward pass per structure"
        )
    return plan


def probe_structures(elements: Sequence[int], sizes: Sequence[int]) -> list[Atoms]:
    """Small clusters, their atoms on a disturbed cubic grid, of all elements in turn."""
    rng = np.random.default_rng(17)
    kinds = cycle(elements)
    found = []
    for size in sizes:
        side = range(int(np.ceil(size ** (1 / 3))) + 1)
        grid = np.array(list(islice(product(side, side, side), size)), dtype=np.float64)
        positions = SPACING * grid + rng.uniform(-0.15, 0.15, grid.shape)
        found.append(Atoms(list(islice(kinds, size)), positions))
    return found


def probe_batch(potential: Differentiable) -> Batch:
    """Three structures whose nodes, edges and other rows differ in number.

    Raises:
        PotentialError: the family's batches are not what they must be.
    """
    for sizes in SIZES:
        batch = potential.batch(probe_structures(potential.elements, sizes))
        if "nodes" not in batch.owners or len(batch.owners["nodes"]) != len(batch.positions):
            raise PotentialError(
                f"a batch of the family {potential.family!r} has rows {sorted(batch.owners)}",
                expected="owners with 'nodes': the structure of each of its atoms",
            )
        lengths = [batch.count, *(len(owner) for owner in batch.owners.values())]
        if len(set(lengths)) == len(lengths):
            break
    return batch


class _Kinds:
    """The rule of every module of a model that holds any of the wanted parameters."""

    def __init__(self, potential: Differentiable, batch: Batch, wanted: frozenset[str]) -> None:
        self.potential = potential
        self.wanted = wanted
        self.rows = Rows.of(batch)
        self.rules: dict[str, tuple[Rule, frozenset[str]]] = {}
        parameters = {name for name, _ in potential.model.named_parameters()}
        own = potential.rules()
        self.spread = {name: rule for name, rule in own.items() if name in parameters}
        of_family = {name: rule for name, rule in own.items() if name not in parameters}
        inside: tuple[str, ...] = ()
        others: dict[str, torch.nn.Module] = {}
        for path, module in potential.model.named_modules():
            if path in of_family:
                names = {f"{path}.{name}" for name, _ in module.named_parameters()}
                self._keep(path, of_family[path], names)
                inside = (*inside, f"{path}.")
            elif path and not path.startswith(inside):
                others[path] = module
        others = {path: module for path, module in others.items() if self._own(path, module) & wanted}
        calls = _calls(potential, batch, others)
        for path, module in others.items():
            if rule := self._generic(path, module, calls[path]):
                self._keep(path, rule, self._own(path, module))

    def _own(self, path: str, module: torch.nn.Module) -> set[str]:
        return {f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)} - self.spread.keys()

    def _keep(self, path: str, rule: Rule, names: set[str]) -> None:
        if names & self.wanted:
            self.rules[path] = rule, frozenset(names)

    def _generic(self, path: str, module: torch.nn.Module, calls: Sequence[Call]) -> Rule | None:
        domain = self._domain(calls)
        if domain is None or isinstance(module, torch.jit.ScriptModule):
            return None
        for rule in rules_for(path, module, domain):
            if all(self._sound(rule, call) for call in calls):
                return rule
        return None

    def _sound(self, rule: Whole, call: Call) -> bool:
        """Whether a rule can be applied to a call, and fills parameters exactly."""
        tensors = [value for value in (*call.inputs, call.output) if isinstance(value, torch.Tensor)]
        if len(tensors) < len(call.inputs) + 1 or not tensors[-1].is_floating_point():
            return False
        *inputs, output = tensors
        try:
            return rule.holds(self.rows, tuple(inputs), output) and all(
                map(self._fills, rule.blocks(self.rows, tuple(inputs), output))
            )
        except Exception:  # whatever stands in the way, and that can be anything: the next rule, or the loop
            return False

    def _fills(self, block: Block) -> bool:
        numel, entries = self.potential.model.get_parameter(block.name).numel(), block.entries
        size = len(range(numel)[entries]) if isinstance(entries, slice) else len(entries)
        return block.values.shape[1] == size

    def _domain(self, calls: Sequence[Call]) -> str | None:
        """Which rows go into a module; None where that is not clear."""
        lengths = {len(segments.owner): name for name, segments in self.rows.domains.items()}
        if len(lengths) < len(self.rows.domains):
            return None
        found = {
            lengths.get(len(value)) if isinstance(value, torch.Tensor) and value.ndim else None
            for call in calls
            for value in (call.inputs[:1] or (None,))
        }
        by_name = any(call.by_name for call in calls)
        return found.pop() if len(found) == 1 and not by_name else None

    def plan(self, names: Sequence[str], looped: frozenset[str]) -> GradientPlan:
        """The plan in which some parameters are left to the loop."""
        rules = {path: rule for path, (rule, own) in self.rules.items() if not own & looped}
        spread = {
            name: rule for name, rule in self.spread.items() if name in self.wanted and name not in looped
        }
        covered = {name for path in rules for name in self.rules[path][1]} | spread.keys()
        rest = tuple(name for name in names if name not in covered)
        potential = self.potential
        return GradientPlan(potential.model, potential.energies, rules, spread, self.wanted, rest)


def _calls(
    potential: Differentiable, batch: Batch, modules: Mapping[str, torch.nn.Module]
) -> dict[str, list[Call]]:
    """What goes into the modules and comes out of them when the model runs."""
    calls: dict[str, list[Call]] = {path: [] for path in modules}
    with contextlib.ExitStack() as stack, torch.no_grad():
        for path, module in modules.items():
            if isinstance(module, torch.jit.ScriptModule):
                continue

            def record(
                _module: torch.nn.Module,
                inputs: tuple[object, ...],
                named: dict[str, object],
                output: object,
                path: str = path,
            ) -> None:
                kept = tuple(map(_kept, inputs))
                calls[path].append(Call(kept, bool(named), _kept(output)))

            stack.callback(module.register_forward_hook(record, with_kwargs=True).remove)
        potential.energies(batch)
    return calls


def _kept(value: object) -> object:
    """As it is now: the model may go on to change a tensor in place."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _refuted(potential: Differentiable, kinds: _Kinds, names: tuple[str, ...]) -> frozenset[str]:
    """Names of the parameters whose gradients by rule differ from those of the loop."""
    loop = GradientPlan(potential.model, potential.energies, {}, {}, frozenset(names), names)
    wanted, lengths = _projected(potential, loop)
    whole = torch.stack(list(lengths.values())).pow(2).sum(dim=0).sqrt()
    single = any(parameter.dtype != torch.float64 for parameter in potential.model.parameters())
    share, floor = (1e-2, 1e-5) if single else (1e-6, 1e-10)
    looped: frozenset[str] = frozenset()
    while True:
        found, _ = _projected(potential, kinds.plan(names, looped))
        bad = {
            name
            for name in names
            if not bool(((found[name] - wanted[name]).abs() <= share * lengths[name] + floor * whole).all())
        }
        if bad <= looped:
            return looped
        looped |= bad


def _projected(
    potential: Differentiable, plan: GradientPlan
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Gradients of the probe structures along random signs of each parameter, and the lengths of its blocks.

    Two gradients that differ have different projections; their comparison needs no memory for either.
    """
    batch = probe_batch(potential)
    signs: dict[str, torch.Tensor] = {}
    draw = torch.Generator().manual_seed(29)
    for name in sorted(plan.wanted):
        size = potential.model.get_parameter(name).numel()
        signs[name] = (2.0 * torch.randint(0, 2, (size,), generator=draw) - 1.0).to(potential.device)
    found = {name: torch.zeros(batch.count, dtype=torch.float64, device=potential.device) for name in signs}
    squares = {name: torch.zeros_like(total) for name, total in found.items()}
    for block in plan.energy_blocks(batch):
        values = block.values.detach()
        owner = block.owner if block.owner is not None else torch.arange(len(values), device=values.device)
        along = values @ signs[block.name][block.entries].to(values)
        found[block.name].index_add_(0, owner, along.double())
        squares[block.name].index_add_(0, owner, values.pow(2).sum(dim=1).double())
    return found, {name: square.sqrt() for name, square in squares.items()}


def _owner(model: torch.nn.Module, parameter: str) -> str:
    module = parameter.rpartition(".")[0]
    return f"{module or 'the model'} ({type(model.get_submodule(module)).__name__})"
