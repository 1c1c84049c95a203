//! A Hugging Face folder: config.json and safetensors, one file or shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Bytes, Checkpoint, Entry, inventory, mxfp4, safetensors};
use crate::arch::{self, Architecture, Tensors};
use crate::error::{ModelError, is_name, shown};
use crate::files;
use crate::json::{Fields, OnceEach};
use crate::spec::Role;

const INDEX: &str = "model.safetensors.index.json";

/// The longest JSON file that is read; the index of the largest models has under one MiB.
const MOST_TEXT: u64 = 64 << 20;

/// The text of a JSON file, what it is and its size checked first.
pub(crate) fn read_text(path: &Path) -> Result<String, ModelError> {
    let bytes = files::read_regular(path, MOST_TEXT).map_err(|e| ModelError::io(path, e))?;
    if safetensors::is_lfs_pointer(&bytes) {
        return Err(ModelError::malformed(path, "JSON", safetensors::LFS));
    }
    String::from_utf8(bytes).map_err(|_| ModelError::malformed(path, "JSON", "it is not UTF-8 text"))
}

/// What a file is that should be a GGUF file and is not.
pub(super) fn not_a_gguf(path: &Path, bytes: &[u8]) -> ModelError {
    if safetensors::is_lfs_pointer(bytes) {
        return ModelError::malformed(path, "model", safetensors::LFS);
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let reason = match extension {
        "safetensors" => "give the folder that it lies in, with its config.json",
        "bin" | "pt" | "pth" => "PyTorch files must be converted to safetensors first; then give the folder",
        "gguf" if bytes.is_empty() => "the file is empty: download it again",
        "gguf" => "it does not begin with the letters GGUF: download it again",
        _ => "give a model folder (config.json and *.safetensors) or a .gguf file",
    };
    ModelError::NotAModel {
        path: path.to_path_buf(),
        reason: reason.to_owned(),
    }
}

pub(super) fn open(folder: &Path) -> Result<Checkpoint, ModelError> {
    let names = file_names(folder)?;
    let config_file = folder.join("config.json");
    let weights = names.contains(INDEX) || names.iter().any(|n| is_weights(n));
    if !names.contains("config.json") || !weights {
        return Err(no_model(folder, &names));
    }
    if names.contains("adapter_config.json") {
        let reason = "it holds a model and a LoRA adapter (adapter_config.json): merge the adapter into the \
                      model, or \
                      remove it";
        return Err(ModelError::NotAModel {
            path: folder.to_path_buf(),
            reason: reason.to_owned(),
        });
    }
    let json = Fields::parse(&read_text(&config_file)?, &config_file)?;
    let family = arch::of_config(&json, &config_file)?;
    let (files, index) = weight_files(folder, &names)?;
    let mut sources = Vec::with_capacity(files.len());
    for file in &files {
        sources.push(Arc::new(Bytes::map(file)?));
    }
    let origin = if let [only] = files.as_slice() {
        only.clone()
    } else {
        folder.to_path_buf()
    };
    assemble((family, &json), files, origin, sources, index.as_ref())
}

pub(super) fn from_bytes(config_json: &str, weights: &'static [u8]) -> Result<Checkpoint, ModelError> {
    let file = Path::new("the bundled config.json");
    let json = Fields::parse(config_json, file)?;
    let family = arch::of_config(&json, file)?;
    let origin = PathBuf::from("the bundled weights");
    assemble(
        (family, &json),
        Vec::new(),
        origin,
        vec![Arc::new(Bytes::Static(weights))],
        None,
    )
}

/// The index: its path, and which file each tensor is in.
struct Index {
    path: PathBuf,
    map: BTreeMap<String, String>,
}

fn assemble(
    (family, json): (&'static Architecture, &Fields<'_>),
    files: Vec<PathBuf>,
    origin: PathBuf,
    sources: Vec<Arc<Bytes>>,
    index: Option<&Index>,
) -> Result<Checkpoint, ModelError> {
    let is_ours = |name: &str| {
        let canonical = family.canonical(name);
        canonical.is_some_and(|name| inventory::is_model_tensor(family, &name))
    };
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut halves: BTreeMap<String, Entry> = BTreeMap::new();
    let mut foreign = Vec::new();
    let mut converted = None;
    for (at, source) in sources.iter().enumerate() {
        let path = files.get(at).unwrap_or(&origin);
        let shard = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let header = safetensors::header(path, source, at, is_ours)?;
        if header.format.as_deref() == Some("mlx") {
            converted = Some(path);
        }
        let skipped = header.skipped.into_iter();
        foreign.extend(skipped.filter(|name| !inventory::is_known(family, name)));
        let whole = header.entries.into_iter().map(|entry| (false, entry));
        let half = header.halves.into_iter().map(|entry| (true, entry));
        for (half, (name, entry)) in whole.chain(half) {
            // With an index, its word counts: a tensor that it places elsewhere, or does not know, is a
            // leftover.
            if index.is_some_and(|i| i.map.get(&name).is_none_or(|s| s != shard)) {
                continue;
            }
            let Some(name) = family.canonical(&name).map(std::borrow::Cow::into_owned) else {
                foreign.push(name);
                continue;
            };
            if !inventory::is_known(family, &name) {
                foreign.push(name.clone());
            }
            let place = if half { &mut halves } else { &mut entries };
            if place.insert(name.clone(), entry).is_some() {
                return Err(ModelError::tensor(
                    path,
                    name,
                    "is also in another shard: remove what does not belong here",
                ));
            }
        }
    }
    let missing = index.and_then(|index| {
        let there = |name: &str| {
            family
                .canonical(name)
                .is_some_and(|name| entries.contains_key(&*name) || halves.contains_key(&*name))
        };
        let absent = |name: &str| is_ours(name) && !there(name);
        let (name, shard) = index.map.iter().find(|(name, _)| absent(name))?;
        let problem = format!("should be in {shard} but is not there: download that shard again");
        Some(ModelError::tensor(&index.path, name, problem))
    });
    if let Some(missing) = missing {
        return Err(missing);
    }
    let path = |file: usize| files.get(file).unwrap_or(&origin).as_path();
    mxfp4::join(halves, &mut entries, path)?;
    let spec = (family.from_config)(json, &Tensors(&entries))?;
    if let Some(path) = converted
        && spec
            .tensors()
            .iter()
            .any(|tensor| tensor.role == Role::Convolution)
    {
        return Err(ModelError::NotAModel {
            path: path.clone(),
            reason: inventory::MLX.to_owned(),
        });
    }
    let mut notes = notes(json, &Tensors(&entries))?;
    if !foreign.is_empty() {
        notes.push(left_out(&foreign, family));
    }
    let mut checkpoint = Checkpoint {
        notes,
        spec,
        family,
        files,
        origin,
        sources,
        entries,
        gguf: None,
    };
    checkpoint.check()?;
    Ok(checkpoint)
}

/// What of the configuration another reader might take otherwise.
fn notes(json: &Fields<'_>, tensors: &Tensors<'_>) -> Result<Vec<String>, ModelError> {
    let mut notes = Vec::new();
    let file = json.file().display();
    if json.flag("tie_word_embeddings")?.is_none() && !tensors.has("lm_head.weight") {
        notes.push(format!(
            "{file} does not say tie_word_embeddings and there is no lm_head.weight: the embedding serves as \
             output matrix"
        ));
    }
    let plain = json.number("rope_theta")?;
    for key in ["rope_parameters", "rope_scaling"] {
        let inner = json
            .object(key)?
            .map_or(Ok(None), |rope| rope.number("rope_theta"))?;
        if let (Some(inner), Some(plain)) = (inner, plain)
            && inner != plain
        {
            notes.push(format!(
                "{file} says rope_theta {plain} and {key}.rope_theta {inner}: the latter counts, as in \
                 transformers"
            ));
        }
    }
    Ok(notes)
}

/// Says which tensors are no part of the model.
fn left_out(names: &[String], family: &Architecture) -> String {
    const SHOWN: usize = 5;
    let list = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "its files hold tensors that are no part of a {} model, which are left out: {list}{more}",
        family.title
    )
}

