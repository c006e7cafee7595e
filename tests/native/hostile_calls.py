"""Makes random calls, most of them wrong, against `fastmaze._native`.

python -m tests.native.hostile_calls CALLS [SEED] prints how many were accepted and refused. After
each refusal the batch's state must be what it was; accepted steps leave it in a legal state.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fastmaze import _native

REFUSALS = (TypeError, ValueError, RuntimeError, MemoryError, OverflowError)


class Attacker:
    """One random generator's worth of hostility."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.accepted = self.refused = 0
        self.batch: Any = None

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def make(self) -> None:
        """A new batch, now and then from absurd numbers."""
        rng = self.rng
        oracle = int(rng.integers(0, 3))
        options: dict[str, Any] = {
            "num_envs": int(self.pick(1, 2, 7, 64, 100, 300)),
            "junction": oracle + int(rng.integers(1, 6)),
            "oracle_length": oracle,
            "episode_length": int(rng.integers(1, 9)),
            "goal_reward": float(rng.normal()),
            "penalty": -float(rng.random()),
            "distract_reward": float(rng.normal()),
            "view": int(rng.integers(0, 3)),
            "add_timestep": bool(rng.integers(2)),
            "rule": int(rng.integers(0, 3)),
            "mode": int(rng.integers(0, 3)),
            "num_threads": int(rng.integers(1, 4)),
            "least_per_thread": int(self.pick(1, 64, 4096)),
            "isa": self.pick("auto", *_native.usable_isas()),
        }
        if self.chance(0.3):
            name = self.pick(*options)
            options[name] = self.pick(
                -1, 0, 2**31, 2**62, 2**70, -(2**63), 1e300, float("nan"), float("inf"), "x", None,
                [], np.zeros(3), b"\0", 2.5,
            )  # fmt: skip
            if name == "num_envs" and isinstance(options[name], int) and options[name] == 2**31:
                options[name] = -5  # that many is a fair request, for more memory than there is
        try:
            batch = _native.TMazeBatch(**options)
        except REFUSALS:
            self.refused += 1
            return
        self.accepted += 1
        self.batch, self.n = batch, options["num_envs"]
        self.dim = (2 if options["view"] == 0 else 3) + bool(options["add_timestep"])
        self.legal_reset()

    def legal_reset(self) -> None:
        seeds = self.rng.integers(0, 2**63, self.n, dtype=np.uint64)
        obs, indices = np.zeros((self.n, self.dim), np.float32), np.arange(self.n, dtype=np.uint32)
        self.batch.reset(obs, keys=seeds, indices=indices)

    def array(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Mostly the array asked for, else something that only resembles it."""
        good = np.zeros(shape, dtype)
        if self.chance(0.85):
            return good
        backwards = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2]
        read_only = np.zeros(shape, dtype)
        read_only.flags.writeable = False
        raw = np.zeros(good.nbytes + 8, np.uint8)
        misaligned = raw[1 : 1 + good.nbytes].view(dtype).reshape(shape)
        return self.pick(
            good.astype(self.pick("f8", "i2", "u8", "c8", "O", "S4", "bool", "f2")),
            good.astype(good.dtype.newbyteorder(">")),
            np.zeros((*shape, 1), dtype),
            np.zeros(shape[:-1], dtype),
            np.zeros((shape[0] + 1, *shape[1:]), dtype),
            np.zeros((0, *shape[1:]), dtype),
            backwards, read_only, misaligned, np.asfortranarray(np.zeros((2, 3), dtype)),
            np.broadcast_to(np.zeros((), dtype), shape), np.ma.masked_array(good),
            good.tolist(), None, 3, "obs", object(), memoryview(good), np.float32(1),
        )  # fmt: skip

    def actions(self, *lead: int) -> Any:
        dtype = self.pick("i8", "i4", "i1", "u1", "i8")
        actions = self.rng.integers(0, 4, (*lead, self.n)).astype(dtype)
        if self.chance(0.3) and actions.size:
            bad = self.pick(4, 5, 127, -1, -128)
            actions.flat[self.rng.integers(actions.size)] = np.array(bad).astype(dtype)
        return actions if self.chance(0.8) else self.array((*lead, self.n), "i8")

    def outputs(self, *lead: int) -> list[Any]:
        rows = (*lead, self.n)
        arrays = [
            self.array((*rows, self.dim), "f4"), self.array(rows, "f4"),
            self.array(rows, "?"), self.array(rows, "?"),
        ]  # fmt: skip
        if self.chance(0.3):
            arrays.append(self.array((*rows, self.dim), "f4"))
        if self.chance(0.1):  # the same memory twice
            arrays[3] = arrays[2]
        if self.chance(0.05):
            arrays[int(self.rng.integers(len(arrays)))] = arrays[0]
        return arrays

    def call(self) -> None:
        """One random call."""
        n, batch = self.n, self.batch
        match int(self.rng.integers(0, 10)):
            case 0 | 1 | 2:
                batch.step(self.actions(), *self.outputs())
            case 3:
                steps = int(self.rng.integers(0, 5))
                batch.unroll(self.actions(steps), *self.outputs(steps))
            case 4 | 5:
                mask = self.array((n,), "?") if self.chance(0.5) else None
                if isinstance(mask, np.ndarray) and mask.shape == (n,) and mask.flags.writeable:
                    mask[...] = self.rng.integers(0, 2, n)
                goals = self.array((n,), "i1") if self.chance(0.5) else None
                if isinstance(goals, np.ndarray) and goals.flags.writeable and goals.size:
                    goals.flat[0] = self.pick(-1, 0, 1, 2, -128) if goals.dtype == "i1" else 0
                streams: list[Any] = [None, None, None]
                if self.chance(0.5):
                    streams = [self.array((n,), "u8"), self.array((n,), "u4"), None]
                if self.chance(0.2):
                    streams[self.rng.integers(3)] = self.array((n,), "?")
                stagger = self.chance(0.5)
                batch.reset(self.array((n, self.dim), "f4"), mask, goals, stagger, *streams)
            case 6:
                batch.observe(self.array((n, self.dim), "f4"))
            case 7:
                state = batch.get_state()
                for _ in range(int(self.rng.integers(0, 3))):
                    state[self.rng.integers(state.size)] = self.rng.integers(256)
                batch.set_state(state if self.chance(0.7) else self.array((state.size,), "u1"))
            case 8:
                batch.positions()
            case 9:
                self.odd_call()

    def odd_call(self) -> None:
        match int(self.rng.integers(0, 5)):
            case 0:
                self.batch.statistics()[0][0] = 1.0  # read-only
            case 1:
                self.batch.close()
                self.batch.positions()
            case 2:
                getattr(self.batch, self.pick("step", "reset", "unroll", "observe"))()
            case 3:
                _native.philox4x32(*(self.pick(0, 2**32 - 1, 2**32, -1, 1.5) for _ in range(6)))
            case 4:
                self.batch.step(*([self.batch] * 6))

    def run(self, calls: int) -> None:
        while self.batch is None:
            self.make()
        for _ in range(calls):
            if self.chance(0.02):
                self.make()
            before = self.state()
            try:
                self.call()
                self.accepted += 1
            except REFUSALS:
                self.refused += 1
                after = self.state()
                if before is not None and after is not None:
                    assert np.array_equal(before, after), "a refused call changed the state"
            if self.state() is None:  # it was closed
                self.batch = None
                while self.batch is None:
                    self.make()
            elif self.chance(0.02):
                self.legal_reset()

    def state(self) -> Any:
        try:
            return self.batch.get_state()
        except RuntimeError:
            return None


if __name__ == "__main__":
    attacker = Attacker(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    attacker.run(int(sys.argv[1]))
    print(f"accepted={attacker.accepted} refused={attacker.refused}")
