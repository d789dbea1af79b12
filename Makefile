# `make demo` and `make test` work on a fresh Debian 12 or 13; see README.md.
PYTHON ?= python3
VENV := .venv
RUN_STAMP := $(VENV)/.run-stamp
DEV_STAMP := $(VENV)/.dev-stamp
CST_BASE ?= $(CURDIR)/.digsigd/nxp
# The versions that the tests run, each for real.
TEST_CST := 3.4.1 4.0.1
# What keys in a PKCS#11 token need, and for tests more, beside the provider that get-cst gets: PACKAGE=WHAT-IT-HAS.
DEMO_TOKEN := softhsm2=softhsm2-util opensc=pkcs11-tool 'libengine-pkcs11-openssl=/usr/lib/*/engines-3/pkcs11.so'
TEST_TOKEN := $(DEMO_TOKEN) faketime
# What makes the images that tests sign.
TEST_IMAGES := u-boot-tools=mkimage device-tree-compiler=dtc
# How tests are spread: over all processors, or PYTEST_XDIST_AUTO_NUM_WORKERS. ARGS='-n0 tests/x' runs them in one.
SPREAD := -n auto --dist loadgroup --no-loadscope-reorder
# What needs no daemon, and in `-m "not cst"` no tool: of the images, what is tested without those of mkimage and dtc.
FAST := tests/csf tests/hab tests/model tests/web tests/mutants tests/testing tests/test_settings.py tests/test_log.py \
  $(patsubst %,tests/keys/test_%.py,tarball tarball_bounds) $(patsubst %,tests/signing/test_%.py,queue redact) \
  $(patsubst %,tests/image/test_%.py,chips commands encryption fdt_bounds fit_bounds kind_barebox kind_kernels kind_rt \
  kind_sdp regions report rom_bounds small_parts verify verify_layout)
# What `make fresh` runs in a bare Debian, and where it keeps that.
RUN = make demo && make demo-hsm
FRESH ?= $(CURDIR)/.digsigd/fresh

.PHONY: help demo demo-hsm serve test test-fast coverage fresh check-tools lint types fuzz corpus mutants bench clean

help:
	@echo "make demo    sign a trial image through the daemon with a real cst, and verify it (about a minute)"
	@echo "make demo-hsm the same with the keys in a SoftHSM2 token"
	@echo "make serve   the same, and the daemon stays up to be tried"
	@echo "make test    get what the tests need, and run them"
	@echo "make test-fast what needs no daemon and no tools, in half a minute; make coverage: all, with the lines that ran"
	@echo "make fresh SUITE=trixie (or bookworm): the demos in a bare Debian, as root; RUN='make test': the tests there"
	@echo "make lint    ruff; make types: mypy strict"
	@echo "make fuzz    a minute of odd images for the parsers"
	@echo "make corpus  random CSFs and FITs against a second model of the ROM; CASES=n SEED=s"
	@echo "make mutants break the code in small ways: does a test notice? ONLY=digsigd/hab/der.py SECONDS=n"
	@echo "make bench   the daemon against bare cst runs"
	@echo "make clean   remove .venv and .digsigd"
	@echo "make docs    the documentation as a site, in .digsigd/site; warnings are errors"
	@echo "make changelog      what the next release will say of changelog.d"
	@echo "make constraints    resolve etc/constraints.txt anew: the newest dependencies, with hashes"
	@echo "make sbom    the packages that digsigd runs with, as CycloneDX"
	@echo "make release-check  build sdist and wheel, install them in a bare environment, and use them"
	@echo "make test-lowest    the tests with the oldest dependencies of pyproject.toml"
	@echo "make test-pythons   the tests with each of $(PYTHONS), as far as they can be had"
	@echo "make hooks   lint, types and names of fragments before each git commit"

$(RUN_STAMP): pyproject.toml etc/make-venv
	@etc/make-venv $(PYTHON) $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[s3]'
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	@etc/need openssl curl gcc python3-dev="$$($(VENV)/bin/python -c \
		'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --group test --group lint
	@touch $@

demo: $(RUN_STAMP)
	@etc/need curl
	@$(VENV)/bin/python etc/demo

demo-hsm: $(RUN_STAMP)
	@etc/need curl $(DEMO_TOKEN)
	@$(VENV)/bin/python etc/demo --hsm

serve: $(RUN_STAMP)
	@etc/need curl
	@$(VENV)/bin/python etc/demo --serve

check-tools: $(DEV_STAMP)
	@etc/need $(TEST_TOKEN) $(TEST_IMAGES)
	@etc/get-cst --base $(CST_BASE) --provider $(TEST_CST)

