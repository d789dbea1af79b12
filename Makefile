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
# What needs no daemon, no tool (see `-m 'not cst'`; of the images, what is tested without mkimage and dtc) and no time.
FAST := tests/csf --ignore tests/csf/test_csf_work.py tests/hab tests/model tests/web tests/mutants tests/testing tests/test_settings.py tests/test_log.py \
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
