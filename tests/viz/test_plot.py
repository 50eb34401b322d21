"""`plot_layout`: a panel for each array, in it a part for each rank."""

from __future__ import annotations

from typing import Any

import pytest

import minisplit as ms


def test_layouts_are_drawn(comm: ms.Communication, size: int) -> None:
    x = ms.zeros((8, 4), split=0)
    figure = ms.plot_layout(x, ms.Layout((8, 4), 1, 3), ms.Layout((7,), 0, 40), names=("a", "b", "c"))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"a: {x.layout}", "b: (8, 4) split 1 over 3 ranks", "c: (7,) split 0 over 40 ranks"]
    assert [len(axes.patches) for axes in figure.axes] == [min(size, 8), 3, 7]


@pytest.mark.serial
def test_arrays_of_three_axes_are_drawn_as_boxes() -> None:
    counts = (0, 3, 2)
    for split, slabs in ((0, 2), (1, 2), (2, 2), (None, 1)):
        layout = ms.Layout((5, 5, 5), split, 3, None if split is None else counts)
        [axes] = ms.plot_layout(layout).axes
        assert len(axes.patches) == 3 * slabs
        names = [text.get_text() for text in axes.texts]
        assert sorted(names) == (["all of it on every rank"] if split is None else ["1", "2"])
    [empty] = ms.plot_layout(ms.Layout((0, 5, 5), 0, 3)).axes
    assert not empty.patches


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (ms.plot_layout, ValueError, "at least one array"),
        (lambda: ms.plot_layout(3), TypeError, "got int"),
        (lambda: ms.plot_layout(ms.zeros(2), names=("a", "b")), ValueError, "a name for each of 1 arrays, got 2"),
    ],
)
def test_what_cannot_be_shown(call: Any, kind: type[Exception], match: str, raises_alike: Any) -> None:
    with raises_alike(kind, match=match):
        call()
