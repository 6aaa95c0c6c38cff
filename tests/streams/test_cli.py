"""The command line answers mistakes with a sentence, never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from streams.cli import LATER, app
from streams.topics import ALL
from tests.streams.flow import free_port

GROUP = get_command(app)
COMMANDS = sorted(GROUP.commands)


def freshet(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    command = [sys.executable, "-m", "streams.cli", *arguments]
    return subprocess.run(command, env=clean | settings, capture_output=True, text=True, timeout=240)


def test_the_commands_are_those_the_pages_speak_of():
    assert {"worker", "topics", "kafka", "demo", "simulate", "replay", "evaluate", "recommendations", "dead-letters"} <= set(
        COMMANDS
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    answer = CliRunner().invoke(app, [command, "--help"])
    assert answer.exit_code == 0
    assert "Usage" in answer.output


@pytest.mark.parametrize("command", LATER)
def test_a_command_that_is_not_imported_yet_is_described_in_its_own_words(command):
    itself = GROUP.commands[command].load()
    assert " ".join(itself.help.split()) == LATER[command].help
    assert itself.name == command


def test_the_list_of_commands_waits_for_no_compiler_and_no_framework():
    heavy = "'numba', 'scipy', 'river', 'faust', 'sentence_transformers', 'qdrant_client'"
    program = f"import sys, streams.cli; print([name for name in ({heavy}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_wrong_settings_are_all_named_and_nothing_starts():
    done = freshet("worker", FRESHET_PARTITIONS="none", FRESHET_ARM="no spaces", FRESHET_TYPO="1", FRESHET_MODEL_RRF_K="-1")
    assert done.returncode == 2
    for name in ("FRESHET_PARTITIONS", "FRESHET_ARM", "FRESHET_TYPO", "FRESHET_MODEL_RRF_K"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker",),
        ("topics",),
        ("dead-letters",),
        ("recommendations", "--user", "ada"),
        ("simulate", "--seconds", "1"),
    ],
)
def test_without_a_kafka_it_says_so(arguments):
    done = freshet(*arguments, FRESHET_BOOTSTRAP=f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_unknown_roles_are_refused():
    done = freshet("worker", "--roles", "cook")
    assert done.returncode == 2
    assert "ingest" in done.stderr


def test_a_worker_refuses_missing_topics_and_names_the_command(kafka):
    done = freshet("worker", FRESHET_BOOTSTRAP=kafka.bootstrap, FRESHET_TOPIC_PREFIX="absent.")
    assert done.returncode == 1
    assert "freshet topics" in done.stderr


def test_topics_are_created_once_then_found_as_they_should_be(kafka):
    first = freshet("topics", FRESHET_BOOTSTRAP=kafka.bootstrap, FRESHET_TOPIC_PREFIX="cli.", COLUMNS="160")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("created") == len(ALL)
    again = freshet("topics", FRESHET_BOOTSTRAP=kafka.bootstrap, FRESHET_TOPIC_PREFIX="cli.", COLUMNS="160")
    assert again.stdout.count("as it should be") == len(ALL)
    other = freshet("topics", FRESHET_BOOTSTRAP=kafka.bootstrap, FRESHET_TOPIC_PREFIX="cli.", FRESHET_PARTITIONS="7")
    assert other.returncode == 1
    assert "partitions" in other.stderr


def test_a_file_that_is_no_log_is_refused(tmp_path: Path, kafka):
    path = tmp_path / "notes.jsonl"
    path.write_text("this is no event\n")
    done = freshet("replay", str(path), FRESHET_BOOTSTRAP=kafka.bootstrap)
    assert done.returncode == 1
    assert "notes.jsonl" in (done.stderr + done.stdout).replace("\n", "")
    assert "Traceback" not in done.stderr
