# make demo: a gallery and the notebook on it. make test: everything that is checked. make help: the rest.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: help demo test check format bench screenshot clean

help: ## list what can be made
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /make \1	/' | expand -t 18

demo: $(VENV)/demo-installed ## build a sample gallery and open the notebook on it; IMAGES=~/Pictures takes your photos
	$(RUN) run_demo.py

test: check ## check the code's form, then run all tests; those in a browser need chromium
	$(RUN) -m pytest

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

screenshot: $(VENV)/test-installed ## make docs/notebook.jpg again, from the demo's gallery in a real browser
	$(RUN) run_demo.py --no-open
	$(RUN) docs/take_screenshot.py

clean: ## remove the virtual environment and the demo's gallery
	rm -rf $(VENV) demo

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..., say" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-installed: requirements.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/test-installed: requirements.txt requirements-test.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	@touch $@ $(VENV)/demo-installed
