# What people type. `make help` lists it.

PORT ?= 7272
CARGO ?= cargo
# Cargo's own folder; plugins are always in target/plugins.
BUILD := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help run test autobahn fuzz simulation figures swaps deploys traps timers handshakes bulk chaos lint guests guests-rust wasm-target

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The dev profile: plugins run as fast in it, and a cold build takes minutes less.
run: guests-rust ## Builds all that is needed and serves the chat example; PORT=7272
	$(CARGO) build --workspace --bins
	exec $(BUILD)/debug/tidegate serve --listen ws://127.0.0.1:$(PORT) \
		--static plugins-example/chat/web target/plugins/chat.wasm

test: guests ## Runs all tests; what needs a missing Node, Python or browser is named as skipped
	$(CARGO) test --workspace

autobahn: guests-rust ## Autobahn's cases for WebSocket servers; needs Python 2.7 and the network
	$(CARGO) build --workspace --bins
	TIDEGATE_BIN=$(BUILD)/debug/tidegate tests/autobahn

fuzz: ## Fuzzes what strangers and peers can send, each target ten minutes; TIDEGATE_FUZZ_SECONDS
	tests/fuzz

simulation: ## Simulates clusters for a minute, optimised; TIDEGATE_SIMULATION_SECONDS, TIDEGATE_SEED
	TIDEGATE_SIMULATION_SECONDS=$${TIDEGATE_SIMULATION_SECONDS:-60} \
	$(CARGO) test --release -p tidegate-cluster --test simulation -- --nocapture promises

figures: guests ## Measures, with a release build; BASE=a tidegate to compare with, in turns
	$(CARGO) build --release --workspace
	$(CARGO) run --release -p tidegate-tests --bin figures -- $(if $(BASE),--base $(BASE))

swaps: guests ## A hundred swaps under load: the longest pause of any client, with a release build
	$(CARGO) build --release --workspace
	$(BUILD)/release/swaps

deploys: guests ## 20 bad deploys in a row under load, twice: the longest wait of any client
	$(CARGO) build --release --workspace
	$(BUILD)/release/deploys

traps: guests ## 200 messages that trap: how long the other clients of the instance wait
	$(CARGO) build --release --workspace
	$(BUILD)/release/traps

timers: guests ## What 100,000 timers cost that wait, and how late 5,000 a second are
	$(CARGO) build --release --workspace
	$(BUILD)/release/timers

handshakes: guests ## 2,000 handshakes a second through a handler, and how long others wait meanwhile
	$(CARGO) build --release --workspace
	$(BUILD)/release/handshakes

bulk: guests ## A worker is killed under 100,000 clients: TIDEGATE_BULK_CLIENTS, …_SESSION_BYTES
	$(CARGO) build --release --workspace
	$(BUILD)/release/bulk

chaos: guests ## Ten minutes of violence; TIDEGATE_SEED, TIDEGATE_CHAOS_SECONDS, TIDEGATE_CHAOS_CLIENTS
	$(CARGO) build --release --workspace
	$(BUILD)/release/chaos

lint: ## Checks format, lints, documentation and, where cargo-deny is installed, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check; \
	else echo "skipped: cargo deny check (cargo-deny is not installed)"; fi

guests: wasm-target ## Builds all plugins into target/plugins
	plugins-example/build all

guests-rust: wasm-target
	plugins-example/build rust

# With GUEST_RUSTC the guests have a compiler of their own, which has the target.
wasm-target:
	@if [ -z "$$GUEST_RUSTC" ] && [ ! -d "$$(rustc --print target-libdir --target wasm32-wasip2)" ]; \
	then rustup target add wasm32-wasip2; fi
