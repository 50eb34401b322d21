"""Which digits have a covariance that cannot be factored? A sample fails on one rank, all ranks repair it.

Describes each of the ten handwritten digits that scikit-learn ships by a normal distribution of 16 features, the
ink in blocks of 2 x 2 pixels, estimated from 40 images. Where a block is white in all of a digit's images, the
covariance is singular, and Cholesky's method fails for it, on the rank that holds it. All ranks catch the same
error, read from it which digit it was, shrink that covariance towards the mean of all (as in regularized
discriminant analysis, Friedman 1989), and try again. The factors must equal those of torch in one process, and
tell three of four other images right. The picture goes to examples/out/repaired.png. Run it on any number of
ranks:

    mpiexec -n 4 python examples/repair.py
"""

import sys
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "repaired.png"
ROWS, SHRINKAGE = 40, 0.1  # images per digit; weight of the mean covariance
RIGHT, TOLERANCE = 0.75, 1e-10


def covariance(rows: torch.Tensor) -> torch.Tensor:
    """Covariance of the columns of one digit's features."""
    rows = rows - rows.mean(0)
    return rows.T @ rows / (len(rows) - 1)


def shrunk(matrix: Any, mean: Any) -> Any:
    """A covariance, or several, closer to their mean: tensors or DNDarrays."""
    return (1 - SHRINKAGE) * matrix + SHRINKAGE * mean


def factored(covariances: ms.DNDarray, mean: ms.DNDarray) -> tuple[ms.DNDarray, list[int]]:
    """The Cholesky factors, and which covariances had to be repaired for that, in place. Collective."""
    repaired: list[int] = []
    while True:
        try:
            factors = ms.vmap(torch.linalg.cholesky).one(covariances)
        except torch.linalg.LinAlgError as error:  # the same on every rank, wherever it came from
            [digit] = error.samples
            if digit in repaired:
                raise
            failed = covariances[digit]  # on every rank
            if covariances.comm.rank == 0:
                white = (failed.larray.diagonal() == 0).nonzero().flatten().tolist()
                print(f"digit {digit} failed on rank {error.rank}: blocks {white} are white in all its images")
            covariances[digit] = shrunk(failed, mean)
            repaired.append(digit)
        else:
            return factors, repaired


def guess(features: torch.Tensor, means: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """The digit whose normal distribution is densest at the features of one image."""
    white = torch.linalg.solve_triangular(factors, (features - means)[..., None], upper=False).squeeze(-1)
    return (-(white**2).sum(-1) / 2 - factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)).argmax()


def in_one_process(rows: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """The same factors and repaired digits, by torch alone."""
    matrices = torch.stack([covariance(each) for each in rows])
    mean = matrices.mean(0)
    failed = torch.linalg.cholesky_ex(matrices).info.nonzero().flatten()
    matrices[failed] = shrunk(matrices[failed], mean)
    return torch.linalg.cholesky(matrices), failed.tolist()


def draw(features: torch.Tensor, factors: torch.Tensor, repaired: list[int]) -> None:
    """Save the mean ink of each digit, with a cross where all its images are white, and what was factored."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(2, 10, figsize=(13, 3.4), layout="constrained")
    for digit, (above, below) in enumerate(axes.T):
        above.imshow(features[digit].mean(0).view(4, 4), cmap="gray_r", vmin=0, vmax=16)
        rows, columns = (features[digit].var(0) == 0).view(4, 4).nonzero().T
        above.plot(columns, rows, "x", color="C3", markersize=10, markeredgewidth=2)
        below.imshow(factors[digit] @ factors[digit].T, cmap="RdBu_r", vmin=-12, vmax=12)
        above.set_title(f"{digit}, repaired" if digit in repaired else str(digit), fontsize=10)
        for axis in (above, below):
            axis.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("mean ink")
    axes[1, 0].set_ylabel("covariance")
    figure.suptitle("Where a block is white in all images of a digit, the digit's covariance is singular")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)


def main() -> int:
    data = load_digits()
    truth = torch.from_numpy(data.target)
    features = torch.from_numpy(data.images).view(-1, 4, 2, 4, 2).mean((2, 4)).flatten(1)
    known = torch.stack([(truth == digit).nonzero().flatten()[:ROWS] for digit in range(10)])
    others = torch.ones(len(truth), dtype=torch.bool)
    others[known] = False

    digits = ms.array(features[known], split=0)  # 10 digits x 40 images x 16 features
    covariances = ms.vmap(covariance).one(digits)
    mean = ms.array(covariances.comm.allreduce(covariances.larray.sum(0)) / 10)
    if digits.comm.rank == 0:
        print(f"digits on each rank: {digits.counts}")
    factors, repaired = factored(covariances, mean)

    images = ms.array(features[others], split=0)
    means = features[known].mean(1)
    whole = factors.torch()
    seen = ms.vmap(guess).one(images, means=means, factors=whole)

    answers = seen.torch()
    if digits.comm.rank > 0:
        return 0  # the check is rank 0's
    expected, failed = in_one_process(features[known])
    difference = float((whole - expected).abs().max())
    right = float((answers == truth[others]).double().mean())
    same = difference <= TOLERANCE and repaired == failed
    draw(features[known], whole, repaired)
    print(f"all {len(expected)} factored, once the covariances of {repaired} were repaired")
    print(f"{right:.1%} of {len(images)} other images are told right (at least {RIGHT:.0%} must be)")
    print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
    print(f"equals torch in one process within {TOLERANCE:.0e}: {'yes' if same else f'NO, {difference:.1e}'}")
    return 0 if same and right >= RIGHT else 1


if __name__ == "__main__":
    sys.exit(main())
