"""The house of docs/design.md, held by the syntax trees: imports go down, and MPI stays in one module."""

import ast
import sys
from itertools import chain
from pathlib import Path

import pytest

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parent.parent / "minisplit"
# From the ground up. A module imports from the lines above its own, or from modules before it in its line.
LAYERS = [
    [
        "launch",
        "launch.probe",
        "launch.rank",
        "launch.jobs",
        "launch.selftest",
        "launch.doctor",
        "launch.commands",
    ],
    ["core.showing", "core.layout", "core.transfer", "core.keys", "core.philox"],
    [
        "core.dtypes",
        "core.devices",
        "core.debugging",
        "core.mapping",
        "core.merging",
        "core.communication",
        "core.errors",
        "core.exits",
        "core.watchdog",
        "core.mpi",
        "core.printing",
        "core.warning",
    ],
    [
        "core.movement",
        "core.gradients",
        "core.fetching",
        "core.key_arrays",
        "core.indexing",
        "core.dndarray",
        "core.stored",
        "core.redistribution",
        "core.conversion",
        "core.factories",
        "core.streams",
        "core.drawing",
        "core.random",
    ],
    [
        "ops._align",
        "ops._axes",
        "ops._make",
        "ops._exact",
        "ops.elementwise",
        "ops._reduce",
        "ops._extremes",
        "ops._moments",
        "ops.reductions",
        "ops.comparing",
        "ops.searching",
        "ops.statistics",
        "ops._shape",
        "ops._reorder",
        "ops.manipulation",
        "ops.cumulative",
        "ops.taking",
        "ops.joining",
        "ops.differences",
        "ops.convolving",
        "ops.spreading",
        "ops.padding",
        "ops.turning",
        "ops._fourier",
        "ops._line",
        "ops.fourier",
        "ops.frequencies",
        "ops.fft",
        "ops.cutting",
        "ops.dtypes",
        "ops._products",
        "ops.products",
        "ops._matrices",
        "ops._tall",
        "ops._batched",
        "ops.decompositions",
        "ops.solving",
        "ops.multiplying",
        "ops.diagonals",
        "ops._einsum",
        "ops.einsum",
        "ops.norms",
        "ops.covariances",
        "ops.linalg",
        "ops._sample_sort",
        "ops.sorting",
        "ops.sets",
        "ops.quantiles",
        "ops.histograms",
        "ops.inspection",
        "ops.protocols",
        "ops",
    ],
    ["vmap.balancing", "vmap.planning"],
    [
        "vmap.trees",
        "vmap.randomness",
        "vmap.batching",
        "vmap.tuning",
        "vmap.chunking",
        "vmap.agreeing",
        "vmap.gradients",
        "vmap.inspecting",
        "vmap.failing",
        "vmap.describing",
        "vmap.arguments",
        "vmap.progress",
        "vmap.options",
        "vmap.pictures",
        "vmap.plans",
        "vmap.streaming",
        "vmap.transform",
        "vmap",
    ],
    [
        "io.dtypes",
        "io.protocol",
        "io.chunks",
        "io.raw",
        "io.npy",
        "io.hdf5",
        "io.safetensors",
        "io.zarr",
        "io.tables",
        "io.csv",
        "io.parquet",
        "io.formats",
        "io.replacing",
        "io.parts",
        "io.extending",
        "io.files",
        "io.checkpoints",
        "io.sinks",
        "io.opening",
        "io",
    ],
    ["views.timeline", "views.profiling", "views.layouts", "views.values", "views"],
    [
        "testing.examples",
        "testing.reporting",
        "testing.threads",
        "testing.traffic",
        "testing.whole",
        "testing.comparing",
        "testing.histories",
        "testing.messages",
        "testing.worker",
        "testing.pool",
        "testing.strategies",
        "testing.properties",
        "testing",
        "notebook",
    ],
    ["", "launch.checks", "launch.facts", "__main__"],
]
ORDER = {f"minisplit.{name}".rstrip("."): height for height, name in enumerate(chain.from_iterable(LAYERS))}


def name_of(file):
    parts = ["minisplit", *file.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file):
    """(module, whether outside of any function) of each import."""
    tree = ast.parse(file.read_text())
    hidden = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            longer = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES or node.module == "mpi4py" else node.module for name in longer]
        for name in names:
            yield name, node not in hidden


WITH_MPI = {"core.mpi", "testing.worker", "launch.probe", "launch.rank"}
FILES = {name_of(file): file for file in ROOT.rglob("*.py")}


def test_every_module_has_its_place():
    assert set(FILES) - {"minisplit.core"} == set(ORDER)


@pytest.mark.parametrize("module", sorted(ORDER))
def test_imports_go_down(module):
    for imported, at_top in imports_of(FILES[module]):
        if imported.startswith("minisplit"):
            assert at_top, f"{module} hides its import of {imported} in a function"
            assert ORDER[imported] < ORDER[module], f"{module} imports {imported} from above"


@pytest.mark.parametrize("module", sorted(FILES))
def test_only_one_module_the_ranks_of_a_pool_and_what_starts_jobs_import_mpi(module):
    found = [name for name, _ in imports_of(FILES[module]) if name.startswith("mpi4py")]
    assert (found != []) == (module.removeprefix("minisplit.") in WITH_MPI), found


def test_the_launcher_needs_the_standard_library_only():
    for module in ("commands", "doctor", "jobs", "selftest"):
        found = {name.split(".")[0] for name, _ in imports_of(FILES[f"minisplit.launch.{module}"])}
        assert found - {"minisplit"} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    "module",
    [
        f"minisplit.{name}"
        for name in (
            "core.layout",
            "core.transfer",
            "core.keys",
            "core.philox",
            "ops._align",
            "ops._axes",
            "ops._shape",
            "ops._fourier",
            "ops._products",
            "ops._einsum",
            "vmap.balancing",
            "vmap.planning",
            "io.chunks",
        )
    ],
)
def test_planning_knows_no_tensors(module):
    assert not [name for name, _ in imports_of(FILES[module]) if name.split(".")[0] in {"torch", "mpi4py"}]
