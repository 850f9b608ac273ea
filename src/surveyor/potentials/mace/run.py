"""Running mace-torch's own trainer as a child process, and checking that it did what it was told.

The trainer is a command-line program: options come in as flags, and some are silently without effect (a
factor of a scheduler that is not in use, a cutoff beside a foundation model that brings its own).
Here every option is looked up in mace's own parser before the start, and read back from its log after it.
"""

from __future__ import annotations

import argparse
import difflib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from surveyor import keeper
from surveyor.errors import TrainingError
from surveyor.potentials.mace.effective import TrainerRun, check_effective
from surveyor.potentials.mace.following import lines_of, updates_told
from surveyor.threads import THREADS

LOG_NAME = "mace.log"
LOOK_SECONDS = 0.5
"""From one look at what the trainer has written to the next."""

# Fixed by the foundation model's own architecture: mace overwrites or ignores them beside --foundation_model.
_ARCHITECTURE = (
    "r_max", "num_channels", "max_L", "hidden_irreps", "correlation", "max_ell", "num_interactions",
    "MLP_irreps", "radial_MLP", "radial_type", "num_radial_basis", "num_cutoff_basis", "pair_repulsion",
    "distance_transform", "interaction", "interaction_first", "gate", "avg_num_neighbors",
)  # fmt: skip
# glibc would hand every freed tensor back to the system, and take it again, page by page, at the next step.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}
_SET_HERE = ("h", "help", "config", "work_dir", "model_dir", "log_dir", "checkpoints_dir", "results_dir")
_STAGE_TWO = tuple(
    f"{prefix}_{name}"
    for prefix in ("swa", "stage_two")
    for name in ("lr", "energy_weight", "forces_weight", "stress_weight")
)
_REPLAY_SELECTION = ("num_samples_pt", "subselect_pt", "filter_type_pt", "weight_pt_head")
_REPLAY = (
    "pt_train_file",
    "pt_valid_file",
    "force_mh_ft_lr",
    "real_pt_data_ratio_threshold",
    *_REPLAY_SELECTION,
)


def run_mace_trainer(
    options: Mapping[str, object],
    *,
    workdir: Path,
    threads: int = 1,
    on_line: Callable[[str], None] | None = None,
    on_step: Callable[[int, str], None] | None = None,
) -> Path:
    """Train with `mace.cli.run_train` and return the plain `.model` file that it wrote.

    Everything that the trainer writes lies inside `workdir`; relative paths among the options are relative to
    it as well, and its output is appended to `workdir/mace.log`. With `restart_latest` a second call
    continues at the last checkpoint. The child is ended when this call is interrupted.

    Args:
        options: mace's options by name, without dashes, but for `work_dir`; `name`, `train_file` and `E0s`
            (or isolated atoms in the training file) are needed. None takes mace's default; True and False set
            on-off flags.
        on_line: called with each line that the trainer prints.
        on_step: called while it runs with the updates so far, and with loss and validation errors in words.

    Returns:
        `workdir/<name>_stagetwo.model` where stage two ran, otherwise `workdir/<name>.model`.

    Raises:
        TrainingError: an option that mace does not know or that would act on nothing, a failed trainer (with
            the last lines of its log), no model at the end, or an option that did not come into effect.
    """
    if threads < 1:
        raise TrainingError(f"threads={threads}", expected="one thread or more")
    workdir = workdir.resolve()
    parser, actions = _mace_parser()
    flags = _flags(options, actions)
    wanted = _parse(parser, [*flags, f"--work_dir={workdir}"])
    _refuse_idle_options(options, wanted)
    workdir.mkdir(parents=True, exist_ok=True)
    name = str(options["name"])
    candidates = [workdir / f"{name}_stagetwo.model", workdir / f"{name}.model"]
    for stale in candidates:
        stale.unlink(missing_ok=True)

    output = lines_of(workdir / LOG_NAME)
    updates = updates_told(workdir / "results" / f"{name}_run-{wanted.seed}_train.txt")
    tail: deque[str] = deque(maxlen=15)

    def follow() -> None:
        for line in next(output):
            if line.strip():
                tail.append(line.rstrip())
            if on_line is not None:
                on_line(line)
        if on_step is not None:
            on_step(*next(updates))

    follow()
    code = _run_child([*flags, f"--work_dir={workdir}"], workdir, threads, follow)
    log = "\n".join(f"    {line}" for line in tail)
    if code != 0:
        raise TrainingError(
            f"mace's trainer ended with exit code {code}; its last lines:\n{log}",
            todo=f"read the whole log in {workdir / LOG_NAME}",
        )
    destinations = {option: action.dest for option, action in actions.items()}
    check_effective(options, wanted, destinations, TrainerRun.read(workdir, name, wanted.seed))
    for model in candidates:
        if model.is_file():
            return model
    raise TrainingError(
        f"mace's trainer wrote no model; its last lines:\n{log}",
        expected=f"{candidates[-1]}",
        todo="leave out dry_run" if wanted.dry_run else f"read the whole log in {workdir / LOG_NAME}",
    )


