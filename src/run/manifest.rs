//! What a run folder was recorded with, and whether another run may go on with it.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::RunFolderError;
use super::machine::MachineInfo;
use super::settings::{DecisionSettings, StrategyRecord, TraceSettings};

/// The layout that this version writes.
pub const SCHEMA: u32 = 1;
/// The file's name in the folder.
pub const MANIFEST: &str = "manifest.json";
/// No manifest has so many bytes.
const MOST: u64 = 64 << 20;

/// How the run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A process writes the folder, or was killed while it did.
    #[default]
    Started,
    /// Everything that was asked for is decided.
    Finished,
    /// Ended before that; the same command goes on.
    Interrupted,
}

/// What a run folder was recorded with: `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Number of the layout.
    pub schema: u32,
    /// Version that wrote last.
    pub tool_version: String,
    /// What a trace is a function of; a run that differs in any of it is refused.
    pub traces: TraceSettings,
    /// What a decision over given traces is a function of; free to change. Which problems are solved does not
    /// belong here.
    pub decisions: DecisionSettings,
    /// Digest of the data set, if there is one.
    pub data: Option<String>,
    /// Ids of the problems, in the order in which they were asked for.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The machine, for the record.
    pub machine: MachineInfo,
    /// How the run stands.
    pub status: Status,
}

impl Manifest {
    /// A manifest of this version, status started.
    pub fn new(
        traces: TraceSettings,
        decisions: DecisionSettings,
        data: Option<String>,
        machine: MachineInfo,
    ) -> Self {
        Self {
            schema: SCHEMA,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            traces,
            decisions,
            data,
            problems: Vec::new(),
            machine,
            status: Status::Started,
        }
    }

    /// Reads `dir/manifest.json`; `None` where there is none.
    ///
    /// # Errors
    /// An unreadable file, a damaged one, one of a newer layout.
    pub fn read(dir: &Path) -> Result<Option<Self>, RunFolderError> {
        let path = dir.join(MANIFEST);
        let bytes = match tts_model::files::read_regular(&path, MOST) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(RunFolderError::io("read", &path)(e)),
        };
        let damaged = |reason: String| RunFolderError::Damaged {
            path: path.clone(),
            reason,
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| damaged(format!("not the manifest of a run ({e})")))?;
        let Some(found) = value.get("schema").and_then(Value::as_u64) else {
            return Err(damaged(
                "not the manifest of a run (it has no `schema` number)".to_owned(),
            ));
        };
        if found == 0 {
            return Err(damaged(
                "not the manifest of a run (its `schema` is 0, which no version wrote)".to_owned(),
            ));
        }
        if found > u64::from(SCHEMA) {
            return Err(RunFolderError::Newer {
                path,
                found,
                known: SCHEMA,
            });
        }
        serde_json::from_value(value)
            .map(Some)
            .map_err(|e| damaged(format!("not the manifest of a run ({e})")))
    }

    /// Writes `dir/manifest.json` so that a reader sees the old or the new one, never a part.
    pub(super) fn write(&self, dir: &Path) -> Result<(), RunFolderError> {
        let (path, tmp) = (dir.join(MANIFEST), dir.join("manifest.json.tmp"));
        let mut text = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        text.push(b'\n');
        replace(&path, &tmp, |file| file.write_all(&text))
    }

    /// Refuses a run whose traces would not be those of this folder.
    pub(super) fn admit(&self, now: &Self, dir: &Path) -> Result<(), RunFolderError> {
        let what = self.traces.differences(&now.traces);
        if let (Some(was), Some(strategy)) = (&self.decisions.strategy, &now.decisions.strategy)
            && (was.makes_traces() || strategy.makes_traces())
            && !was.rules_as(strategy)
        {
            let name = |s: &StrategyRecord| s.name.clone().unwrap_or_default();
            return Err(RunFolderError::Made {
                dir: dir.to_owned(),
                was: name(was),
                now: name(strategy),
            });
        }
        if what.is_empty() {
            Ok(())
        } else {
            Err(RunFolderError::Differs {
                dir: dir.to_owned(),
                what: what.join("; "),
            })
        }
    }
}

