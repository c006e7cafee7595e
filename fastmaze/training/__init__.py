# ruff: noqa: E402  (the packages are checked before anything needs them)
"""Training: a configuration in, a run on disk and a trained agent out.

```python
from fastmaze.training import TrainConfig, evaluate, train

result = train(TrainConfig(task="PassiveTMaze", length=50))
print(evaluate(result.run_dir).success)
```
"""

from fastmaze.requirements import require_training_packages

require_training_packages()

from fastmaze.training.checkpoint import CheckpointError
from fastmaze.training.config import TrainConfig
from fastmaze.training.curve import plot_curve
from fastmaze.training.divergence import DivergedError
from fastmaze.training.evaluation import (
    EvalResult,
    GreedyEpisode,
    evaluate,
    greedy_episode,
    load_agent,
)
from fastmaze.training.result import TrainResult, closing_words
from fastmaze.training.trainer import resume_training, train

__all__ = [
    "CheckpointError",
    "DivergedError",
    "EvalResult",
    "GreedyEpisode",
    "TrainConfig",
    "TrainResult",
    "closing_words",
    "evaluate",
    "greedy_episode",
    "load_agent",
    "plot_curve",
    "resume_training",
    "train",
]