fn file_names(folder: &Path) -> Result<BTreeSet<String>, ModelError> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(|e| ModelError::io(folder, e))? {
        let entry = entry.map_err(|e| ModelError::io(folder, e))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Whether a file name is that of model weights.
fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.starts_with("adapter_")
}

/// Why a folder without config.json or without safetensors is not a model, and what to do about it.
fn no_model(folder: &Path, names: &BTreeSet<String>) -> ModelError {
    let path = folder.to_path_buf();
    let with = |suffix: &str| names.iter().find(|n| n.ends_with(suffix)).cloned();
    let safetensors = names.iter().any(|n| is_weights(n));
    if names.contains("adapter_config.json") && !safetensors {
        let base = read_text(&folder.join("adapter_config.json"))
            .ok()
            .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
            .and_then(|v| v.get("base_model_name_or_path")?.as_str().map(str::to_owned))
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "(base_model_name_or_path of its adapter_config.json)".to_owned());
        return ModelError::Adapter { path, base };
    }
    if safetensors {
        let reason = "it has weights but no config.json: copy the model's config.json into it".to_owned();
        return ModelError::NotAModel { path, reason };
    }
    let pickle = names
        .iter()
        .find(|n| n.starts_with("pytorch_model") && n.ends_with(".bin"))
        .cloned();
    if let Some(example) = pickle
        .or_else(|| with(".bin"))
        .or_else(|| with(".pth"))
        .or_else(|| with(".pt"))
    {
        return ModelError::PickleOnly { path, example };
    }
    let reason = match with(".gguf") {
        Some(file) => format!(
            "it has no safetensors; to open its GGUF file, give {}",
            folder.join(file).display()
        ),
        None if names.contains("config.json") => "it has a config.json but no *.safetensors file".to_owned(),
        None => "it has neither a config.json nor *.safetensors files".to_owned(),
    };
    ModelError::NotAModel { path, reason }
}

