# make demo     makes all that is needed and runs the main job on a small model, from release to published files
# make test     makes all that is needed and runs every test but the sweeps
# make sweep    runs the rest: every fault in every format, every family, and more pull requests
# make digests  runs the tools that builds are compared with, and keeps what they write in tests/worker/stock.json
# make unit     runs the fast tests, without any toolchain or server
# make families builds and verifies a small checkpoint of every family in every format, and writes docs/families.md (with FAMILY=phi-4 of that one: other rows stay)
# make controls puts every fault into a file of every format, and writes docs/negative-controls.md
# make bench    makes files of real sizes, by the tools and by phi-bot (hours; 70 GB), and writes benchmarks/real.md
# make bench-kills  kills builds of a real size at random moments, and compares what they make (half an hour)
# make bench-disk   builds a model of 29 GB on a disk of 12 GB, in every format (half an hour; root, on Linux)
# make bench-uploads  publishes to a Hub that takes 50 MB a second, and sees how much of that building hides
# make bench-cycle  counts the requests of a cycle over 500 models and 2,000 publications that finds nothing to do
# make bench-smollm2  builds and verifies every row of the catalogue on a really trained model (hours), and writes benchmarks/README.md
# make bench-verify verifies the default set at real sizes, up to 14.7 billion parameters, and writes benchmarks/README.md (hours; 60 GB)
# make bench-release  releases a model of a real size, from a Hub to published files, also killed and on a small machine (hours; 60 GB; root, on Linux)
# make bench-scale  measures cycles over 100 to 10,000 publications, and writes benchmarks/README.md
# make measurements  measures builds of several sizes (20 minutes of a processor), and writes docs/estimates.md
# make importance  measures what an importance matrix does to each type of GGUF (an hour), and writes docs/importance.md
# make faults   breaks every call of a whole run in every way, and counts what is half or twice published (half an hour)
# make lint     ruff and mypy
# make workflows  audits the workflows of GitHub, the action and the examples: zizmor, schemas and the project's own rules
# make dist     makes the source distribution and the wheel, in dist/
# make locks    renews requirements.txt and the locks of the toolchains
# make clean    removes what the others made here; toolchains stay in the user's cache (phi-bot toolchain remove)
#
# It takes Python 3.11 or newer, a C++ compiler and git. PYTHON=… names the Python to use.

VENV := .venv
BIN := $(VENV)/bin
# Written when the environment is complete; older than what it was made from, it is made anew.
STAMP := $(VENV)/.complete

# The newest Python that the locks know, with what it takes to make environments. (On Debian that is a package.)
FIND_PYTHON = for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3; do \
	if "$$python" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; \
	then echo "$$python"; exit; elif [ -n "$(PYTHON)" ]; then break; fi; done; exit 1

# Tests that hold what is built against what the formats' own tools write.
TWINS = -k "test_lean or test_direct"

PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps

.PHONY: help demo test sweep digests unit families controls bench bench-kills bench-disk bench-uploads bench-cycle bench-scale bench-smollm2 bench-verify bench-release measurements importance lint workflows dist locks clean
.NOTPARALLEL:

# Where Python may not keep what it compiles, each of hundreds of processes compiles the bot anew.
unexport PYTHONDONTWRITEBYTECODE

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(STAMP)
	@$(BIN)/phi-bot demo

test: $(STAMP)
	@echo "Toolchains: the first time, they take about 8 minutes on 2 cores, and 5 GB of disk"
	@$(BIN)/phi-bot toolchain install --all
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not sweep"

sweep: $(STAMP)
	@$(BIN)/phi-bot toolchain install --all
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m sweep
	@PHI_BOT_STOCK=run $(BIN)/python -m pytest -n 2 --dist worksteal -m "toolchain and not sweep" $(TWINS)

digests: $(STAMP)
	@$(BIN)/phi-bot toolchain install --all
	@PHI_BOT_STOCK=keep $(BIN)/python -m pytest -n 2 --dist worksteal -m "toolchain and not sweep" $(TWINS)

unit: $(STAMP)
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not toolchain and not browser and not process and not server and not large and not sweep"

families: $(STAMP)
	@$(BIN)/phi-bot families --work .families $(if $(FAMILY),--family $(FAMILY) --onto docs/families.md) --markdown > .families.md
	@mv .families.md docs/families.md

controls: $(STAMP)
	@$(BIN)/python -m tests.controls

bench: $(STAMP)
	@$(BIN)/phi-bot toolchain install --all
	@$(BIN)/python -m benchmarks.real --work .bench

.bench/phi-3.5-mini: | $(STAMP)
	@$(BIN)/python -m benchmarks.checkpoints phi-3.5-mini $@

bench-kills: $(STAMP) .bench/phi-3.5-mini
	@$(BIN)/python -m benchmarks.kills .bench/phi-3.5-mini --work .bench/kills

bench-disk: $(STAMP)
	@$(BIN)/python -m benchmarks.small_disk --work .bench/small-disk

bench-uploads: $(STAMP) .bench/phi-3.5-mini
	@$(BIN)/python -m benchmarks.uploads .bench/phi-3.5-mini --work .bench/uploads

bench-cycle: $(STAMP)
	@$(BIN)/python -m benchmarks.cycle

bench-scale: $(STAMP)
	@$(BIN)/python -m benchmarks.scale

bench-smollm2: $(STAMP)
	@$(BIN)/phi-bot toolchain install --all
	@$(BIN)/python -m benchmarks.smollm2

bench-verify: $(STAMP)
	@$(BIN)/phi-bot toolchain install --all
	@$(BIN)/python -m benchmarks.verify

bench-release: $(STAMP)
	@$(BIN)/phi-bot toolchain install --all
	@$(BIN)/python -m benchmarks.release

measurements: $(STAMP)
	@$(BIN)/python -m benchmarks.estimates.measure --work .measurements

importance: $(STAMP)
	@$(BIN)/python -m benchmarks.importance

faults: $(STAMP)
	@$(BIN)/python -m tests.faults

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

workflows: $(STAMP)
	@$(BIN)/python -m pytest tests/workflows

dist: $(STAMP)
	@rm -rf dist
	@$(BIN)/python -m hatchling build -d dist

locks: $(STAMP)
	@$(BIN)/python -m bot.toolchains.relock

clean:
	rm -rf $(VENV) dist .demo .families .measurements .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		tests/github/contract/node_modules

$(STAMP): requirements.txt pyproject.toml
	@python=$$($(FIND_PYTHON)) || { \
		echo "No Python 3.11 to 3.14 that can make environments (on Debian and Ubuntu: apt-get install python3-venv;" \
			"or name one: make PYTHON=/path/to/python3.12)." >&2; exit 1; }; \
	echo "Making $(VENV) with $$($$python --version): about 20 seconds"; \
	"$$python" -m venv --clear $(VENV)
	@$(PIP) --require-hashes --only-binary :all: -r requirements.txt
	@$(PIP) --no-build-isolation --editable .
	@touch $@
