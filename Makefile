# make demo        builds the tool and moves a file between two of its processes
# make test        every test; then on a MsQuic with its assertions on; then under AddressSanitizer; then some on other targets
# make build       the tool, as target/release/sendstream, stripped
# make install     the tool, its manual pages, its completions and its unit for systemd, below DESTDIR and PREFIX (/usr/local)
# make deb         a Debian package of the same, in target/debian (needs cargo-deb, and installs it if it can)
# make lint        formatting, clippy and the documentation; warnings are errors
# make bench       builds the bench's programs and runs it in full: Sendstream side by side with other stacks; about an hour
# make bench-quick the same with little data and few rounds
# make bench-tool  the tool beside scp, rsync over ssh, and tar through ssh: a big file and many small ones; about ten minutes
# make bench-micro the library's short paths: how long they take, and how many instructions (needs valgrind)
# make test-release  the first part of `make test`
# make test-debug  the second part of `make test`
# make test-asan   the third part of `make test`
# make test-targets  the last part of `make test`: aarch64 under qemu, and a static program with musl
# make fuzz        every fuzz target for FUZZ_SECONDS, 60 unless set; FUZZ_TARGETS chooses some
# make test-ubsan  the library's tests with UndefinedBehaviorSanitizer in MsQuic's C; its reports fail it
# make first-hour  what a newcomer does: a crate outside of this workspace on the packaged crates, every program of the README and
#                  the guide built from nothing and run, and the README's commands; .ci/first-hour says more
# make docs-rs     the documentation as docs.rs builds it
# make msrv        everything compiled with the oldest Rust that Cargo.toml names
# make semver      the public API against that of the last release: what would break its users
# make deny        the dependencies: licences, doubles, sources, and known advisories where their database can be fetched
# make msquic-tree unpacks MsQuic's sources into target/msquic-tree, a git repository with a commit for each patch
# make msquic-patches  makes sendstream-sys/patches, and their tables in SECURITY.md, of the commits in that repository
# make security-table  only the tables, after a change of a header by hand
# make bindings    makes the types of MsQuic's C ABI anew, of the headers that are built (needs libclang)
# make patches-check   compiles MsQuic as often as there are edits that no other needs, each time without one of them
# make soak        every test of bad days in its long form, in less than an hour: full loads over every bad network,
#                  SENDSTREAM_SPIN_SECONDS of random calls (900 unless set), SENDSTREAM_SOAK_SECONDS of connections that come and
#                  go (1800 unless set). Ends with every figure that was printed; SENDSTREAM_SEED repeats a run
#
# Each of them first installs what the native build lacks, or says in one line what to install: see .ci/tools.

# Cargo gets nothing of make's own: its settings are not meant for the makefiles of AWS-LC and MsQuic. Where .ci/tools
# had to fetch a CMake, that is the one to use.
cmake = $(CURDIR)/.venv-cmake/bin/cmake
cargo = env -u MAKEFLAGS -u MAKELEVEL $(shell test -n "$$CMAKE" || test ! -x $(cmake) || echo CMAKE=$(cmake)) cargo
target = $(or $(CARGO_TARGET_DIR),target)
host = $(shell rustc -vV | sed -n 's/^host: //p')

# The tests of bad days: hostile peers, broken networks, scarce resources, and whoever uses the library wrongly.
bad_days = empty_datagrams native_fixes signals hostile hostile_frames forbidden_frames retry_flood retry_backlog faults path_mtu routed_mtu \
    stopped clock_jump resources memory_limit release_memory panics exit spinner soak

build: tools
	$(cargo) build --release -p sendstream-cli

