# `make help` lists what can be asked for. Everything it makes lies in .venv, .venv-demo and _build.
PYTHON ?= python3
PROFILE ?= cpu
PY := .venv/bin/python
AT_A_TIME = $(if $(JOBS),--jobs $(JOBS))
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest
FIND_PYTHON = command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "error: no Python found as '$(PYTHON)': install Python 3.11, 3.12 or 3.13, or name one with PYTHON=..." >&2; exit 1; }
.DEFAULT_GOAL := help
.PHONY: help book student solutions grade test test-slow smoke notebooks lint links format test-browser env model colab-like test-versions lock colab-links wheel record-times reference-run gpu-run plan-page readme clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  options: PYTHON=python3.12 (which Python makes .venv), PROFILE=smoke|cpu|t4|paper (make notebooks)"
	@echo "           JOBS=1 (make book, smoke, notebooks: one notebook at a time, where two have no room)"
	@echo "           PY=python3 ARGS=... (make gpu-run: an environment that has the packages; --help among its options)"

book: env ## run every notebook on the cpu profile and render the book to _build/html
	@$(PY) tools/execute.py --profile cpu $(AT_A_TIME)
	@$(PY) tools/render.py

student: env ## the notebooks without solutions, into _build/student
	@$(PY) tools/handouts.py student

solutions: env ## the notebooks with their stubs filled, into _build/solutions
	@$(PY) tools/handouts.py solutions

grade: env ## grade the returned notebooks in SUBMISSIONS=folder, into _build/grades (ARGS="--help": its options)
	@test -n "$(SUBMISSIONS)$(findstring --help,$(ARGS))" || { echo "error: name the folder: make grade SUBMISSIONS=folder" >&2; exit 1; }
	@$(PY) tools/grade.py $(if $(SUBMISSIONS),"$(SUBMISSIONS)") $(ARGS)

test: env ## all tests but the browser's (make test-browser), the notebooks on the smoke profile included
	@$(PYTEST) -n 2 --dist loadfile --ignore tests/browser

test-slow: env ## the long matrices that `make test` leaves out; at most 80 minutes
	@$(PYTEST) -m slow -n 2 --dist loadfile

smoke: env ## run every notebook on the smoke profile
	@$(PY) tools/execute.py --profile smoke $(AT_A_TIME)

notebooks: env ## run every notebook on PROFILE=smoke, cpu, t4 or paper
	@$(PY) tools/execute.py --profile "$(PROFILE)" $(AT_A_TIME)

lint: env ## ruff (rules and format), mypy, the floors of the rooms, spelling, notebooks without outputs
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(dir $(PY))lint-imports --no-logo
	@$(PY) -m codespell_lib
	@$(PY) -m nbstripout --verify --keep-id notebooks/*.ipynb

links: env ## ask other hosts for the book's links to them (network; after make book, or make smoke and PROFILE=smoke)
	@$(PY) tools/render.py --profile "$(PROFILE)" --links

format: env ## let ruff put the code in form
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

test-browser: env ## open the rendered book in headless Chromium (after make book)
	@RREC_BROWSER=required $(PYTEST) -n 2 --dist loadfile tests/browser

.PHONY: jupyter demo demo-env test-demo
jupyter: env ## open the notebooks in JupyterLab, which is installed the first time (ARGS="--help": its options)
	@$(PY) -m jupyterlab --version > /dev/null 2>&1 || $(PY) -m pip install --quiet jupyterlab
	@$(PY) -m jupyterlab notebooks $(ARGS)

demo: demo-env ## a page to talk to the model, on this machine alone (ARGS="--help": its options)
	@.venv-demo/bin/rrec demo $(ARGS)

test-demo: env demo-env ## drive the demo's page in headless Chromium
	@RREC_BROWSER=required RREC_DEMO=required $(PYTEST) tests/browser/test_demo.py

demo-env: ## the demo's environment in .venv-demo; does nothing when it is up to date
	@$(FIND_PYTHON)
	@"$(PYTHON)" tools/install.py demo

.PHONY: slides
slides: env ## the slides: HTML beside the rendered book, and a PDF of each by Chromium (after make book)
	@$(PY) tools/render.py
	@$(PY) tools/slides.py

env: ## the environment in .venv; does nothing when it is up to date
	@$(FIND_PYTHON)
	@"$(PYTHON)" tools/install.py

model: ## install the language model's package into PYTHON's own environment (for conda)
	@"$(PYTHON)" tools/install.py --model-only

colab-like: ## run the notebooks as Colab would, set-up cell included, beside Colab's versions (downloads 3 GB)
	@"$(PYTHON)" tools/colab_like.py

test-versions: ## run the notebooks on smoke at both ends of the allowed versions; END=lowest or newest for one (downloads)
	@"$(PYTHON)" tools/versions.py $(END)

lock: env ## resolve pyproject.toml afresh into requirements.lock and requirements-demo.lock
	@$(PY) tools/lock.py

colab-links: env ## write the repository's address, URL=https://github.com/owner/name, everywhere it stands
	@$(PY) tools/colab_links.py "$(URL)"

wheel: env ## build dist/: the wheel, which works alone, and the source archive
	@rm -rf dist
	@$(PY) -m hatchling build

record-times: env ## keep the times of the last run of PROFILE in results/times.json
	@$(PY) tools/execute.py --profile "$(PROFILE)" --record

reference-run: env ## train R²ec with and without reasoning, three seeds each, with a CPU budget; goes on where it stopped
	@$(PY) scripts/reference_run.py

gpu-run: $(if $(filter .venv/bin/python,$(PY)),env) ## on a GPU: its tests, notebooks, benchmarks and a reference run, into results/gpu; goes on where it stopped
	@PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" "$(PY)" scripts/gpu_run.py $(ARGS)

plan-page: env ## bring the plans on book/gpus.md up to what `rrec plan` prints
	@$(PY) tools/plan_page.py

readme: env ## bring the README's times and pictures up to the last `make book`
	@$(PY) tools/readme.py

clean: ## delete what was built (not .venv, .venv-demo)
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache
