from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import taskgen_run.experiment  # noqa: F401  registers the resolver of directory names
from taskgen_run.composition import compose, config_dir, search_path
from taskgen_run.errors import ConfigurationError


@pytest.fixture(autouse=True)
def found() -> Iterator[None]:
    with search_path():
        yield


def test_the_configurations_lie_at_the_top_of_the_repository() -> None:
    assert config_dir() == Path(__file__).parent.parent / "conf"


def test_one_experiment_is_composed_with_its_directory() -> None:
    (composed,) = compose(["session=stdio", "taskset=hey0", "outputs=somewhere"])
    assert composed.config.hydra.runtime.choices.taskset == "hey0"
    assert composed.number is None
    assert composed.directory.parent == Path("somewhere")
    assert composed.directory.name.startswith("stdio-hey0-")


def test_hydra_run_dir_is_honoured() -> None:
    (composed,) = compose(["taskset=hey0", "hydra.run.dir=here/it/goes"])
    assert composed.directory == Path("here/it/goes")


def test_a_sweep_is_composed_in_the_order_of_hydra() -> None:
    sweep = compose(["taskset=hey0,hey3", "targets=10.0.0.1,10.0.0.0/30"], multirun=True)
    assert [
        (c.config.hydra.runtime.choices.taskset, c.config.targets, c.number) for c in sweep
    ] == [
        ("hey0", "10.0.0.1", 0),
        ("hey0", "10.0.0.0/30", 1),
        ("hey3", "10.0.0.1", 2),
        ("hey3", "10.0.0.0/30", 3),
    ]
    assert len({c.directory for c in sweep}) == 4


def test_the_same_experiment_has_the_same_directory_in_a_sweep_and_alone() -> None:
    (alone,) = compose(["taskset=hey0"])
    sweep = compose(["taskset=hey0,hey3"], multirun=True)
    assert sweep[0].directory == alone.directory


def test_hydra_sweep_dir_and_subdir_are_honoured() -> None:
    sweep = compose(
        ["seed=1,2", "hydra.sweep.dir=sweeps", "hydra.sweep.subdir=${hydra:job.num}"],
        multirun=True,
    )
    assert [c.directory for c in sweep] == [Path("sweeps/0"), Path("sweeps/1")]


def test_a_mode_of_the_configuration_makes_a_sweep() -> None:
    assert len(compose(["hydra.mode=MULTIRUN", "seed=1,2"])) == 2


def test_ranges_and_globs_are_swept_as_hydra_does() -> None:
    assert len(compose(["seed=range(1,4)"], multirun=True)) == 3
    assert len(compose(["taskset=glob(hey*)"], multirun=True)) == 10


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["taskset=hye0"], "unknown taskset 'hye0'; did you mean 'hey0'?"),
        (["sesion=stdio"], "unknown key 'sesion'; did you mean 'session'?"),
        (["sed=5"], "unknown key 'sed'; did you mean 'seed'?"),
        (["session.nothing=5"], "unknown key 'session.nothing'; "),
        (
            ["targets=10.0.0.1,10.0.0.2"],
            "targets must be one value, got 10.0.0.1,10.0.0.2; add -m to run a sweep over them, "
            "or write targets=[10.0.0.1,10.0.0.2] for a list",
        ),
        (["seed=["], "override 'seed=[' cannot be read: "),
        (["seed"], "override 'seed' cannot be read: "),
        (["hydra.run.dir=${nothing}"], "hydra.run.dir: Interpolation key 'nothing' not found"),
    ],
)
def test_what_hydra_would_say_in_many_lines_is_said_in_one(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        _ = [composed.directory for composed in compose(overrides)]
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_one_wrong_experiment_of_a_sweep_is_found_before_any_runs() -> None:
    with pytest.raises(ConfigurationError, match="unknown taskset 'hye3'"):
        compose(["taskset=hey0,hye3"], multirun=True)


def test_own_configurations_come_from_a_directory(tmp_path: Path) -> None:
    (tmp_path / "taskset").mkdir()
    (tmp_path / "taskset" / "own.yaml").write_text("# mine\ntasks: [{period: 5}]\n")
    with search_path(str(tmp_path)):
        (composed,) = compose(["taskset=own"])
    assert composed.config.taskset.tasks[0].period == 5


def test_a_broken_yaml_is_explained(tmp_path: Path) -> None:
    (tmp_path / "taskset").mkdir()
    (tmp_path / "taskset" / "broken.yaml").write_text("tasks: [{period: 5}\n")
    with search_path(str(tmp_path)), pytest.raises(ConfigurationError) as raised:
        compose(["taskset=broken"])
    assert "broken.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_directory_that_is_not_there_is_named() -> None:
    with (
        pytest.raises(ConfigurationError, match="--config-dir must be an existing directory"),
        search_path("/nowhere/at/all"),
    ):
        pass
