"""`ms.nn`: what training needs beside torch where parameters are split, under the names of `torch.nn`."""

from minisplit.nn import optimisers, utils  # noqa: F401 - `optimisers` tells torch what to refuse

__all__ = ["utils"]
