"""The installed wheel works by itself: native envs, Gymnasium, no torch, no numba."""

import importlib.metadata
import sys
import warnings
from pathlib import Path

warnings.simplefilter("error")

import fastmaze  # noqa: E402

home = Path(fastmaze.__file__).resolve()
assert "site-packages" in home.parts, f"not the installed wheel: {home}"
assert (home.parent / "py.typed").exists()
assert (home.parent / "_native.pyi").exists()
assert (home.parent / "kernels" / "__init__.py").exists()
assert not {"torch", "numba", "matplotlib", "triton"} & set(sys.modules)
assert importlib.metadata.version("fastmaze") == fastmaze.__version__

import gymnasium  # noqa: E402
import numpy as np  # noqa: E402

envs = gymnasium.make_vec("fastmaze/PassiveTMaze-v0", num_envs=64, length=10)
obs, _ = envs.reset(seed=0)
goals, total = obs[:, 1].copy(), np.zeros(64)
for _ in range(10):
    obs, reward, terminated, _, info = envs.step(np.zeros(64, np.int64))
    total += reward
obs, reward, terminated, _, info = envs.step(np.where(goals > 0, 1, 3))
assert terminated.all()
assert (reward == 1.0).all()
assert info["success"].all()
assert (info["episode_return"] == 1.0).all()

for call, line in ((lambda: fastmaze.make_vec("TMaze", num_envs=1, backend="numba"), "numba"),):
    try:
        call()
    except ImportError as error:
        assert f'pip install "fastmaze[{line}]"' in str(error), error
    else:
        raise AssertionError(f"{line} should be missing here")
try:
    from fastmaze.training import TrainConfig, train

    train(TrainConfig(length=2))
except ImportError as error:
    assert 'pip install "fastmaze[train]"' in str(error), error
else:
    raise AssertionError("torch should be missing here")
print("the wheel works")
