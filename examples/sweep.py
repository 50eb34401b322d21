"""Which learning rate and weight decay train best? A sweep over 192 small networks, all trained at once.

Each is a plain `torch.nn` module that learns from 1,200 of the handwritten digits that scikit-learn ships, in
small batches, with one of 12 learning rates and one of 8 weight decays, from one of two starts. A plain function
trains one network; `ms.vmap` trains them all, each rank its own. The best must tell 95% of the 597 other digits
right, and come out the same when torch trains it alone. The map goes to examples/out/sweep.png. Run it on any
number of ranks:

    mpiexec -n 4 python examples/sweep.py
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.func import functional_call, grad
from torch.nn.functional import cross_entropy

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "sweep.png"
RATES = torch.logspace(-2, 0.75, 12)
DECAYS = torch.logspace(-5, -1.5, 8)
STARTS, EPOCHS, BATCH, TRAINING = 2, 8, 50, 1200
RIGHT, TOLERANCE = 0.95, 1e-3
NETWORK = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
Parameters = dict[str, torch.Tensor]


def started(number: torch.Tensor) -> Parameters:
    """Random parameters of one network; its number only tells `ms.vmap` how many there are."""
    return {name: torch.randn(like.shape) / like.shape[-1] ** 0.5 for name, like in NETWORK.named_parameters()}


def loss(parameters: Parameters, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of one network."""
    return cross_entropy(functional_call(NETWORK, parameters, images), labels)


def trained(
    parameters: Parameters, rate: torch.Tensor, decay: torch.Tensor, images: torch.Tensor, labels: torch.Tensor
) -> Parameters:
    """One network's parameters after all epochs of gradient descent."""
    for _ in range(EPOCHS):
        for batch, answers in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            slopes = grad(loss)(parameters, batch, answers)
            parameters = {name: x - rate * (slopes[name] + decay * x) for name, x in parameters.items()}
    return parameters


def right(parameters: Parameters, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The part of the images that one network tells right."""
    return (functional_call(NETWORK, parameters, images).argmax(1) == labels).float().mean()


def draw(scores: torch.Tensor, best: int) -> None:
    """Save the map of scores, and the scores of all networks over their learning rates."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    percent = 100 * scores.view(len(RATES), len(DECAYS), STARTS)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.8), layout="constrained")
    shown = left.pcolormesh(RATES, DECAYS, percent.mean(2).T, vmin=60, vmax=100, cmap="viridis", shading="nearest")
    figure.colorbar(shown, ax=left, extend="min", label="other digits told right (%)")
    rate, decay = divmod(best // STARTS, len(DECAYS))
    left.plot(RATES[rate], DECAYS[decay], "*", color="black", markersize=14, label="best network")
    left.set(title=f"Means of {STARTS} starts", xscale="log", yscale="log")
    left.set(xlabel="learning rate", ylabel="weight decay")
    left.legend(loc="lower left")
    for column, decay in enumerate(DECAYS):
        color = plt.get_cmap("plasma")(column / len(DECAYS))
        right.plot(RATES, percent[:, column].mean(1), color=color, linewidth=1.5, label=f"{decay:.1e}")
        right.plot(RATES, percent[:, column], ".", color=color, markersize=4)
    right.set(title="Every network, and the means", xscale="log", ylim=(0, 100))
    right.set(xlabel="learning rate", ylabel="other digits told right (%)")
    right.legend(frameon=False, title="weight decay", loc="lower left", bbox_to_anchor=(0.1, 0.05), ncols=2)
    figure.suptitle(f"{scores.numel()} networks trained at once")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))  # the same on every rank
    pixels, truth = torch.from_numpy(data.data)[order].float() / 16, torch.from_numpy(data.target)[order]
    seen = {"images": pixels[:TRAINING], "labels": truth[:TRAINING]}
    others = {"images": pixels[TRAINING:], "labels": truth[TRAINING:]}

    ms.random.seed(0)
    grid = torch.cartesian_prod(RATES, DECAYS).repeat_interleave(STARTS, 0)
    rates, decays = (ms.array(column, split=0) for column in grid.T)
    numbers = ms.arange(len(grid), split=0)
    starts = ms.vmap(started, randomness="different")(numbers)  # a dict, as the function gives it
    networks = ms.vmap(trained)(starts, rates, decays, **seen)
    scores = ms.vmap(right).one(networks, **others)

    best = int(ms.argmax(scores))
    start, together = ({name: x[best].larray for name, x in each.items()} for each in (starts, networks))
    whole = scores.torch()
    if scores.comm.rank > 0:
        return 0  # the check is rank 0's
    alone = trained(start, *grid[best], **seen)
    difference = max(float((alone[name] - x).abs().max()) for name, x in together.items())
    same = difference <= TOLERANCE and bool((right(alone, **others) - whole[best]).abs() <= TOLERANCE)
    good = same and bool(whole[best] >= RIGHT)
    draw(whole, best)
    print(f"networks on each rank: {scores.counts}")
    print(f"{len(whole)} networks of {sum(x.numel() for x in alone.values())} parameters, of which the best")
    print(f"learned at rate {grid[best, 0]:.2f} with decay {grid[best, 1]:.0e}, and tells {whole[best]:.1%} right")
    print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
    print(f"the best tells at least {RIGHT:.0%} right: {'yes' if whole[best] >= RIGHT else 'NO'}")
    answer = "yes" if same else f"NO, {difference:.1e}"
    print(f"trained alone by torch it is the same within {TOLERANCE:.0e}: {answer}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
