# `make up` and `make test` are all that a newcomer needs; both do their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: up down test lint types check protos bench simulate robustness chaos churn fuzz crash-points clean

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kubeling needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv module: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

up: $(STAMP)
	$(BIN)/kubeling up

down: $(STAMP)
	$(BIN)/kubeling down

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

# Live tests share a machine with whatever else runs there: what failed is tried once more, by itself, and both results are shown.
test: lint types
	$(BIN)/pytest -n auto --dist loadgroup || { echo "tried once more, by itself:"; $(BIN)/pytest --last-failed --last-failed-no-failures none; }

bench: $(STAMP)
	$(BIN)/python -m kubeling.bench

# The consensus core's simulation, longer than the tests run it: SEEDS schedules from FIRST on.
SEEDS ?= 5000
FIRST ?= 0
simulate: $(STAMP)
	$(BIN)/python -m tests.etcdlite.simulation --seeds $(SEEDS) --first $(FIRST)

# Hostile requests against an apiserver for so many seconds; each round says its seed.
SECONDS ?= 600
fuzz: $(STAMP)
	$(BIN)/python -m tests.apiserver.fuzz --seconds $(SECONDS)

# The store's robustness suite, longer than the tests run it: SECONDS of runs with seeds out of SEED (empty: a new one), against etcdlite or etcd. See docs/robustness.md.
SECONDS ?= 600
SEED ?=
STORE ?= etcdlite
robustness: $(STAMP)
	$(BIN)/python -m tests.robustness all --seconds $(SECONDS) --seed "$(SEED)" --store $(STORE)

# Every scenario of the controllers, killed before and after each of its writes; the tests try a few. See docs/controllers.md.
crash-points: $(STAMP)
	KUBELING_CRASH_POINTS=all $(BIN)/pytest -n auto --dist loadgroup tests/controllers/test_crash_points_live.py tests/cloud/test_autoscaler_crash_live.py

# Kills of kubelet, runtime, keeper and containers at random moments out of SEED (empty: a new one), ROUNDS of them; needs root. See docs/node.md.
ROUNDS ?= 1000
chaos: $(STAMP)
	$(BIN)/python -m tests.node.chaos --seed "$(SEED)" --rounds $(ROUNDS)

# Traffic through Services of every type for SECONDS while pods, proxies, rules, DNS servers, apiservers and a node go, out of SEED (empty: a new one); needs root. See docs/network.md.
FAMILIES ?= IPv4
churn: $(STAMP)
	$(BIN)/python -m kubeling.tests.churn --seed "$(SEED)" --seconds $(SECONDS) --ip-families $(FAMILIES)

protos: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I .typing --python_out=.typing --pyi_out=.typing --grpc_python_out=.typing .typing/kubeling/proto/*.proto
	rm -f proto/mvcc_pb2_grpc.py proto/auth_pb2_grpc.py

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
