# The recipes are their plain cargo lines; `./check` is the one that must pass.

# Form, lints, tests, docs, licences: what CI runs.
check:
    ./check

# The kernels' tests as an ARM processor would run them; wants qemu-user, gcc-aarch64-linux-gnu and the Rust target.
arm:
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max" \
    cargo test -p kernels --target aarch64-unknown-linux-gnu

# A hub, a node and a simulated pump station on this machine.
up *args:
    cargo run --release -- up {{args}}

# The figures of the README.
bench:
    cargo bench -p signal
    cargo bench -p node