# What is installed beside the tool: it writes that itself.
package = $(abspath $(target))/package
package: build
	rm -rf $(package)
	mkdir -p $(package)/completions
	$(target)/release/sendstream man --dir $(package)/man
	gzip --no-name --best $(package)/man/*.1
	for shell in bash zsh fish; do $(target)/release/sendstream completions $$shell >$(package)/completions/$$shell || exit 1; done
	sed 's|@bindir@|$(bindir)|' sendstream-cli/package/sendstream-recv.service.in >$(package)/sendstream-recv.service

PREFIX ?= /usr/local
bindir = $(PREFIX)/bin
share = $(DESTDIR)$(PREFIX)/share
install: package
	install -D -m 755 $(target)/release/sendstream $(DESTDIR)$(bindir)/sendstream
	install -D -m 644 -t $(share)/man/man1 $(package)/man/*.1.gz
	install -D -m 644 $(package)/completions/bash $(share)/bash-completion/completions/sendstream
	install -D -m 644 $(package)/completions/zsh $(share)/zsh/site-functions/_sendstream
	install -D -m 644 $(package)/completions/fish $(share)/fish/vendor_completions.d/sendstream.fish
	install -D -m 644 $(package)/sendstream-recv.service $(DESTDIR)$(PREFIX)/lib/systemd/system/sendstream-recv.service

# The assets are named in sendstream-cli/Cargo.toml, relative to that folder; a target folder elsewhere is linked to from there.
deb: export PREFIX = /usr
deb: tools
	@sh .ci/tools deb
	$(MAKE) --no-print-directory package
	ln -sfn $(package) sendstream-cli/package/made
	$(cargo) deb --no-build --package sendstream-cli --output $(abspath $(target))/debian/

demo: build
	$(target)/release/sendstream demo

# The library's tests drive their connections on an executor without threads. In a second round they do it on a tokio runtime, which
# then does the work of MsQuic's threads. A third round has all other tests: most of those start processes and wait for them, so
# that more of them than there are processors run at a time. All rounds are of the same packages, so that Cargo finds what it has
# built, and run side by side, as tests wait more than they compute. Each prints its output when it is done.
on_tokio = SENDSTREAM_TESTS_ON=tokio
waiting = RUST_TEST_THREADS=6
rounds = env -u MAKEFLAGS $(MAKE) --no-print-directory --jobs 3 --output-sync=target
names = $(notdir $(basename $(wildcard $(addsuffix /tests/*.rs,$(1)))) $(patsubst %/main.rs,%,$(wildcard $(addsuffix /tests/*/main.rs,$(1)))))
tests = $(addprefix --test ,$(call names,sendstream))
other_tests = --lib --bins $(addprefix --test ,$(filter-out $(call names,sendstream),$(call names,$(1))))

# The parts run two at a time as well. What all parts need is made before.
test: test-tools
	$(cargo) build -p sendstream-sys
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-release test-debug test-asan test-targets first-hour-short

release = $(cargo) test --workspace --all-features
test-release: tools
	$(release) --no-run
	$(rounds) release-round release-round-on-tokio release-round-of-others

release-round:
	$(release) $(tests)

release-round-on-tokio:
	$(on_tokio) $(release) $(tests)

release-round-of-others:
	$(waiting) $(release) $(call other_tests,sendstream-*)
	$(release) --doc

# In a folder of its own, so that neither half of `make test` undoes what the other has built. AWS-LC is shared. Without the
# transfers of 100 MiB and of more than 4 GiB, over bad networks, and for ever: with MsQuic's assertions on they take minutes.
debug = SENDSTREAM_MSQUIC_PROFILE=Debug $(cargo) test -p sendstream -p sendstream-sys -p sendstream-cli --all-features \
    --target-dir $(target)/debug-core
debug_skips = -- --skip 4_gib --skip 100_mib --skip transfers:: --skip come_and_go
test-debug: tools
	$(debug) --no-run
	$(rounds) debug-round debug-round-on-tokio debug-round-of-others

debug-round:
	$(debug) $(tests) $(debug_skips)

debug-round-on-tokio:
	$(on_tokio) $(debug) $(tests) $(debug_skips)

debug-round-of-others:
	$(waiting) $(debug) $(call other_tests,sendstream-sys sendstream-cli) $(debug_skips)
	$(debug) --doc $(debug_skips)

# Rust and MsQuic's C under AddressSanitizer, which stable Rust has behind a switch. Documentation tests link without it.
# What is no leak .ci/lsan.supp says, also to the processes that tests start.
test-asan: export LSAN_OPTIONS = suppressions=$(CURDIR)/.ci/lsan.supp:print_suppressions=0
asan = SENDSTREAM_MSQUIC_SANITIZE=address RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
    $(cargo) test -p sendstream -p sendstream-cli --all-features --target $(host) --target-dir $(target)/asan
asan_tests = --test reentrancy --test drop_orders --test cancel_safety \
    --test send_stream --test recv_stream --test kept_chunks --test connection --test tls --test datagrams --test worker_tasks --test panics --test races \
    --test accept --test paths --test config --test retry --test retry_backlog --test registration --test resumption --test zero_rtt \
    --test spinner --test hostile --test hostile_frames --test native_fixes --test forbidden_frames --test runtimes --test idle --test bound
test-asan: tools
	$(asan) --no-run --lib --bins --test tool $(asan_tests)
	$(rounds) asan-round asan-round-on-tokio asan-round-of-others

asan-round:
	$(asan) $(asan_tests)

asan-round-on-tokio:
	$(on_tokio) $(asan) $(asan_tests)

