# Everything a developer or CI runs. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help demo generate test check types lint drift install-test engine-test cluster-test rehearse bench snapshots docs lock
.PHONY: wheel wheelhouse release-notes mutate clean

PYTHON ?= python3
OUT    ?= generated
SPEC   ?= specs/kiwari.yaml
VENV   := .venv
BIN    := $(VENV)/bin

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

generate: $(VENV)/runtime ## write the pipeline of specs/kiwari.yaml (SPEC=) into generated/ (OUT=)
	@$(BIN)/python -m kiwari_ci generate $(SPEC) --out $(OUT)

demo: $(VENV)/runtime ## two minutes with every command, in a scratch folder (DEMO_PAUSE=0: no pauses)
	@PATH=$(abspath $(BIN)):$$PATH docs/demo

test: $(VENV)/dev ## run the tests, without the engine's (ALL=1: every case, as CI does; LONG=1: those of minutes, too)
	$(BIN)/pytest -n auto --dist worksteal $(chosen)

# The tests start the tool hundreds of times: what Python has compiled is kept, whatever the environment says of that.
test engine-test rehearse: export PYTHONDONTWRITEBYTECODE :=

chosen = -m "$(if $(LONG),not sample,not long and not $(if $(ALL),sample,exhaustive))"

types: $(VENV)/dev
	$(BIN)/mypy

lint: $(VENV)/dev
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-cache

drift: $(VENV)/runtime
	$(BIN)/python -m kiwari_ci check specs/kiwari.yaml --out generated

check: lint types drift test ## lint, types, drift, tests (ALL=1: with every case, as CI does)

install-test: $(VENV)/dev $(VENV)/wheels ## install it in every way, from a commit, an index, a folder (QUICK=1: not the long ones)
	$(BIN)/pytest -n auto $(quick) tests/install

# A test mostly waits, so four servers share the files of tests, also on two cores; each takes its own in their order.
engine-test: $(VENV)/dev ## deploy for real: four servers, each in a network namespace of its own (root; QUICK=1: not the long ones)
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder $(quick) tests/engine $(if $(CI),|| $(try_again))

quick = $(if $(QUICK),-m "not long")

# In CI, what failed is tried once more, on one fresh server: a machine that is busy may be late once.
try_again = { echo '== the tests that failed are run once more'; $(BIN)/pytest --last-failed --last-failed-no-failures none $(quick) tests/engine; }

rehearse: $(VENV)/dev ## break the generated pipeline in every way, on a real engine (root; PART=faults, QUICK=1)
	$(BIN)/python -m tests.rehearsal $(PART) $(if $(QUICK),--quick)

# What tests/cluster/install builds stays in .venv/cluster.
cluster-test: $(VENV)/dev ## deploy to a real cluster of three nodes (root; PART=test_nodes.py; the first run builds Kubernetes, 15 minutes of CPU time)
	tests/cluster/install
	$(BIN)/pytest -s tests/cluster$(if $(PART),/$(PART))

# mutmut works in a copy, the folder mutants/, and keeps there what it has found; some 5,000 mutants take hours.
mutate: $(VENV)/mutate ## break the host program in small ways: do its tests notice? (PART='*recover* x_fail__*': only there)
	$(BIN)/mutmut run $(patsubst %,'kiwari_ci.engines.compose.deploy_programs.deploy.%',$(PART))
	@$(BIN)/mutmut results | grep -v ': not checked' || echo 'no mutant that was tried survives'

bench: $(VENV)/dev ## how long generate and check take, against bare imports of the libraries
	@$(BIN)/python tests/bench.py

# pytest-snapshot fails an updating run on purpose; the second run proves that the new goldens hold.
snapshots: $(VENV)/dev ## rewrite what tests/cases expect, and show what changed
	-$(BIN)/pytest -n auto -q tests/test_cases.py tests/test_diff.py tests/test_lint.py --snapshot-update --allow-snapshot-deletion
	$(BIN)/pytest -n auto -q tests/test_cases.py tests/test_diff.py tests/test_lint.py
	@git --no-pager diff --stat --patch -- tests/cases
	@git status --short -- tests/cases

docs: $(VENV)/runtime ## rewrite what is generated of docs/ and README.md, and the JSON Schema
	$(BIN)/python -m docs.write

# The date is the first that a zip file can have: the same sources make the same bytes.
wheel: $(VENV)/runtime ## build the wheel into dist/, and print its hash
	@SOURCE_DATE_EPOCH=315532800 $(BIN)/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir dist .
	@cd dist && sha256sum kiwari_ci-*.whl

wheelhouse: wheel ## fill dist/ for a machine without a network (FOR='--python-version 3.12 --platform manylinux2014_x86_64')
	@$(download) --requirement kiwari_ci/requirements.txt --dest dist $(FOR)
	@ls dist

release-notes: $(VENV)/runtime ## print what a release changes, also in the example trees (FROM=v0.1.0, the last one's tag)
	@$(MAKE) --silent wheel >/dev/null
	@$(BIN)/python -m docs.release $(FROM)

lock: ## remake the locks of pyproject.toml and the npm checkers (UPGRADE=--upgrade)
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install $(hashed) --requirement requirements-lock.txt
	$(call compile,pyproject.toml --group build,requirements.txt)
	$(call compile,pyproject.toml --constraints requirements.txt --no-annotate,kiwari_ci/requirements.txt)
	$(call compile,pyproject.toml --group build --group dev --constraints requirements.txt,requirements-dev.txt)
	$(call compile,--group mutate --constraints requirements-dev.txt,requirements-mutate.txt)
	$(call compile,--group install,tests/install/requirements.txt)
	$(call compile,--group lock,requirements-lock.txt)
	$(call compile,--group ci,.ci/requirements.txt)
	cd tests/checkers && npm install --package-lock-only --ignore-scripts

compile = $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(UPGRADE) $(1) -o $(2)

clean: ## remove the environment and every cache
	rm -rf $(VENV) mutants .mypy_cache .pytest_cache .ruff_cache tests/checkers/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +

# The environment: made once, brought up to date when the requirements change, never asking the network otherwise.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { $(PYTHON) --version; echo 'kiwari-ci needs Python 3.11 or newer: make PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/runtime: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(call install,requirements.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/runtime
	$(call install,requirements-dev.txt)
	@touch $@

$(VENV)/mutate: requirements-mutate.txt $(VENV)/dev
	$(call install,requirements-mutate.txt)
	@touch $@

$(VENV)/wheels: requirements.txt tests/install/requirements.txt | $(VENV)/runtime
	$(download) --requirement requirements.txt --requirement tests/install/requirements.txt --dest $@
	@touch $@

hashed = --quiet --disable-pip-version-check --require-hashes --only-binary :all:
download = $(BIN)/pip download $(hashed)
install = $(BIN)/pip install $(hashed) --requirement $(1)

# `make .venv` makes it with everything in it.
.PHONY: $(VENV)
$(VENV): $(VENV)/dev
