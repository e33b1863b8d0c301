# The recipes are their plain cargo lines; `./check` is the one that must pass.

# Form, lints, tests, docs, licences: what CI runs.
check:
    ./check

# A hub, a node and a simulated pump station on this machine.
up *args:
    cargo run --release -- up {{args}}

# The figures of the README.
bench:
    cargo bench -p signal
    cargo bench -p node