asan-round-of-others:
	$(waiting) $(asan) --lib --bins --test tool

first-hour: tools
	.ci/first-hour

# With the C code and the tool that the other parts have built.
first-hour-short: tools
	.ci/first-hour short

# Other targets: what they share with this machine's is not tested again, but that all of it is there and works.
target_tests = -p sendstream -p sendstream-sys --all-features --test native_library --test edited_core --test connection \
    --test send_stream --test recv_stream --test kept_chunks --test datagrams --test tls --test drop_orders
test-targets: test-aarch64 test-musl

# qemu runs programs for other processors, and not what they start in turn.
starting_programs = no_library_is_taken_from_the_programs_folder a_peer_that_is_gone_is_the_cause \
    each_side_shows_the_certificates_of_its_identity_and_no_others a_client_and_a_server_read_no_roots_that_nobody_needs \
    one_early_chunk_that_is_kept_stops_nothing_and_holds_no_more_than_its_block
# 64 MiB through two emulated ends, in builds for tests: beside other tests such an end stands still for longer than its peer waits.
# Others go through the same code with less.
too_much_to_emulate = a_stream_beyond_its_window_can_be_collected_whole \
    a_reader_that_drops_each_chunk_makes_no_copy_and_takes_no_new_memory
aarch64 = aarch64-unknown-linux-gnu
emulated = qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_PRELOAD=$(abspath $(target))/$(aarch64)/qemu-lacks.so
test-aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER = aarch64-linux-gnu-gcc
test-aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER = $(emulated)
test-aarch64: tools
	@if test $(host) = $(aarch64); then echo "this machine is $(aarch64) itself"; \
	elif sh .ci/tools aarch64; then $(MAKE) --no-print-directory run-aarch64; \
	else echo "SKIPPED: nothing is built or tested for $(aarch64)" >&2; fi

run-aarch64:
	mkdir -p $(target)/$(aarch64)
	aarch64-linux-gnu-gcc -shared -fPIC -o $(target)/$(aarch64)/qemu-lacks.so .ci/qemu-lacks.c
	$(cargo) test --target $(aarch64) $(target_tests) -- $(addprefix --skip ,$(starting_programs) $(too_much_to_emulate))
	$(cargo) build --target $(aarch64) -p sendstream-cli
	sh .ci/move-a-file $(emulated) $(target)/$(aarch64)/debug/sendstream

musl = $(subst -gnu,-musl,$(host))
test-musl: tools
	@if test $(host) = $(musl); then echo "this machine is $(musl) itself"; \
	elif sh .ci/tools musl $(musl); then $(MAKE) --no-print-directory run-musl; \
	else echo "SKIPPED: nothing is built or tested for $(musl)" >&2; fi

run-musl: tool = $(target)/$(musl)/debug/sendstream
run-musl:
	$(cargo) test --target $(musl) $(target_tests)
	$(cargo) build --target $(musl) -p sendstream-cli
	ldd $(tool) 2>&1 | grep -E "statically linked|not a dynamic executable"
	$(tool) demo --size 67108864

# Coverage and AddressSanitizer, which stable Rust has behind a switch. What is found to reach new code is kept in the target
# directory; an input that fails is left in fuzz/failures and printed with the command that runs it again.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/targets/*.rs)))
coverage = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1
fuzz: tools
	SENDSTREAM_MSQUIC_SANITIZE=address RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg fuzzing -Zsanitizer=address $(coverage)" \
	    $(cargo) build --release --manifest-path fuzz/Cargo.toml --target $(host) --target-dir $(abspath $(target))/fuzz
	mkdir -p fuzz/failures
	for name in $(FUZZ_TARGETS); do \
	    corpus=$(abspath $(target))/fuzz/corpus/$$name; mkdir -p $$corpus; \
	    $(abspath $(target))/fuzz/$(host)/release/$$name -max_total_time=$(FUZZ_SECONDS) -timeout=20 -print_final_stats=1 \
	        -artifact_prefix=fuzz/failures/$$name- $$corpus fuzz/seeds/$$name || exit 1; \
	done

# It reports and goes on, so what it says is looked for.
test-ubsan: tools
	mkdir -p $(target)
	SENDSTREAM_MSQUIC_SANITIZE=undefined $(cargo) test -p sendstream --all-features --test send_stream --test recv_stream \
	    --test connection --test datagrams --test tls --test native_fixes --no-fail-fast --target-dir $(target)/ubsan -- --nocapture 2>&1 | \
	    tee $(target)/ubsan.log | grep -E "^test |test result"
	! grep -E "runtime error|^test result: FAILED|^error" $(target)/ubsan.log

