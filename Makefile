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
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[zoo,tensorboard,engines,cluster,dev,docs]'
	@touch $@

demo: setup
	$(BIN)/gqs demo --out demo

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check src tests benchmarks shipped
	$(BIN)/ruff format --check src tests benchmarks shipped
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

# The model in the package from its data on, and what it is judged by: hours. Needs GQS_REAL_DATA.
BUILT := build/shipped
LEARN := $(BIN)/gqs train $(BUILT) --recipe shipped --threads 1
shipped: setup
	$(BIN)/python shipped/make.py $(BUILT) --data "$(GQS_REAL_DATA)"
	for seed in 1 2 3; do $(LEARN) --split $(BUILT)/split.parquet --seed $$seed --out build/seed-$$seed || exit; done
	for seed in 1 2 3; do $(BIN)/gqs calibrate build/seed-$$seed $(BUILT) --split $(BUILT)/calibration.parquet --out build/calibrated-$$seed || exit; done
	$(BIN)/python shipped/choose.py build/calibrated-1 build/calibrated-2 build/calibrated-3
	for fold in 0 1 2 3 4; do $(LEARN) --split $(BUILT)/fold-$$fold.parquet --seed 1 --epochs 12 --out build/fold-$$fold || exit; done
	$(BIN)/python shipped/pictures.py $(BUILT) build/pictures
	$(BIN)/gqs train build/pictures/planes --recipe shipped --threads 1 --seed 1 --out build/planes \
	  --set augment.dim=0 --set augment.band_dropout=0 --set augment.narrow=0

clean:
	rm -rf .venv demo build docs/_build
