# `make help` says what there is. CARGO_TARGET_DIR is respected.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BIN := $(TARGET)/release
TOOLS := $(TARGET)/tools
CARGO := cargo
export PATH := $(TOOLS)/bin:$(HOME)/.cargo/bin:$(PATH)
# Tests that start the daemon find it here.
export MOFKA_BIN_DIR := $(BIN)

# Where `make cpp` and `make install` put things.
PREFIX ?= $(TARGET)/prefix
override PREFIX := $(abspath $(PREFIX))
LINKS := mofkactl bedrock bedrock-shutdown bedrock-query diaspora-ctl
# Seconds for each fuzz target, and in the smoke run.
FUZZ_SECONDS ?= 600
FUZZ_SMOKE_SECONDS ?= 30
# Targets that run at the same time.
FUZZ_JOBS ?= $(shell nproc)
FUZZ_SANITIZER ?= none
BENCH_ARGS ?=
COMPARE_ARGS ?=

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.PHONY: needs
needs:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust with rustup (https://rustup.rs)" >&2; exit 1; }
	@if ! command -v cc >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "no C compiler: installing gcc and libc6-dev"; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev make; \
	  else \
	    echo "a C compiler is missing (io_uring's library is built from C): apt-get install gcc libc6-dev make" >&2; exit 1; \
	  fi; \
	fi

# libFuzzer is C++, and so are some of our tests.
.PHONY: cxx
cxx: needs
	@if ! command -v c++ >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "no C++ compiler: installing g++"; apt-get update -qq && apt-get install -y -qq --no-install-recommends g++; \
	  else \
	    echo "a C++ compiler is missing (the C++ interface and libFuzzer): apt-get install g++" >&2; exit 1; \
	  fi; \
	fi

# For the test that builds as users of find_package(mofka) do; without it that test says that it was skipped.
.PHONY: cmake
cmake:
	@if ! command -v cmake >/dev/null; then \
	  mkdir -p "$(TOOLS)/bin"; \
	  if python3 -m venv "$(TOOLS)/cmake" && "$(TOOLS)/cmake/bin/pip" install -q cmake; then \
	    ln -sfn ../cmake/bin/cmake "$(TOOLS)/bin/cmake"; \
	  else \
	    echo "SKIPPED: cmake is not there, and pip does not bring it"; \
	  fi; \
	fi

.PHONY: build
build: needs ## Daemon and tool, optimised, with the links to the tool's other names
	$(CARGO) build --release --locked -p mofka-engine -p mofka-ctl
	@for name in $(LINKS); do ln -sfn mofka-ctl "$(BIN)/$$name"; done
	@echo "built $(BIN)/mofkad and $(BIN)/mofka-ctl ($(LINKS))"

.PHONY: demo
demo: build ## Real log lines through a real daemon, with a kill -9 half-way; checks itself
	"$(BIN)/mofka-ctl" demo

.PHONY: test
test: build cxx cmake ## Every test, those that start and kill the real daemon too
	$(CARGO) test --workspace --locked
	client/python/build "$(TARGET)" test

.PHONY: python
python: needs ## The Python package: a wheel in target/wheels, installed in target/python-venv
	client/python/build "$(TARGET)"

.PHONY: cpp
cpp: cxx ## The C and C++ interface, installed into PREFIX (target/prefix), and its examples, built
	$(CARGO) build --release --locked -p mofka-c
	client/c/install "$(BIN)" "$(PREFIX)"
	@cd "$(PREFIX)/share/mofka/examples"; \
	for source in *.c *.cpp; do \
	  case $$source in *.c) compiler="cc -std=c11" ;; *) compiler="c++ -std=c++17" ;; esac; \
	  $$compiler -O2 -Wall -I"$(PREFIX)/include" "$$source" -L"$(PREFIX)/lib" -Wl,-rpath,"$(PREFIX)/lib" -lmofka_c \
	    -o "$${source%.*}-$${source##*.}"; \
	done
	@echo "installed mofka.h, mofka.hpp and libmofka_c in $(PREFIX); examples in $(PREFIX)/share/mofka/examples"

# The API is looked for where CMAKE_PREFIX_PATH says, and in MOFKA_DIASPORA_PREFIX.
.PHONY: diaspora
diaspora: cpp cmake ## libmofka.so, the driver for programs of the Diaspora Stream API, into PREFIX (MOFKA_DIASPORA_PREFIX=/where/the/API/is)
	@if ! command -v cmake >/dev/null; then echo "SKIPPED: the Diaspora driver needs cmake"; exit 0; fi; \
	prefixes="$(PREFIX)$${MOFKA_DIASPORA_PREFIX:+;$$MOFKA_DIASPORA_PREFIX}"; \
	cmake -S client/diaspora -B "$(TARGET)/diaspora" -DCMAKE_PREFIX_PATH="$$prefixes" -DCMAKE_INSTALL_PREFIX="$(PREFIX)"; \
	cmake --build "$(TARGET)/diaspora"; \
	cmake --install "$(TARGET)/diaspora"

.PHONY: install
install: build cpp ## Daemon, tool, completions, manual pages, C and C++ interface into PREFIX (make install PREFIX=/usr/local)
	@mkdir -p "$(PREFIX)/bin"
	install -m 755 "$(BIN)/mofkad" "$(BIN)/mofka-ctl" "$(PREFIX)/bin/"
	@for name in $(LINKS); do \
	  link="$(PREFIX)/bin/$$name"; \
	  if [ -e "$$link" ] && [ ! -L "$$link" ]; then echo "$$link is another program, and stays"; else ln -sfn mofka-ctl "$$link"; fi; \
	done
	packaging/share "$(BIN)" "$(PREFIX)/share"

# dpkg-dev finds out which libraries the programs need.
.PHONY: deb
deb: build ## The Debian package, in target/debian
	@command -v cargo-deb >/dev/null || CARGO_TARGET_DIR="$(TARGET)/tools-build" $(CARGO) install --locked cargo-deb --version 3.8.0 --root "$(TOOLS)"
	packaging/debian/build "$(TARGET)" "$(LINKS)"

.PHONY: container
container: deb ## The container's image, of the Debian package (podman, buildah or docker; BASE=...)
	packaging/container/build "$(TARGET)"

.PHONY: header
header: needs ## client/c/include/mofka.h, written anew from client/c/src
	MOFKA_WRITE_HEADER=1 $(CARGO) test --locked -q -p mofka-c --test it header

.PHONY: torture
torture: build ## A million simulated faults, 200 kills, a crowd of killed clients, 50 power cuts, all mutants (root; half an hour)
	tests/torture/run

.PHONY: lint
lint: needs ## Formatting, the rules of tidy/ and clippy, warnings denied
	$(CARGO) fmt --all -- --check
	$(CARGO) test --locked -p mofka-tidy
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml -- --check
	CARGO_TARGET_DIR="$(TARGET)" $(CARGO) clippy --manifest-path fuzz/Cargo.toml --lib --tests --examples --locked -- -D warnings

.PHONY: deny
deny: needs ## Licences, sources, known-bad versions
	$(CARGO) test --locked -p mofka-tidy dependencies
	@if command -v cargo-deny >/dev/null; then \
	  $(CARGO) deny --locked check licenses bans sources; \
	else \
	  echo "SKIPPED: cargo-deny is not installed (cargo install --locked cargo-deny --version 0.20.2); the check of tidy/ above covers licences and sources."; \
	fi
	@database="$${MOFKA_ADVISORY_DB:-$$HOME/.cargo/advisory-db}"; \
	if [ -d "$$database" ] && command -v cargo-audit >/dev/null; then \
	  $(CARGO) audit --db "$$database" --no-fetch --stale; \
	else \
	  echo "SKIPPED: the whole advisory database (needs cargo-audit, and the database at $$database or \$$MOFKA_ADVISORY_DB); the floors of known advisories were checked above."; \
	fi

.PHONY: bench
bench: build ## Benchmarks against the raw device, interleaved (BENCH_ARGS="raw --help")
	$(CARGO) build --release --locked -p mofka-benches
	"$(BIN)/mofka-benches" $(or $(BENCH_ARGS),raw)

.PHONY: compare
compare: build ## The whole path beside Redis Streams and NATS JetStream (installs them; COMPARE_ARGS), and the ring beside iceoryx2
	$(CARGO) build --release --locked -p mofka-benches --features iceoryx2
	@CARGO_TARGET_DIR="$(TARGET)" benches/compare/install || echo "going on with those that are installed"
	"$(BIN)/mofka-benches" compare $(COMPARE_ARGS)
	"$(BIN)/mofka-benches" ring

.PHONY: doc
doc: needs ## API documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# Everything that reads bytes is fuzzed, on the stable toolchain. What is found is written to fuzz/artifacts/<target>;
# copied to fuzz/seeds/<target>/found-<what>, it is replayed for ever.
define run_fuzzers
	@command -v cargo-fuzz >/dev/null || CARGO_TARGET_DIR="$(TARGET)/tools-build" $(CARGO) install --locked cargo-fuzz --version 0.13.2 --root "$(TOOLS)"
	@RUSTC_BOOTSTRAP=1 $(CARGO) fuzz build --sanitizer $(2)
	@$(CARGO) fuzz list | xargs -P "$(FUZZ_JOBS)" -I TARGET bash -c 'set -euo pipefail; \
	  echo "fuzz TARGET: $(1) s"; \
	  mkdir -p fuzz/corpus/TARGET; \
	  log=$$(mktemp); trap "rm -f $$log" EXIT; \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer $(2) TARGET fuzz/corpus/TARGET fuzz/seeds/TARGET -- \
	    -max_total_time=$(1) -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=$(3) >"$$log" 2>&1 \
	    || { cat "$$log"; exit 1; }; \
	  { echo "fuzz TARGET: nothing found"; grep -E "^stat::number_of_executed_units|^#.*DONE" "$$log" || true; }'
endef

.PHONY: fuzz
fuzz: cxx ## Each fuzz target for FUZZ_SECONDS (600), with FUZZ_SANITIZER (none; address)
	$(call run_fuzzers,$(FUZZ_SECONDS),$(FUZZ_SANITIZER),1)

.PHONY: fuzz-smoke
fuzz-smoke: cxx ## The fuzz seeds through their targets, then each target for 30 s (FUZZ_SMOKE_SECONDS)
	CARGO_TARGET_DIR="$(TARGET)" $(CARGO) test --locked --manifest-path fuzz/Cargo.toml
	$(call run_fuzzers,$(FUZZ_SMOKE_SECONDS),none,0)

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
	rm -rf fuzz/target
