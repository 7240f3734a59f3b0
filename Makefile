# make demo        builds the tool and moves a file between two of its processes
# make test        every test; then the library's on a MsQuic with its assertions on; then under AddressSanitizer
# make build       the tool, as target/release/sendstream
# make lint        formatting, clippy and the documentation; warnings are errors
# make test-debug  the second third of `make test`
# make test-asan   the last third of `make test`
# make soak        the tests that can go on for ever, for two hours or as long as SENDSTREAM_SPIN_SECONDS (random calls) and
#                  SENDSTREAM_SOAK_SECONDS (connections that come and go) say; SENDSTREAM_SEED repeats a run
#
# Each of them first installs what the native build lacks, or says in one line what to install: see .ci/tools.

# Cargo gets nothing of make's own: its settings are not meant for the makefiles of OpenSSL and MsQuic. Where .ci/tools
# had to fetch a CMake, that is the one to use.
cmake = $(CURDIR)/.venv-cmake/bin/cmake
cargo = env -u MAKEFLAGS -u MAKELEVEL $(shell test -n "$$CMAKE" || test ! -x $(cmake) || echo CMAKE=$(cmake)) cargo
target = $(or $(CARGO_TARGET_DIR),target)

build: tools
	$(cargo) build --release -p sendstream-cli

demo: build
	$(target)/release/sendstream demo

test: tools
	$(cargo) test --workspace --all-features
	$(MAKE) --no-print-directory test-debug test-asan

# In a folder of its own, so that neither half of `make test` undoes what the other has built. OpenSSL is shared. Without the
# transfers of more than 4 GiB, over bad networks, and for ever: with MsQuic's assertions on they take minutes.
test-debug: tools
	SENDSTREAM_MSQUIC_PROFILE=Debug $(cargo) test -p sendstream -p sendstream-sys --all-features --target-dir $(target)/debug-core -- \
	    --skip 4_gib --skip transfers:: --skip come_and_go

# Rust and MsQuic's C under AddressSanitizer, which stable Rust has behind a switch. Documentation tests link without it,
# and loom's own coroutines leak.
test-asan: tools
	SENDSTREAM_MSQUIC_SANITIZE=address RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
	    $(cargo) test -p sendstream --all-features --lib --test reentrancy --test drop_orders --test cancel_safety \
	    --test send_stream --test recv_stream --test connection --test tls --test datagrams --test local_tasks \
	    --target $(shell rustc -vV | sed -n 's/^host: //p') --target-dir $(target)/asan -- --skip interleavings

soak: export SENDSTREAM_SOAK = 1
soak: export SENDSTREAM_SPIN_SECONDS ?= 3600
soak: export SENDSTREAM_SOAK_SECONDS ?= 1800
soak: tools
	$(cargo) test -p sendstream --all-features --test faults --test hostile --test resources --test spinner --test soak \
	    -- --nocapture --test-threads 1

# Nothing is linked here, so nothing native is built either.
lint: export DOCS_RS = 1
lint:
	cargo fmt --all -- --check
	$(cargo) clippy --workspace --all-targets --all-features --target-dir $(target)/lint -- -D warnings
	for features in "" tokio futures-io; do \
	    $(cargo) clippy -p sendstream --features "$$features" --target-dir $(target)/lint -- -D warnings || exit 1; \
	done
	RUSTDOCFLAGS="-D warnings" $(cargo) doc --workspace --no-deps --all-features --target-dir $(target)/lint

tools:
	@sh .ci/tools

.PHONY: build demo test test-debug test-asan soak lint tools
