"""Rules as functions of bare arrays, `max_variance(X_pool, X_train, k, …)`; made from the rules' classes."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature

import numpy as np

from surveyor.selection.clusters import LCMD
from surveyor.selection.committee import Committee
from surveyor.selection.distance import FarthestPoint
from surveyor.selection.herding import Herding
from surveyor.selection.maxvariance import MaxVariance
from surveyor.selection.rule import Rule
from surveyor.selection.targets import TargetVariance
from surveyor.selection.topk import TopK
from surveyor.selection.uniform import Random
from surveyor.selection.validation import one_row_each, rank_of
from surveyor.types import Selection

TARGET = "X_target"


def on_arrays(rule: type[Rule], name: str, argument: str | None = None) -> Callable[..., Selection]:
    """A function (X_pool, X_train, [argument,] k, settings of the rule…, *, seed=0, ids=None) → Selection.

    Args:
        argument: a setting of the rule that comes before k; `X_target` stands for the target's rows.
    """
    field = "target" if argument == TARGET else argument
    arrays = ["X_pool", "X_train", *([] if argument is None else [argument]), "k"]
    settings = [own for own in signature(rule).parameters.values() if own.name != field]
    takes = Signature(
        [
            *(Parameter(array, Parameter.POSITIONAL_OR_KEYWORD) for array in arrays),
            *settings,
            Parameter("seed", Parameter.KEYWORD_ONLY, default=0),
            Parameter("ids", Parameter.KEYWORD_ONLY, default=None),
        ]
    )

    def select(*args: object, **named: object) -> Selection:
        bound = takes.bind(*args, **named)
        bound.apply_defaults()
        given = bound.arguments
        own = {setting.name: given[setting.name] for setting in settings}
        if field is not None and argument is not None:
            rows = argument == TARGET and given[argument] is not None
            own[field] = one_row_each(given[argument], TARGET) if rows else given[argument]
        pool, train = one_row_each(given["X_pool"], "X_pool"), one_row_each(given["X_train"], "X_train")
        rng, rank = np.random.default_rng(given["seed"]), rank_of(given["ids"], len(pool))
        return rule(**own)(pool, train, given["k"], rng=rng, rank=rank)

    select.__name__ = select.__qualname__ = name
    select.__signature__ = takes  # type: ignore[attr-defined]
    select.__doc__ = f"""k rows of X_pool (rows, dim), given the labelled rows X_train; see `{rule.__name__}`.

    Arrays may be numpy arrays, memory maps or zarr arrays. Equal scores go to the lowest of `ids` (strings,
    one per row), without them to the lowest index; `seed` is of random draws, for rules that make any.
    """
    return select


max_variance = on_arrays(MaxVariance, "max_variance")
target_variance = on_arrays(TargetVariance, "target_variance", TARGET)
lcmd = on_arrays(LCMD, "lcmd")
farthest = on_arrays(FarthestPoint, "farthest")
herding = on_arrays(Herding, "herding")
top_k = on_arrays(TopK, "top_k")
committee = on_arrays(Committee, "committee", "disagreement")
random = on_arrays(Random, "random")
