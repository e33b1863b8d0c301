//! A small house that keeps every rule, with the shapes that a rule could mistake for a violation.

use crate::tidy::house::Files;

/// Its files: `=== path`, then the text up to the next.
const CLEAN: &str = r##"
=== ARCHITECTURE.md
# The house

| floor | crate | one line | may import |
|---|---|---|---|
| 1 | `wire` | words | – |
| 1 | `kernels` | arithmetic | – |
| 4 | `node` | the agent | wire |
| 4 | `hub` | the control plane | wire |
| 5 | `selvedge` | the binary | node, `hub` wire |

`crates/wire/src/world.rs` is the door, each `lib.rs` a map, `crates/*/src/` sources; run `cargo test a.rs`.

## Unsafe

Only here:

- `kernels/src/arch*`: loads and stores

## More

- `lib.rs`
=== docs/adding-a-source.md
Write `crates/node/src/source/<name>.rs`.

```
not `crates/here.rs`
```
=== Cargo.toml
[workspace.dependencies]
wire = { path = "crates/wire" }
node = { path = "crates/node" }
hub = { path = "crates/hub" }
axum = { version = "0.8", features = [
    "json",
] } # HTTP
getrandom = "0.4" # the system's entropy
serde = "1"       # every encoding
web = { package = "hyper", version = "1" } # goes by another name
=== crates/wire/Cargo.toml
[package]
name = "wire"

[lints]
workspace = true

[dependencies]
getrandom.workspace = true
serde.workspace = true
=== crates/wire/src/lib.rs
//! The words.

pub mod id;
pub mod number;
pub mod world;

/// The version.
pub const PROTOCOL: u32 = 1;
=== crates/wire/src/id.rs
//! A module named like a crate, values named like libraries, a macro that lives at the root.

use crate::world::{Clock, Simulated};

#[macro_export]
macro_rules! id {
    () => {
        $crate::number::ONE
    };
}

mod hub {
    pub(super) const NAME: u8 = 1;
}

/// Not [`crate::Nothing`].
#[serde(with = "crate::number")]
pub fn age(world: &Simulated, node: u8) -> u64 {
    let rand = node + hub::NAME;
    node.rand(rand.node());
    world.now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROTOCOL;

    #[test]
    fn waits() {
        std::thread::sleep(PROTOCOL);
    }
}
=== crates/wire/src/number.rs
//! Numbers. `id` uses them; their tests look back at it, which is no loop.

pub const ONE: u8 = 1;

#[cfg(test)]
mod tests {
    use crate::id;
}
=== crates/wire/src/world.rs
//! A parent that defines what its children implement, and passes them on.

mod simulated;
mod system;

pub use simulated::Simulated;
pub use system::System;

pub trait Clock {
    fn now(&self) -> u64;
}
=== crates/wire/src/world/simulated.rs
//! Played: uses its parent, which does not use it.

use super::Clock;

pub struct Simulated;

impl Clock for Simulated {
    fn now(&self) -> u64 {
        0
    }
}
=== crates/wire/src/world/system.rs
//! Real.

use std::time::Instant;

use super::Clock;

pub struct System;

impl Clock for System {
    fn now(&self) -> u64 {
        getrandom::fill(&mut []);
        Instant::now()
    }
}
=== crates/kernels/Cargo.toml
[package]
name = "kernels"

[lints]
workspace = true
=== crates/kernels/src/lib.rs
//! Arithmetic.

mod arch;

const ONE: u8 = crate::one!();
=== crates/kernels/src/arch.rs
//! Loads.

mod avx2;

/// Reads.
///
/// # Safety
/// `p` is valid.
#[inline]
pub unsafe fn load(p: *const u8) -> u8 {
    // SAFETY: the caller says so.
    unsafe { *p }
}

#[macro_export]
macro_rules! one {
    () => {
        1
    };
}
=== crates/kernels/src/arch/avx2/mod.rs
//! Wide loads.

macro_rules! load {
    ($p:expr) => {
        // SAFETY: aligned above.
        unsafe { *$p }
    };
}
=== crates/node/Cargo.toml
[package]
name = "node"

[lints]
workspace = true

[dependencies]
axum.workspace = true
wire = { workspace = true }

[target.'cfg(unix)'.dependencies]
serde = { workspace = true }
=== crates/node/src/lib.rs
//! The agent.

pub mod api;
pub mod source;
=== crates/node/src/api.rs
//! The door.

use axum::Router;

use crate::source::pump::run;

pub fn signal(router: Router) {
    let hub = run;
    hub(router)
}
=== crates/node/src/source.rs
//! Readings.

pub mod pump;

#[cfg(test)]
mod tests {
    use crate::api::signal;

    fn hub() -> axum::Router {
        signal()
    }
}
=== crates/node/src/source/pump.rs
//! A pump.

use wire::world::{self, Clock};

pub fn run(clock: &dyn Clock) {
    let source = world::System;
    source.start(clock)
}
=== crates/node/tests/flow.rs
#!/usr/bin/env run
//! Real processes take real time.

#[path = "flow/hub.rs"]
mod hub;

use std::time::Instant;

fn flow() {
    let begun = Instant::now();
    std::thread::sleep(hub::port(begun));
}
=== crates/node/tests/flow/hub.rs
//! A hub that is played.

pub fn port() -> u16 {
    0
}
=== crates/node/benches/speed.rs
//! Measures.

fn main() {
    std::time::SystemTime::now();
}
=== crates/hub/Cargo.toml
lints.workspace = true

[package]
name = "hub"
=== crates/hub/src/lib.rs
//! The control plane.
=== crates/selvedge/Cargo.toml
[package]
name = "selvedge"

[lints]
workspace = true

[dependencies]
node.workspace = true

[dev-dependencies]
axum.workspace = true
kernels.workspace = true
=== crates/selvedge/src/main.rs
//! The binary.

fn main() {
    node::api::signal();
}
=== crates/selvedge/tests/flows.rs
//! The whole house.

use kernels::load;
"##;

/// Its files by path; each text ends its last line.
pub fn files() -> Files {
    let files = CLEAN.trim_end().split("\n=== ").skip(1);
    let files = files.map(|file| file.split_once('\n').expect("a path ends its line"));
    files.map(|(path, text)| (path.to_owned(), format!("{text}\n"))).collect()
}
