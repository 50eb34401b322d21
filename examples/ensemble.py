"""Does a classifier know what it has never seen? An ensemble of 16 networks, trained side by side.

The networks learn the digits 0 to 7 that scikit-learn ships, from other starts. Their axis is split: each rank has
some of them, and one AdamW over the shards of their parameters trains all. Then they are asked about other digits,
8s and 9s among them. What they disagree on they do not know (Lakshminarayanan et al., "Simple and scalable
predictive uncertainty estimation using deep ensembles", NIPS 2017). The picture goes to examples/out/ensemble.png.
Run it on any number of ranks:

    mpiexec -n 4 python examples/ensemble.py
"""

import copy
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.nn.functional import cross_entropy

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "ensemble.png"
NETWORKS, KNOWN, TRAINING, STEPS, RATE = 16, 8, 1000, 150, 0.01
RIGHT, APART, TOLERANCE = 0.95, 0.9, 1e-6  # what must be reached
Parameters = dict[str, torch.Tensor]

torch.manual_seed(0)
STARTS = [nn.Sequential(nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, KNOWN)).double() for _ in range(NETWORKS)]
NETWORK = copy.deepcopy(STARTS[0]).to("meta")  # without parameters of its own


def loss(parameters: Parameters, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of one network."""
    return cross_entropy(functional_call(NETWORK, parameters, images), labels)


def beliefs(parameters: Parameters, images: torch.Tensor) -> torch.Tensor:
    """How likely one network finds each digit in each image."""
    return functional_call(NETWORK, parameters, images).softmax(1)


def entropy(likely: ms.DNDarray) -> ms.DNDarray:
    return -(likely * ms.log(likely)).sum(axis=-1)


def draw(doubt: torch.Tensor, known: int) -> None:
    """Save how much the networks disagree on digits that they know, and on others."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axis = plt.subplots(figsize=(8, 4.6), layout="constrained")
    for name, some in ((f"0 to {KNOWN - 1}", doubt[:known]), (f"{KNOWN} and 9, never seen", doubt[known:])):
        axis.hist(some, bins=torch.linspace(0, float(doubt.max()), 40), density=True, alpha=0.6, label=name)
    axis.set(xlabel="how much the networks disagree (nats)", ylabel="density", yscale="log")
    axis.legend(frameon=False, title="digits")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))  # the same on every rank
    pixels, truth = torch.from_numpy(data.data)[order] / 16, torch.from_numpy(data.target)[order]
    seen = {"images": pixels[truth < KNOWN][:TRAINING], "labels": truth[truth < KNOWN][:TRAINING]}
    others = torch.cat([pixels[truth < KNOWN][TRAINING:], pixels[truth >= KNOWN]])
    known = truth[truth < KNOWN][TRAINING:]  # the labels of the first of the others
    stacked, _ = stack_module_state(STARTS)
    networks = {name: ms.array(x.detach(), split=0).requires_grad_() for name, x in stacked.items()}
    optimiser = torch.optim.AdamW([x.larray for x in networks.values()], lr=RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        ms.vmap(loss).one(networks, **seen).sum().backward()
        optimiser.step()

    with torch.no_grad():
        each = ms.vmap(beliefs).one(networks, images=others)  # networks x images x digits, split along networks
        together = each.mean(axis=0)
        doubt = (entropy(together) - entropy(each).mean(axis=0)).torch()
        right = torch.cat([each.torch(), together.torch()[None]]).argmax(2)[:, : len(known)] == known
        last = {name: x.detach().torch()[-1] for name, x in networks.items()}
    if each.comm.rank > 0:
        return 0  # the check is rank 0's
    alone = copy.deepcopy(STARTS[-1])
    optimiser = torch.optim.AdamW(alone.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        cross_entropy(alone(seen["images"]), seen["labels"]).backward()
        optimiser.step()
    difference = max(float((x - last[name]).detach().abs().max()) for name, x in alone.named_parameters())
    *scores, score = right.double().mean(1)
    apart = float((doubt[len(known) :, None] > doubt[: len(known)]).double().mean())
    draw(doubt, len(known))
    print(f"networks on each rank: {each.counts}")
    print(f"of {len(known)} digits they tell {min(scores):.1%} to {max(scores):.1%} right, together {score:.1%}")
    print(f"in {apart:.1%} of pairs they doubt an 8 or 9 more than a digit that they know")
    print(f"picture: {PICTURE.relative_to(Path(__file__).parent.parent)}\n")
    checks = {
        f"at least {RIGHT:.0%} right, and {APART:.0%} of pairs": score >= RIGHT and apart >= APART,
        f"the last one, trained alone by torch, is the same within {TOLERANCE:.0e}": difference <= TOLERANCE,
    }
    print("\n".join(f"{check}: {'yes' if is_met else 'NO'}" for check, is_met in checks.items()))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
