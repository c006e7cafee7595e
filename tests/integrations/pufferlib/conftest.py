"""PufferLib's vectorisations of a population."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

WAYS = {
    "alone": {"num_workers": 1},
    "serial": {"num_workers": 3, "vectorisation": "Serial"},
    "processes": {"num_workers": 2, "vec_options": {"overwork": True}},
    "one process": {"num_workers": 1, "vectorisation": "Multiprocessing"},
}


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """make_puffer_vec, of which everything is closed at the end."""
    from fastmaze.integrations.pufferlib import make_puffer_vec

    made = []

    def make_one(*args: Any, **kwargs: Any) -> Any:
        made.append(make_puffer_vec(*args, **kwargs))
        return made[-1]

    yield make_one
    for envs in made:
        envs.close()
