# Octroi. Go and make suffice for run, build, test, fuzz and clean; `make help` lists what else there is.

SHELL := /bin/sh
.DEFAULT_GOAL := help

GO ?= go
HOME ?= $(shell cd ~ && pwd)
# Tools are installed here once for each version, through the Go proxy.
OCTROI_CACHE ?= $(HOME)/.cache/octroi/bin
# No version control stamps: a checkout owned by another user has none to give.
GOFLAGS ?= -buildvcs=false
GOVULNDB ?= https://vuln.go.dev
export OCTROI_CACHE GOFLAGS GOVULNDB

VERSITYGW_VERSION := v1.8.0
GOFUMPT_VERSION := v0.12.0
STATICCHECK_VERSION := v0.8.2
GOVULNCHECK_VERSION := v1.9.0
# What age-encryption needs; an older node is left alone, and this one is put beside it.
NODE_VERSION := 20.19.0

VERSITYGW := $(OCTROI_CACHE)/versitygw-$(VERSITYGW_VERSION)/versitygw
GOFUMPT := $(OCTROI_CACHE)/gofumpt-$(GOFUMPT_VERSION)/gofumpt
STATICCHECK := $(OCTROI_CACHE)/staticcheck-$(STATICCHECK_VERSION)/staticcheck
GOVULNCHECK := $(OCTROI_CACHE)/govulncheck-$(GOVULNCHECK_VERSION)/govulncheck
NODE_FOLDER := $(OCTROI_CACHE)/node-$(NODE_VERSION)

SOURCE := cmd collector consent pseudonymize export policies deploy
BIN := $(CURDIR)/bin
PROGRAMS := $(notdir $(wildcard cmd/octroi cmd/octroi-load cmd/octroi-custodian))

# What the tests are told: where the programs and the S3 server stand.
TEST_ENV := OCTROI_BIN='$(BIN)' OCTROI_VERSITYGW='$(VERSITYGW)'
TEST_ARGS ?=
REAL_ARGS ?=
BENCH_ARGS ?=
FUZZ_TIME ?= 5s

.PHONY: help run build test test-interop real bench lint fuzz clean node

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "settings: OCTROI_CACHE (tools: $(OCTROI_CACHE)), TEST_ARGS, REAL_ARGS, BENCH_ARGS, FUZZ_TIME ($(FUZZ_TIME))"

run: build ## build, then run everything here, with a shop to click through (Ctrl-C ends it)
	./bin/octroi demo

build: ## build the programs into bin/
	$(GO) build -trimpath -o '$(BIN)/' $(addprefix ./cmd/,$(PROGRAMS))

# GOGC: under the race detector memory buys a sixth of the time.
test: build $(VERSITYGW) ## run every test, with the race detector where there is a C compiler
	@race=-race; compiler=$$($(GO) env CC); \
	if [ "$$($(GO) env CGO_ENABLED)" != 1 ] || ! command -v $${compiler%% *} >/dev/null 2>&1; then \
		race=; echo "make test: no C compiler ($$compiler, CGO_ENABLED), so the tests run without the race detector"; \
	fi; \
	echo "$(GO) test $$race -count=1 $(TEST_ARGS) ./..."; \
	$(TEST_ENV) GOGC=400 $(GO) test $$race -count=1 $(TEST_ARGS) ./...

test-interop: build node $(VERSITYGW) ## let age, age-encryption, DuckDB and PostgreSQL take what was shipped, and Chromium live a visitor's story (needs Node, npm, Debian's age, postgresql and chromium)
	@command -v age >/dev/null 2>&1 || { echo "make test-interop: age is missing; apt-get install age" >&2; exit 1; }
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { echo "make test-interop: PostgreSQL is missing; apt-get install postgresql" >&2; exit 1; }
	@command -v chromium >/dev/null 2>&1 || { echo "make test-interop: chromium is missing; apt-get install chromium" >&2; exit 1; }
	PATH='$(NODE_FOLDER)/node_modules/.bin:'"$$PATH" npm install --prefix deploy/interop --no-save --no-audit --no-fund
	PATH='$(NODE_FOLDER)/node_modules/.bin:'"$$PATH" $(TEST_ENV) $(GO) test -tags interop -count=1 -v $(TEST_ARGS) ./deploy/interop/...

real: build $(VERSITYGW) ## send 69,659 real purchases through the real programs, killing them, show ten customers theirs and erase a hundred; compare to the cent
	$(TEST_ENV) $(GO) run ./deploy/real $(REAL_ARGS)

bench: build $(VERSITYGW) ## measure against the budget, with baselines in the same run
	$(TEST_ENV) $(GO) run ./deploy/bench $(BENCH_ARGS)

lint: $(GOFUMPT) $(STATICCHECK) ## check format, vet, staticcheck, the house rules, and known vulnerabilities where their list answers
	@echo "gofumpt -l $(SOURCE)"; ugly=$$($(GOFUMPT) -l $(SOURCE)) || exit 1; \
	if [ -n "$$ugly" ]; then echo "$$ugly"; echo "make lint: format these by $(GOFUMPT) -w" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags interop ./deploy/interop/...
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags interop ./deploy/interop/...
	$(GO) run ./deploy/lint
	@if $(GO) run ./deploy/lint -reach $(GOVULNDB)/index/db.json 2>/dev/null; then \
		$(MAKE) --no-print-directory $(GOVULNCHECK) && echo "govulncheck ./..." && $(GOVULNCHECK) ./...; \
	else \
		echo "make lint: govulncheck was NOT run: its database $(GOVULNDB) cannot be reached from here"; \
	fi

fuzz: ## run each fuzz target for FUZZ_TIME
	@found=0; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' $(SOURCE)); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			found=$$((found+1)); echo "$(GO) test -fuzz $$target ./$$(dirname $$file)"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x ./$$(dirname $$file) || exit 1; \
		done; \
	done; \
	if [ $$found -eq 0 ]; then echo "make fuzz: no fuzz target found" >&2; exit 1; fi; \
	echo "make fuzz: $$found targets, $(FUZZ_TIME) each"

clean: ## remove what build made; octroi-data and the tools stay
	rm -rf '$(BIN)' bench.json deploy/interop/node_modules

# The tools: each version has a folder of its own, so a new version is a new file and an old one is never mistaken for it.
$(VERSITYGW): module = github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)
$(GOFUMPT): module = mvdan.cc/gofumpt@$(GOFUMPT_VERSION)
$(STATICCHECK): module = honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
$(GOVULNCHECK): module = golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
$(VERSITYGW) $(GOFUMPT) $(STATICCHECK) $(GOVULNCHECK):
	@mkdir -p '$(@D)'
	GOBIN='$(@D)' $(GO) install $(module)

node:
	@command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || \
		{ echo "make test-interop: node or npm is missing; apt-get install nodejs npm" >&2; exit 1; }
	@PATH='$(NODE_FOLDER)/node_modules/.bin:'"$$PATH" node -e "const have = process.versions.node.split('.').map(Number), \
		want = '$(NODE_VERSION)'.split('.').map(Number); \
		process.exit(have[0] > want[0] || have[0] == want[0] && have[1] >= want[1] ? 0 : 1)" || \
		{ echo "node $$(node --version) is older than $(NODE_VERSION): installing that one from npm, beside it"; \
		npm install --prefix '$(NODE_FOLDER)' --no-audit --no-fund node@$(NODE_VERSION); }
