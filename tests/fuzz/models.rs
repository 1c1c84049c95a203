//! Model folders and GGUF files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::runtime::Runtime;
use tts::strategies::Preset;
use tts::{LoadOptions, Loaded, Settings, Solver};

use super::Target;
use super::damage::{self, Rng};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// Files of a model's folder that are JSON.
const JSON: [&str; 4] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
];
const GGUF: [&str; 4] = [
    "gguf/q8_0.gguf",
    "gguf/q4_0.gguf",
    "gguf/mixed-k.gguf",
    "gguf/tied.gguf",
];
/// The names and shapes of a file's tensors stand in its first bytes, and its tokenizer.
const HEAD: usize = 16 << 10;

pub(super) struct Models {
    folder: PathBuf,
    file: PathBuf,
    runtime: Runtime,
    given: Vec<u8>,
}

impl Models {
    pub(super) fn new(folder: &Path) -> Self {
        let model = folder.join("model");
        fs::create_dir_all(&model).expect("a folder");
        for name in JSON.into_iter().chain(["model.safetensors"]) {
            fs::copy(format!("{FIXTURES}/golden/case-gqa/{name}"), model.join(name))
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        Self {
            folder: model,
            file: folder.join("model.gguf"),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            given: Vec::new(),
        }
    }

    /// Opens a model; one that opens runs.
    fn try_it(&self, path: &Path) -> Result<(), String> {
        let options = LoadOptions {
            model: Some(path.display().to_string()),
            ..LoadOptions::default()
        };
        let sentence = |error: tts::Error| match error.to_string() {
            said if said.is_empty() || said.len() > 4000 => {
                Err(format!("it is refused with {} bytes", said.len()))
            }
            _ => Ok(()),
        };
        let loaded = match Loaded::open(&options, &mut |_| ()) {
            Ok(loaded) => loaded,
            Err(error) => return sentence(error),
        };
        let settings = Settings {
            strategy: Preset::named("majority").expect("it is shipped"),
            traces: 2,
            threads: Some(1),
            max_tokens: Some(3),
            memory: Some(64 << 20),
            ..Settings::default()
        };
        let solved = Solver::local(loaded, settings)
            .and_then(|runner| self.runtime.block_on(runner.solve_text("1 + 1")));
        solved.map_or_else(sentence, |_| Ok(()))
    }

    /// Damages a file of the folder for a while.
    fn in_folder(&mut self, rng: &mut Rng, name: &str) -> Result<(), String> {
        let path = self.folder.join(name);
        let whole = fs::read(&path).map_err(|e| e.to_string())?;
        let mut bytes = whole.clone();
        if name == "model.safetensors" {
            let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
            let header = serde_json::from_slice::<Value>(&bytes[8..8 + length]);
            match header {
                Ok(mut header) if !rng.once_in(3) => {
                    damage::json(rng, &mut header);
                    let header = header.to_string().into_bytes();
                    bytes.splice(
                        ..8 + length,
                        [&(header.len() as u64).to_le_bytes()[..], &header].concat(),
                    );
                }
                _ => damage::bytes(rng, &mut bytes, 8 + length),
            }
            self.given = bytes[..bytes.len().min(8 + 2 * length)].to_vec();
        } else if let Ok(mut value) = serde_json::from_slice::<Value>(&bytes)
            && !rng.once_in(4)
        {
            damage::json(rng, &mut value);
            bytes = value.to_string().into_bytes();
            self.given = bytes.clone();
        } else {
            damage::bytes(rng, &mut bytes, usize::MAX);
            self.given = bytes.clone();
        }
        fs::write(&path, &bytes).map_err(|e| e.to_string())?;
        let outcome = self.try_it(&self.folder);
        fs::write(&path, &whole).map_err(|e| e.to_string())?;
        outcome.map_err(|what| format!("{name}: {what}"))
    }
}

impl Target for Models {
    fn name(&self) -> &'static str {
        "models"
    }

    fn given(&self) -> &[u8] {
        &self.given
    }

    fn case(&mut self, rng: &mut Rng) -> Result<(), String> {
        if rng.once_in(2) {
            let name = if rng.once_in(3) {
                "model.safetensors"
            } else {
                rng.pick(&JSON)
            };
            return self.in_folder(rng, name);
        }
        let name = rng.pick(&GGUF);
        let mut bytes = fs::read(format!("{FIXTURES}/{name}")).map_err(|e| e.to_string())?;
        damage::bytes(rng, &mut bytes, HEAD);
        fs::write(&self.file, &bytes).map_err(|e| e.to_string())?;
        self.given = bytes;
        self.try_it(&self.file).map_err(|what| format!("{name}: {what}"))
    }
}