/// The files with the weights, sorted, and the index if there is one.
fn weight_files(
    folder: &Path,
    names: &BTreeSet<String>,
) -> Result<(Vec<PathBuf>, Option<Index>), ModelError> {
    if names.contains("model.safetensors") {
        return Ok((vec![folder.join("model.safetensors")], None));
    }
    if names.contains(INDEX) {
        let path = folder.join(INDEX);
        let map = read_index(&path)?;
        let shards: BTreeSet<&String> = map.values().collect();
        for shard in &shards {
            if !names.contains(*shard) {
                return Err(ModelError::MissingShard {
                    index: path,
                    shard: (*shard).clone(),
                });
            }
        }
        let files = shards.into_iter().map(|s| folder.join(s)).collect();
        return Ok((files, Some(Index { path, map })));
    }
    let shards: Vec<&String> = names.iter().filter(|n| is_weights(n)).collect();
    // "model-00001-of-00002.safetensors": the name says how many there are.
    let numbered = shards.iter().find_map(|n| {
        let (stem, total) = n.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
        let (prefix, _) = stem.rsplit_once('-')?;
        Some((prefix.to_owned(), total.to_owned(), total.parse::<usize>().ok()?))
    });
    if let Some((prefix, digits, total)) = numbered {
        for number in 1..=total.min(100_000) {
            let shard = format!(
                "{prefix}-{number:0width$}-of-{digits}.safetensors",
                width = digits.len()
            );
            if !names.contains(&shard) {
                let reason = format!("the shard {shard} is missing: download it again");
                return Err(ModelError::NotAModel {
                    path: folder.to_path_buf(),
                    reason,
                });
            }
        }
    }
    Ok((shards.into_iter().map(|s| folder.join(s)).collect(), None))
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = read_text(path)?;
    let malformed = |e: serde_json::Error| ModelError::malformed(path, "safetensors index", e.to_string());
    let index: Index = serde_json::from_str(&text).map_err(malformed)?;
    let names: OnceEach = serde_json::from_str(&text).map_err(malformed)?;
    if let Some(twice) = names.twice {
        return Err(ModelError::field(path, twice, "stands twice in one object"));
    }
    if index.weight_map.is_empty() {
        return Err(ModelError::field(path, "weight_map", "is empty"));
    }
    // A shard is a file of this folder, never a path out of it.
    if let Some(bad) = index
        .weight_map
        .values()
        .find(|s| !is_name(s) || s.contains(['/', '\\']) || !s.ends_with(".safetensors"))
    {
        return Err(ModelError::field(
            path,
            "weight_map",
            format!("names {}, which is no safetensors file name", shown(bad)),
        ));
    }
    Ok(index.weight_map)
}
