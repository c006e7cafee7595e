"""Exact memory and credit-assignment lengths of partially observable tasks.

```python
from fastmaze.lengths import analyze

print(analyze("PassiveTMaze", length=1500))
```

The definitions are those of Ni et al. 2023; `docs/lengths.md` states them and what was made of
them here.
"""

from fastmaze.lengths.analyze import analyze
from fastmaze.lengths.model import Model
from fastmaze.lengths.report import Bounds, LengthReport
from fastmaze.lengths.tabular import TabularPOMDP
from fastmaze.lengths.tmaze import TMazeModel

__all__ = ["Bounds", "LengthReport", "Model", "TMazeModel", "TabularPOMDP", "analyze"]
