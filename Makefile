# Every target sets up .venv by itself; nothing else on the machine is touched.
VENV    ?= .venv
PYTHON  ?= python3
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
# What the daemon is compared with, in an environment of its own: it is heavy.
OTHERS  := $(VENV)/others
# The machine's pip, working in the environment: Debian's Python cannot make one with a pip of its own.
PIP     := $(PYTHON) -m pip --python $(BIN)/python --quiet --disable-pip-version-check

.PHONY: help demo test check bench lab-slurm-24 clean format

help:           ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

$(STAMP): pyproject.toml $(wildcard prolog_epilog/*/* deploy/*)
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PIP) install -e '.[accounting,dev]'
	touch $@

demo: $(STAMP)  ## run real jobs on this machine and say what they cost
	$(BIN)/jobimpact demo --dir demo

test: $(STAMP)  ## every test that this machine can run
	$(BIN)/python -m pytest

check: $(STAMP) ## what CI runs: format, lint, types, architecture, hooks, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck prolog_epilog/*/*
	$(BIN)/python -m pytest

bench: $(STAMP) ## the figures of docs/admin/figures.md, on this machine
	$(PYTHON) -m venv --without-pip $(OTHERS)
	$(PYTHON) -m pip --python $(OTHERS)/bin/python --quiet --disable-pip-version-check install 'codecarbon>=3' 'zeus>=0.16'
	BENCH_PYTHON=$(OTHERS)/bin/python $(BIN)/python -m tests.bench

# Debian 13 in a folder of its own, which stays: another Slurm than this machine's. Needs root and debootstrap.
LAB24   ?= /var/tmp/jobimpact-slurm-24
LAB24_PACKAGES := slurmctld,slurmd,slurmdbd,slurm-client,slurm-wlm-basic-plugins,slurm-wlm-mysql-plugin,mariadb-server,munge,iproute2,procps,util-linux

lab-slurm-24: $(STAMP)
	test -e $(LAB24)/complete || debootstrap --variant=minbase --include=$(LAB24_PACKAGES) trixie $(LAB24)
	touch $(LAB24)/complete
	LAB_ROOT=$(LAB24) REQUIRE_LABS=1 $(BIN)/python -m pytest tests/labs/test_sacct.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

clean:
	rm -rf $(VENV) build dist demo
