"""Structures of arguments and outputs, and the mapped axes of their leaves. In calls: `test_transform.py`."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch

import minisplit as ms
from minisplit.vmap.pytree import (
    OutDims,
    Unmapped,
    example_of,
    flatten_in_dims,
    flatten_inputs,
    flatten_outputs,
    input_labels,
    output_labels,
    structure_of,
    structure_text,
    unflatten_outputs,
    validate_dims,
)
from minisplit.vmap.single import SingleOutput

pytestmark = pytest.mark.serial


class Pair(NamedTuple):
    first: Any
    rest: Any


def tensors(*ndims: int) -> list[torch.Tensor]:
    return [torch.ones((2,) * ndim) for ndim in ndims]


@pytest.mark.parametrize(
    ("returned", "text", "labels"),
    [
        (torch.ones(1), "", ["0"]),
        ((torch.ones(1), torch.ones(2)), "", ["0", "1"]),
        ([torch.ones(1), torch.ones(2)], "[*, *]", ["0", "1"]),
        ({"b": torch.ones(1), "a": (torch.ones(2),)}, "{'b': *, 'a': (*,)}", ["'b'", "'a'[0]"]),
        (OrderedDict(z=torch.ones(1)), "OrderedDict({'z': *})", ["'z'"]),
        (Pair(torch.ones(1), [torch.ones(2)]), "Pair(first=*, rest=[*])", ["first", "rest[0]"]),
    ],
)
def test_a_structure_is_named_sent_and_built_again(returned: Any, text: str, labels: list[str]) -> None:
    leaves, structure = flatten_outputs(returned)
    # Python 3.11 and earlier write an OrderedDict as a list of pairs.
    assert structure_text(structure).replace("[('z', *)]", "{'z': *}") == text
    assert [label.lstrip(".") for label in output_labels(structure, len(leaves))] == labels
    assert structure_of(example_of(structure)) == structure
    built = unflatten_outputs(leaves, structure)
    assert type(built) is (SingleOutput if isinstance(returned, torch.Tensor) else type(returned))


def test_inputs_are_named_by_their_place() -> None:
    x = ms.ones(3)
    leaves, spec, others = flatten_inputs((x, {"weight": x, "bias": [x]}))
    assert (leaves, others) == ([x, x, x], {})
    assert input_labels(spec) == ["0", "1['weight']", "1['bias'][0]"]


def test_out_dims_are_asked_with_outputs_of_other_numbers_of_dimensions() -> None:
    """And with other structures: one object, whose cache must tell them apart."""
    last = OutDims(-1)
    assert last.flatten(None, tensors(1)) == (1,)
    assert last.flatten(None, tensors(2)) == (2,)
    assert last.flatten(2, tensors(0, 3)) == (0, 3)
    assert sorted(last.known.values()) == [(0, 3), (1,), (2,)]
    each = OutDims((0, -1))
    assert each.flatten(2, tensors(1, 1)) == (0, 1)
    assert each.flatten(2, tensors(1, 2)) == (0, 2)
    with pytest.raises(ValueError, match="are for 2 outputs, but func returned 3"):
        each.flatten(3, tensors(1, 1, 1))


def test_in_dims_count_from_the_end_of_each_input() -> None:
    assert flatten_in_dims(-1, None, [ms.ones((2, 3)), ms.ones(3)]) == (1, 0)
    assert flatten_in_dims((None, -2), None, [ms.ones(3), ms.ones((3, 2))]) == (None, 0)


def test_dims_are_validated() -> None:
    assert validate_dims([0, None], "in_dims") == (0, None)
    with pytest.raises(TypeError, match="every entry of in_dims must be an int or None, got True"):
        validate_dims((0, True), "in_dims")
    with pytest.raises(ValueError, match="out_dims must not be empty"):
        validate_dims((), "out_dims")


def test_what_is_not_mapped_knows_to_which_leaves_gradients_flow_back() -> None:
    weight = torch.ones(2, requires_grad=True)
    array = ms.ones(2)
    arrays, spec, others = flatten_inputs((array, {"n": 4, "w": weight}, array))
    assert arrays == [array, array]
    assert others == {1: 4, 2: weight}
    unmapped = Unmapped({"w": {"a": weight, "b": array}, "n": 3}, others, array.comm)
    assert unmapped.traced == [1, 2]
    assert unmapped.kwargs() == {"w": {"a": weight, "b": array.larray}, "n": 3}
    assert [x is y for x, y in zip(unmapped.tensors(), (weight, weight, array.larray), strict=True)] == [True] * 3
    first, second = torch.ones(2), torch.zeros(2)
    args = unmapped.args((first, second), spec)
    assert args[0] is first
    assert args[1] == {"n": 4, "w": weight}
    assert args[2] is second
