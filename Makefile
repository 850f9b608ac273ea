# Everything happens in .venv; no target needs another one to be called first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# One thread a process: the models are small, and processes share the cores better than threads do.
ONE    := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

# Families that cannot share an environment with mace-torch, and where theirs are.
FAMILIES := sevennet nequip
ENVS   ?= envs

.PHONY: install demo test test-slow test-browser test-chaos test-fuzz test-engines test-slurm test-families lint clean

install: $(VENV)/core.stamp

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Surveyor needs Python 3.11 or newer; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mace]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/surveyor run examples/reactions/campaign.yaml -o demo --json

test: $(VENV)/dev.stamp
	$(ONE) $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(VENV)/dev.stamp
	$(ONE) $(BIN)/python -m pytest -m slow

# Needs Chromium: apt-get install chromium
test-browser: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(ONE) $(BIN)/python -m pytest -m browser -rs

# A hundred kills, full disks (as root) and calculators that misbehave; prints the counts.
test-chaos: $(VENV)/dev.stamp
	$(ONE) $(BIN)/python -m pytest -m chaos -s

# Journals damaged in every way, odd values through every writer, odd files beside results; prints the counts.
test-fuzz: $(VENV)/dev.stamp
	$(ONE) $(BIN)/python -m pytest -m fuzz -s

# Dask and Parsl workers on this machine, killed in the middle of a job.
test-engines: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[parsl,dask]'
	$(ONE) $(BIN)/python -m pytest -m engines -s

# A real Slurm on this machine, bound to loopback. Needs root and: apt-get install slurm-wlm munge
test-slurm: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[slurm]'
	$(ONE) $(BIN)/python -m pytest -m slurm -s

$(ENVS)/%/env.stamp: $(VENV)/bin/python pyproject.toml plugins/surveyor-%/pyproject.toml
	$(BIN)/python -m venv $(ENVS)/$*
	$(ENVS)/$*/bin/pip install --quiet --disable-pip-version-check $$(grep -E '^(torch|pytest)==' constraints.txt) \
	  -e . -e plugins/surveyor-$*
	touch $@

# The plug-ins' own tests, each in its environment; then campaigns with them, which takes some minutes.
test-families: $(VENV)/dev.stamp $(FAMILIES:%=$(ENVS)/%/env.stamp)
	set -e; for family in $(FAMILIES); do \
	  (cd plugins/surveyor-$$family && $(ONE) $(abspath $(ENVS))/$$family/bin/python -m pytest); done
	$(ONE) SURVEYOR_ENVS=$(abspath $(ENVS)) $(BIN)/python -m pytest -m families -s

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
