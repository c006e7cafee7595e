"""An LSTM's recurrence over distinct histories, with gradients: the C++ core's, for a CPU.

What it computes is `torch.nn.LSTM`, each history once. What is left to PyTorch are the products
that have no order: of inputs, and those that make the recurrent weight's gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from fastmaze.models.prefixes import Prefixes

if TYPE_CHECKING:
    from fastmaze._native import LstmLayer


def recur(inputs: Tensor, weight: Tensor, tree: Prefixes, *, own_inputs: bool = False) -> Tensor:
    """A layer's hidden states, float32 [R, F].

    Args:
        inputs: float32 [M, 4F], what inputs and biases add to the gates, in PyTorch's order.
        weight: float32 [4F, F], of the recurrence.
        tree: the histories; `tree.index` says which of the inputs each one's newest step has.
        own_inputs: that each has its own instead: M is R.
    """
    index = None if own_inputs else tree.index
    hidden: Tensor = _recur(inputs, weight, index, tree.parent, tree.bounds)[0]
    return hidden


def make_layer(weight: Tensor, groups: int) -> LstmLayer:
    """The core's layer with this recurrent weight, float32 [4F, F], as it is now.

    Args:
        weight: copied.
        groups: for at most so many groups of rows, each of which may have a thread.
    """
    from fastmaze._native import LstmLayer

    threads = max(1, min(torch.get_num_threads(), groups))
    return LstmLayer(weight.detach().contiguous().numpy(), num_threads=threads)


@torch.library.custom_op("fastmaze::recur", mutates_args=(), device_types="cpu")
def _recur(
    inputs: Tensor, weight: Tensor, index: Tensor | None, parent: Tensor, bounds: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden and cell states, [R, F], and gates, [R, 4F]."""
    R, F = len(parent), weight.shape[1]
    hidden, cell, gates = (inputs.new_empty(R, n * F) for n in (1, 1, 4))
    make_layer(weight, bounds.shape[1] - 1).forward(
        inputs.contiguous().numpy(), None if index is None else index.numpy(),
        parent.numpy(), bounds.numpy(),
        gates=gates.numpy(), cell=cell.numpy(), hidden=hidden.numpy(),
    )  # fmt: skip
    return hidden, cell, gates


@torch.library.custom_op(
    "fastmaze::recur_backward",
    mutates_args=("d_hidden", "d_cell", "gates", "d_inputs"),
    device_types="cpu",
)
def _recur_backward(
    weight: Tensor, index: Tensor | None, parent: Tensor, bounds: Tensor, cell: Tensor,
    d_hidden: Tensor, d_cell: Tensor, gates: Tensor, d_inputs: Tensor | None,
) -> None:  # fmt: skip
    """Turns gates into their gradients before activation; adds up those of inputs, [G, M, 4F]."""
    make_layer(weight, bounds.shape[1] - 1).backward(
        None if index is None else index.numpy(), parent.numpy(), bounds.numpy(),
        cell=cell.numpy(), gates=gates.numpy(), d_hidden=d_hidden.numpy(),
        d_cell=d_cell.numpy(), d_inputs=None if d_inputs is None else d_inputs.numpy(),
    )  # fmt: skip


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    given, *others = inputs
    ctx.num_inputs = len(given)
    ctx.save_for_backward(*others, *output)
    # Cells and gates are kept for the backward pass, and nobody's to differentiate.
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, d_output: Tensor, *_: object) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError("recur: expected no create_graph, it has no second derivative")
    weight, index, parent, bounds, hidden, cell, gates = ctx.saved_tensors
    d_hidden = d_output.clone(memory_format=torch.contiguous_format)
    d_inputs = None
    groups = bounds.shape[1] - 1
    if index is not None and groups * ctx.num_inputs <= len(gates):
        d_inputs = gates.new_zeros(groups, ctx.num_inputs, gates.shape[1])
    # Gates are written over: a second pass backward is refused by autograd.
    d_cell = torch.zeros_like(cell)
    _recur_backward(weight, index, parent, bounds, cell, d_hidden, d_cell, gates, d_inputs)
    first = int(bounds[0, -1])  # those of the first step have zeros before them
    d_weight = gates[first:].t() @ hidden.index_select(0, parent[first:])
    if d_inputs is not None:
        return d_inputs.sum(0), d_weight, None, None, None
    if index is None:
        return gates, d_weight, None, None, None
    # Nearly as many inputs as rows: added up once more, but in no memory for each group.
    summed = gates.new_zeros(ctx.num_inputs, gates.shape[1]).index_add_(0, index, gates)
    return summed, d_weight, None, None, None


_recur.register_autograd(_gradients, setup_context=_keep)


@register_flop_formula(torch.ops.fastmaze.recur)
def _recur_flops(
    inputs: Any, weight: Any, index: Any, parent: Any, *_: object, **__: object
) -> int:
    count: int = 2 * parent[0] * weight[0] * weight[1]
    return count


@register_flop_formula(torch.ops.fastmaze.recur_backward)
def _recur_backward_flops(weight: Any, index: Any, parent: Any, *_: object, **__: object) -> int:
    count: int = 2 * parent[0] * weight[0] * weight[1]
    return count
