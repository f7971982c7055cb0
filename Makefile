# Two commands on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# A matching pair; any torch >= 2.6 works. `make TORCH="torch torchvision"` takes the newest.
TORCH ?= torch==2.13.0 torchvision==0.28.0
BIN := $(VENV)/bin

.PHONY: demo test check types docs clean

demo: $(VENV)/.installed
	$(BIN)/affuse demo --out affuse-demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(VENV)/.installed-dev types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The API page is made from an installed copy: the repository's root is the package, with tests and environments beside it.
docs: $(VENV)/.installed-docs
	rm -rf build/docs && $(BIN)/pip install --quiet --no-deps --target build/docs .
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

types:
	mkdir -p .types && ln -sfn .. .types/affuse

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet -e ".[docs]"
	touch $@

clean:
	rm -rf build dist site *.egg-info .types
