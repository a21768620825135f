# Needs Python 3.11, 3.12 or 3.13 and make; everything else is installed into .venv/. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh
SUITABLE := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python $(SUITABLE) && echo $$python && break; done)
# Options count only on the command line: a variable of the same name in the environment is ignored.
N = 5
SEED = 0
PORT = 5000
$(foreach option,ADDRESS ALLOW ARCHIVE BUNDLE EXTRAS FOLDER IN NAME NETWORKS OUT SECTION SEEDS SIDE SKIP VERSION WRITE,$(eval $(option) =))
# The commands in dvc.yaml start with `python`:
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONSAFEPATH PYTHONWARNINGS

.PHONY: help setup demo repro pack ui reference evidence tune export page score rollback seeds test fuzz chaos lint bench \
	lock audit

help: ## list the targets
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

setup: .venv/installed ## install the locked packages into .venv/; EXTRAS=gpu adds CUDA
ifneq ($(EXTRAS),)
	@test "$(EXTRAS)" = gpu || { echo "setup: EXTRAS=$(EXTRAS) is unknown: EXTRAS=gpu adds CUDA, and requirements.lock" \
		"contains everything else" >&2; exit 1; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-user \
		--requirement requirements-gpu.lock
endif

# One shell with a lock, so that two makes in a fresh clone do not install at the same time.
.venv/installed: requirements.lock
	@"$(PYTHON)" $(SUITABLE) || { echo "setup: PYTHON is '$(PYTHON)', but it should be Python 3.11, 3.12 or 3.13." \
		"Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@mkdir -p .dvc/tmp && exec 9> .dvc/tmp/setup.lock && "$(PYTHON)" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' && \
	if [ .venv/installed -nt requirements.lock ]; then exit 0; fi; \
	.venv/bin/python -c '' 2>/dev/null || "$(PYTHON)" -m venv --clear .venv || exit 1; \
	! .venv/bin/python -m pip config list | grep -E '\.(dry-run|prefix|python|root|target)=' >&2 || { echo "setup:" \
		"these settings of pip install outside .venv/. Unset them, then run the same command again." >&2; exit 1; }; \
	echo "setup: installing the locked packages into .venv/ (3.8 GB; 1 to 10 minutes)"; \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-user --require-hashes \
		--requirement requirements.lock && touch .venv/installed

demo: .venv/installed ## run the whole pipeline on generated images, offline, in .demo/
	@.venv/bin/python -m pipeline.recover .demo
	@.venv/bin/python -m pipeline.demo .demo

repro: .venv/installed ## run the pipeline on CIFAR-10: check params.yaml, then run `dvc repro`
	@.venv/bin/python -m pipeline.check_params
	@.venv/bin/python -m pipeline.recover
	@.venv/bin/python -m dvc repro

pack: .venv/installed ## make an archive of your own pictures: FOLDER= SIDE= OUT= WRITE=1 SKIP=1
	@.venv/bin/python -m pipeline.pack $(if $(filter 1,$(SKIP)),--skip) $(if $(filter 1,$(WRITE)),--write) \
		-- "$(FOLDER)" "$(SIDE)" "$(OUT)"

ui: .venv/installed ## show the runs in MLflow's web pages until Ctrl-C; PORT=5000
	@.venv/bin/python -m pipeline.ui "$(PORT)"

reference: .venv/installed ## save statistics of the validated data, with which later data is compared
	@.venv/bin/python -m pipeline.reference train_split=data/splits/train.npz \
		validation_split=data/splits/validation.npz test_split=data/splits/test.npz \
		verdict=reports/metrics/validate.json target=data/reference.json

evidence: .venv/installed ## report near duplicates, suspect labels, slices and robustness on one page
	@.venv/bin/python -m pipeline.check_params
	@.venv/bin/python -m pipeline.recover
	@.venv/bin/python -m pipeline.repro evidence/dvc.yaml

tune: .venv/installed ## search good settings of train on Ray: N=20 trials; ADDRESS=HOST:6379 of a cluster
	@$(if $(filter command,$(origin N)),.venv/bin/python -m pipeline.set_param tune trials "$(N)")
	@.venv/bin/python -m pipeline.check_params
	@.venv/bin/python -m pipeline.recover
	@$(if $(ADDRESS),RAY_ADDRESS="$(ADDRESS)") .venv/bin/python -m pipeline.repro tune/dvc.yaml

export: .venv/installed ## compare the best run with the champion; write the champion to dist/; ALLOW=1
	@.venv/bin/python -m pipeline.promote reports/metrics/validate.json data/splits/train.npz \
		data/splits/validation.npz dist $(if $(filter 1,$(ALLOW)),--allow)

page: .venv/installed ## write the bundle in dist/ as a page for the browser: BUNDLE=dist/NAME (needs npm)
	@.venv/bin/python -m pipeline.page dist $(if $(BUNDLE),"$(BUNDLE)")

score: .venv/installed ## classify many pictures on Ray: IN=FOLDER OUT=FOLDER BUNDLE= ADDRESS=
	@$(if $(ADDRESS),RAY_ADDRESS="$(ADDRESS)") .venv/bin/python -m pipeline.score dist "$(BUNDLE)" "$(IN)" "$(OUT)"

rollback: .venv/installed ## make an earlier model version the champion again: VERSION=1
	@.venv/bin/python -m pipeline.rollback "$(VERSION)" dist

seeds: .venv/installed ## train with N seeds; report the seed noise of accuracy: N=5 ADDRESS=HOST:6379
	@.venv/bin/python -m pipeline.recover
	@$(if $(ADDRESS),RAY_ADDRESS="$(ADDRESS)") .venv/bin/python -m pipeline.seeds "$(N)" reports/seeds.csv \
		reports/seeds.json data/splits/train.npz data/splits/validation.npz data/splits/test.npz \
		reports/metrics/validate.json

test: .venv/installed ## run the tests
	@.venv/bin/python -m pytest

fuzz: .venv/installed ## feed N mutated pickles and N mutated archives to the reader: N=100000
	@MUTATIONS="$(if $(filter command,$(origin N)),$(N),2000)" .venv/bin/python -m pytest -n0 -k mutated \
		tests/data/test_hostile_archives.py

chaos: .venv/installed ## kill stages, export and evidence N times; compare the outputs: N=5 SEED=0
	@PYTHONPATH=tests .venv/bin/python -m chaos "$(N)" "$(SEED)"

lint: .venv/installed ## check style, formatting and types
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

bench: .venv/installed ## measure; update README.md and docs/: ARCHIVE= NAME= SECTION= SEEDS= NETWORKS=
	@.venv/bin/python -m benchmarks.run $(if $(ARCHIVE),--archive "$(ARCHIVE)") $(if $(NAME),--name "$(NAME)") \
		$(if $(SECTION),--section $(SECTION)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(NETWORKS),--networks "$(NETWORKS)")

COMPILE = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate --upgrade --quiet
# requirements-gpu.lock has only what CUDA adds to requirements.lock.
lock: ## write the newest allowed versions into requirements*.lock (needs uv)
	$(COMPILE) pyproject.toml deploy/requirements.in --extra dev --extra s3 --extra postgres --extra openvino --extra ray \
		--output-file requirements.lock
	$(COMPILE) deploy/requirements.in --constraint requirements.lock --output-file deploy/requirements.lock
	$(COMPILE) pyproject.toml --extra gpu --constraint requirements.lock --output-file requirements-gpu.lock
	awk '/^[a-z]/ { keep = /^nvidia-/ } keep' requirements-gpu.lock > .venv/gpu.lock
	mv .venv/gpu.lock requirements-gpu.lock

# pip-licenses and pip-audit run in a folder of their own: nothing is added to the packages that they look at.
audit: .venv/installed ## list licences and known vulnerabilities of the locked packages (needs the network)
	@test -x .venv/audit/bin/pip-audit || { .venv/bin/python -m venv .venv/audit && .venv/audit/bin/python -m pip install \
		--quiet --disable-pip-version-check pip-audit==2.10.1 pip-licenses==5.5.5; }
	@.venv/audit/bin/pip-licenses --python .venv/bin/python --order license
	@.venv/audit/bin/pip-audit --strict --disable-pip --requirement requirements.lock
	@.venv/audit/bin/pip-audit --strict --disable-pip --requirement requirements-gpu.lock
