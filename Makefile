# `make demo` and `make test` work on a new Debian 12 or 13; see README.md.
PYTHON ?= python3
VENV := .venv
RUN_STAMP := $(VENV)/.run-stamp
DEV_STAMP := $(VENV)/.dev-stamp
CST_BASE ?= $(CURDIR)/.digsigd/nxp
# The versions of cst that the tests run.
TEST_CST := 3.4.1 4.0.1
# Packages for keys on a PKCS #11 token, for the demo and for tests; get-cst gets the provider. PACKAGE=FILE-OR-COMMAND.
DEMO_TOKEN := softhsm2=softhsm2-util opensc=pkcs11-tool 'libengine-pkcs11-openssl=/usr/lib/*/engines-3/pkcs11.so'
TEST_TOKEN := $(DEMO_TOKEN) faketime
# The cage where the launcher was not built.
TEST_CAGE := bubblewrap=bwrap
# What reads the systemd units.
TEST_UNITS := systemd=systemd-analyze
# Packages that make the images for tests.
TEST_IMAGES := u-boot-tools=mkimage device-tree-compiler=dtc
# The load generator of the benchmarks, which one test runs, too.
BENCH_TOOLS := nghttp2-client=h2load
# For the record in PostgreSQL.
TEST_RECORD := 'postgresql=/usr/lib/postgresql/*/bin/initdb'
# promtool, for the alerts.
TEST_METRICS := prometheus=promtool
# A browser for the page, which a script drives, and letters that it can show.
TEST_BROWSER := chromium chromium-driver=chromedriver \
  fonts-dejavu-core=/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
# Manual pages, the shells whose completions are tried, and what commands of the documents need.
TEST_MANUAL := man-db=man fish zsh jq
# What builds the Debian package.
DEB_TOOLS := debhelper=dh dpkg-dev=dpkg-buildpackage gcc 'libc6-dev=/usr/include/stdio.h' git
# Load balancers in front of several daemons.
TEST_FLEET := haproxy=/usr/sbin/haproxy nginx=/usr/sbin/nginx socat
# Tests run on all processors, or PYTEST_XDIST_AUTO_NUM_WORKERS. ARGS='-n0 tests/x' runs them in one.
SPREAD := -n auto --dist loadfile --no-loadscope-reorder
# The tests that need no daemon and, with `-m "not cst"`, no tools such as cst, mkimage and dtc.
FAST := tests/csf --ignore tests/csf/test_csf_work.py tests/hab tests/web tests/mutants tests/testing tests/test_settings.py tests/test_log.py \
  $(patsubst %,tests/keys/test_%.py,tarball tarball_bounds) $(patsubst %,tests/signing/test_%.py,queue redact) \
  $(patsubst %,tests/image/test_%.py,chips commands encryption fdt_bounds fit_bounds kind_barebox kind_kernels kind_rt \
  kind_sdp regions report rom_bounds small_parts verify verify_layout)
# The command that `make fresh` runs in a bare Debian, and the folder where it keeps that Debian.
RUN = make demo && make demo-hsm && make demo-ahab
FRESH ?= $(CURDIR)/.digsigd/fresh

.PHONY: help demo demo-hsm demo-ahab serve test test-fast coverage fresh boot check-tools lint types fuzz corpus mutants soak test-spsdk \
  fleet clean \
  bench bench-growth bench-docs profile

