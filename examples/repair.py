"""Which digits have a covariance that cannot be factored? A sample fails on one rank, all ranks repair it.

Describes each of the ten handwritten digits that scikit-learn ships by a normal distribution of 16 features, the
ink in blocks of 2 x 2 pixels, estimated from 40 images. Where a block is white in all of a digit's images, the
covariance is singular, and Cholesky's method fails for it, on the rank that holds it. All ranks catch the same
error, read from it which digit it was, shrink that covariance towards the mean of all (as in regularized
discriminant analysis, Friedman 1989), and try again. The factors must equal those of torch in one process, and
tell three of four other images right. Run it on any number of ranks:

    mpiexec -n 4 python examples/repair.py
"""

import sys
from typing import Any

import torch
from sklearn.datasets import load_digits

import minisplit as ms

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
            (factors,) = ms.vmap(torch.linalg.cholesky)(covariances)
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


def main() -> int:
    data = load_digits()
    truth = torch.from_numpy(data.target)
    features = torch.from_numpy(data.images).view(-1, 4, 2, 4, 2).mean((2, 4)).flatten(1)
    known = torch.stack([(truth == digit).nonzero().flatten()[:ROWS] for digit in range(10)])
    others = torch.ones(len(truth), dtype=torch.bool)
    others[known] = False

    digits = ms.array(features[known], split=0)  # 10 digits x 40 images x 16 features
    (covariances,) = ms.vmap(covariance)(digits)
    mean = ms.array(covariances.comm.allreduce(covariances.larray.sum(0)) / 10)
    if digits.comm.rank == 0:
        print(f"digits on each rank: {digits.counts}")
    factors, repaired = factored(covariances, mean)

    images = ms.array(features[others], split=0)
    means = features[known].mean(1)
    (seen,) = ms.vmap(guess)(images, means=means, factors=torch.from_numpy(factors.numpy()))

    expected, failed = in_one_process(features[known])
    difference = float((torch.from_numpy(factors.numpy()) - expected).abs().max())
    right = float((torch.from_numpy(seen.numpy()) == truth[others]).double().mean())
    same = difference <= TOLERANCE and repaired == failed
    if digits.comm.rank == 0:
        print(f"all {len(expected)} factored, once the covariances of {repaired} were repaired")
        print(f"{right:.1%} of {len(images)} other images are told right (at least {RIGHT:.0%} must be)")
        print(f"equals torch in one process within {TOLERANCE:.0e}: {'yes' if same else f'NO, {difference:.1e}'}")
    return 0 if same and right >= RIGHT else 1


if __name__ == "__main__":
    sys.exit(main())
