# Needs Python 3.11, 3.12 or 3.13 and make; everything else goes into .venv/. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)
EXTRAS ?=
N ?= 5
# For the stages, since dvc.yaml says `python`:
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false

.PHONY: help setup demo repro reference evidence export rollback seeds test lint bench lock

help: ## list the targets
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

setup: .venv/installed ## make .venv/ alone, with the extras s3 and postgres; EXTRAS=gpu adds CUDA
ifneq ($(EXTRAS),)
	@sed -e '/^ *--hash/d' -e 's/ *\\$$//' requirements.lock > .venv/constraints.txt
	@.venv/bin/python -m pip install --quiet --constraint .venv/constraints.txt '.[$(EXTRAS)]'
endif

.venv/installed: requirements.lock
	@test -n "$(PYTHON)" || { echo "setup: found no Python 3.11, 3.12 or 3.13. Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@.venv/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@echo "setup: installing the locked packages into .venv/ (2.7 GB; 1 to 10 minutes)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@touch .venv/installed

demo: .venv/installed ## run the whole pipeline on generated images, offline, in .demo/
	@.venv/bin/python -m pipeline.demo .demo

repro: .venv/installed ## run the pipeline on CIFAR-10: check params.yaml, then `dvc repro`
	@.venv/bin/python -m pipeline.check_params
	@.venv/bin/python -m dvc repro

reference: .venv/installed ## keep what the validated data looks like in data/reference.json, for later data to be compared with
	@.venv/bin/python -m pipeline.reference data/splits/train.npz data/splits/validation.npz data/splits/test.npz \
		reports/metrics/validate.json data/reference.json

evidence: .venv/installed ## what data and model are worth: near duplicates, suspect labels, robustness, one page in reports/
	@.venv/bin/python -m pipeline.check_params
	@.venv/bin/python -m dvc repro evidence/dvc.yaml

export: .venv/installed ## the best tracked model challenges the champion, whose bundle goes to dist/; ALLOW=1 promotes it in any case
	@.venv/bin/python -m pipeline.release reports/metrics/validate.json data/splits/train.npz data/splits/validation.npz dist \
		$(if $(filter 1,$(ALLOW)),--allow)

rollback: .venv/installed ## make an earlier version the champion again: VERSION=1
	@.venv/bin/python -m pipeline.rollback "$(VERSION)" dist

seeds: .venv/installed ## train with N seeds as DVC experiments, and tell which difference between two models is real: N=5
	@.venv/bin/python -m pipeline.seeds "$(N)" reports/seeds.csv reports/seeds.json

test: .venv/installed ## run the tests
	@.venv/bin/python -m pytest

lint: .venv/installed ## check style and formatting
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .

bench: .venv/installed ## measure, and write the figures into README.md; ARCHIVE=path NAME="what tables call it" SECTION=training SEEDS=3 ACCURATE=1
	@.venv/bin/python -m benchmarks.run $(if $(ARCHIVE),--archive "$(ARCHIVE)") $(if $(NAME),--name "$(NAME)") \
		$(if $(SECTION),--section $(SECTION)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(filter 1,$(ACCURATE)),--accurate)

lock: ## resolve pyproject.toml anew into requirements.lock (needs uv)
	uv pip compile pyproject.toml --extra dev --extra s3 --extra postgres --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --upgrade --quiet --output-file requirements.lock
