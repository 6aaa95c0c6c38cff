"""Make .venv and install the project into it: visibly, once, and again only when requirements change. Standard library only."""

import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed"
UV = "uv==0.13.8"
EXTRAS = ".[dev,plot]"


def wanted() -> str:
    """What an installation must have been made from."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "requirements.txt")]
    parts += [sys.version.encode(), os.environ.get("UV_TORCH_BACKEND", "").encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def run(*command: str, env: dict[str, str] | None = None) -> int:
    return subprocess.run(command, cwd=ROOT, env=env).returncode  # noqa: S603  our own commands


def create() -> None:
    """A fresh environment, unless there is one of this Python that only wants an update."""
    config = VENV / "pyvenv.cfg"
    version = ".".join(map(str, sys.version_info[:3]))
    if config.exists() and f"version = {version}" in config.read_text() and (VENV / "bin" / "pip").exists():
        return
    try:
        venv.create(VENV, with_pip=True, clear=VENV.exists())
    except (subprocess.CalledProcessError, OSError) as problem:
        sys.exit(f"cannot make {VENV}: {problem}\nPython needs its venv and ensurepip modules (Debian: apt install python3-venv)")


def install() -> None:
    """By uv, which is quick and knows UV_TORCH_BACKEND; by pip where uv cannot be had."""
    python = str(VENV / "bin" / "python")
    env = dict(os.environ)
    if "PIP_INDEX_URL" in env:  # uv has names of its own for what pip is told
        env.setdefault("UV_DEFAULT_INDEX", env["PIP_INDEX_URL"])
    arguments = ("install", "-c", "requirements.txt", "-e", EXTRAS)
    if run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", UV) == 0:
        if run(python, "-m", "uv", "pip", arguments[0], "--python", python, *arguments[1:], env=env) == 0:
            return
        if env.get("UV_TORCH_BACKEND"):
            sys.exit(
                f"installing with UV_TORCH_BACKEND={env['UV_TORCH_BACKEND']} failed: is its package index reachable from here?"
            )
        print("uv could not install, pip tries", flush=True)
    if run(python, "-m", "pip", *arguments) != 0:
        sys.exit("the installation failed, see above")


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  this file must run on any Python to say so
        sys.exit(f"Freshet needs Python 3.11 or newer, this is {sys.version.split()[0]}: make PYTHON=python3.11 ...")
    if STAMP.exists() and STAMP.read_text() == wanted():
        return
    started = time.monotonic()
    print(f"setting up {VENV.name} (Python {sys.version.split()[0]}), once", flush=True)
    create()
    install()
    print("compiling the model's kernels, once", flush=True)
    if run(str(VENV / "bin" / "python"), "-c", "from models.warm import warm_up; warm_up()") != 0:
        sys.exit("the model does not run here, see above")
    STAMP.write_text(wanted())
    print(f"set up in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
