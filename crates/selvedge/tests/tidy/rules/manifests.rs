//! Each dependency is declared once, in the workspace, with the reason it is in the house; each crate has the
//! workspace's lints and is called like its folder.

use crate::tidy::house::House;
use crate::tidy::violation::Violation;

/// The workspace's Cargo.toml, then each crate's.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    let shared = &house.workspace;
    for dependency in shared.dependencies.iter().filter(|dependency| !dependency.ours && !dependency.reason) {
        let wrong = format!("`{}` has no reason", dependency.key);
        let mend = "end its line with `# why it is in the house`";
        found.push(Violation::at(&shared.path, dependency.line, wrong, mend));
    }
    for part in &house.crates {
        let manifest = &part.manifest;
        let mut say = |line: usize, wrong: String, mend: &str| {
            found.push(Violation::at(&manifest.path, line, wrong, mend));
        };
        if manifest.name != part.name {
            let wrong = format!("package `{}` in the folder `crates/{}`", manifest.name, part.name);
            say(1, wrong, "give both one name");
        }
        if !manifest.inherits_lints {
            let wrong = format!("`{}` does not have the workspace's lints", part.name);
            say(1, wrong, "write `workspace = true` under `[lints]`");
        }
        for dependency in manifest.dependencies.iter().filter(|dependency| !dependency.inherits) {
            let wrong = format!("`{}` is declared outside the workspace", dependency.key);
            let mend =
                "declare it in the root's `[workspace.dependencies]` and write `workspace = true` here";
            say(dependency.line, wrong, mend);
        }
    }
    found
}
