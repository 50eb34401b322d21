"""Which training images do harm? Fisher information and influence functions over all ranks.

Gives 60 of 1,200 handwritten digits a wrong label, trains a softmax classifier on all of them by Fisher's
scoring, and asks of each image: by how much would the loss of 597 other images change, had it been left out?
To first order that is the gradient of its loss, through the inverse of the Fisher information (Koh and Liang,
"Understanding black-box predictions via influence functions", ICML 2017). For each 10th image the answer is
checked by training again without it. Most of the wrong labels must be among the 60 most harmful images. The
picture goes to examples/out/influence.png. Run it on any number of ranks:

    mpiexec -n 4 python examples/influence.py
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch.func import grad, jacrev
from torch.nn.functional import cross_entropy

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "influence.png"
TRAINING, WRONG, RIDGE, STEPS = 1200, 60, 1.0, 7
CORRELATION, FOUND = 0.99, 0.8  # what must be reached


def loss(image: torch.Tensor, label: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross entropy of one image (64 pixels and a constant) and its label, or the mean of several."""
    return cross_entropy(image @ weights.view(65, 10), label)


gradient = grad(loss, argnums=2)


def scores(image: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The 10 x 650 gradients of the log-probabilities of all labels, each times the root of its probability.

    The sum of their products is the image's Fisher information, and here the Hessian of its loss. (With the
    given labels alone, which are in part wrong, it would not be.)
    """

    def log_probabilities(weights: torch.Tensor) -> torch.Tensor:
        return (image @ weights.view(65, 10)).log_softmax(0)

    return torch.exp(log_probabilities(weights) / 2)[:, None] * jacrev(log_probabilities)(weights)


def train(images: ms.DNDarray, labels: ms.DNDarray) -> tuple[ms.DNDarray, ms.DNDarray, ms.DNDarray]:
    """The weights, their Fisher information, and the gradient of each image's loss, by Fisher's scoring."""
    weights = ms.zeros(650, dtype=torch.float64)
    for _ in range(STEPS):
        gradients = ms.vmap(gradient).one(images, labels, weights)
        rows = ms.vmap(scores).one(images, weights)
        rows = rows.reshape(-1, 650)
        fisher = rows.T @ rows + RIDGE * ms.eye(650, dtype=torch.float64)  # one allreduce
        slope = gradients.sum(axis=0) + RIDGE * weights
        weights = weights - ms.linalg.solve(fisher, slope)
    return weights, fisher, gradients


def retrained(
    left: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, inverse: torch.Tensor
) -> torch.Tensor:
    """The weights from training without the image of that number, from those with it."""

    def total(weights: torch.Tensor) -> torch.Tensor:
        each = cross_entropy(images @ weights.view(65, 10), labels, reduction="none")
        return each.sum() - each[left] + RIDGE / 2 * (weights @ weights)

    for _ in range(4):  # Newton's method; one image of 1,200 hardly changes the Hessian
        weights = weights - inverse @ grad(total)(weights)
    return weights


def draw(
    predicted: torch.Tensor, actual: torch.Tensor, wrong: torch.Tensor, titles: list[str], worst: torch.Tensor
) -> None:
    """Save the predicted and the actual changes, and the most harmful images under their titles."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure = plt.figure(figsize=(12.5, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.25])
    axis = left.subplots()
    for chosen, label in ((~wrong, "right label"), (wrong, "wrong label, planted")):
        axis.plot(1e3 * predicted[chosen], 1e3 * actual[chosen], "o", markersize=5, alpha=0.8, label=label)
    axis.axline((0, 0), slope=1, color="black", linewidth=1, zorder=0)
    axis.set(xlabel="predicted by influence (1/1000)", ylabel="after training again (1/1000)")
    axis.set_title("Change of the other images' loss without one")
    axis.legend(frameon=False)
    for title, image, axis in zip(titles, worst, right.subplots(3, 5).flat, strict=True):
        axis.imshow(image.view(8, 8), cmap="gray_r")
        axis.set_title(title, fontsize=9, color="C1" if ", is" in title else "black")
        axis.axis("off")
    right.suptitle("The 15 most harmful images and their labels")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    data = load_digits()
    generator = torch.Generator().manual_seed(0)  # the same on every rank
    order = torch.randperm(len(data.target), generator=generator)
    pixels = torch.from_numpy(data.data)[order] / 16
    pixels = torch.cat([pixels, torch.ones(len(pixels), 1, dtype=pixels.dtype)], 1)
    truth = torch.from_numpy(data.target)[order]
    given = truth.clone()
    planted = torch.randperm(TRAINING, generator=generator)[:WRONG]
    given[planted] = (given[planted] + torch.randint(1, 10, (WRONG,), generator=generator)) % 10

    images, others = ms.array(pixels[:TRAINING], split=0), ms.array(pixels[TRAINING:], split=0)
    labels, other_labels = ms.array(given[:TRAINING], split=0), ms.array(given[TRAINING:], split=0)
    weights, fisher, gradients = train(images, labels)

    # Without image i the weights move by the i-th column of this, and the others' loss along their slope.
    moves = ms.linalg.solve(fisher, gradients.T)
    other_gradients = ms.vmap(gradient).one(others, other_labels, weights)
    changes = other_gradients.mean(axis=0) @ moves
    ranking = ms.argsort(changes)  # the most harmful first: without them the loss falls the most

    chosen = ranking[::10]
    whole = {"images": pixels[:TRAINING], "labels": given[:TRAINING]}
    again = ms.vmap(retrained, chunk_size=16).one(chosen, **whole, weights=weights, inverse=ms.linalg.inv(fisher))
    rest = pixels[TRAINING:], given[TRAINING:]
    losses = ms.vmap(lambda weights: loss(*rest, weights)).one(again)

    predicted, order, numbers, after = (x.torch() for x in (changes, ranking, chosen, losses))
    if images.comm.rank > 0:
        return 0  # the check is rank 0's
    before = float(loss(*rest, weights.larray))
    actual = after - before
    is_wrong = given != truth
    correlation = float(torch.corrcoef(torch.stack([predicted[numbers], actual]))[0, 1])
    worst = order[:WRONG]
    found = int(is_wrong[worst].sum())
    good = correlation >= CORRELATION and found >= FOUND * WRONG
    titles = [f"labelled {given[i]}" + (f", is {truth[i]}" if is_wrong[i] else "") for i in worst[:15]]
    draw(predicted[numbers], actual, is_wrong[numbers], titles, pixels[worst[:15], :64])
    print(f"images on each rank: {images.counts}")
    print(f"loss of the {len(others)} other images: {before:.4f}; the most harmful training images:\n")
    print("image  label  is  change without it")
    for i in worst[:8].tolist():
        print(f"{i:5}  {given[i]:5}  {truth[i]:2}  {predicted[i]:17.5f}")
    print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
    print(f"{found} of {WRONG} wrong labels are among the {WRONG} most harmful (at least {FOUND:.0%} must be)")
    print(f"correlation with training {len(chosen)} times again: {correlation:.4f} (at least {CORRELATION:g})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