help:
	@echo "make demo           sign a trial image through the daemon with a real cst, and verify it (about a minute)"
	@echo "make demo-hsm       the same, with the keys in a SoftHSM2 token"
	@echo "make demo-ahab      sign a trial file for i.MX 93 with curl and with digsign, verify it, and refuse a changed one"
	@echo "make serve          the same as demo, and keep the daemon running for you to try"
	@echo "make test           install what the tests need, and run them; ARGS='tests/hab -x' for pytest"
	@echo "make test-fast      run the tests that need no daemon and no tools, in half a minute"
	@echo "make coverage       run all tests, and report the lines and branches that ran"
	@echo "make boot           boot systemd in a bare Debian, as root, and run digsigd there; SUITE=bookworm"
	@echo "make fresh          run the demos in a bare Debian, as root; SUITE=trixie (or bookworm) RUN='make test'"
	@echo "make lint           run ruff"
	@echo "make types          run mypy --strict"
	@echo "make fuzz           fuzz the image parsers for a minute"
	@echo "make corpus         compare random CSFs and FITs with a second model of the ROM; CASES=n SEED=s"
	@echo "make mutants        change the code in small ways, list changes that no test notices; ONLY=FILE SECONDS=n"
	@echo "make bench          compare the daemon with bare cst, in ten minutes; CASES=rsa4096,64K,4 ROUNDS=n VERSUS=CHECKOUT"
	@echo "make bench-growth   measure what happens with more machines, records, clients and larger artifacts"
	@echo "make profile        show where the CPU time of a request goes; ARGS='--case p256,64K,4'"
	@echo "make bench-docs     put docs/benchmarks.json into docs/benchmarks.md and its plots"
	@echo "make soak           load, faults and fuzzers for ten minutes; ARGS='--soak-requests 1000' (docs/soak.md)"
	@echo "make test-spsdk     sign with SPSDK's nxpimage through its signature provider (docs/spsdk.md)"
	@echo "make fleet          three daemons behind HAProxy sign 3,000 images while all kinds of things fail (docs/scaling.md)"
	@echo "make clean          remove .venv and .digsigd"
	@echo "make docs           build the documentation site in .digsigd/site; warnings are errors"
	@echo "make changelog      show the next release's changelog from changelog.d"
	@echo "make constraints    update etc/constraints.txt to the newest dependencies, with hashes"
	@echo "make sbom           write an SBOM of digsigd and its dependencies, as CycloneDX"
	@echo "make release-check  build sdist and wheel, install them in a bare environment, and use them"
	@echo "make manual         write the man pages and shell completions to .digsigd/manual"
	@echo "make deb            build the Debian package for the Debian that runs here, in .digsigd/deb"
	@echo "make deb-check      build it in a bare Debian, install, use, upgrade and remove it, as root; SUITE=trixie"
	@echo "make container      build a container image with it; BUILDER=buildah (or podman, docker)"
	@echo "make test-lowest    run the tests with the oldest dependencies that pyproject.toml allows"
	@echo "make test-pythons   run the tests with each of $(PYTHONS) that can be installed"
	@echo "make hooks          run lint, types and a check of fragment names before each git commit"

