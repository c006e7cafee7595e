"""What the assembler said of a kernel, and what its machine code shows: two texts read.

The figures that matter are those of the hot loop, which is found in the flow of control and not in
the order of addresses: waits for the copy engine put short polling loops inside it, and their far
ends behind the kernel's exit, from where a branch leads back to the middle of the loop:

```
      L:   ...                  <-----.        a loop: nothing reaches its end but through L
           wait, or go to W  ---.     |
      M:   matrix products      |  <--|-.
           to L, while it lasts |  ---' |
           exit                 |       |
      W:   wait, or go to W   <-'       |      not one: M is also reached from above, past W
           to M                 --------'
```
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

MATRIX_OPCODES: Final = ("HGMMA", "HMMA")
"""Matrix products of whole warp groups (Hopper), and of single warps (the older form)."""

_INSTRUCTION: Final = re.compile(
    r"^\s+/\*(?P<address>[0-9a-f]{4,})\*/\s+(?P<guard>@!?U?P\w+\s+)?(?P<opcode>[A-Z][\w.]*)"
    r"(?P<operands>[^;]*);",
    re.MULTILINE,
)
_TARGET: Final = re.compile(r"0x([0-9a-f]+)\s*$")
_ENDS: Final = ("EXIT", "RET", "BRX", "JMX", "KILL")


@dataclass(frozen=True, slots=True)
class MachineCode:
    """One kernel, compiled."""

    registers: int
    """Of a thread."""
    spills: int
    """Bytes of a thread that do not fit the registers: stored, or loaded if that is more."""
    serialized: tuple[str, ...]
    """The assembler's codes for matrix products that wait for each other, e.g. "C7510"."""
    instructions: int
    hgmma: int
    hmma: int
    loop: int
    """Instructions of the innermost loop that holds matrix products; 0 if there is none."""


class Instruction(NamedTuple):
    """One line of a disassembly."""

    address: int
    guarded: bool
    """Whether only some threads, by a predicate, carry it out."""
    opcode: str
    """With its modifiers, e.g. "HGMMA.64x64x16.F32.BF16"."""
    operands: str

    @property
    def family(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]


def read_machine_code(log: str, disassembly: str) -> MachineCode:
    """Figures of one kernel.

    Args:
        log: what `ptxas -v` printed.
        disassembly: what `cuobjdump -sass` printed.

    Raises:
        ValueError: one of them has not the form that is known.
    """
    registers = re.search(r"Used (\d+) registers", log)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    if registers is None or not spills:
        raise ValueError(f"log: expected what `ptxas -v` prints, got {log[:200]!r}")
    instructions = parse_instructions(disassembly)
    if not instructions:
        raise ValueError(f"disassembly: expected instructions, got {disassembly[:200]!r}")
    families = Counter(instruction.family for instruction in instructions)
    # C7517 and C7519 tell of a wait that was added, which does not serialize the products.
    codes = re.findall(r"\((C75\d\d)\)[^\n]*serializ", log)
    return MachineCode(
        registers=int(registers[1]),
        spills=max(map(int, spills)),
        serialized=tuple(sorted(set(codes))),
        instructions=len(instructions),
        hgmma=families["HGMMA"],
        hmma=families["HMMA"],
        loop=hot_loop_length(instructions),
    )


def parse_instructions(disassembly: str) -> list[Instruction]:
    """The instructions of a disassembly, by address."""
    return [
        Instruction(
            int(m["address"], 16), m["guard"] is not None, m["opcode"], m["operands"].strip()
        )
        for m in _INSTRUCTION.finditer(disassembly)
    ]


def hot_loop_length(instructions: list[Instruction]) -> int:
    """Instructions of the shortest loop with matrix products, 0 if there is none.

    A branch at u back to h closes a loop if u is reached through h alone; the loop is what reaches
    u without passing h.
    """
    following = _following(instructions)
    preceding: list[list[int]] = [[] for _ in instructions]
    for i, targets in enumerate(following):
        for target in targets:
            preceding[target].append(i)
    lengths = []
    for end, targets in enumerate(following):
        for head in (target for target in targets if target <= end):
            if end in _reached(following, 0, head) and end != head:
                continue
            body = _reached(preceding, end, head) | {head}
            if any(instructions[i].family in MATRIX_OPCODES for i in body):
                lengths.append(len(body))
    return min(lengths, default=0)


def _following(instructions: list[Instruction]) -> list[list[int]]:
    """For each instruction the places of those that may be carried out after it."""
    place = {instruction.address: i for i, instruction in enumerate(instructions)}
    following = []
    for i, instruction in enumerate(instructions):
        branches = instruction.family in ("BRA", "JMP")
        # Also a branch without a guard may depend on a predicate among its operands.
        always = not instruction.guarded and ".DIV" not in instruction.opcode
        always = always and not re.match(r"!?U?P\d", instruction.operands)
        after = []
        if not (always and (branches or instruction.family in _ENDS)) and i + 1 < len(instructions):
            after.append(i + 1)
        target = _TARGET.search(instruction.operands) if branches else None
        if target is not None and int(target[1], 16) in place:
            after.append(place[int(target[1], 16)])
        following.append(after)
    return following


def _reached(edges: list[list[int]], start: int, without: int) -> set[int]:
    """What can be reached from `start` if no path goes through `without`."""
    if start == without:
        return set()
    reached, left = {start}, [start]
    while left:
        for i in edges[left.pop()]:
            if i != without and i not in reached:
                reached.add(i)
                left.append(i)
    return reached