# The tool behind these links nothing, so nothing native is built for it.
patches = DOCS_RS=1 $(cargo) run --quiet --locked -p sendstream-sys --example patches --target-dir $(target)/lint --
msquic-tree:
	$(patches) tree $(target)/msquic-tree

msquic-patches:
	$(patches) export $(target)/msquic-tree

security-table:
	$(patches) table

# The headers are the same everywhere, and so are the numbers. The build compares them with each target's own compiler.
bindgen_version = 0.73.2
bindgen = $(abspath $(target))/bindgen-$(bindgen_version)
bindings:
	@sh .ci/tools libclang
	test -x $(bindgen)/bin/bindgen || \
	    $(cargo) install --locked bindgen-cli --version $(bindgen_version) --root $(bindgen) --target-dir $(bindgen)/build
	rm -rf $(target)/bindings-tree
	$(patches) tree $(target)/bindings-tree
	$(bindgen)/bin/bindgen sendstream-sys/src/bindings.h --output sendstream-sys/src/bindings.rs \
	    --rust-target 1.88 --rust-edition 2024 --formatter prettyplease --ignore-functions --no-recursive-allowlist \
	    --allowlist-item 'QUIC_.*|HQUIC|BOOLEAN' \
	    --blocklist-item 'QUIC_(ADDR|ADDR_.*|ADDRESS_FAMILY.*|STATUS.*|EVENTQ|CQE|SQE|LOCALHOST.*|CERTIFICATE_FLAG.*)' \
	    --blocklist-item 'QUIC_(SCHANNEL|XDP)_.*' \
	    --raw-line "//! MsQuic's C ABI, made by \`make bindings\` of the headers that are built. It is not edited by hand." \
	    --raw-line "" --raw-line "use super::{QUIC_ADDR, QUIC_ADDRESS_FAMILY, QUIC_CQE, QUIC_EVENTQ};" \
	    -- -I $(target)/bindings-tree/src/inc
	rm -rf $(target)/bindings-tree

# A test is linked each time, since C may call what is not there. With assertions on, as those are code, too; that compiles sooner.
patches-check: export SENDSTREAM_MSQUIC_PROFILE = Debug
patches-check: tools
	$(cargo) test --locked -p sendstream-sys --target-dir $(target)/patches-check --test patches --test patch_applier
	names=$$($(patches) independent) && for name in $$names; do \
	    echo "without $$name" && \
	    SENDSTREAM_MSQUIC_LEAVE_OUT=$$name $(cargo) test --quiet --locked -p sendstream-sys --test native_library --no-run \
	        --target-dir $(target)/patches-check || exit 1; \
	done

# Advisories are in a database of their own, which not every network lets through.
deny:
	@sh .ci/tools deny
	$(cargo) deny check bans licenses sources
	@if $(cargo) deny fetch db; then \
	    $(cargo) deny --config .ci/advisories.toml check advisories; \
	else \
	    echo "SKIPPED: known advisories of the dependencies are not checked, as their database could not be fetched" >&2; \
	fi

soak: export SENDSTREAM_SOAK = 1
soak: export SENDSTREAM_SPIN_SECONDS ?= 900
soak: export SENDSTREAM_SOAK_SECONDS ?= 1800
soak: tools
	mkdir -p $(target)
	{ $(cargo) test -p sendstream --all-features --no-fail-fast $(addprefix --test ,$(bad_days)) -- --nocapture --test-threads 1 && \
	    $(cargo) test -p sendstream-cli --release --test tool -- resume:: memory:: --nocapture --test-threads 1; \
	    echo $$? >$(target)/soak.status; } 2>&1 | tee $(target)/soak.log
	@grep -oE "(FIGURE|SKIPPED|SENDSTREAM_SEED=|test result:) ?.*" $(target)/soak.log
	@exit $$(cat $(target)/soak.status)

# Systems that the library is compiled for, and nobody here has.
elsewhere = x86_64-apple-darwin aarch64-apple-darwin x86_64-pc-windows-msvc x86_64-pc-windows-gnu
no_compiler = $(CURDIR)/.ci/no-compiler
no_compilers = $(foreach system,$(subst -,_,$(elsewhere)),CC_$(system)=$(no_compiler) AR_$(system)=$(no_compiler))

