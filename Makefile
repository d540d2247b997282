# Two commands matter: `make demo` installs the package and runs it; `make test` installs for development and tests.
# Each makes its own virtual environment, so each works alone in a fresh clone. A stamp file inside the environment
# says that the install is done, so a second call goes straight to the work.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# uv leaves compiling to the first import; where that may write nothing, each process would do it anew (12 s of the imports of fastai and timm).
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3,10) <= sys.version_info < (3,14))' >/dev/null 2>&1 && echo $$p && break; done)
DEMO := .venv-demo
DEV := .venv-dev
OLD := .venv-oldest
RIVALS := .venv-rivals
DEMO_OUT ?= runs/demo
# nbdev 3 spells its commands and options with dashes; those of nbdev 2, which guides and scripts use, work too.
NAMES := export test clean docs
DEMO_FLAGS ?= --data demo
N_WORKERS ?= 2
SOURCES := $(shell find foprokd -type f -not -name '*.pyc') settings.ini setup.py release.py pyproject.toml

.PHONY: help demo test test-all test-oldest rivals lint dev names export docs clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

demo: $(DEMO)/.installed ## install for use, then explore, distil and evaluate the embedded demo set
	$(DEMO)/bin/foprokd_run $(DEMO_FLAGS) --out $(DEMO_OUT)
	@echo "Results, figures, student and prompt are in $(DEMO_OUT)/"

test: MARKED := not long
test: CELLS :=
test: run-tests ## install for development, then run every notebook and tests/
test-all: MARKED :=
test-all: CELLS := long
test-all: COVERED := 1
test-all: run-tests ## the same, with those that are marked long, and the share of the lines that all of them ran

.PHONY: run-tests fuzz
# Under coverage.py each process writes a file of its own; FOPROKD_SOURCE says to all of them where (pyproject.toml).
run-tests: $(DEV)/.installed
	@export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1; flags="$(CELLS)"; \
	if [ -n "$${FOPROKD_DATA:-}" ] && [ -d "$${FOPROKD_DATA:-}" ]; then \
		export FOPROKD_DATA="$$(cd "$$FOPROKD_DATA" && pwd)"; flags="$$flags data"; \
		echo "FOPROKD_DATA is a folder: cells flagged 'data' run too"; \
	else echo "FOPROKD_DATA is not a folder: cells flagged 'data' are left out"; fi; \
	kept=$$(mktemp -d); trap 'rm -rf "$$kept"' EXIT; mkdir "$$kept/tmp"; export TMPDIR="$$kept/tmp"; \
	notebooks="$(DEV)/bin/nbdev-test"; python="$(DEV)/bin/python"; \
	if [ -n "$(COVERED)" ]; then \
		export FOPROKD_SOURCE="$(CURDIR)"; rm -f .coverage .coverage.*; \
		notebooks="$(DEV)/bin/coverage run tools/nb_coverage.py"; python="$(DEV)/bin/coverage run"; \
	fi; \
	FOPROKD_CACHE="$$kept" $$notebooks --n-workers $(N_WORKERS) --timing --flags "$$flags"; \
	$$python -m pytest tests -n $(N_WORKERS) --dist loadfile --no-loadscope-reorder --durations 40 -m "$(MARKED)"; \
	if [ -n "$(COVERED)" ]; then \
		$(DEV)/bin/coverage combine --quiet; \
		echo "Lines that notebooks and tests ran, in per cent (goal: 95):"; \
		$(DEV)/bin/coverage report; \
	fi

FUZZ ?= --n 100000 --workers 4
fuzz: $(DEV)/.installed ## changed files for every reader, 100,000 of them (FUZZ="--n 2000" for fewer)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(DEV)/bin/python tools/fuzz.py $(FUZZ)

# Notebooks, the site, the rules and the wheel need tools of development; all other tests need the package alone.
OLD_TESTS ?= $(filter-out $(foreach n,site checks house wheel release browser cards card compare faults,tests/test_$(n).py),$(wildcard tests/test_*.py))
test-oldest: $(OLD)/.installed ## the tests that need no notebook, beside the lowest versions that settings.ini allows
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONPATH=$(CURDIR) $(OLD)/bin/python -W ignore -m pytest $(OLD_TESTS) \
		-n $(N_WORKERS) --dist loadfile --no-loadscope-reorder -m "not long"

