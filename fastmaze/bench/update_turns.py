"""A contender of `fastmaze bench update` in a process of its own, which takes turns when asked.

```
parent  -- setting -->  child: sets up        -- {"ready": true, ...} -->
        -- "update" -->        one turn       -- {"seconds": ...} ------->
        -- "memory" -->        peak so far    -- {"peak_mib": ...} ------>
```

One JSON value a line. A process of its own is what makes a peak of memory the contender's. The
published code's process may run another Python without this package, so that this file keeps to
the standard library and is loaded by its path there.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
Turns = dict[str, Callable[[], Figures]]
"""What can be asked for, by name."""


def serve(set_up: Callable[[Figures], tuple[Figures, Turns]]) -> None:
    """Answers on the standard output, where nothing else may write, until there is no more input.

    Args:
        set_up: from the setting, the first value sent, to a first answer and the turns.
    """
    # Whatever the contender prints goes to the standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        turns: Turns = {}
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                if isinstance(asked, dict):
                    answer, turns = set_up(asked)
                    answer = {"ready": True, **answer}
                else:
                    answer = turns[asked]()
            except Exception as error:  # the parent tells; other contenders go on
                answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


class PeakMemory:
    """The most memory that was in use since the beginning, beyond what was in use then.

    Args:
        torch: the module, where tensors live on a GPU: then it is asked; None for the process's
            resident memory.
    """

    def __init__(self, torch: Any = None) -> None:
        self._torch = torch
        if torch is not None:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated() / 2**20
            return
        # Linux forgets an earlier peak when asked; elsewhere it stays, and hides a lower one.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = _resident()

    def figures(self) -> Figures:
        """Mebibytes before, and at the peak beyond that."""
        if self._torch is not None:
            peak = self._torch.cuda.max_memory_allocated() / 2**20
        else:
            peak = _peak()
        return {"before_mib": self._before, "peak_mib": peak - self._before}


def _peak() -> float:
    """Most mebibytes resident so far."""
    if (kibibytes := _linux("VmHWM")) is not None:
        return kibibytes / 2**10
    # Elsewhere; Linux would count what the parent's process had before this one began. macOS counts
    # bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _resident() -> float:
    """Mebibytes resident now; elsewhere than on Linux the most so far."""
    kibibytes = _linux("VmRSS")
    return _peak() if kibibytes is None else kibibytes / 2**10


def _linux(name: str) -> int | None:
    """An entry of this process's status, in kibibytes; None where there is no such thing."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
