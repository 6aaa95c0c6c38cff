"""What the README tells a stranger to type works as told."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.events import Click, decode
from streams.clock import now_ms
from streams.topics import ALL, admin
from tests.streams.flow import free_port, until

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_the_library_example_runs_and_prints_a_list():
    (code,) = [block for block in blocks("python") if "Recommender" in block]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 emma ")


def test_the_message_a_platform_sends_is_a_valid_event():
    (line,) = [block for block in blocks("python") if "producer.send" in block]
    value = re.search(r"value=b'(.*?)'\)", line)
    assert value
    assert isinstance(decode("clicks", value[1].encode(), now_ms=now_ms()), Click)


def test_every_make_target_and_file_it_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for link in re.findall(r"\]\((docs/[^)#]+)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.timeout(900)
def test_the_steps_run_one_after_the_other(tmp_path: Path):
    """The block of commands as it stands, on a port and in a folder of our own."""
    (steps,) = [block for block in blocks("sh") if "freshet kafka" in block]
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", FRESHET_EMBEDDING_MODEL="hashing")
    environment["FRESHET_METRICS_PORT"] = str(free_port())
    background: list[subprocess.Popen[bytes]] = []
    output = ""
    try:
        for line in steps.strip().splitlines():
            line = line.replace(".freshet/readme", str(tmp_path))
            if line.startswith("export "):
                environment.update(part.split("=", 1) for part in shlex.split(line)[1:])
            elif line.endswith("&"):
                with (tmp_path / f"background-{len(background)}.log").open("wb") as log:
                    background.append(
                        subprocess.Popen(shlex.split(line[:-1]), cwd=tmp_path, env=environment, stdout=log, stderr=log)
                    )
                _await_started(line, environment)
            else:
                words = shlex.split(line)
                done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
                output += done.stdout
    finally:
        for process in reversed(background):
            process.send_signal(signal.SIGTERM)
            process.wait(180)
    assert all(name in output for name in ALL), "freshet topics lists them"
    assert "sent" in output
    assert [process.returncode for process in background] == [0, 0]


def _await_started(line: str, environment: dict[str, str]) -> None:
    """What a human does by looking at the screen before typing on."""
    if "kafka" in line:
        from streams.connection import Connection
        from streams.topics import TopicsError

        port = re.search(r"--port (\d+)", line)
        assert port

        def answers() -> bool:
            try:
                with admin(Connection(bootstrap=f"127.0.0.1:{port[1]}"), timeout_s=2):
                    return True
            except TopicsError:
                return False

        until(answers, "the broker answers")
    else:
        import urllib.request

        def ready() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{environment['FRESHET_METRICS_PORT']}/metrics", timeout=2) as page:
                    return b"freshet_ready 1.0" in page.read()
            except OSError:
                return False

        until(ready, "the worker is ready")


def test_the_demo_output_it_shows_has_the_shape_of_a_real_one():
    shown = README.split("this is what it ends with:")[1].split("```")[1]
    rows = ("events in: clicks", "lists out", "freshness p50 / p99", "dead letters", "vectors in Qdrant", "CTR of the last 15 s")
    for row in rows:
        assert row in shown
