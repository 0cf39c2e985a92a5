# `make` alone lists what there is.
VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --quiet --disable-pip-version-check
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help train check test lint format bench gpu tensorboard clean

help: ## list the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

train: $(VENV)/.installed ## set up and train mlp300 on the bundled digits (ARGS="data=fashion seed=2" for more)
	$(PYTHON) train.py $(ARGS)

check: $(VENV)/.installed-test ## run the quick tests, which start no command
	$(PYTHON) -m pytest -n 2 --dist worksteal -m 'not commands' $(ARGS)

test: $(VENV)/.installed-test $(VENV)/.hydra-prerelease ## run the tests
	$(PYTHON) -m pytest -n 2 --dist worksteal -rs $(ARGS)

lint: $(VENV)/.installed-test $(VENV)/.installed-lint ## check style, types and which package imports which
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

format: $(VENV)/.installed-lint ## rewrite files in the project's style
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/.installed-bench ## time an epoch against JAX, Keras, PyTorch and Lightning (20 minutes), into benchmarks/
	$(PYTHON) -m benchmarks.bench $(ARGS)

gpu: $(VENV)/.installed-test ## check on a GPU what is claimed of it (10 minutes), into benchmarks/
	$(PYTHON) -m benchmarks.gpu $(ARGS)

tensorboard: $(VENV)/.installed ## look at every run under outputs/ on http://localhost:6006
	$(PYTHON) -m tensorboard.main --logdir outputs $(ARGS)

clean: ## remove the environment and caches; outputs/ and data/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PYTHON):
	python3 -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(PYTHON)
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.hydra-prerelease: $(VENV)/.installed   # beside the environment; the test that needs it is skipped without it
	-$(PIP) install --no-deps --target $(VENV)/hydra-prerelease hydra-core==1.4.0rc3 omegaconf==2.4.1rc1
	@touch $@

$(VENV)/.installed-test $(VENV)/.installed-lint $(VENV)/.installed-bench: $(VENV)/.installed-%: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[$*]'
	@touch $@