# lightly-train is no requirement, not even of development: it stands under the AGPL-3.0 and brings 33 packages. Its environment
# sees those of development, so that only what they lack is installed. The page speaks of 0.18 and uses what is private there.
RIVAL := lightly-train==0.18.*
RIVAL_PAGE := nbs/tutorials/10_from_lightly_train.ipynb
rivals: $(RIVALS)/.installed ## the cells of notebooks that need lightly-train, in an environment of their own
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR) $(RIVALS)/bin/python -c \
		"from nbdev.test import nbdev_test; nbdev_test(path='$(RIVAL_PAGE)', flags='rivals', n_workers=0, timing=True)"

lint: $(DEV)/.installed ## the rules of the house, the layers, the code and the requirements
	$(DEV)/bin/python tools/lint.py
	$(DEV)/bin/python tools/checks.py

dev: $(DEV)/.installed ## the development environment alone

names: ## nbdev_test and its like beside nbdev-test, in an environment that was not made here: make names DEV=...
	for n in $(NAMES); do install -m 755 tools/nbdev_names.sh $(DEV)/bin/nbdev_$$n; done

export: $(DEV)/.installed ## notebooks -> modules and README.md (and the version), then clean the notebooks
	$(DEV)/bin/nbdev-export
	$(DEV)/bin/python tools/checks.py readme
	$(DEV)/bin/python tools/site_pages.py llms
	$(DEV)/bin/nbdev-clean

docs: $(DEV)/.installed ## the site in _docs/ (needs Quarto)
	touch README.md  # nbdev-docs would rewrite a README older than index.ipynb with Quarto's own rendering
	$(DEV)/bin/nbdev-docs
	$(DEV)/bin/python tools/site_pages.py markdown
	$(DEV)/bin/python tools/site_pages.py search

clean: ## remove the environments and what builds leave behind
	rm -rf $(DEMO) $(DEV) $(OLD) $(RIVALS) build dist _proc _docs *.egg-info nbs/nbdev.yml

$(DEMO)/.installed: $(SOURCES)
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.13 is needed: make demo PYTHON=/path/to/python"; exit 1; }
	test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	rm -rf build  # a build folder of another version would end up in the install
	$(DEMO)/bin/python -m pip install --quiet .
	touch $@

$(DEV)/.installed: settings.ini setup.py release.py pyproject.toml tools/install.sh
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.13 is needed: make test PYTHON=/path/to/python"; exit 1; }
	test -x $(DEV)/bin/python || $(PYTHON) -m venv $(DEV)
	tools/install.sh $(CURDIR)/$(DEV)/bin/python -e '.[dev]'
	$(MAKE) --no-print-directory names
	touch $@

$(OLD)/.installed: settings.ini tools/oldest.py tools/install.sh
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.13 is needed: make test-oldest PYTHON=/path/to/python"; exit 1; }
	test -x $(OLD)/bin/python || $(PYTHON) -m venv $(OLD)
	$(OLD)/bin/python -m pip install --quiet packaging
	# fasttransform before 0.0.5, which an old fastai takes, allows a plum-dispatch whose functions cannot be pickled
	tools/install.sh $(CURDIR)/$(OLD)/bin/python pytest pytest-xdist 'plum-dispatch<2.10' $$($(OLD)/bin/python tools/oldest.py data distributed deploy)
	touch $@

$(RIVALS)/.installed: $(DEV)/.installed
	rm -rf $(RIVALS)
	$(DEV)/bin/python -m venv $(RIVALS)
	where='import site; print(site.getsitepackages()[0])'; \
		$(DEV)/bin/python -c "$$where" > "$$($(RIVALS)/bin/python -c "$$where")/over.pth"
	# the torch of development stays, whatever pip's settings allow: a second one is 5 GB
	$(DEV)/bin/python -m pip list --format=freeze | grep -E '^torch(vision)?==' > $(RIVALS)/pins.txt
	PIP_CONSTRAINT=$(CURDIR)/$(RIVALS)/pins.txt $(RIVALS)/bin/python -m pip install --quiet '$(RIVAL)'
	touch $@
