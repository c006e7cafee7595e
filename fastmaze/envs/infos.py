"""What `info` tells about the episodes that ended in a step of a population."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmaze.envs.backends.base import Array, EpisodeStatistics


def episode_info(
    names: tuple[str, ...],
    statistics: EpisodeStatistics,
    ended: Array,
    final_obs: Array | None,
) -> dict[str, Any]:
    """The info of a step in which some episodes ended, in Gymnasium's form; all arrays are fresh.

    Args:
        names: keys for the columns of `statistics`, see `TaskSpec.info_names`.
        statistics: of each env's last finished episode.
        ended: bool [N], the envs whose episodes ended in this step.
        final_obs: [N, ...], in mode SameStep the last observations of the ended envs and
            anything in the other rows; None in the other modes.

    Returns:
        A value [N] for each of `names`, zero where no episode ended, and its mask under the name
        with `_` in front. With `final_obs`, that one (as one plain array) and its mask, and the
        rest as "final_info".
    """
    everyone = bool(ended.all())
    info: dict[str, Any] = {}
    for name, column in zip(names, statistics, strict=False):
        info[name] = column.copy() if everyone else np.where(ended, column, column.dtype.type())
        info[f"_{name}"] = ended.copy()
    if final_obs is None:
        return info
    return {
        "final_obs": np.where(
            ended.reshape(-1, *(1,) * (final_obs.ndim - 1)), final_obs, final_obs.dtype.type()
        ),
        "_final_obs": ended.copy(),
        "final_info": info,
        "_final_info": ended.copy(),
    }
