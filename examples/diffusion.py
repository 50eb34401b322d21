"""Which patterns grow where two substances react and spread? A partial differential equation, 48 times.

In the model of Gray and Scott one substance, fed at some rate, becomes another, u + 2 v -> 3 v, which is removed
at some rate; both diffuse. The two rates decide whether spots, stripes or mazes come of it (Pearson, "Complex
patterns in a simple system", Science 261, 1993). For each pair of rates there are 2,400 explicit steps on a
periodic grid. What is there in the end must be what was there at first and what was fed, less what was removed;
a wave that only diffuses must decay as the exact one; and one pair alone, on a grid whose rows are cut over the
ranks, must be the same: there each step exchanges the rows at the edges.
The picture goes to examples/out/diffusion.png. Run it on any number of ranks:

    mpiexec -n 4 python examples/diffusion.py
"""

import math
import sys
from pathlib import Path

import torch

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "diffusion.png"
FEEDS = torch.tensor([0.022, 0.028, 0.034, 0.040, 0.046, 0.054])  # per step
OFFSETS = torch.linspace(-0.002, 0.0064, 8)  # of the rate of removal from where steady states with v end
CELLS, STEPS = 56, 2400
DIFFUSION = torch.tensor([0.16, 0.08]).view(2, 1, 1)  # of u and v, in cells^2 per step
WAVE = 100.0  # height of a wave that falls to 0.8
TOLERANCE = 1e-3  # in units of the concentration that is fed


def started() -> torch.Tensor:
    """Concentrations of u and v, 2 x rows x columns: all u, with ten squares that have some v."""
    state = torch.stack([torch.ones(CELLS, CELLS), torch.zeros(CELLS, CELLS)])
    corners = torch.randint(CELLS - 6, (10, 2), generator=torch.Generator().manual_seed(1))
    for row, column in corners.tolist():
        state[:, row : row + 6, column : column + 6] = torch.tensor([0.5, 0.25]).view(2, 1, 1)
    return state


def simulated(feed: torch.Tensor, kill: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The state in the end, and all that was fed less all that was removed, per cell."""
    supplied = torch.zeros(())
    for _ in range(STEPS):
        u, v = state.unbind(0)
        reaction = u * v * v
        gain = torch.stack([feed * (1 - u) - reaction, reaction - (feed + kill) * v])
        vertical = state.roll(1, 1) + state.roll(-1, 1) - 2 * state
        horizontal = state.roll(1, 2) + state.roll(-1, 2) - 2 * state
        state = state + DIFFUSION * (vertical + horizontal) + gain
        supplied = supplied + gain.sum(0).mean()
    return state, supplied


def simulated_on_cut_grid(feed: torch.Tensor, kill: torch.Tensor, start: torch.Tensor) -> ms.DNDarray:
    """The state in the end on one grid, of which each rank has some rows."""

    def step(padded: torch.Tensor) -> torch.Tensor:
        state = padded[:, 1:-1, 1:-1]
        u, v = state.unbind(0)
        reaction = u * v * v
        gain = torch.stack([feed * (1 - u) - reaction, reaction - (feed + kill) * v])
        vertical = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] - 2 * state
        horizontal = padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:] - 2 * state
        return state + DIFFUSION * (vertical + horizontal) + gain

    state = ms.array(start, split=1)
    for _ in range(STEPS):
        state = ms.map_halo(step, state, 1, axis=(1, 2), mode="wrap")
    return state


def border(feeds: torch.Tensor) -> torch.Tensor:
    """The rate of removal beyond which the only steady state is u = 1, v = 0."""
    return feeds.sqrt() / 2 - feeds


def wave_error() -> float:
    """How far a wave of u that only diffuses is from the exact one, which keeps its form."""
    phases = 2 * math.pi / CELLS * torch.arange(CELLS).expand(CELLS, CELLS)
    wave = torch.stack([phases.cos(), torch.zeros(CELLS, CELLS)])
    ends, _ = simulated(torch.tensor(0.0), torch.tensor(0.0), WAVE * wave)
    decay = (1 - 2 * DIFFUSION[0].item() * (1 - math.cos(2 * math.pi / CELLS))) ** STEPS
    return float((ends - decay * WAVE * wave).abs().max())


def draw(states: torch.Tensor) -> None:
    """Save the concentrations of v, those of one feed in a row."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    tiles = states[:, 1].view(len(FEEDS), len(OFFSETS), CELLS, CELLS)
    framed = torch.nn.functional.pad(tiles, (1, 1, 1, 1), value=float("nan"))
    figure, axis = plt.subplots(figsize=(10.5, 7.6), layout="constrained")
    extent = (-0.5, len(OFFSETS) - 0.5, -0.5, len(FEEDS) - 0.5)
    image = framed.flip(0).permute(0, 2, 1, 3).flatten(0, 1).flatten(1)
    shown = axis.imshow(image, extent=extent, cmap="magma", vmin=0, vmax=0.4, interpolation="nearest")
    figure.colorbar(shown, ax=axis, shrink=0.8, label="concentration of v")
    axis.set_xticks(range(len(OFFSETS)), [f"{1000 * offset:+.1f}" for offset in OFFSETS])
    axis.set_yticks(range(len(FEEDS)), [f"{1000 * feed:.0f}" for feed in FEEDS])
    axis.set(
        xlabel="removal, from where steady states with v end (1/1000 per step)", ylabel="feed (1/1000 per step)"
    )
    axis.set_title(f"Gray and Scott's model after {STEPS:,} steps")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)


def main() -> int:
    feeds = FEEDS.repeat_interleave(len(OFFSETS))
    kills = border(feeds) + OFFSETS.repeat(len(FEEDS))
    start = started()  # the same on every rank
    # In chunks that fit into a cache.
    mapped = ms.vmap(simulated, chunk_size=16)
    ends, supplies = mapped(ms.array(feeds, split=0), ms.array(kills, split=0), state=start)

    middle = len(feeds) // 2
    alone = simulated_on_cut_grid(feeds[middle], kills[middle], start).torch()

    states, supplied = (x.torch() for x in (ends, supplies))
    if ends.comm.rank > 0:
        return 0  # the check is rank 0's
    missing = float(((states - start).sum(1).mean((1, 2)) - supplied).abs().max())
    errors = {
        "in the end there is what was fed, less what was removed": missing,
        "a wave that only diffuses decays as the exact one": wave_error(),
        "one pair of rates alone, its grid cut over the ranks, is the same": float(
            (alone - states[middle]).abs().max()
        ),
    }
    gone = int((states[:, 1].amax((1, 2)) <= TOLERANCE).sum())
    draw(states)
    print(f"pairs of rates on each rank: {ends.counts}")
    print(f"of {len(states)} pairs of rates {gone} leave nothing of v, {len(states) - gone} have patterns")
    print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
    for name, error in errors.items():
        answer = "yes" if error <= TOLERANCE else f"NO, {error:.1e}"
        print(f"{name}, within {TOLERANCE:.0e}: {answer}")
    return 0 if all(error <= TOLERANCE for error in errors.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
