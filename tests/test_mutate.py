"""mutate.py: what is mutated, and by which tests."""

from __future__ import annotations

from pathlib import Path

import mutate
import pytest

pytestmark = pytest.mark.serial
PACKAGE = mutate.ROOT / "minisplit"


def test_modules_and_packages_are_found() -> None:
    assert mutate.files_of("core/transfer") == [PACKAGE / "core" / "transfer.py"]
    names = {file.name for file in mutate.files_of("core")}
    assert {"transfer.py", "philox.py"} <= names
    assert "__init__.py" not in names
    with pytest.raises(SystemExit, match=r"there is no module .*core/nothing\.py"):
        mutate.files_of("core/nothing")


def test_a_module_has_its_own_tests_or_those_of_its_package() -> None:
    assert mutate.tests_of(PACKAGE / "core" / "transfer.py") == Path("tests", "core", "test_transfer.py")
    assert mutate.tests_of(PACKAGE / "core" / "error_text.py").parts[:2] == ("tests", "core")
    assert mutate.tests_of(PACKAGE / "ops" / "nothing.py") == Path("tests", "ops")


def test_mutations_follow_from_the_seed(tmp_path: Path) -> None:
    pytest.importorskip("cosmic_ray", reason="dev.py mutate installs it")
    file = tmp_path / "module.py"
    file.write_text("@cache\ndef f(x: int | None) -> int:\n    return x + 1 if x > 2 else x * 3\n")

    def chosen(seed: int) -> list[object]:
        return [(m.operator_name, m.start_pos) for m in mutate.choose(file, 2, seed, tmp_path)]

    assert chosen(0) == chosen(0)
    assert len({str(chosen(seed)) for seed in range(9)}) > 1
    assert {place[0] for _, place in (m for seed in range(9) for m in chosen(seed))} == {3}
