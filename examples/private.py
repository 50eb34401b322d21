"""How well does a network learn if it must not remember anybody? Private training (DP-SGD) over all ranks.

Trains a small convolutional network on 1,200 of the handwritten digits that scikit-learn ships, and sees of them
only sums of gradients, each cut to length 1, with noise. So no single digit changes much of what comes out (Abadi
et al., "Deep learning with differential privacy", CCS 2016): how much, epsilon, follows from the noise and the
number of steps. It must tell 85% of the 597 other digits right. The picture goes to examples/out/private.png. Run
it on any number of ranks:

    mpiexec -n 4 python examples/private.py
"""

import math
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.func import functional_call, grad
from torch.nn.functional import cross_entropy

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "private.png"
TRAINING, STEPS, RATE, CLIP, NOISE, DELTA = 1200, 40, 1.0, 1.0, 8.0, 1e-5
RIGHT, EPSILON, TOLERANCE = 0.85, 5.0, 1e-12  # what must be reached
Parameters = dict[str, torch.Tensor]

torch.manual_seed(0)
LAYERS = nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)
NETWORK = nn.Sequential(*LAYERS).double().requires_grad_(False)


def logits(image: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """The network's ten numbers for one image (8 x 8 pixels)."""
    return functional_call(NETWORK, parameters, image[None, None])[0]


def clipped(image: torch.Tensor, label: torch.Tensor, parameters: Parameters) -> Parameters:
    """The gradient of one image's loss by all parameters, shortened to CLIP where it is longer."""
    slopes = grad(lambda given: cross_entropy(logits(image, given), label))(parameters)
    length = torch.cat([x.flatten() for x in slopes.values()]).norm()
    return {name: x * (CLIP / length).clamp(max=1) for name, x in slopes.items()}


def train(images: ms.DNDarray, labels: ms.DNDarray) -> dict[str, ms.DNDarray]:
    """Gradient descent by noisy sums, of 200 gradients at a time. Nothing else of the images leaves it."""
    parameters = {name: ms.array(x) for name, x in NETWORK.named_parameters()}
    optimiser = torch.optim.SGD([x.larray for x in parameters.values()], lr=RATE, momentum=0.5)
    for _ in range(STEPS):
        slopes = ms.vmap(clipped, out_dims="sum", chunk_size=200)(images, labels, parameters)
        for name, x in parameters.items():
            noise = CLIP * NOISE * ms.random.randn_like(x)  # the same on every rank
            x.grad = (slopes[name] + noise) / len(images)
        optimiser.step()
    return parameters


def draw(images: torch.Tensor, told: torch.Tensor, truth: torch.Tensor) -> None:
    """Save the first of the other digits, with what the network takes them for."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(4, 10, figsize=(9, 4.4), layout="constrained")
    for axis, image, answer, right in zip(axes.flat, images, told.tolist(), truth.tolist(), strict=False):
        axis.imshow(image, cmap="gray_r")
        axis.set_title(answer, color="black" if answer == right else "tab:red")
        axis.axis("off")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))  # the same on every rank
    pixels, truth = torch.from_numpy(data.images)[order] / 16, torch.from_numpy(data.target)[order]
    images, labels = ms.array(pixels[:TRAINING], split=0), ms.array(truth[:TRAINING], split=0)

    ms.random.seed(0)
    parameters = train(images, labels)
    seen = ms.vmap(logits).one(ms.array(pixels[TRAINING:], split=0), parameters)
    told = seen.torch().argmax(1)
    right = (told == truth[TRAINING:]).double().mean()
    # By zero-concentrated privacy (Bun and Steinke, TCC 2016) a step costs 1 / (2 NOISE^2).
    cost = STEPS / (2 * NOISE**2)
    epsilon = cost + 2 * math.sqrt(cost * math.log(1 / DELTA))

    ours = ms.vmap(clipped)(images, labels, parameters).values()
    whole = {name: x.larray for name, x in parameters.items()}
    torchs = torch.vmap(clipped, (0, 0, None))(pixels[:TRAINING], truth[:TRAINING], whole).values()
    flat, here = (torch.cat([x.flatten(1) for x in each], 1) for each in ((x.torch() for x in ours), torchs))
    checks = {
        f"at least {RIGHT:.0%} right": right >= RIGHT,
        f"epsilon at most {EPSILON:g}": epsilon <= EPSILON,
        f"no digit moves a sum by more than {CLIP:g}": flat.norm(dim=1).max() <= CLIP + TOLERANCE,
        f"equals torch.vmap in one process within {TOLERANCE:.0e}": (flat - here).abs().max() <= TOLERANCE,
    }
    if images.comm.rank == 0:
        draw(pixels[TRAINING:], told, truth[TRAINING:])
        print(f"digits on each rank: {images.counts}")
        print(f"{STEPS} steps with noise {NOISE:g} are ({epsilon:.2f}, {DELTA:.0e})-private")
        print(f"of {len(seen)} other digits {right:.1%} are told right")
        print(f"picture: {PICTURE.relative_to(Path(__file__).parent.parent)}\n")
        print("\n".join(f"{check}: {'yes' if is_met else 'NO'}" for check, is_met in checks.items()))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