$(RUN_STAMP): pyproject.toml etc/make-venv etc/build_launcher.py $(wildcard digsigd/signing/launcher/*.[ch] digsigd/signing/launcher/*.inc digsigd/signing/launcher/preload/*.c)
	@etc/make-venv $(PYTHON) $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[s3]'
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	@etc/need openssl curl gcc python3-dev="$$($(VENV)/bin/python -c \
		'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --group test --group lint
	@# Only for the axe-core in it, which looks for what is not accessible. Playwright has a browser of its own.
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps 'axe-playwright-python>=0.1.8'
	@$(VENV)/bin/python etc/build_launcher.py
	@touch $@

demo: $(RUN_STAMP)
	@etc/need curl
	@$(VENV)/bin/python etc/demo

demo-hsm: $(RUN_STAMP)
	@etc/need curl $(DEMO_TOKEN)
	@$(VENV)/bin/python etc/demo --hsm

demo-ahab: $(RUN_STAMP)
	@etc/need curl
	@$(VENV)/bin/python etc/demo --ahab

serve: $(RUN_STAMP)
	@etc/need curl
	@$(VENV)/bin/python etc/demo --serve

check-tools: $(DEV_STAMP)
	@etc/need $(TEST_TOKEN) $(TEST_CAGE) $(TEST_IMAGES) $(TEST_RECORD) $(TEST_METRICS) $(TEST_BROWSER) $(TEST_UNITS) $(TEST_MANUAL) $(TEST_FLEET) $(BENCH_TOOLS)
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

# The set-up of docs/operate/systemd.md below a real systemd, in a container.
boot:
	@FRESH='$(FRESH)' etc/fresh-debian '$(SUITE)' etc/boot-systemd

lint: $(DEV_STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(DEV_STAMP)
	$(VENV)/bin/mypy

# Searches for images that break the parsers, for a minute. Findings are kept in .digsigd/fuzz.
fuzz: $(DEV_STAMP)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --group fuzz
	@mkdir -p .digsigd/fuzz
	cd .digsigd/fuzz && $(CURDIR)/$(VENV)/bin/python $(CURDIR)/tests/fuzz/fuzz_image.py -max_total_time=60 $(ARGS)

corpus: $(DEV_STAMP)
	@$(VENV)/bin/python -m tests.model.corpus $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED))

mutants: $(DEV_STAMP) check-tools
	@DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) $(VENV)/bin/python -m tests.mutants \
	  $(if $(ONLY),--only $(ONLY)) $(if $(SECONDS),--seconds $(SECONDS))

# The daemon beside bare cst, in one run. The JSON has the figures of the last runs; with JSON=docs/benchmarks.json,
# `make bench-docs` then puts them into docs/benchmarks.md and its plots.
BENCH = DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) $(VENV)/bin/python -m etc.benchmarks --json $(JSON)
JSON ?= .digsigd/benchmarks.json

bench bench-growth profile: $(DEV_STAMP) check-tools

bench:
	@$(BENCH) run $(if $(CASES),--cases '$(CASES)') $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(VERSUS),--versus $(VERSUS)) \
	  $(if $(RECORD),--record '$(RECORD)') $(ARGS)

bench-growth:
	@$(BENCH) growth $(ARGS)

profile:
	@$(BENCH) profile $(ARGS)

bench-docs: $(DEV_STAMP)
	@$(VENV)/bin/python -m etc.benchmarks render

# In one process: the load of one test would spoil the figures of another. Figures and plots are kept in SOAK_FOLDER.
SOAK_FOLDER ?= .digsigd/soak
soak: $(DEV_STAMP) check-tools
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --group bench
	DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) $(VENV)/bin/python -m pytest --soak -m soak --session-timeout 600 \
	  --soak-folder $(SOAK_FOLDER) tests/record tests/soak $(ARGS)

# SPSDK gets an environment of its own: no other test needs it.
SPSDK_VENV := .digsigd/spsdk
SPSDK_STAMP := $(SPSDK_VENV)/.stamp
$(SPSDK_STAMP): pyproject.toml
	@mkdir -p .digsigd
	@etc/make-venv $(PYTHON) $(SPSDK_VENV)
	@$(SPSDK_VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[spsdk]'
	@touch $@

test-spsdk: $(DEV_STAMP) $(SPSDK_STAMP) check-tools
	DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) $(VENV)/bin/python -m pytest --spsdk $(CURDIR)/$(SPSDK_VENV)/bin/nxpimage \
	  -m spsdk tests/spsdk $(ARGS)

# Three daemons behind HAProxy, with PostgreSQL and S3: figures and the plot are kept in FLEET_FOLDER.
FLEET_FOLDER ?= .digsigd/fleet
fleet: $(DEV_STAMP) check-tools
	DIGSIGSERVER_IMX_CST_BASE=$(CST_BASE) $(VENV)/bin/python -m pytest --soak -m soak --session-timeout 600 \
	  --soak-folder $(FLEET_FOLDER) tests/fleet $(ARGS)

clean:
	rm -rf --one-file-system $(VENV) .digsigd

# Documentation, releases and dependencies. Their tools are groups of pyproject.toml.
PIP := $(VENV)/bin/pip --quiet --disable-pip-version-check
DOCS_STAMP := $(VENV)/.docs-stamp
RELEASE_STAMP := $(VENV)/.release-stamp
PYTHONS ?= 3.11 3.12 3.13
# What `make test-lowest` and `make test-pythons` run without ARGS: all tests except those that test only tools.
SOME_TESTS := tests/csf tests/hab tests/image tests/keys tests/signing tests/web tests/client tests/daemon

.PHONY: docs changelog constraints sbom release-check manual deb deb-check container test-lowest test-pythons hooks

$(DOCS_STAMP): $(RUN_STAMP)
	@$(PIP) install --group docs
	@touch $@

$(RELEASE_STAMP): $(RUN_STAMP)
	@$(PIP) install --group release
	@touch $@

# Not --quiet: mkdocs counts only the warnings that it shows.
docs: $(DOCS_STAMP)
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --config-file etc/docs/mkdocs.yml
	@echo "open .digsigd/site/index.html; for search to work: $(PYTHON) -m http.server --directory .digsigd/site"

changelog: $(RELEASE_STAMP)
	@$(VENV)/bin/towncrier build --draft --version next

constraints: $(RELEASE_STAMP)
	$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra s3 --extra postgresql --extra otel --generate-hashes \
	  --no-annotate --custom-compile-command 'make constraints' pyproject.toml --output-file etc/constraints.txt
	$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --group pyproject.toml:build \
	  --generate-hashes --no-annotate --custom-compile-command 'make constraints' --output-file etc/constraints-build.txt

sbom: $(RELEASE_STAMP)
	@rm -rf .digsigd/sbom
	@$(PYTHON) -m venv --without-pip .digsigd/sbom/venv
	@$(PIP) --python .digsigd/sbom/venv/bin/python install --require-hashes -r etc/constraints.txt
	@$(PIP) --python .digsigd/sbom/venv/bin/python install --no-deps .
	@etc/sbom $(CURDIR)/$(VENV)/bin .digsigd/sbom/venv .digsigd/sbom/digsigd.cdx.json

release-check: $(RELEASE_STAMP)
	@etc/need curl
	@etc/release-check $(PYTHON) $(VENV)

manual: $(DEV_STAMP)
	@$(VENV)/bin/python -m etc.manual .digsigd/manual
	@echo "see .digsigd/manual: man -l .digsigd/manual/share/man/man1/digsign.1"

# With Debian's own Python, for which the package is.
deb:
	@etc/need $(DEB_TOOLS)
	@etc/make-deb

deb-check:
	@FRESH='$(FRESH)' etc/fresh-debian '$(SUITE)' 'DIGSIGD_BARE=yes etc/deb-check'

# From a clone: no file of this folder gets into the image that is not in a commit.
BUILDER ?= buildah
container:
	@etc/need $(BUILDER)
	@rm -rf .digsigd/container
	@git clone --quiet --no-hardlinks . .digsigd/container
	$(BUILDER) build --file etc/container/Containerfile --tag digsigd $(ARGS) .digsigd/container

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
