"""What small operations cost over torch on the shard, how many messages they send, and how long their code is.

    python3 dev.py run -n 2 benchmarks/operations_overhead.py

The arrays are aligned, (100, 10) float32. Times are medians in microseconds, of the slowest rank; the two sides
of a comparison are measured in turns. Lines are those of `minisplit/ops` but for blank ones, comments, docstrings.
"""

import ast
import io
import statistics
import time
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import minisplit as ms
from minisplit.testing import traffic

REPEATS, ROUNDS = 200, 40
FILES = sorted(Path(ms.ops.__file__).parent.rglob("*.py"))


def microseconds(call: Callable[[], Any]) -> float:
    """Mean time of one call in a round of `REPEATS`."""
    started = time.perf_counter()
    for _ in range(REPEATS):
        call()
    return (time.perf_counter() - started) / REPEATS * 1e6


def overheads(comm: ms.Communication) -> list[str]:
    a, b = ms.ones((100, 10), split=0), ms.ones((100, 10), split=0)
    x, y = a.larray, b.larray
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "a + b": (lambda: a + b, lambda: x + y),
        "a + 1": (lambda: a + 1, lambda: x + 1),
        "ms.sin(a)": (lambda: ms.sin(a), lambda: torch.sin(x)),
        "a.sum(axis=1)": (lambda: a.sum(axis=1), lambda: x.sum(1)),
        "a[:, 3]": (lambda: a[:, 3], x[:, 3].clone),
        "a @ c": (lambda: a @ c, lambda: x @ c.larray),
    }
    c = ms.ones((10, 4))
    lines = []
    for name, (ours, torchs) in pairs.items():
        times: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            comm.agree(np.zeros(1, dtype=np.int64))
            times.append((microseconds(ours), microseconds(torchs)))
        mine = [statistics.median(column) for column in zip(*times, strict=True)]
        whole = comm.allreduce(torch.tensor(mine, dtype=torch.float64), "max").tolist()
        lines.append(f"{name:>14}  {whole[0]:6.1f}  {whole[1]:6.1f}  {whole[0] - whole[1]:6.1f}")
    return lines


def messages() -> list[str]:
    a, b = ms.ones((100, 10), split=0), ms.ones((100, 10), split=0)
    calls: dict[str, Callable[[], Any]] = {
        "zeros(split=0)": lambda: ms.zeros((100, 10), split=0),
        "a + b": lambda: a + b,
        "a[3:10]": lambda: a[3:10],
        "a.sum()": a.sum,
        "a.sum(axis=1)": lambda: a.sum(axis=1),
        "a.mean()": a.mean,
        "a.var()": a.var,
        "a.argmax()": a.argmax,
        "a @ a.T": lambda: a @ a.T,
        "sort(a, axis=1)": lambda: ms.sort(a, axis=1),
        "sort(a, axis=0)": lambda: ms.sort(a, axis=0),
        "fft(a, axis=0)": lambda: ms.fft.fft(a, axis=0),
        "qr(a)": lambda: ms.linalg.qr(a),
    }
    lines = []
    for name, call in calls.items():
        with traffic() as seen:
            call()
        lines.append(f"{name:>16}  {seen.collectives}")
    return lines


def code_lines(file: Path) -> int:
    """Lines with code on them: without blank ones, comments and docstrings."""
    text = file.read_text()
    layout = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    skipped = {tokenize.COMMENT, *layout}
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in skipped]
    lines = {line for t in tokens for line in range(t.start[0], t.end[0] + 1)}
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def main() -> None:
    torch.set_num_threads(1)
    comm = ms.get_comm()
    times, sent = overheads(comm), messages()
    if comm.rank == 0:
        print(f"{comm.size} ranks\n{'':>14}    ours   torch  overhead, us", *times, sep="\n")
        print("collective calls", *sent, sep="\n")
        lines = sum(code_lines(file) for file in FILES)
        spaces = (ms, ms.linalg, ms.fft)
        public = {getattr(space, name) for space in spaces for name in space.__all__}
        made = [f for f in public if getattr(f, "__module__", "").startswith("minisplit.ops.")]
        print(f"{lines} lines of code in ops/, {len(made)} operations: {lines / len(made):.1f} lines each")


if __name__ == "__main__":
    main()
