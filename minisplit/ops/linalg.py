"""`ms.linalg`: linear algebra, under the names of the Python Array API standard. The names, nothing else."""

from minisplit.ops.manipulation import matrix_transpose
from minisplit.ops.products import matmul

__all__ = [
    "matmul",
    "matrix_transpose",
]
