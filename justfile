# What is done often. `just` alone lists it.

set positional-arguments

_list:
    @just --list --unsorted

# everything that a change must pass: formatting, lints, every test
ci:
    bash .ci/run

# formats every file
fmt:
    cargo fmt --all

# lints, as `ci` has them
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# tests whose names hold one of these words, of all crates; all tests without a word
test *words:
    cargo test --workspace --locked -- {{words}}

# the tests of one crate: tts-model, tts-strategies, tts-evals or tts
test-crate name *words:
    cargo test --locked -p {{name}} -- {{words}}

# the tests of the Python package; words go to pytest
python *words:
    python/test {{words}}

# writes the snapshots of tests/it/snapshots/ and of reports again; read the difference before it is committed
snapshots:
    INSTA_UPDATE=always cargo test --locked -p tts --test it -- seen report
    git diff --stat -- '*.snap'

# plants faults in the kernels for GPUs, each of which a test should notice; some minutes
faults:
    cargo test --locked -p tts-model every_planted_fault -- --ignored --nocapture

# damaged input for so many minutes
fuzz minutes="10":
    FUZZ_MINUTES={{minutes}} cargo test --release --locked --test fuzz

# the documentation of all crates, whose warnings are errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --locked

# runs the program: `just run solve "Find the greatest common divisor of 252 and 180."`
run *args:
    @cargo run --release --locked --quiet -- "$@"

# the program with every optimisation, at target/release/tts
build:
    cargo build --release --locked

# the Python package as a wheel, for this machine's kind, at target/wheels (needs maturin)
wheel:
    maturin build --release --locked

# time of decode steps, kernel by kernel (criterion)
bench *words:
    cargo bench --locked --bench step -- {{words}}

# speed of two programs against each other, in alternation: `just compare before/tts target/release/tts`
compare before after *args:
    python3 benches/before_after.py "$@"

# `docs/` as one book with a search, at target/book/index.html (needs mdBook: `cargo install mdbook --locked`)
book:
    mdbook build