def _mace_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.Action]]:
    """mace's own parser, and its actions by option name."""
    from mace.tools.arg_parser import build_default_arg_parser

    parser = build_default_arg_parser()
    actions: dict[str, argparse.Action] = {}
    for action in parser._actions:
        for option in action.option_strings:
            actions[option.lstrip("-")] = action
    for name in _SET_HERE:
        actions.pop(name, None)
    return parser, actions


def _flags(options: Mapping[str, object], actions: Mapping[str, argparse.Action]) -> list[str]:
    """Command-line flags of the options, in their order."""
    flags = []
    for key, value in options.items():
        if key not in actions:
            near = difflib.get_close_matches(key, actions, n=1, cutoff=0.5)
            raise TrainingError(
                f"mace's trainer has no option {key!r} that may be set here",
                expected=f"perhaps {near[0]!r}" if near else "an option of mace_run_train",
            )
        on_off = isinstance(actions[key], argparse._StoreTrueAction | argparse._StoreFalseAction)
        if on_off and not isinstance(value, bool | None):
            raise TrainingError(f"{key}={value!r}", expected="true or false")
        if value is None or (on_off and not value):
            continue
        flags.append(f"--{key}" if on_off else f"--{key}={value}")
    if not options.get("name"):
        raise TrainingError("no 'name' among the trainer's options", expected="a name for the model file")
    return flags


def _parse(parser: argparse.ArgumentParser, flags: Sequence[str]) -> argparse.Namespace:
    """The options as mace will read them."""

    def refuse(message: str) -> None:
        raise TrainingError(f"mace's trainer does not take these options: {message}")

    # `error` prints and exits the process otherwise.
    parser.error = refuse  # type: ignore[method-assign, assignment]
    return parser.parse_args(list(flags))


def _refuse_idle_options(options: Mapping[str, object], wanted: argparse.Namespace) -> None:
    """Options that mace would take and then not use."""
    stage_two = wanted.swa or wanted.start_swa is not None
    heads = wanted.foundation_model is not None and wanted.multiheads_finetuning
    own_file = wanted.pt_train_file is not None and Path(wanted.pt_train_file).suffix != ""
    plateau, exponential = ("scheduler_patience", "lr_factor"), ("lr_scheduler_gamma",)
    rules: list[tuple[bool, tuple[str, ...], str]] = [
        (wanted.foundation_model is not None, _ARCHITECTURE, "the foundation model brings its own"),
        (wanted.scheduler != "ExponentialLR", exponential, "it belongs to scheduler=ExponentialLR"),
        (wanted.scheduler != "ReduceLROnPlateau", plateau, "it belongs to scheduler=ReduceLROnPlateau"),
        (not wanted.ema, ("ema_decay",), "it needs ema=true"),
        (wanted.loss not in ("huber", "universal"), ("huber_delta",), "this loss has no such parameter"),
        (
            wanted.loss not in ("huber", "universal", "stress"),
            ("stress_weight",),
            "this loss has no stress term",
        ),
        (not stage_two, _STAGE_TWO, "it needs swa=true"),
        (wanted.valid_file is not None, ("valid_fraction",), "a valid_file is given"),
        (not wanted.lora, ("lora_rank", "lora_alpha"), "it needs lora=true"),
        (not heads, _REPLAY, "it needs multiheads_finetuning=true and a foundation model"),
        (own_file, _REPLAY_SELECTION, "a pt_train_file is used as it is"),
        (heads and not wanted.force_mh_ft_lr, ("lr", "ema_decay"), "multiheads need force_mh_ft_lr=true"),
        (heads and wanted.loss != "universal", ("loss",), "multiheads are always trained with universal"),
        (wanted.freeze is not None and wanted.freeze < 1, ("freeze",), "mace freezes from 1 on"),
    ]
    idle = {name: why for applies, names, why in rules if applies for name in names}
    for key, why in idle.items():
        if options.get(key) not in (None, False):
            raise TrainingError(
                f"the trainer's option {key}={options[key]!r} would have no effect: {why}",
                todo=f"leave {key} out, or set what it needs",
            )


def _run_child(flags: Sequence[str], workdir: Path, threads: int, follow: Callable[[], None]) -> int:
    """Exit code of the trainer; it is ended whenever this function is left early."""
    environment = _MALLOC | dict(os.environ)
    environment |= dict.fromkeys(THREADS, str(threads))
    # The working directory leaves sys.path, so that a file there cannot shadow a module.
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", "MPLBACKEND": "Agg"}
    with (workdir / LOG_NAME).open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell, our own interpreter
            keeper.kept([sys.executable, "-m", "mace.cli.run_train", *flags]),
            cwd=workdir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        while True:
            try:
                code = child.wait(LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                follow()
    finally:
        if child.poll() is None:
            keeper.end(child)
    follow()
    return code
