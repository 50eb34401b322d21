"""Can 256 noisy, shaky photographs make one good one? Batched image registration over all ranks.

A burst of small photographs is taken of a flower that scikit-learn ships, each shifted by up to 6 pixels, turned
by up to 3 degrees, and with noise of known strength. Each is made to fit the first: phase correlation finds the
shift in whole pixels (Kuglin and Hines 1975), the method of Gauss and Newton what is left of shift and angle
(Lucas and Kanade 1981; Baker and Matthews 2004). Their mean is the reference of a second round. The motions must
be right within 0.3 pixels, and the mean 12 dB better than one photograph. The picture goes to
examples/out/registration.png. Run it on any number of ranks:

    mpiexec -n 4 python examples/registration.py
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_sample_image
from torch.nn.functional import avg_pool2d, grid_sample

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "registration.png"
FRAMES, SIZE, MARGIN = 256, 128, 16  # photographs of so many pixels; those near the edges are not compared
ROWS, COLUMNS = slice(20, 320), slice(170, 470)  # the part of the sample image that is seen
SHIFT, ANGLE, NOISE = 6.0, 0.05, 0.15  # pixels; radians; standard deviation where 1 is white
ROUNDS, STEPS = 2, 8
ERROR, GAIN = 0.3, 12.0  # pixels; dB


def grid(size: int) -> torch.Tensor:
    """Column and row of each pixel of a square, from its middle: size x size x 2."""
    line = torch.arange(size) - (size - 1) / 2
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def moved(places: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """Places turned by the motion's angle, which is its third number, and shifted by its columns and rows."""
    cos, sin = motion[2].cos(), motion[2].sin()
    x, y = places.unbind(-1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1) + motion[:2]


def sampled(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The colors of a square image, 3 x rows x columns, at places from its middle, interpolated."""
    return grid_sample(image[None], 2 / image.shape[-1] * places[None], align_corners=False)[0]


def photographed(motion: torch.Tensor, scene: torch.Tensor) -> torch.Tensor:
    """A photograph of the scene, with noise."""
    clean = sampled(scene, moved(grid(SIZE), motion))
    return clean + NOISE * torch.randn(clean.shape)


def gray(image: torch.Tensor) -> torch.Tensor:
    """Brightness, smoothed against the noise."""
    return avg_pool2d(image.mean(0, keepdim=True), 5, stride=1, padding=2, count_include_pad=False)[0]


def inner(image: torch.Tensor) -> torch.Tensor:
    """A photograph without its margin."""
    return image[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def shift(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """How many whole columns and rows further on the image has what the reference shows."""
    spectrum = torch.fft.fft2(image) * torch.fft.fft2(reference).conj()
    peak = torch.fft.ifft2(spectrum / (spectrum.abs() + 1e-6)).real.flatten().argmax()
    size = image.shape[-1]
    found = torch.stack([peak % size, peak // size])
    return torch.where(found > size // 2, found - size, found)


def registered(photograph: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The motion to the places at which the photograph has what the reference shows."""
    image, reference = gray(photograph), gray(reference)
    places = grid(len(reference))
    window = torch.hann_window(len(reference))  # so that the edges, where the shifted one goes on, do not count
    window = window[:, None] * window
    start = shift(window * (inner(image) - image.mean()), window * (reference - reference.mean()))
    motion = torch.cat([start, torch.zeros(1)])
    down, right = torch.gradient(reference)
    x, y = places.unbind(-1)
    slopes = torch.stack([right, down, down * x - right * y]).flatten(1)  # by column, row and angle
    solver = torch.linalg.solve(slopes @ slopes.T, slopes)  # once for all steps: the slopes are the reference's
    for _ in range(STEPS):
        difference = sampled(image[None], moved(places, motion))[0] - reference
        motion = motion - solver @ difference.flatten()
    return motion


def fitting(photograph: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """The photograph as the reference would show it."""
    return sampled(photograph, moved(grid(SIZE - 2 * MARGIN), motion))


def missed(taken: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """How far pixels are from where they were, on average, after both motions."""
    places = grid(SIZE - 2 * MARGIN)
    return (moved(moved(places, found), taken) - places).square().sum(-1).mean().sqrt()


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(-10 * torch.log10(((image - truth) ** 2).mean()))


def draw(images: dict[str, torch.Tensor]) -> None:
    """Save the images in a row."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(images), figsize=(13, 3.9), layout="constrained")
    for axis, (title, image) in zip(axes, images.items(), strict=True):
        axis.imshow(image.clamp(0, 1).movedim(0, -1))
        axis.set_title(title)
        axis.axis("off")
    figure.suptitle(f"{FRAMES} noisy, shaky photographs")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)


def main() -> int:
    colors = torch.from_numpy(load_sample_image("flower.jpg").copy()).float().movedim(-1, 0) / 255
    scene = avg_pool2d(colors[:, ROWS, COLUMNS], 2)
    taken = torch.rand(FRAMES, 3, generator=torch.Generator().manual_seed(0))  # the same on every rank
    taken = (2 * taken - 1) * torch.tensor([SHIFT, SHIFT, ANGLE])
    taken[0] = 0

    ms.random.seed(0)
    photographs = ms.vmap(photographed, randomness="different").one(ms.array(taken, split=0), scene=scene)
    first, plain = inner(photographs[0].larray), inner(photographs.mean(axis=0).larray)
    mean = first
    for _ in range(ROUNDS):
        found = ms.vmap(registered, chunk_size=16).one(photographs, reference=mean)
        fitted = ms.vmap(fitting, chunk_size=16).one(photographs, found)
        mean = fitted.mean(axis=0).larray

    motions = found.torch()
    if found.comm.rank > 0:
        return 0  # the check is rank 0's
    error = float(torch.vmap(missed)(taken, motions).max())
    truth = sampled(scene, grid(SIZE - 2 * MARGIN))
    images = {"one photograph": first, "mean of all, as they are": plain, "mean of all, registered": mean}
    levels = {title: psnr(image, truth) for title, image in images.items()}
    gain = levels["mean of all, registered"] - levels["one photograph"]
    draw({f"{title}: {levels[title]:.1f} dB": image for title, image in images.items()} | {"the flower": truth})
    print(f"photographs on each rank: {found.counts}")
    for title, level in levels.items():
        print(f"PSNR of {title}: {level:.1f} dB")
    print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
    print(f"gained at least {GAIN:g} dB: {'yes' if gain >= GAIN else 'NO'}")
    print(f"all motions are right within {ERROR:g} pixels: {'yes' if error <= ERROR else f'NO, {error:.2f}'}")
    return 0 if gain >= GAIN and error <= ERROR else 1


if __name__ == "__main__":
    sys.exit(main())
