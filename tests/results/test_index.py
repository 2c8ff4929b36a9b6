from __future__ import annotations

from pathlib import Path

import pytest

from taskgen_run.errors import ConfigurationError, InfrastructureError
from taskgen_run.results import read, write_index
from taskgen_run.results.index import read_index


def test_an_index_names_the_experiments_relative_to_itself(tmp_path: Path) -> None:
    experiments = [tmp_path / "a", tmp_path / "below" / "b", tmp_path.parent / "c"]
    index = write_index(tmp_path, experiments)
    assert [path.resolve() for path in read_index(index)] == experiments
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert read_index(moved / index.name)[0] == moved / "a"


def test_the_same_sweep_has_the_same_index(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert write_index(tmp_path, [a, b]) == write_index(tmp_path, [b, a])
    assert write_index(tmp_path, [a, b]) != write_index(tmp_path, [a])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"experiments": 5}', "\xff"])
def test_what_is_no_index_is_explained(tmp_path: Path, content: str) -> None:
    path = tmp_path / "sweep-1.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="is no index of a sweep"):
        read(path)


def test_an_index_of_results_that_are_gone_is_explained(tmp_path: Path) -> None:
    index = write_index(tmp_path, [tmp_path / "gone"])
    with pytest.raises(ConfigurationError, match="gone"):
        read(index)


def test_a_place_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="cannot be written"):
        write_index(tmp_path / "file", [])
