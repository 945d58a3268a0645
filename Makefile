# Upshot. `make help` lists every target.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE # where it is set, every process of the tests would compile everything anew

.PHONY: help install demo serve servers test check bench audit docs screenshots clean lock
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.server ## make .venv with the server in it

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Upshot needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python cannot make a virtual environment here (on Debian: apt install python3-venv)"; exit 1; }

$(VENV)/.server: requirements/server.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/server.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.server
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/.server ## run the whole loop on a real published experiment and leave the server running
	$(BIN)/upshot demo

serve: $(VENV)/.server ## start the server on http://127.0.0.1:8000
	$(BIN)/upshot serve

# Thousands of small databases are written and thrown away: in memory, where there is room for what the tests have open.
MEMORY := $(shell df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 2048 { print "/dev/shm" }')

check: $(VENV)/.dev ## format, lint, types, import contracts and unit tests, in under two minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(MEMORY),TMPDIR=$(MEMORY)) $(BIN)/pytest -q -n 2 -m "not slow and not integration"

servers: ## install with apt the servers that the tests need and no wheel gives
	@tests/backends/install.sh

test: servers check ## everything in check, then the application as a whole, then faults, load and simulations on real servers
	$(if $(MEMORY),TMPDIR=$(MEMORY)) $(BIN)/pytest -q -n 2 -m "integration and not slow"
	$(BIN)/pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m slow

bench: $(VENV)/.dev ## run every benchmark and write benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

audit: $(VENV)/.dev ## known vulnerabilities of what is locked (asks PyPI), and the bill of materials in dist/sbom.cdx.json
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements requirements/container.txt --output-file dist/sbom.cdx.json
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements/container.txt

docs: $(VENV)/.dev ## write the generated reference pages (settings, commands, HTTP API)
	$(BIN)/python -m docs.generate

screenshots: servers $(VENV)/.dev ## take the pictures of the dashboard again, into docs/images
	$(BIN)/python -m tests.browser.screenshots

SERVERS := postgresql mysql clickhouse rabbitmq redis kafka sqs celery

lock: $(VENV)/.dev ## resolve the locked requirements again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-annotate --group build pyproject.toml -o requirements/server.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-annotate --all-extras --group build --group dev pyproject.toml -o requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-annotate $(SERVERS:%=--extra %) --constraint requirements/dev.txt pyproject.toml -o requirements/container.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-annotate --constraint requirements/dev.txt --group build -o requirements/build.txt

clean: ## remove everything that was made here, data of `make serve` excepted
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
