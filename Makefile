# Everything runs in .venv, which the first command makes. UV_TORCH_BACKEND=cpu takes the CPU build of torch instead of the CUDA one.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.PHONY: help demo test check bench quality chaos docs setup clean

help:            ## this list
	@grep -hE '^[a-z]+: .*##|^[a-z]+:  +##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup:           ## .venv with everything in it
	@$(PYTHON) scripts/setup.py

demo: setup      ## Kafka, worker, Qdrant and a simulated shop, live in the terminal; make demo ARGS="--for 60"
	@$(BIN)/freshet demo $(ARGS)

test: setup      ## the tests, on a real Kafka; make test ARGS="-k topics"
	@$(BIN)/python -m pytest -m "not chaos" $(ARGS)

check: setup     ## lint and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check -q . || { echo "ruff format . mends the layout"; exit 1; }
	@$(BIN)/mypy

bench: setup     ## freshness and CPU time per event, measured here
	@$(BIN)/python -m tests.benchmarks $(ARGS)

quality: setup   ## the lists on public logs in FRESHET_DATA, into docs/quality.md; make quality ARGS="--jobs 2"
	@$(BIN)/freshet quality --page docs/quality.md $(ARGS)

chaos: setup     ## the long fault injection
	@$(BIN)/python -m pytest -m chaos $(ARGS)

docs: setup      ## regenerate what in docs/ is generated
	@$(BIN)/python -m deploy.docs

clean:           ## remove the environment and embedded state
	rm -rf .venv .freshet
