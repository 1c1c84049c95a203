//! The files of a report in the folder that it is about: made from the others there, and to be made again at
//! any time.

use std::path::Path;

use super::error::ReportError;
use super::{Report, Theme};

/// The report as one JSON object.
pub const RESULTS: &str = "results.json";
/// The folder of the plots.
pub const PLOTS: &str = "plots";

impl Report {
    /// Writes the report as one JSON object, that of `tts report --json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_results(&self, path: &Path) -> Result<(), ReportError> {
        let mut text = serde_json::to_vec(self).expect("a report is plain data");
        text.push(b'\n');
        write(path, &text)
    }

    /// Writes every plot as SVG (light and dark) and PNG (of one theme) into a folder, which is made where it
    /// is missing. Names the plots that are too large for PNG.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn write_plots(&self, dir: &Path, theme: Theme) -> Result<Vec<String>, ReportError> {
        std::fs::create_dir_all(dir).map_err(refused(dir))?;
        let mut too_large = Vec::new();
        for plot in self.plots() {
            write(&dir.join(format!("{}.svg", plot.name)), plot.svg().as_bytes())?;
            match plot.png(theme) {
                Some(png) => write(&dir.join(format!("{}.png", plot.name)), &png)?,
                None => too_large.push(plot.name),
            }
        }
        Ok(too_large)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    crate::own_files::replace(path, bytes).map_err(refused(path))
}

fn refused(path: &Path) -> impl FnOnce(std::io::Error) -> ReportError + use<> {
    let path = path.to_owned();
    move |source| ReportError::Write { path, source }
}
