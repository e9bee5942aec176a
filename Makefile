# Everything a person types. `make` prints the targets; DATASET= and VARIANT= narrow them.

VENV ?= .venv
PYTHON ?= python3.11
TORCH_INDEX ?=
DATASET ?=
VARIANT ?=
FROM ?=
TO ?=
PREFECT_PORT ?= 4200
MLFLOW_PORT ?= 5000
HOST ?= 127.0.0.1
UI_PORT ?= 5001
SERVE_PORT ?= 8080
IN ?=
OUT ?=
EXPLAIN ?=
KEY ?=
AGE ?=
YES ?=
WORKERS ?=
SIZES ?=
ROUNDS ?=
TOPIC ?=
GPU_SLOTS ?=
STAGE_HOURS ?=
CLUSTER ?=
POOL ?=
WORKSPACE ?=

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

BIN := $(abspath $(VENV))/bin
STAMP := $(abspath $(VENV))/.latentops-setup
VAR := $(CURDIR)/var
STORE := $(or $(MLFLOW_TRACKING_URI),sqlite:///$(VAR)/mlflow/mlflow.db)
NARROW := $(if $(DATASET),--dataset '$(DATASET)') $(if $(VARIANT),--variant '$(VARIANT)')
NAMED := $(if $(DATASET),'$(DATASET)')
LIMITS := $(if $(WORKERS),--workers $(WORKERS)) $(if $(GPU_SLOTS),--gpu-slots $(GPU_SLOTS)) \
	$(if $(STAGE_HOURS),--stage-hours $(STAGE_HOURS))
ELSEWHERE := $(if $(CLUSTER),--cluster '$(CLUSTER)') $(if $(POOL),--pool '$(POOL)')
# A test process may take a gigabyte and a half.
PYTEST := python -m pytest --numprocesses $(or $(WORKERS),auto) --maxprocesses 4 --dist worksteal
# A variant alone can't be compared, so there is nothing to promote and no new board.
CONCLUDE := $(if $(VARIANT),echo "evaluated; make repro without VARIANT= compares and promotes",\
	latentops promote $(NAMED) && latentops leaderboard $(NAMED))

export PATH := $(BIN):$(PATH)
# This checkout's own code, also where several share one VENV.
export PYTHONPATH := $(CURDIR)/src:$(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
# One thread a process: the DAG's parallelism is processes, and the thread count changes the bytes.
export OMP_NUM_THREADS := 1
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_HOME := $(VAR)/prefect
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS := 120

.PHONY: help setup lock repro flow test test-fast test-long lint doctor data-status record sync report leaderboard ui \
	services services-stop services-test review-picture week retrain score serve export promote reject rollback diff \
	history verify prune backup restore sweep clean need-dataset bench bench-speed bench-gpu bench-profile bench-judge bench-growth \
	bench-startup bench-serving bench-large bench-quality bench-anomaly bench-remedies bench-pipeline

help: ## print this list
	@echo "make TARGET [DATASET=name] [VARIANT=name] [VENV=$(VENV)]"
	@echo
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)$$/\1|\2/p' $(firstword $(MAKEFILE_LIST)) \
		| while IFS='|' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## create the environment from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || command -v $(PYTHON) >/dev/null || { \
		echo "error: $(PYTHON) not found: install Python 3.11 or say where it is with PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the environment into $(VENV), once: 2.3 GB, some 4 minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		--constraint requirements.lock "$$(grep -m1 '^torch==' requirements.lock)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

lock: ## renew requirements.lock from what pyproject.toml asks for now
	bash .ci/lock $(PYTHON) $(TORCH_INDEX)

repro: setup ## reproduce everything stale, promote what passes its gates, print the leaderboard
	@latentops check
	@targets="$$(latentops targets $(NARROW))" && dvc repro $$targets
	@$(CONCLUDE)

flow: setup ## the same, in parallel under Prefect (WORKERS=, GPU_SLOTS=, STAGE_HOURS=; CLUSTER= or POOL= elsewhere)
	@latentops check
	@python -m pipelines.reproduce $(NARROW) $(LIMITS) $(ELSEWHERE)
	@$(if $(VARIANT),$(CONCLUDE),latentops leaderboard $(NAMED))

test: setup ## all tests but those of test-long, in up to four processes (WORKERS=)
	@$(PYTEST) -m "not long"

test-long: setup ## the tests that take minutes each: workers that are lost, work pools
	@$(PYTEST) -m long

test-fast: setup ## the tests that take seconds
	@$(PYTEST) -m "not slow"

lint: setup ## ruff, mypy, the import rules, bandit, and whether the docs' figures are the results'
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports
	@bandit --quiet --configfile pyproject.toml --recursive src pipelines docs/render.py
	@python docs/render.py --check

doctor: setup ## what is missing or broken on this machine, and how to mend it
	@latentops doctor

data-status: setup ## rows added, removed and changed between two revisions (FROM=, TO=)
	@latentops data-status '$(or $(FROM),HEAD)' '$(or $(TO),workspace)' $(NAMED)

record: setup ## rebuild or complete the MLflow store from the DVC outs
	@latentops record $(NAMED)

sync: setup ## deliver to MLflow what was kept while it couldn't be reached
	@latentops sync

report: setup ## write the HTML report
	@latentops report

leaderboard: setup ## print the leaderboard
	@latentops leaderboard $(NAMED)

ui: setup ## open MLflow on the runs (UI_PORT=)
	@echo "MLflow on http://127.0.0.1:$(UI_PORT)"
	@mlflow ui --backend-store-uri "$(STORE)" --host 127.0.0.1 --port $(UI_PORT)

services: setup ## start Prefect, MLflow and the retraining schedule (PREFECT_PORT=, MLFLOW_PORT=; HOST= for MLflow's)
	@python -m pipelines.services start --prefect-port $(PREFECT_PORT) --mlflow-port $(MLFLOW_PORT) --host '$(HOST)'

services-test: setup ## the registry's tests on an MLflow server with PostgreSQL (Debian's postgresql), started here
	@$(PYTEST) tests/registry --store postgresql

review-picture: setup need-dataset ## the picture of docs/review.md, of a dataset's challenger in MLflow
	@python docs/review.py '$(DATASET)'

services-stop: setup ## stop what `make services` started
	@python -m pipelines.services stop

week: setup ## seven days of the retraining schedule in ten minutes, into docs/week.md
	@python docs/week.py

retrain: setup ## take in new rows and retrain, once, now (WORKERS=, …; WORKSPACE=: in a working copy there)
	@python -m pipelines.retrain $(if $(DATASET),--dataset '$(DATASET)') $(LIMITS) $(if $(WORKSPACE),--workspace '$(WORKSPACE)')

score: setup need-dataset ## score a Parquet file with the champion (IN=, OUT=, FDR=, KEY=; EXPLAIN=1 says why)
	@test -n "$(IN)" -a -n "$(OUT)" || { echo "error: name the files: make score DATASET=… IN=rows.parquet OUT=scores.parquet" >&2; exit 1; }
	@python -m pipelines.score "$(DATASET)" "$(IN)" "$(OUT)" $(if $(FDR),--false-discovery-rate $(FDR)) $(if $(EXPLAIN),--explain) $(if $(KEY),--key '$(KEY)')

serve: setup need-dataset ## the champion over HTTP (SERVE_PORT=, WORKERS=)
	@latentops serve "$(DATASET)" --port $(SERVE_PORT) $(if $(WORKERS),--workers $(WORKERS))

export: setup need-dataset ## write the champion as ONNX (OUT=)
	@latentops export "$(DATASET)@champion" $(if $(OUT),--out '$(OUT)')

promote: setup ## promote what passes its gates (DATASET=, REASON=; FORCE=1 past one that holds)
	@latentops promote $(NAMED) --reason "$${REASON:-}" $(if $(FORCE),--force)

reject: setup need-dataset ## turn the challenger down (REASON=)
	@latentops reject "$(DATASET)" --reason "$${REASON:-}"

rollback: setup need-dataset ## put the previous champion back (REASON=)
	@latentops rollback "$(DATASET)" --reason "$${REASON:-}"

diff: setup need-dataset ## what differs between the champion and the challenger, or others (FROM=champion, TO=challenger)
	@latentops diff '$(DATASET)@$(or $(FROM),champion)' '$(DATASET)@$(or $(TO),challenger)'

history: setup need-dataset ## what was promoted, held, rejected and undone of a dataset's model
	@latentops history "$(DATASET)"

verify: setup need-dataset ## prove the champion's chain from data to metrics again
	@latentops verify "$(DATASET)@champion"

prune: setup ## what nothing names any more: runs, versions, cached data (AGE=30d; YES=1 removes it)
	@latentops prune $(if $(AGE),--older-than '$(AGE)') $(if $(YES),--yes)

backup: setup ## save store, ledger, outbox and DVC's cache (OUT=folder)
	@test -n "$(OUT)" || { echo "error: name the folder: make backup OUT=/backups/monday" >&2; exit 1; }
	@latentops backup "$(OUT)"

restore: setup ## put a backup back (IN=folder; FORCE=1 over a store that is here)
	@test -n "$(IN)" || { echo "error: name the folder: make restore IN=/backups/monday" >&2; exit 1; }
	@latentops restore "$(IN)" $(if $(FORCE),--force)

sweep: setup need-dataset ## error, probe and AUROC over latent size, the knee marked (VARIANT=, SIZES=1,2,4)
	@latentops sweep '$(DATASET)' '$(or $(VARIANT),undercomplete)' $(if $(SIZES),--sizes '$(SIZES)')

bench: setup ## all benchmarks, one after the other (ROUNDS=)
	@$(MAKE) --keep-going bench-speed bench-profile bench-judge bench-growth bench-startup bench-serving bench-remedies \
		bench-pipeline

bench-speed: setup ## time training against pythae, PyOD and Lightning, and say what fell behind (ROUNDS=)
	@python -m benchmarks.speed $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

bench-gpu: setup ## time training on a GPU, where there is one, against public tools on it (ROUNDS=, TORCH_INDEX=)
	@python -m benchmarks.gpu $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

bench-profile: setup ## where the time of our training steps goes
	@python -m benchmarks.profile

bench-judge: setup ## time the probe, the neighbours and the bootstrap at size, against public tools (ROUNDS=)
	@python -m benchmarks.judge $(if $(ROUNDS),--rounds $(ROUNDS))

bench-growth: setup ## fit how time and memory grow with members, samples, features and length (ROUNDS=)
	@python -m benchmarks.growth $(if $(ROUNDS),--rounds $(ROUNDS))

bench-startup: setup ## time what stages and commands import, against what stages work (ROUNDS=)
	@python -m benchmarks.startup $(if $(ROUNDS),--rounds $(ROUNDS))

bench-serving: setup ## load the served champion, beside the same model called directly (DATASET=)
	@python -m benchmarks.serving $(NAMED)

bench-large: setup ## measure what large data takes, from its file to training, and judging it (TASK=table, images or judge)
	@python -m benchmarks.large $(TASK)

bench-quality: setup ## each set of benchmarks/quality.yaml through the DAG, against its floors and what is cited (DATASET=)
	@python -m benchmarks.quality $(if $(DATASET),--only '$(DATASET)')

bench-anomaly: setup ## every anomaly score and floor on 17 public tables (SPLITS=; the mirror, or a network)
	@python -m benchmarks.anomaly $(if $(SPLITS),--splits $(SPLITS))

bench-remedies: setup ## each warning's number without its remedy and with it, paired over five seeds (TOPIC=)
	@python -m benchmarks.remedies $(if $(TOPIC),--only '$(TOPIC)')

bench-pipeline: setup ## time repro and flow in fresh clones of HEAD, compare their outs, and what a flow adds (ROUNDS=)
	@python -m benchmarks.pipeline $(if $(ROUNDS),--rounds $(ROUNDS))

clean: ## remove outputs (models, results, reports, var), never data
	@rm -rf models results/*/*/*/samples.safetensors results/floors/*/samples.safetensors reports/*.html var/data_docs var/checkpoints
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@echo "removed outputs; data, the DVC cache, the ledger and the MLflow store are as they were"

need-dataset:
	@test -n "$(DATASET)" || { echo "error: name the dataset: make $(MAKECMDGOALS) DATASET=digits" >&2; exit 1; }
