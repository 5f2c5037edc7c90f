# Two commands on a fresh machine with Python >= 3.11: `make search` and `make test`.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup search rule claims test bench clean

setup: .venv/ok

# The stamp depends on what decides the environment: change either file and it is made anew.
.venv/ok: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nasx needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@

search: setup
	$(BIN)/nasx search studies/tinynet.yaml

# The longer study that a scaling rule needs; run it again to continue.
rule: setup
	$(BIN)/nasx search studies/tinynet_rule.yaml
	$(BIN)/nasx rule runs/tinynet_rule

# Every claim study, or what is left of it after a stop. CIFAR10=FOLDER says where CIFAR-10 lies,
# MNIST=FOLDER or MNIST=FILE.npz where MNIST does.
claims: setup
	@for file in studies/claims/*.yaml; do \
		case $$file in \
			*cifar*) at="$(if $(CIFAR10),--set task.path=$(CIFAR10))";; \
			*mnist*) at="$(if $(MNIST),--set task.path=$(MNIST))";; \
			*) at=;; \
		esac; \
		$(BIN)/nasx claim $$file --skip-missing $$at || exit; \
	done

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

bench: setup
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
