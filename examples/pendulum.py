"""How long does a pendulum take to swing, or to turn over? A parameter sweep of an ODE over all ranks.

Lets 38,400 pendulums go, each from another angle at another speed, and follows each by the Runge-Kutta method of
order 4 to the times at which it comes through the bottom. Each period has to fit the exact one, an elliptic
integral, within 1e-4; the worst are those that all but stop upside down, whose period grows without bound. The map
of periods goes to examples/out/pendulum.png. Run it on any number of ranks:

    mpiexec -n 4 python examples/pendulum.py
"""

import math
import sys
from pathlib import Path

import torch

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "pendulum.png"
LENGTH, GRAVITY = 1.0, 9.81  # m, m/s^2
FREQUENCY = math.sqrt(GRAVITY / LENGTH)  # of small swings, in rad/s
ANGLES, SPEEDS, FASTEST = 240, 160, 10.0  # numbers of cells; rad/s
STEP, STEPS = 0.02, 225  # 4.5 s from one passage to the next: enough for the slowest of these pendulums
TOLERANCE = 1e-4  # relative


def advanced(state: torch.Tensor, time: torch.Tensor | float) -> torch.Tensor:
    """Angle and angular velocity that much later: a step of the classical Runge-Kutta method."""

    def slope(state: torch.Tensor) -> torch.Tensor:
        return torch.stack([state[1], -(FREQUENCY**2) * torch.sin(state[0])])

    first = slope(state)
    second = slope(state + time / 2 * first)
    third = slope(state + time / 2 * second)
    fourth = slope(state + time * third)
    return state + time / 6 * (first + 2 * second + 2 * third + fourth)


def passage(state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The state in which the pendulum next comes through the bottom, and the time until then."""
    state, time = advanced(state, STEP), torch.full_like(state[0], STEP)  # away from a passage just now
    for _ in range(STEPS):
        ahead = advanced(state, STEP)
        # The half angle's sine changes its sign at the bottom, however often the pendulum has turned over.
        # Where it would, the pendulum stays in its last state before.
        passes = torch.sin(state[0] / 2) * torch.sin(ahead[0] / 2) <= 0
        state, time = torch.where(passes, state, ahead), torch.where(passes, time, time + STEP)
    for _ in range(3):  # Newton's method, whose steps are steps in time
        angle = torch.remainder(state[0] + math.pi, 2 * math.pi) - math.pi
        rest = -angle / state[1]
        state, time = advanced(state, rest), time + rest
    return state, time


def period(state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The period in s of one pendulum, given its angle and angular velocity, and whether it turns over."""
    bottom, _ = passage(state)
    again, time = passage(bottom)
    over = bottom[1] * again[1] > 0
    return torch.where(over, time, 2 * time), over


def exact(energies: torch.Tensor) -> torch.Tensor:
    """Periods by the complete elliptic integral K, with K(k) = pi / (2 agm(1, sqrt(1 - k^2))).

    `energies` are multiples of the energy at rest upside down, above which a pendulum turns over.
    """
    over = energies > 1
    one, other = torch.ones_like(energies), torch.sqrt(1 - torch.where(over, 1 / energies, energies))
    for _ in range(10):  # doubles the correct digits each time
        one, other = (one + other) / 2, torch.sqrt(one * other)
    return 2 * math.pi / FREQUENCY / one / torch.where(over, 2 * torch.sqrt(energies), 1)


def draw(periods: torch.Tensor, energies: torch.Tensor) -> None:
    """Save the map of periods, and the periods over the energy with the exact curve."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 5.2), layout="constrained", gridspec_kw={"width_ratios": [1.35, 1]}
    )
    shown = left.imshow(
        periods.view(ANGLES, SPEEDS).T,
        extent=(-180, 180, -FASTEST, FASTEST),
        origin="lower",
        aspect="auto",
        cmap="magma",
        norm="log",
        vmax=5,
    )
    angle = torch.linspace(-math.pi, math.pi, 400)
    for sign in (-1, 1):
        edge = sign * 2 * FREQUENCY * torch.cos(angle / 2)
        left.plot(angle * 180 / math.pi, edge, color="white", linewidth=1, linestyle="--")
    for height, text in ((0, "swings"), (8, "turns over"), (-8, "turns over")):
        left.text(0, height, text, color="white", ha="center", va="center")
    left.set(
        title="Period by where the pendulum starts",
        xlabel="angle (degrees; 0 hangs down)",
        ylabel="angular velocity (rad/s)",
        xticks=range(-180, 181, 60),
    )
    ticks = [0.6, 1, 2, 3, 4, 5]
    bar = figure.colorbar(shown, ax=left, extend="max", ticks=ticks, format="%g", label="period (s)")
    bar.minorticks_off()

    for low, high in ((0.001, 1 - 1e-6), (1 + 1e-6, 4)):
        curve = torch.linspace(low, high, 2000, dtype=torch.float64)
        right.plot(curve, exact(curve), color="black", linewidth=1, label="elliptic integral" if low < 1 else None)
    some = energies.argsort()[::200]
    right.plot(energies[some], periods[some], ".", color="C1", label="Runge-Kutta, 1 of 200")
    small = 2 * math.pi / FREQUENCY
    right.axhline(small, color="gray", linewidth=1, linestyle=":", label=f"small swings: {small:.2f} s")
    right.set(
        title="It depends on the energy alone",
        xlabel="energy / energy at rest upside down",
        ylabel="period (s)",
        xlim=(0, 3),
        ylim=(0, 8.5),
    )
    right.legend(frameon=False)
    figure.suptitle(f"{len(periods):,} pendulums of {LENGTH:g} m")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    # The middles of cells: no pendulum starts at rest at the bottom or upside down, where it has no period.
    angle = (torch.arange(ANGLES, dtype=torch.float64) + 0.5) / ANGLES * 2 * math.pi - math.pi
    velocity = ((torch.arange(SPEEDS, dtype=torch.float64) + 0.5) / SPEEDS * 2 - 1) * FASTEST
    grid = torch.cartesian_prod(angle, velocity)
    states = ms.array(grid, split=0)

    # In chunks that fit into the caches, of a size that is measured; on a terminal it shows a bar.
    both = ms.vmap(period, chunk_size="auto", progress=True)(states)

    periods, over = (x.torch() for x in both)
    energies = torch.sin(grid[:, 0] / 2) ** 2 + (grid[:, 1] / (2 * FREQUENCY)) ** 2
    errors = (periods / exact(energies) - 1).abs()
    fine = bool((errors <= TOLERANCE).all()) and torch.equal(over, energies > 1)
    if states.comm.rank == 0:
        print(f"pendulums on each rank: {states.counts}")
        print(f"{int((~over).sum())} of {len(grid)} swing, {int(over.sum())} turn over; some of them:\n")
        print("angle (degrees)  velocity (rad/s)  energy  period (s)  exact (s)")
        for wanted in (0.01, 0.5, 0.9, 0.99, 0.999, 1.001, 1.1, 2.0, 3.0):
            i = int((energies - wanted).abs().argmin())
            start = f"{grid[i, 0] * 180 / math.pi:15.2f}  {grid[i, 1]:16.4f}  {energies[i]:6.3f}"
            print(f"{start}  {periods[i]:10.5f}  {exact(energies)[i]:9.5f}")
        draw(periods, energies)
        print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
        print(f"largest relative error of a period: {errors.max():.1e} (allowed: {TOLERANCE:.0e})")
        print(f"median: {errors.median():.1e}; those that turn over are those with the energy: {fine}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
