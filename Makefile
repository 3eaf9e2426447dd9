# make demo: the whole way on a simulated sky.   make test: the tests.   Both set everything up first, once.
PYTHON ?= python3
BIN := .venv/bin
# Another build of torch: make setup TORCH_INDEX=<address of a package index>, as pytorch.org lists them.
TORCH_INDEX ?=

.PHONY: setup demo test check docs shipped clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gqs needs Python 3.11 or newer; name one: make PYTHON=python3.12 setup"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "This Python has no venv: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv .venv
	@echo "Installing pinned packages; a few minutes the first time."
# torch and torchvision in one call: their builds must fit each other.
	$(BIN)/pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch torchvision
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[zoo,tensorboard,dev,docs]'
	@touch $@

demo: setup
	$(BIN)/gqs demo --out demo

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

check: setup
	$(BIN)/ruff check src tests benchmarks shipped
	$(BIN)/ruff format --check src tests benchmarks shipped
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m numpydoc.hooks.validate_docstrings $$(git ls-files 'src/*.py')

docs: setup
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

# The model in the package: the demo's recipe on more objects and for longer.
shipped: setup
	$(BIN)/gqs simulate --out build/shipped --into-store --objects 45000 --seed 2023
	$(BIN)/gqs split build/shipped
	$(BIN)/gqs train build/shipped --out src/gqs/classify/shipped --seed 1 --threads 1

clean:
	rm -rf .venv demo build docs/_build
