"""One empty info for all the envs or steps that have nothing to tell."""

from __future__ import annotations

from typing import Any, NoReturn


class SharedInfo(dict[str, Any]):
    """An empty dict that refuses to be written; copies of it, `dict(info)`, do not.

    Args:
        why: what the refusal says.
    """

    def __init__(self, why: str) -> None:
        super().__init__()
        self._why = why

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(self._why)

    __setitem__ = setdefault = update = __ior__ = _refuse
