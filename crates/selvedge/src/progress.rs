//! Long work as a bar on stderr. Off a terminal there is none, and nothing of it in a log.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a bar that waits is drawn.
const TICK: Duration = Duration::from_millis(120);

/// Bytes on their way, with rate and time left; `None`: nobody knows how many.
pub(crate) fn bytes(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => {
            "{msg} [{bar:28}] {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}  {decimal_bytes_per_sec}, {eta} left"
        }
        None => "{spinner} {msg}  {decimal_bytes}  {decimal_bytes_per_sec}",
    };
    bar(total, template)
}

/// Bytes that come from elsewhere: the message says rate and time left, since part of them may have been here.
pub(crate) fn download(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{prefix} [{bar:28}] {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}  {msg}",
        None => "{spinner} {prefix}  {decimal_bytes}  {msg}",
    };
    bar(total, template)
}

/// Steps of one kind of work; the message can say more.
pub(crate) fn steps(total: u64) -> ProgressBar {
    bar(Some(total), "{prefix} [{bar:28}] {percent:>3} %  {eta} left  {msg}")
}

/// Work of unknown length.
pub(crate) fn waiting(message: impl Into<String>) -> ProgressBar {
    let bar = bar(None, "{spinner} {msg}").with_message(message.into());
    bar.enable_steady_tick(TICK);
    bar
}

fn bar(total: Option<u64>, template: &str) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let style = ProgressStyle::with_template(template).expect("a template of ours, a test draws it");
    bar.set_style(style.progress_chars("█▌ "));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_templates_can_be_read() {
        bytes(Some(1)).finish_and_clear();
        bytes(None).finish_and_clear();
        download(Some(1)).finish_and_clear();
        download(None).finish_and_clear();
        steps(1).finish_and_clear();
        waiting("x").finish_and_clear();
    }
}
