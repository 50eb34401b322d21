"""`ms.linalg`: linear algebra, under the names of the Python Array API standard. The names, nothing else."""

from minisplit.ops.decompositions import (
    cholesky,
    det,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    matrix_exp,
    qr,
    slogdet,
    svd,
    svdvals,
)
from minisplit.ops.manipulation import matrix_transpose
from minisplit.ops.products import matmul
from minisplit.ops.solving import inv, lstsq, matrix_rank, pinv, solve

__all__ = [
    "cholesky",
    "det",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_exp",
    "matrix_rank",
    "matrix_transpose",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
]
