//! What is seen of a download.

use crate::hub::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::printer::Printer;

/// A watcher for the hub: a bar on a terminal, else a line a file.
pub(crate) fn watcher(printer: &Printer) -> impl FnMut(Progress<'_>) {
    let mut bar: Option<ProgressBar> = None;
    move |progress| match progress {
        Progress::Listing { repo } => printer.note(&format!("looking up {repo}")),
        Progress::Waiting { file } => {
            printer.note(&format!("another process is fetching {file}; waiting for it"))
        }
        Progress::Started { file, done, total } => {
            if printer.shows_progress() {
                let new = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
                let style = ProgressStyle::with_template(
                    "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                );
                new.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                new.set_message(file.to_owned());
                new.set_position(done);
                new.reset_eta();
                bar = Some(new);
            } else {
                printer.note(&format!("fetching {file}"));
            }
        }
        Progress::Bytes { done, .. } => {
            if let Some(bar) = &bar {
                bar.set_position(done);
            }
        }
        Progress::Retrying {
            file,
            attempt,
            reason,
        } => printer.note(&format!("{file}: {reason}; trying again ({attempt})")),
        Progress::Verifying { file } => {
            if let Some(bar) = &bar {
                bar.set_message(format!("checking {file}"));
            }
        }
        Progress::Finished { .. } => {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        }
    }
}
