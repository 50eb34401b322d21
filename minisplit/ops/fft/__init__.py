"""`ms.fft`: Fourier transforms, under the names of the Python Array API standard, and NumPy's. Only the names."""

from minisplit.ops.fft.frequencies import fftfreq, fftshift, ifftshift, rfftfreq
from minisplit.ops.fft.transforms import (
    fft, fft2, fftn, hfft, ifft, ifft2, ifftn, ihfft, irfft, irfft2, irfftn, rfft, rfft2, rfftn,
)

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft",
    "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]
