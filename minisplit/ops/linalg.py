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
from minisplit.ops.diagonals import diagonal, trace
from minisplit.ops.einsum import multi_dot
from minisplit.ops.manipulation import matrix_transpose
from minisplit.ops.multiplying import cross, matrix_power
from minisplit.ops.norms import matrix_norm, norm, vector_norm
from minisplit.ops.products import matmul, outer, tensordot, vecdot
from minisplit.ops.solving import inv, lstsq, matrix_rank, pinv, solve

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]
