"""`ms.linalg`: linear algebra, under the names of the Python Array API standard. The names, nothing else."""

from minisplit.ops.linalg.decompositions import cholesky, eig, eigh, eigvals, eigvalsh, qr, svd, svdvals
from minisplit.ops.linalg.diagonals import diagonal, trace
from minisplit.ops.linalg.einsum import multi_dot
from minisplit.ops.linalg.krylov import cg, lanczos
from minisplit.ops.linalg.matrix_functions import det, matrix_exp, matrix_power, slogdet
from minisplit.ops.linalg.norms import matrix_norm, norm, vector_norm
from minisplit.ops.linalg.products import cross, matmul, outer, tensordot, vecdot
from minisplit.ops.linalg.randomised import rsvd
from minisplit.ops.linalg.solvers import cond, inv, lstsq, matrix_rank, pinv, solve, solve_triangular
from minisplit.ops.shape.axes import matrix_transpose

__all__ = [
    "cg", "cholesky", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "lanczos",
    "lstsq", "matmul", "matrix_exp", "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose",
    "multi_dot", "norm", "outer", "pinv", "qr", "rsvd", "slogdet", "solve", "solve_triangular", "svd", "svdvals",
    "tensordot", "trace", "vecdot", "vector_norm",
]