# Nothing is linked here, so nothing native is built either.
lint: export DOCS_RS = 1
lint:
	cargo fmt --all -- --check
	cargo fmt --manifest-path fuzz/Cargo.toml -- --check
	cd bench && cargo fmt --all -- --check && for stack in msquic-async tokio-quiche; do \
	    cargo fmt --manifest-path $$stack/Cargo.toml -- --check || exit 1; \
	done
	$(cargo) clippy --workspace --all-targets --all-features --target-dir $(target)/lint -- -D warnings
	for features in "" tokio futures-io metrics qlog self-signed serde; do \
	    $(cargo) clippy -p sendstream --no-default-features --features "$$features" --target-dir $(target)/lint -- -D warnings || exit 1; \
	done
	RUSTFLAGS="--cfg benching" $(cargo) clippy --locked --manifest-path bench/Cargo.toml -p bench-micro --all-targets \
	    --target-dir $(abspath $(target))/lint/benching -- -D warnings
	systems=; for system in $(elsewhere); do \
	    if sh .ci/tools rust $$system; then systems="$$systems --target $$system"; \
	    else echo "SKIPPED: nothing is compiled for $$system" >&2; fi; \
	done; \
	test -z "$$systems" || env RUSTFLAGS="-D warnings" $(no_compilers) \
	    $(cargo) check -p sendstream --all-features $$systems --target-dir $(target)/lint
	$(MAKE) --no-print-directory docs-rs

# docs.rs has a nightly Rust, and what needs a feature is marked there.
docs-rs: export DOCS_RS = 1
docs-rs:
	RUSTC_BOOTSTRAP=1 RUSTDOCFLAGS="-D warnings --cfg docsrs" $(cargo) doc --workspace --no-deps --all-features --target-dir $(target)/lint/docs-rs

msrv_version = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
msrv: export DOCS_RS = 1
msrv:
	@sh .ci/tools toolchain $(msrv_version)
	env RUSTUP_TOOLCHAIN=$(msrv_version) $(cargo) check --workspace --all-features --locked --target-dir $(target)/msrv

# The tool is no library. Without a release there is nothing to compare with.
semver: export DOCS_RS = 1
semver: release = $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)
semver:
	@test -n "$(release)" || echo "SKIPPED: there is no release to compare with, which has a tag v*" >&2
	test -z "$(release)" || { sh .ci/tools semver && RUSTC_BOOTSTRAP=1 $(cargo) semver-checks --workspace --exclude sendstream-cli \
	    --all-features --baseline-rev $(release) --target-dir $(target)/semver; }

# One program per stack, in workspaces of their own below `bench`. The tables are printed, and written to target/bench/results.
bench: bench-programs
	$(bench)/main/release/bench-driver --programs $(bench) --output $(bench)/results --scale

bench-quick: bench-programs
	$(bench)/main/release/bench-driver --programs $(bench) --output $(bench)/results --quick

bench-tool: build
	@sh .ci/tools ssh
	bench/tool/run $(target)/release/sendstream

# Criterion's times, then Callgrind's counts. The latter are run by a program of exactly the version that the lock file has of the
# library; it is built once into the target directory.
bench-micro: export RUSTFLAGS = --cfg benching
bench-micro: tools
	$(cargo) bench --locked --manifest-path bench/Cargo.toml -p bench-micro --bench time --target-dir $(bench)/micro
	if ! command -v valgrind >/dev/null; then echo "SKIPPED: the instruction counts, since there is no valgrind" >&2; \
	elif ! test -x $(runner)/bin/gungraun-runner && \
	    ! RUSTFLAGS= $(cargo) install --locked gungraun-runner --version $(runner_version) --root $(runner) --target-dir $(runner)/build; then \
	    echo "SKIPPED: the instruction counts, since gungraun-runner $(runner_version) cannot be installed" >&2; \
	else GUNGRAUN_RUNNER=$(runner)/bin/gungraun-runner \
	    $(cargo) bench --locked --manifest-path bench/Cargo.toml -p bench-micro --bench instructions --target-dir $(bench)/micro; \
	fi
runner_version = $(shell sed -n '/^name = "gungraun-runner"/{n;s/^version = "\(.*\)"/\1/p}' bench/Cargo.lock)
runner = $(bench)/gungraun-runner-$(runner_version)

bench = $(abspath $(target))/bench
bench-programs: tools
	CARGO="$(cargo)" sh bench/build $(bench)

tools:
	@sh .ci/tools

test-tools:
	@sh .ci/tools tests

rounds_of_tests = $(foreach part,release debug asan,$(part)-round $(part)-round-on-tokio $(part)-round-of-others)
.PHONY: $(rounds_of_tests) first-hour first-hour-short docs-rs msrv semver build package install deb demo test test-release test-debug test-asan test-targets test-aarch64 run-aarch64 test-musl run-musl \
    test-ubsan soak fuzz bench bench-quick bench-micro bench-programs deny lint tools test-tools msquic-tree msquic-patches security-table patches-check bindings

