"""Turns what `compare.py` measured on 1, 2 and 4 ranks into one table, one JSON file and a picture.

python benchmarks/report.py benchmarks/out
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OURS, PEERS = "minisplit", ("Heat", "DTensor", "JAX")
SHOWN = (
    "vmap: small aligned call",
    'vmap: memory-bound, chunk_size="auto"',
    "resplit: 0 to 1, 4000^2 float32",
    "resplit: 1 to None, 4000^2 float32",
    "elementwise: (a + 1) + b, (100, 10)",
    "reductions: a.sum(), 4000^2",
    "sort: 10^6 float32",
)


def limit_of(row: dict[str, Any]) -> float | None:
    """Microseconds of the fastest limit."""
    return min((row["us"][name] for name in row["limits"]), default=None)


def shown(us: float | None) -> str:
    if us is None:
        return "-"
    value, unit = (us, "us") if us < 1000 else (us / 1000, "ms")
    return f"{value:.{0 if value >= 100 else 1}f} {unit}"


def line(row: dict[str, Any]) -> str:
    limit, ours = limit_of(row), row["us"][OURS]
    low, high = row["quartiles"][OURS]
    ratio = f"{ours / limit:.2f}" if limit else "-"
    missed = bool(limit and row["target"] and ours / limit > row["target"])
    target = f"{row['target']}{' missed' * missed}" if row["target"] else ""
    cells = [
        row["name"],
        f"{shown(ours)} ({shown(low)} to {shown(high)})",
        shown(limit),
        ratio,
        target,
        *[shown(row["us"].get(peer)) for peer in PEERS],
    ]
    return f"| {' | '.join(cells)} |"


def table(job: dict[str, Any]) -> str:
    about = job["about"]
    versions = (
        f"torch {about['torch']}, {about['mpi']}, Heat {about['heat'] or 'not there'}, "
        f"JAX {about['jax'] or 'not there'}, Python {about['python']}"
    )
    parts = [f"## {about['ranks']} ranks", f"{about['machine']}, {about['cpus']} CPUs; {versions}"]
    groups = dict.fromkeys(row["group"] for row in job["rows"])
    for group in groups:
        rows = [line(row) for row in job["rows"] if row["group"] == group]
        head = [group, "minisplit: median (quartiles)", "limit", "over limit", "target", *PEERS]
        parts.append(as_table(head, rows))
    if job["memory"]:
        cells = [[row["name"], *[kept(row, who) for who in (OURS, "torch.vmap", *PEERS)]] for row in job["memory"]]
        lines = [f"| {' | '.join(line)} |" for line in cells]
        parts.append(as_table(["peak memory", OURS, "torch.vmap", *PEERS], lines))
    return "\n\n".join(parts)


def kept(row: dict[str, Any], who: str) -> str:
    value = row["times"].get(who)
    return "-" if value is None else f"{value:.2f}"


def as_table(head: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join([f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *lines])


def scaling(jobs: Sequence[dict[str, Any]]) -> str:
    """How times grow with the number of ranks."""
    names = [row["name"] for row in jobs[0]["scaling"]]
    times = [{row["name"]: row["us"][OURS] for row in job["scaling"]} for job in jobs]
    first = jobs[0]["about"]["ranks"]
    lines = []
    for name in names:
        cells = [f"{shown(each[name])} ({each[name] / times[0][name]:.2f})" for each in times if name in each]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    head = ["scaling", *[f"{job['about']['ranks']} ranks" for job in jobs]]
    cores = jobs[0]["about"]["cpus"]
    about = f"Times, and over that on {first} rank in brackets, on {cores} cores."
    about += " Strong: the same problem on any number of ranks. Weak: as much for each."
    return f"## Scaling\n\n{about}\n\n{as_table(head, lines)}"


def picture(jobs: list[dict[str, Any]], path: Path) -> None:
    """Times of minisplit and its peers over the limit, on more than one rank, where there is something to send."""
    jobs = [job for job in jobs if job["about"]["ranks"] > 1 and job["rows"]] or jobs
    import matplotlib as mpl  # noqa: PLC0415 - the table does not need it

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(jobs), figsize=(4.2 * len(jobs), 4.5), sharey=True, layout="constrained")
    marks = {
        OURS: ("o", "tab:blue"),
        "Heat": ("s", "tab:red"),
        "DTensor": ("^", "tab:orange"),
        "JAX": ("v", "tab:green"),
    }
    for job, ax in zip(jobs, axes if len(jobs) > 1 else [axes], strict=True):
        rows = {f"{row['group']}: {row['name']}": row for row in job["rows"]}
        for place, name in enumerate(reversed(SHOWN)):
            row = rows.get(name)
            limit = row and limit_of(row)
            for who, (mark, colour) in marks.items():
                if limit and who in row["us"]:
                    ax.plot(row["us"][who] / limit, place, mark, color=colour, label=who if not place else None)
        ax.axvline(1, color="grey", lw=1)
        ax.set(xscale="log", xlabel="time over the limit", title=f"{job['about']['ranks']} ranks")
        ax.set_yticks(range(len(SHOWN)), reversed(SHOWN))
        ax.grid(axis="y", alpha=0.3)
    handles = [
        plt.Line2D([], [], marker=mark, color=colour, ls="", label=who) for who, (mark, colour) in marks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


def main() -> None:
    folder = Path(sys.argv[1])
    files = sorted(folder.glob("ranks-*.json"))
    jobs = sorted([json.loads(file.read_text()) for file in files], key=lambda job: job["about"]["ranks"])
    imported = json.loads((folder / "imports.json").read_text())
    seconds = ", ".join(f"{who} {t:.2f} s" if t else f"{who} -" for who, t in imported["times"].items())
    parts = [f"# What `dev.py bench` measured\n\n{imported['name']}: {seconds} (target {imported['target']} s)"]
    parts += [table(job) for job in jobs if job["rows"] or job["memory"]]
    parts += [scaling(jobs)] * bool(jobs[0]["scaling"])
    text = "\n\n".join(parts) + "\n"
    (folder / "results.md").write_text(text)
    (folder / "results.json").write_text(json.dumps({"import": imported, "jobs": jobs}, indent=1))
    picture(jobs, folder / "results.png")
    print(text)


if __name__ == "__main__":
    main()