/// Writes `tmp`, makes it durable and puts it in the place of `path`.
pub(crate) fn replace(
    path: &Path,
    tmp: &Path,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), RunFolderError> {
    let io = RunFolderError::io("write", path);
    let attempt = || {
        let mut file = crate::own_files::create_new(tmp)?;
        write(&mut file)?;
        file.sync_all()?;
        std::fs::rename(tmp, path)?;
        // the folder's own entry; not every system lets a folder be synced
        if let Some(dir) = path.parent().and_then(|dir| File::open(dir).ok()) {
            let _ = dir.sync_all();
        }
        Ok(())
    };
    attempt().map_err(io)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn traces(settings: Value) -> TraceSettings {
        serde_json::from_value(settings).expect("settings")
    }

    #[test]
    fn a_difference_names_the_key_and_both_values() {
        let m = |settings| {
            Manifest::new(
                traces(settings),
                DecisionSettings::default(),
                None,
                MachineInfo::default(),
            )
        };
        let was = m(json!({"seed": 0, "sampling": {"temperature": 1, "top_k": 0}, "stop_ids": [1, 2]}));
        let dir = Path::new("runs/a");
        was.admit(
            &m(json!({
                "stop_ids": [1, 2], "sampling": {"top_k": 0, "temperature": 1.0}, "seed": 0, "new": null
            })),
            dir,
        )
        .expect("the same settings");
        let error = was
            .admit(
                &m(json!({"seed": 7, "sampling": {"temperature": 0.6, "top_k": 0}, "stop_ids": [1]})),
                dir,
            )
            .expect_err("three differences");
        let text = error.to_string();
        for part in [
            "runs/a",
            "`seed` was 0 and is now 7",
            "`sampling.temperature` was 1.0 and is now 0.6",
            "`stop_ids` was [1,2] and is now [1]",
            "name another folder",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let mut now = was.clone();
        now.traces.dtype = Some(vec!["f32".to_owned()]);
        let text = was.admit(&now, dir).expect_err("a new key").to_string();
        assert!(
            text.contains("`dtype` was not set and is now [\"f32\"]"),
            "{text}"
        );
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_strangers_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(Manifest::read(dir.path()).expect("none is fine"), None);
        let manifest = Manifest::new(
            traces(json!({"seed": u64::MAX, "t": 0.1})),
            serde_json::from_value(json!({"strategy": {"name": "majority"}})).expect("settings"),
            Some("abc".into()),
            serde_json::from_value(json!({"threads": 2})).expect("a machine"),
        );
        manifest.write(dir.path()).expect("written");
        assert_eq!(Manifest::read(dir.path()).expect("read"), Some(manifest));
        assert!(!dir.path().join("manifest.json.tmp").exists());
        let error = |text: &str| {
            std::fs::write(dir.path().join(MANIFEST), text).expect("written");
            Manifest::read(dir.path()).expect_err("refused").to_string()
        };
        assert!(error("{\"schema\": 2, \"whatever\": 1}").contains("schema 2"));
        assert!(error("{\"schema\": 0}").contains("no version"));
        assert!(error("{\"schema\": 1").contains("restore the file"));
        assert!(error("{\"name\": 1}").contains("no `schema` number"));
        assert!(error("{\"schema\": 1, \"stranger\": 1}").contains("stranger"));
        let mistyped = error(
            "{\"schema\": 1, \"tool_version\": \"\", \"traces\": {\"seed\": \"x\"}, \"decisions\": {}, \
             \"machine\": {}}",
        );
        assert!(
            mistyped.contains("invalid type: string \"x\"") && mistyped.contains("restore the file"),
            "{mistyped}"
        );
        assert!(error("\u{0}\u{0}").contains("manifest.json"));
    }
}
