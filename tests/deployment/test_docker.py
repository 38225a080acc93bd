"""Tests Dockerfile and compose.yaml: their files exist, and their packages are setup.cfg's."""

import configparser
import fnmatch
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from doors import ROOT
from setuptools import find_packages

TARGETS = ("train", "serve")
BUILD_TOOLS = re.compile(r"\b(pip|apt-get|gcc|g\+\+|make|cmake)\b")


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str


@dataclass(frozen=True)
class Stage:
    name: str
    parent: str  # an image, or an earlier stage
    instructions: tuple[Instruction, ...]


def instructions() -> Iterator[Instruction]:
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield Instruction(word, rest.strip())


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    name = ""
    for each in instructions():
        if each.word == "FROM":
            parent, _, name = each.rest.partition(" AS ")
            found[name] = Stage(name, parent, ())
        else:
            before = found[name]
            found[name] = Stage(name, before.parent, (*before.instructions, each))
    return found


@pytest.fixture(scope="module")
def settings() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def whole(stages: dict[str, Stage], target: str) -> list[Instruction]:
    """Returns all instructions of an image, from its base on."""
    found: list[Instruction] = []
    while target in stages:
        found = [*stages[target].instructions, *found]
        target = stages[target].parent
    return found


def ignored(path: str) -> bool:
    """Returns whether .dockerignore excludes a path; its last matching line decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        parts = path.split("/")
        above = ["/".join(parts[: length + 1]) for length in range(len(parts))]
        if pattern.startswith("**/"):
            fits = any(fnmatch.fnmatch(part, pattern[3:]) for part in parts)
        else:  # a star matches within one folder
            fits = any(
                each.count("/") == pattern.count("/") and fnmatch.fnmatch(each, pattern)
                for each in above
            )
        if fits:
            out = not line.startswith("!")
    return out


def test_every_stage_is_based_on_the_same_python_or_on_an_earlier_stage(
    stages: dict[str, Stage],
) -> None:
    assert set(TARGETS) <= set(stages)
    images = [each.parent for each in stages.values() if each.parent not in stages]
    assert len(set(images)) == 1
    assert images[0].startswith("python:3.13-slim")
    names = list(stages)
    for number, stage in enumerate(stages.values()):
        named = [stage.parent] if stage.parent in stages else []
        named += re.findall(r"--from=(\S+)", " ".join(each.rest for each in stage.instructions))
        assert set(named) <= set(names[:number])


def test_copied_files_exist_and_are_not_ignored(stages: dict[str, Stage]) -> None:
    sources = [
        source
        for stage in stages.values()
        for each in stage.instructions
        if each.word == "COPY" and "--from" not in each.rest
        for source in shlex.split(each.rest)[:-1]
    ]
    assert {"setup.cfg", "constraints/3.13.txt", "."} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert source == "." or not ignored(source)


def test_images_contain_the_whole_program_and_no_data(
    settings: configparser.RawConfigParser,
) -> None:
    modules = re.split(r",\s*", settings["options"]["py_modules"])
    packages = find_packages(str(ROOT), include=["speech", "speech.*"])
    assert len(packages) > 20
    files = [f"{module}.py" for module in modules]
    files += [f"{package.replace('.', '/')}/x" for package in packages]
    files += [f"sagemaker/{command}" for command in TARGETS]
    assert [each for each in files if ignored(each)] == []
    others = (
        "data/train.tfrecords.0",
        "model/config.json",
        ".git/HEAD",
        ".env",
        "tests/support/doors.py",
    )
    assert [each for each in (*others, "speech/__pycache__/x.pyc") if not ignored(each)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_image_runs_its_command_as_an_unprivileged_user(
    stages: dict[str, Stage], target: str
) -> None:
    instructions_of_image = whole(stages, target)
    last = {each.word: each.rest for each in instructions_of_image}
    assert last["CMD"] == f'["{target}"]'
    assert "ENTRYPOINT" not in last  # SageMaker gives the command as an argument
    program = ROOT / "sagemaker" / target
    assert os.access(program, os.X_OK)
    assert program.read_text().startswith("#!/usr/bin/env python3\n")
    (path,) = (each.rest for each in instructions_of_image if each.rest.startswith("PATH="))
    assert path.startswith("PATH=/opt/program/sagemaker:/opt/venv/bin:$PATH")
    assert last["WORKDIR"] == "/opt/program"
    assert last["USER"] == "${RUN_AS}"
    assert last["ARG"] == "RUN_AS=speech"
    assert any("useradd" in each.rest and "speech" in each.rest for each in instructions_of_image)


@pytest.mark.parametrize("target", TARGETS)
def test_images_contain_no_build_tools(stages: dict[str, Stage], target: str) -> None:
    runs = [each.rest for each in whole(stages, target) if each.word == "RUN"]
    assert runs
    assert not any(BUILD_TOOLS.search(run) for run in runs)


def test_server_has_a_health_check(stages: dict[str, Stage]) -> None:
    (health,) = (each for each in whole(stages, "serve") if each.word == "HEALTHCHECK")
    assert "http://127.0.0.1:8080/ping" in health.rest
    assert "--port=8080" in (ROOT / "sagemaker" / "serve").read_text()


def lines_of(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines()} - {""}


@pytest.mark.parametrize("target", TARGETS)
def test_packages_are_those_of_setup_cfg(
    stages: dict[str, Stage], settings: configparser.RawConfigParser, target: str, tmp_path: Path
) -> None:
    """Runs the image's own commands, up to the one that installs."""
    (tmp_path / "setup.cfg").write_text((ROOT / "setup.cfg").read_text())
    for each in whole(stages, f"{target}-packages"):
        if each.word == "RUN" and "requirements.py" in each.rest:
            subprocess.run(
                ["sh", "-c", each.rest],
                cwd=tmp_path,
                env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "TENSORFLOW": "cpu"},
                check=True,
            )
    required = lines_of((tmp_path / "requirements.txt").read_text())
    extras = settings["options.extras_require"]
    expected = [settings["options"]["install_requires"], extras["cpu"], extras["ffmpeg"]]
    expected.append(extras["serve" if target == "serve" else "numbers"])
    assert required == lines_of("\n".join(expected))
    install = whole(stages, f"{target}-packages")[-1].rest
    assert "--constraint 3.13.txt --requirement requirements.txt" in install


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def test_services_build_the_targets_and_run_their_commands(services: dict[str, Any]) -> None:
    assert sorted(services) == sorted(TARGETS)
    for target, service in services.items():
        assert service["build"] == {"context": ".", "target": target}
        assert service["command"] == [target]


def test_services_share_a_folder_that_the_server_only_reads(services: dict[str, Any]) -> None:
    assert services["train"]["volumes"] == ["${ML_DIR:-./ml}:/opt/ml"]
    model, compiled = services["serve"]["volumes"]
    assert model == "${ML_DIR:-./ml}/model:/opt/ml/model:ro"
    recipe = (ROOT / "Dockerfile").read_text()
    assert f"NUMBA_CACHE_DIR={compiled.partition(':')[2]}\n" in recipe
    assert services["serve"]["read_only"] and services["serve"]["tmpfs"] == ["/tmp:size=2g"]
    (port,) = services["serve"]["ports"]
    assert port.startswith("127.0.0.1:") and port.endswith(":8080")
