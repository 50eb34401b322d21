"""Which handwritten digits does a small classifier find strangest? Per-sample gradients over all ranks.

Trains a softmax classifier on the 1,797 digits that scikit-learn ships by gradient descent, then takes the
gradient of the loss of every single digit: the longer it is, the more that digit would change the model. The
twelve longest are printed and drawn to examples/out/strangest-digits.png, and all gradients are compared with
`torch.vmap` in one process. The plan of that call says before it what moves. Run it on any number of ranks:

    mpiexec -n 4 python examples/digits.py
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch.func import grad

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "strangest-digits.png"
STEPS, RATE, TOLERANCE = 300, 1.0, 1e-5
Model = dict[str, torch.Tensor]


def loss(image: torch.Tensor, label: torch.Tensor, model: Model) -> torch.Tensor:
    """Cross entropy of one image (64 pixels) and its label."""
    logits = model["weight"] @ image + model["bias"]
    return torch.logsumexp(logits, 0) - logits.gather(0, label[None]).squeeze(0)


def flat_gradient(image: torch.Tensor, label: torch.Tensor, model: Model) -> torch.Tensor:
    """Gradient of one image's loss by the 650 parameters."""
    gradient = grad(loss, argnums=2)(image, label, model)
    return torch.cat([gradient["weight"].flatten(), gradient["bias"]])


def guess(image: torch.Tensor, label: torch.Tensor, model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    """The digit that the model sees, and whether it is the right one."""
    seen = (model["weight"] @ image + model["bias"]).argmax()
    return seen, seen == label


def train(images: ms.DNDarray, labels: ms.DNDarray) -> Model:
    """Gradient descent on the mean loss: each rank maps its own digits, one allreduce adds them up."""
    model = {"weight": torch.zeros(10, 64), "bias": torch.zeros(10)}
    gradients = ms.vmap(flat_gradient)
    for _ in range(STEPS):
        each = gradients.one(images, labels, model=model)
        mean = images.comm.allreduce(each.larray.sum(0)) / len(labels)
        model["weight"] = model["weight"] - RATE * mean[:640].view(10, 64)
        model["bias"] = model["bias"] - RATE * mean[640:]
    return model


def uneven(counts: tuple[int, ...]) -> list[int]:
    """Other counts for as many digits, as if a reader had dealt them out by its own rule."""
    return [count // 2 for count in counts[:-1]] + [sum(counts) - sum(count // 2 for count in counts[:-1])]


def draw(pixels: torch.Tensor, titles: list[str]) -> None:
    """Save the images, four in a row, each under its title."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(3, 4, figsize=(7, 6.4), layout="constrained")
    for axis, image, title in zip(axes.flat, pixels, titles, strict=True):
        axis.imshow(image.view(8, 8), cmap="gray_r")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.suptitle("The twelve digits with the longest loss gradients")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=120)


def main() -> int:
    data = load_digits()
    pixels = torch.from_numpy(data.data).float() / 16
    truth = torch.from_numpy(data.target)

    # Pixels lie along the first axis here, so the images are split along the second;
    # the labels come in other counts, and vmap moves them to where their images are.
    images = ms.array(pixels.T, split=1)
    labels = ms.array(truth, split=0)
    labels = labels.redistribute(uneven(labels.counts))

    model = train(images, labels.balance())
    seen, right = ms.vmap(guess)(images, labels, model=model)
    gradients = ms.vmap(flat_gradient)
    if images.comm.rank == 0:
        print(f"{gradients.plan(images, labels, model=model)}\n")  # what the next line will do
    each = gradients.one(images, labels, model=model)
    norms = ms.vmap(torch.linalg.vector_norm).one(each)

    here = torch.vmap(lambda image, label: flat_gradient(image, label, model))(pixels, truth)
    difference = float((each.torch() - here).abs().max())
    norm, answers, hits = (x.torch() for x in (norms, seen, right))
    strangest = norm.argsort(descending=True)[:12]

    if images.comm.rank == 0:
        print(f"digits on each rank: {images.counts}; the labels came as {labels.counts}")
        print(f"{hits.float().mean():.1%} of {len(truth)} are seen right; the strangest:\n")
        print("digit  gradient norm  is  seen as")
        for index in strangest.tolist():
            print(f"{index:5}  {norm[index]:13.3f}  {truth[index]:2}  {answers[index]:7}")
        titles = [f"#{i}: a {truth[i]}, seen as {answers[i]}" for i in strangest.tolist()]
        draw(pixels[strangest], titles)
        print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
        print(f"largest difference from torch.vmap in one process: {difference:.1e} (allowed: {TOLERANCE:.0e})")
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
