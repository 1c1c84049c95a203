//! `tts replay --samples`: results in the shape of lm-evaluation-harness's logged samples, one JSON line a
//! problem.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::Solved;
use crate::evals::data::Problem;
use anyhow::anyhow;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A file of samples that is being written.
pub(super) struct Samples {
    file: BufWriter<File>,
    path: PathBuf,
    written: usize,
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

impl Samples {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file =
            File::create(path).map_err(|e| anyhow!("--samples {} cannot be written: {e}", path.display()))?;
        Ok(Self {
            file: BufWriter::new(file),
            path: path.to_owned(),
            written: 0,
        })
    }

    /// Appends a problem: `doc` (the problem as the set has it), `target`, `arguments`, `resps` (the texts of
    /// all its traces, null where a text was not recorded), `filtered_resps` (the answer decided on) by the
    /// `filter` of the strategy's name, and `exact_match`, null without a right answer.
    pub(super) fn write(
        &mut self,
        solved: &Solved,
        asked: Option<&Problem>,
        texts: &[Option<String>],
    ) -> anyhow::Result<()> {
        let doc = match asked {
            Some(problem) => serde_json::to_value(problem)?,
            None => json!({ "id": solved.problem_id }),
        };
        let prompt = asked.map_or("", |p| p.problem.as_str());
        let target = solved.gold.as_deref();
        let number = |right: bool| if right { 1.0 } else { 0.0 };
        let sample = json!({
            "doc_id": self.written,
            "doc": doc,
            "target": target,
            "arguments": [[prompt, solved.sampling]],
            "resps": [texts],
            "filtered_resps": [solved.answer],
            "filter": solved.strategy,
            "metrics": ["exact_match"],
            "exact_match": solved.correct.map_or(Value::Null, |right| json!(number(right))),
            "doc_hash": sha256(&serde_json::to_string_pretty(&doc)?),
            "prompt_hash": sha256(prompt),
            "target_hash": sha256(target.unwrap_or_default()),
        });
        self.written += 1;
        let failed = |e: std::io::Error| anyhow!("--samples {} cannot be written: {e}", self.path.display());
        serde_json::to_writer(&mut self.file, &sample).map_err(|e| failed(e.into()))?;
        self.file.write_all(b"\n").map_err(failed)
    }

    /// Makes sure that everything arrived.
    pub(super) fn close(mut self) -> anyhow::Result<()> {
        self.file
            .flush()
            .map_err(|e| anyhow!("--samples {} cannot be written: {e}", self.path.display()))
    }
}
