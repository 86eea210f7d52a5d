# make demo: a gallery and the notebook on it. make test: everything that is checked. make help: the rest.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check --editable

.PHONY: help demo app test test-long check format bench screenshots clean

help: ## list what can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /make \1	/' | expand -t 18

demo: $(VENV)/demo-installed ## build a sample gallery and open the notebook on it; IMAGES=~/Pictures takes your photos, ENCODER=vgg16 another encoder
	$(RUN) run_demo.py

app: $(VENV)/app-installed ## the same as an app without code, for browsers and phones; IMAGES= and VOILA_OPTIONS=--Voila.ip=0.0.0.0
	$(RUN) run_demo.py --app

test: check ## check the code's form, then run all tests; those in a browser need chromium
	$(RUN) -m pytest

test-long: $(VENV)/test-installed ## the tests that take too long for every day
	$(RUN) -m pytest tests/long/*.py

check: $(VENV)/test-installed ## formatting, lint, docstrings and types, without running anything
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: $(VENV)/test-installed ## format the code
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: $(VENV)/demo-installed ## measure against the plain way: IMAGES=~/Pictures VECTORS=FILE QUICK=1 OUTPUT=FILE
	$(RUN) benchmarks/compare.py $(if $(IMAGES),--images "$(IMAGES)") $(if $(VECTORS),--vectors "$(VECTORS)") \
		$(if $(QUICK),--quick) $(if $(OUTPUT),--output "$(OUTPUT)")

screenshots: $(VENV)/test-installed ## take the pictures of the README again, in a real browser
	$(RUN) run_demo.py --no-open
	$(RUN) tests/browser/take_screenshots.py

clean: ## remove the virtual environment, what installing leaves, and the demo's gallery
	rm -rf $(VENV) build *.egg-info demo

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..., say" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-installed: pyproject.toml requirements.txt | $(VENV)/bin/python
	$(INSTALL) .
	@touch $@

$(VENV)/app-installed: pyproject.toml requirements.txt requirements-app.txt | $(VENV)/bin/python
	$(INSTALL) .[app]
	@touch $@ $(VENV)/demo-installed

$(VENV)/test-installed: pyproject.toml $(wildcard requirements*.txt) | $(VENV)/bin/python
	$(INSTALL) .[test]
	@touch $@ $(VENV)/demo-installed $(VENV)/app-installed
