"""Can a network be taught to learn a wave from ten points? Gradients through an inner training, over all ranks.

Each task is a sine wave of its own height and phase. A network's start is trained so that from it three steps of
gradient descent, on ten points of any wave, lead to that wave (Finn et al., "Model-agnostic meta-learning for fast
adaptation of deep networks", ICML 2017). A plain function does one task: it trains, and returns the loss at other
points. `ms.vmap` maps it over the tasks, each rank its own, and `backward()` goes through all inner steps. The
gradient is compared with finite differences. The picture goes to examples/out/maml.png. Run it on any number of
ranks:

    mpiexec -n 4 python examples/maml.py
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn.functional import mse_loss

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "maml.png"
STEPS, TASKS, RATE, POINTS = 200, 32, 0.005, 10
INNER_STEPS, INNER_RATE = 3, 0.02
STEP, ENOUGH, TOLERANCE = 1e-5, 0.4, 1e-6  # of a difference, and what must be reached
Parameters = dict[str, torch.Tensor]

torch.manual_seed(0)
LAYERS = nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1)
NETWORK = nn.Sequential(*LAYERS).double().requires_grad_(False)


def loss(parameters: Parameters, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return mse_loss(functional_call(NETWORK, parameters, x[:, None])[:, 0], y)


def trained(height: torch.Tensor, phase: torch.Tensor, seen: torch.Tensor, parameters: Parameters) -> Parameters:
    """The parameters after a few steps on points of one wave."""
    for _ in range(INNER_STEPS):
        slopes = grad(loss)(parameters, seen, height * torch.sin(seen + phase))
        parameters = {name: x - INNER_RATE * slopes[name] for name, x in parameters.items()}
    return parameters


def learn(height: torch.Tensor, phase: torch.Tensor, points: torch.Tensor, start: Parameters) -> torch.Tensor:
    """Train on half of the points of one wave, and return the loss at the others."""
    seen, others = points.chunk(2)
    return loss(trained(height, phase, seen, start), others, height * torch.sin(others + phase))


def waves(count: int) -> list[ms.DNDarray]:
    """Heights, phases and points: the same for every number of ranks."""
    ranges = (0.1, 5.0, count), (0.0, torch.pi, count), (-5.0, 5.0, (count, 2 * POINTS))
    return [ms.random.uniform(*each, dtype=torch.float64, split=0) for each in ranges]


def mean_loss(start: dict[str, ms.DNDarray], tasks: list[ms.DNDarray]) -> ms.DNDarray:
    losses = ms.vmap(learn).one(*tasks, start)
    return losses.mean()


def draw(start: Parameters, height: torch.Tensor, phase: torch.Tensor, points: torch.Tensor) -> None:
    """Save what the network makes of the points of one wave, from the start that was trained and a random one."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    x, seen = torch.linspace(-5, 5, 200, dtype=torch.float64), points[:POINTS]
    figure, axis = plt.subplots(figsize=(8, 4.6), layout="constrained")
    axis.plot(x, height * torch.sin(x + phase), color="black", linewidth=1, label="wave")
    axis.plot(seen, height * torch.sin(seen + phase), "o", color="black", label=f"{POINTS} points of it")
    for name, begin in (("a random start", dict(NETWORK.named_parameters())), ("one trained for it", start)):
        after = trained(height, phase, seen, begin)
        axis.plot(x, functional_call(NETWORK, after, x[:, None])[:, 0], label=f"{INNER_STEPS} steps from {name}")
    axis.legend(frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    ms.random.seed(0)
    start = {name: ms.array(x).requires_grad_() for name, x in NETWORK.named_parameters()}
    new_waves = waves(400)
    before = float(mean_loss(start, new_waves))
    optimiser = torch.optim.Adam([x.larray for x in start.values()], lr=RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        mean_loss(start, waves(TASKS)).backward()
        optimiser.step()

    # How the loss changes along a direction: by its gradient, and by the difference of two losses.
    after = mean_loss(start, new_waves)
    slopes = torch.autograd.grad(after, list(start.values()))
    along = {name: ms.random.randn_like(x) for name, x in start.items()}
    slope = sum(float((x * y).sum()) for x, y in zip(slopes, along.values(), strict=True))
    ends = ({name: x.detach() + move * along[name] for name, x in start.items()} for move in (STEP, -STEP))
    rise = [float(mean_loss(end, new_waves)) for end in ends]
    error = abs((rise[0] - rise[1]) / (2 * STEP * slope) - 1)
    checks = {
        f"an error of at most {ENOUGH:g}": float(after) <= ENOUGH,
        f"the gradient is that of differences within {TOLERANCE:.0e}": error <= TOLERANCE,
    }
    wave = [each[0].torch() for each in new_waves]
    if after.comm.rank == 0:
        draw({name: x.larray.detach() for name, x in start.items()}, *wave)
        print(f"waves on each rank: {new_waves[0].counts}")
        print(f"error of {len(new_waves[0])} new waves, after {INNER_STEPS} steps on {POINTS} points of each:")
        print(f"{before:.3f} from a random start, {float(after):.3f} from one that was trained for it")
        print(f"picture: {PICTURE.relative_to(Path(__file__).parent.parent)}\n")
        print("\n".join(f"{check}: {'yes' if is_met else 'NO'}" for check, is_met in checks.items()))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
