"""What factories return where a mapped function writes into it. In calls: `execution/test_writing.py`."""

from __future__ import annotations

import pytest
import torch

from minisplit.vmap.functorch.factories import is_refused_write, with_room_for_samples
from minisplit.vmap.functorch.internals import mapped_levels

pytestmark = pytest.mark.serial


def test_what_is_made_has_an_axis_for_the_samples_of_each_level() -> None:
    def func(v: torch.Tensor) -> torch.Tensor:
        for made in (
            torch.zeros(2),
            torch.ones(2, dtype=torch.bool),
            v.new_empty(2),
            torch.tensor([1, 2]).clone(),
        ):
            assert len(mapped_levels(made)) == 1
            assert made.shape == (2,)
        leaf = torch.ones(2, requires_grad=True)
        assert not mapped_levels(torch.arange(3))
        assert torch.vmap(lambda a: a * len(mapped_levels(torch.zeros(2))))(v).shape == (3,)
        return torch.vmap(lambda a: torch.zeros(()).add_(a))(v) * leaf.sum()

    x = torch.arange(6.0).reshape(2, 3)
    torch.testing.assert_close(torch.vmap(with_room_for_samples(func))(x).detach(), x * 2)


def test_errors_that_are_about_writing() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.vmap(lambda v: torch.zeros(3).add_(v))(torch.ones(2, 3))
    assert is_refused_write(caught.value)
    assert not is_refused_write(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