test: $(DEV_STAMP) check-tools
	DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) $(VENV)/bin/python -m pytest $(SPREAD) $(ARGS)

test-fast: $(DEV_STAMP)
	$(VENV)/bin/python -m pytest $(SPREAD) -m 'not cst' $(FAST) $(ARGS)

# Every process that the tests start is measured. What is below the floor in pyproject.toml fails.
coverage: $(DEV_STAMP) check-tools
	@rm -rf .digsigd/coverage
	DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) $(VENV)/bin/python -m coverage run -m pytest $(SPREAD) $(ARGS)
	@$(VENV)/bin/python -m coverage combine --quiet
	$(VENV)/bin/python -m coverage report

fresh: export RUN := $(RUN)
fresh:
	@FRESH='$(FRESH)' etc/fresh-debian '$(SUITE)' "$$RUN"

lint: $(DEV_STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(DEV_STAMP)
	$(VENV)/bin/mypy

# Looks for images that the parsers take badly, for a minute; what it finds is left in .digsigd/fuzz.
fuzz: $(DEV_STAMP)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --group fuzz
	@mkdir -p .digsigd/fuzz
	cd .digsigd/fuzz && $(CURDIR)/$(VENV)/bin/python $(CURDIR)/tests/fuzz/fuzz_image.py -max_total_time=60 $(ARGS)

corpus: $(DEV_STAMP)
	@$(VENV)/bin/python -m tests.model.corpus $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED))

mutants: $(DEV_STAMP) check-tools
	@DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) $(VENV)/bin/python -m tests.mutants \
	  $(if $(ONLY),--only $(ONLY)) $(if $(SECONDS),--seconds $(SECONDS))

bench: $(DEV_STAMP) check-tools
	DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) $(VENV)/bin/python etc/bench $(ARGS)

clean:
	rm -rf --one-file-system $(VENV) .digsigd

# Documentation, releases and dependencies. Their tools are groups of pyproject.toml.
PIP := $(VENV)/bin/pip --quiet --disable-pip-version-check
DOCS_STAMP := $(VENV)/.docs-stamp
RELEASE_STAMP := $(VENV)/.release-stamp
PYTHONS ?= 3.11 3.12 3.13
# What `make test-lowest` and `make test-pythons` run where ARGS says nothing else: all but what asks only for tools.
SOME_TESTS := tests/csf tests/hab tests/image tests/keys tests/signing tests/web tests/client tests/daemon

.PHONY: docs changelog constraints sbom release-check test-lowest test-pythons hooks

$(DOCS_STAMP): $(RUN_STAMP)
	@$(PIP) install --group docs
	@touch $@

$(RELEASE_STAMP): $(RUN_STAMP)
	@$(PIP) install --group release
	@touch $@

# Not --quiet: mkdocs counts only the warnings that it shows.
docs: $(DOCS_STAMP)
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --config-file etc/docs/mkdocs.yml
	@echo "see .digsigd/site/index.html; to search in it: $(PYTHON) -m http.server --directory .digsigd/site"

changelog: $(RELEASE_STAMP)
	@$(VENV)/bin/towncrier build --draft --version next

constraints: $(RELEASE_STAMP)
	$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra s3 --generate-hashes \
	  --no-annotate --custom-compile-command 'make constraints' pyproject.toml --output-file etc/constraints.txt

sbom: $(RELEASE_STAMP)
	@rm -rf .digsigd/sbom
	@$(PYTHON) -m venv --without-pip .digsigd/sbom/venv
	@$(PIP) --python .digsigd/sbom/venv/bin/python install --require-hashes -r etc/constraints.txt
	@$(PIP) --python .digsigd/sbom/venv/bin/python install --no-deps .
	@etc/sbom $(CURDIR)/$(VENV)/bin .digsigd/sbom/venv .digsigd/sbom/digsigd.cdx.json

release-check: $(RELEASE_STAMP)
	@etc/need curl
	@etc/release-check $(PYTHON) $(VENV)

test-lowest: $(RELEASE_STAMP) check-tools
	@DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) etc/test-with $(VENV)/bin/uv --lowest $(PYTHON) -- \
	  $(or $(ARGS),$(SOME_TESTS))

test-pythons: $(RELEASE_STAMP) check-tools
	@for version in $(PYTHONS); do \
	  DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) etc/test-with $(VENV)/bin/uv $$version -- $(or $(ARGS),$(SOME_TESTS)) \
	  || exit 1; \
	done

hooks: $(DEV_STAMP) $(RELEASE_STAMP)
	@$(VENV)/bin/pre-commit install
