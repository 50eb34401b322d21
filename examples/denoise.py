"""How much noise can small singular value decompositions take out of a photograph? Batched SVD over all ranks.

Adds noise of known strength to the photograph of a pagoda that scikit-learn ships and cuts it into overlapping
windows. All patches of 3 x 3 pixels in a window are the columns of a matrix. They look alike, so the picture is
in its first singular vectors, while the noise is in all of them: what does not rise above the noise is cut off,
and the rest is shrunk by the noise in it. Where patches and windows overlap they are averaged. This must gain
7.5 dB of PSNR, and equal `torch.vmap` in one process. The picture goes to examples/out/denoised.png. Run it on
any number of ranks:

    mpiexec -n 4 python examples/denoise.py
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_sample_image
from torch.nn.functional import fold, unfold

import minisplit as ms

PICTURE = Path(__file__).parent / "out" / "denoised.png"
SIZE = 424, 640  # pixels of the photograph that the windows cover: 16 + 51 * 8 rows, 16 + 78 * 8 columns
WINDOW, STRIDE, PATCH = 16, 8, 3  # pixels
NOISE = 25 / 255  # standard deviation, where 1 is white
CUT = 1.5  # in variances of the noise: a window's own directions hold more of it than others
GAIN, TOLERANCE = 7.5, 1e-10  # in dB; in brightness
ZOOM = slice(150, 230), slice(180, 300)  # rows and columns of the part that is drawn larger


def denoise(window: torch.Tensor) -> torch.Tensor:
    """One window of 3 colors x 16 x 16 pixels with less noise."""
    patches = unfold(window[None], PATCH)[0]  # 27 values of each of 196 patches
    mean = patches.mean(1, keepdim=True)
    left, singular, right = torch.linalg.svd(patches - mean, full_matrices=False)
    variances = singular**2 / patches.shape[1]
    shrunk = singular * (1 - CUT * NOISE**2 / variances).clamp(min=0)
    return average((left * shrunk) @ right + mean, window.shape[1:], PATCH, 1)


def average(columns: torch.Tensor, size: tuple[int, int], patch: int, stride: int) -> torch.Tensor:
    """The image of that size, given its overlapping patches as columns: the mean of all that cover a pixel."""
    both = torch.stack([columns, torch.ones_like(columns)])
    total, covers = fold(both, size, patch, stride=stride)
    return total / covers


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(-10 * torch.log10(((image - truth) ** 2).mean()))


def draw(images: dict[str, torch.Tensor]) -> None:
    """Save the images in a row, and a part of each below, larger."""
    import matplotlib  # noqa: PLC0415 - only rank 0 draws

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rows, columns = ZOOM
    figure, axes = plt.subplots(2, len(images), figsize=(13, 6.2), layout="constrained")
    for (title, image), (whole, part) in zip(images.items(), axes.T, strict=True):
        shown = image.clamp(0, 1).movedim(0, -1)
        whole.imshow(shown)
        whole.set_title(title)
        corner, width, height = (columns.start, rows.start), columns.stop - columns.start, rows.stop - rows.start
        whole.add_patch(plt.Rectangle(corner, width, height, fill=False, color="white"))
        part.imshow(shown[rows, columns])
        for axis in (whole, part):
            axis.axis("off")
    figure.suptitle("Singular values of the patches of each window, shrunk by the noise in them")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)


def main() -> int:
    pixels = torch.from_numpy(load_sample_image("china.jpg").copy()).double() / 255
    truth = pixels.movedim(-1, 0)[:, : SIZE[0], : SIZE[1]]
    # Every rank draws the same noise, and keeps its own windows of it.
    noise = torch.randn(truth.shape, dtype=truth.dtype, generator=torch.Generator().manual_seed(0))
    noisy = truth + NOISE * noise
    each = unfold(noisy[None], WINDOW, stride=STRIDE)[0].T.reshape(-1, 3, WINDOW, WINDOW)
    windows = ms.array(each, split=0)

    clean = ms.vmap(denoise, chunk_size=64).one(windows)

    cleaned = clean.torch()
    image = average(cleaned.flatten(1).T, SIZE, WINDOW, STRIDE)
    if clean.comm.rank > 0:
        return 0  # the check is rank 0's
    before, after = psnr(noisy, truth), psnr(image, truth)
    difference = float((cleaned - torch.vmap(denoise, chunk_size=64)(each)).abs().max())
    draw({"photograph": truth, f"with noise: {before:.1f} dB": noisy, f"denoised: {after:.1f} dB": image})
    same = difference <= TOLERANCE
    print(f"windows on each rank: {clean.counts}")
    print(f"{len(each)} windows of {WINDOW} x {WINDOW} pixels, the patches of each a matrix of 27 x 196")
    print(f"PSNR: {before:.2f} dB with noise, {after:.2f} dB denoised: {after - before:.2f} dB gained")
    print(f"\npicture: {PICTURE.relative_to(Path(__file__).parent.parent)}")
    print(f"gained at least {GAIN:g} dB: {'yes' if after - before >= GAIN else 'NO'}")
    print(f"equals torch.vmap in one process within {TOLERANCE:.0e}: {'yes' if same else f'NO, {difference:.1e}'}")
    return 0 if same and after - before >= GAIN else 1


if __name__ == "__main__":
    sys.exit(main())
