//! `unsafe` stands only in the rooms that ARCHITECTURE.md lists under `## Unsafe`, and there each use has its reason right
//! above it: `// SAFETY:` over a block, an `impl` or an attribute; that or a `# Safety` section over a declaration.

use proc_macro2::{TokenStream, TokenTree};

use crate::tidy::house::House;
use crate::tidy::page::matches;
use crate::tidy::violation::Violation;

/// Each `unsafe`, also inside macros and tests, without a room or without a reason; each room without a file.
pub fn check(house: &House) -> Vec<Violation> {
    let mut found = Vec::new();
    let rooms = house.page.unsafe_rooms();
    for source in house.crates.iter().flat_map(|part| &part.sources) {
        let allowed = rooms.iter().any(|room| matches(&room.text, &source.path));
        let lines: Vec<&str> = source.text.lines().collect();
        for (line, declares) in uses(source.tokens.clone()) {
            if !allowed {
                let wrong = "`unsafe` outside its rooms";
                let mend =
                    format!("write it without, or list the room under `## Unsafe` in {}", house.page.path);
                found.push(Violation::at(&source.path, line, wrong, mend));
            } else if !has_reason(&lines, line, declares) {
                let (wrong, mend) = if declares {
                    (
                        "`unsafe` without its conditions",
                        "say in a `# Safety` section what the caller must keep",
                    )
                } else {
                    ("`unsafe` without its reason", "say in a `// SAFETY:` comment right above why it holds")
                };
                found.push(Violation::at(&source.path, line, wrong, mend));
            }
        }
    }
    for room in rooms.iter().filter(|room| !house.files.iter().any(|path| matches(&room.text, path))) {
        let wrong = format!("no file is in the room for unsafe code `{}`", room.text);
        found.push(Violation::at(&house.page.path, room.line, wrong, "take the room off the list"));
    }
    found
}

/// The line of each `unsafe`, and whether it declares conditions (a function, a trait) rather than relying on them.
fn uses(tokens: TokenStream) -> Vec<(usize, bool)> {
    let mut found = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => found.extend(uses(group.stream())),
            TokenTree::Ident(word) if word == "unsafe" => {
                let next = tokens.peek().map(ToString::to_string).unwrap_or_default();
                found.push((word.span().start().line, ["fn", "trait", "extern"].contains(&next.as_str())));
            }
            _ => {}
        }
    }
    found
}

/// Whether the comments and attributes right above a line, or a comment on it, give the reason.
fn has_reason(lines: &[&str], line: usize, declares: bool) -> bool {
    let above = lines[..line - 1].iter().rev().map(|line| line.trim());
    let above = above.take_while(|line| line.starts_with("//") || line.starts_with("#["));
    above.chain([lines[line - 1]]).any(|line| {
        line.contains("// SAFETY: ") || (declares && line.starts_with("///") && line.contains("# Safety"))
    })
}
