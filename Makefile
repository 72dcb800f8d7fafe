# make demo    the main job on three servers of its own     make lint    format, ruff, mypy and pyright, both strict
# make test    all tests but the soak tests                  make docs    the documentation, warnings are errors
# make unit    the tests that need no real peer              make soak    minutes of faults on real processes
# make bench   terzetto, kazoo and the C client side by side; terzetto's server and Java's
#
# PYTHON chooses the interpreter a new virtual environment is made with, VENV where it is, ARGS goes to pytest or the
# benchmarks: make unit PYTHON=python3.13 VENV=.venv-3.13 ARGS="-k session". WORKERS is how many processes share the tests.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= 2

venv_python := $(VENV)/bin/python
pip := $(venv_python) -m pip --disable-pip-version-check --quiet --quiet
stamps := $(VENV)/.installed
links := build/links/terzetto
shared := --numprocesses $(WORKERS) --dist worksteal

.PHONY: demo test unit architecture lint format rules mypy pyright docs soak bench peers rare-peers programs links clean
.DELETE_ON_ERROR:

# --- the virtual environment: one stamp a set of extras, made anew when pyproject.toml changes. The install is an
# --- editable one, so that every run sees the tree as it is now, new files included.

$(venv_python):
	$(PYTHON) -m venv $(VENV)

$(stamps)/%: pyproject.toml | $(venv_python)
	@echo "installing terzetto[$*] into $(VENV)"
	@$(pip) install --editable ".[$*]" $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
	@mkdir -p $(stamps)
	@touch $@

# Type checkers cannot see an editable install, so the folders stand here under the names that they are installed as.
links:
	@mkdir -p $(links)
	@for package in client recipes testcluster; do ln -sfn ../../../$$package $(links)/$$package; done

# --- what one runs

demo: $(stamps)/cli
	@$(VENV)/bin/terzetto demo $(ARGS)

# The real peers that the tests talk to; installs them where it may, says how to get them where it may not. Never fails.
peers:
	@sh .ci/peers

# Those of the soak tests as well. Kerberos from Python is compiled on the way.
rare-peers: $(stamps)/cli,test
	@sh .ci/peers soak
	@$(MAKE) --silent $(stamps)/sasl || echo "Kerberos missing, to get it: $(pip) install --editable '.[sasl]'"

# Programs written for kazoo. Never fails either: without them their tests skip, and fail where CI=true.
programs: $(stamps)/cli,test
	@$(MAKE) --silent $(stamps)/programs || echo "Programs missing, to get them: $(pip) install --editable '.[programs]'"

test: $(stamps)/cli,test peers programs
	$(venv_python) -m pytest $(shared) $(ARGS)

unit: $(stamps)/cli,test
	$(venv_python) -m pytest $(shared) -m "not interop and not soak" $(ARGS)

architecture: $(stamps)/cli,test
	$(venv_python) -m pytest tests/architecture $(ARGS)

# -k lint runs all four, whatever the first one says.
lint: format rules mypy pyright

lint_tools := $(stamps)/cli,test,lint,bench

format: $(lint_tools)
	$(venv_python) -m ruff format --check --quiet .

rules: $(lint_tools)
	$(venv_python) -m ruff check --output-format concise .

mypy: $(lint_tools) links
	$(venv_python) -m mypy

pyright: $(lint_tools) links
	$(venv_python) -m pyright --pythonpath $(venv_python)

docs: $(stamps)/docs
	$(venv_python) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

soak: $(stamps)/cli,test rare-peers programs
	$(venv_python) -m pytest -m soak -o faulthandler_timeout=3600 $(ARGS)

bench: $(stamps)/bench peers
	$(venv_python) -m tests.benchmarks $(ARGS)

clean:
	rm -rf build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
