"""`ms.linalg`: linear algebra, under the names of the Python Array API standard. The names, nothing else."""

from minisplit.ops.diagonals import diagonal, trace
from minisplit.ops.einsum import multi_dot
from minisplit.ops.manipulation import matrix_transpose
from minisplit.ops.multiplying import cross, matrix_power
from minisplit.ops.norms import matrix_norm, norm, vector_norm
from minisplit.ops.products import matmul, outer, tensordot, vecdot

__all__ = [
    "cross",
    "diagonal",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]
