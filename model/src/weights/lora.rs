//! LoRA adapters (arXiv 2106.09685) as peft writes them, merged into the matrices of a model when it is opened.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{Bytes, Checkpoint, Dtype, Entry, RawTensor, all_finite, folder, safetensors};
use crate::error::{ModelError, shown};
use crate::json::Fields;

/// What peft's names begin with.
const PREFIX: &str = "base_model.model.";
/// The adapter's files.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// How factors may begin so that the base keeps its weights, as `init_lora_weights` calls it.
const KEPT_BASE: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// How the update of a matrix is scaled, from a configuration.
struct Scaling {
    alpha: f32,
    /// the rank of matrices that have none of their own; nothing where a pattern says which those are
    rank: Option<usize>,
    /// ends of names of modules with a rank of their own
    ranks: Vec<(String, usize)>,
    /// by the root of the rank instead of the rank (arXiv 2312.03732)
    root: bool,
}

impl Scaling {
    /// The rank that the configuration gives a matrix.
    fn rank_of(&self, stored: &str) -> Option<usize> {
        let module = stored.strip_suffix(".weight").unwrap_or(stored);
        let own = self.ranks.iter().find(|(name, _)| is_end_of(name, module));
        own.map(|(_, rank)| *rank).or(self.rank)
    }

    fn of(&self, rank: usize) -> f32 {
        self.alpha
            / if self.root {
                (rank as f32).sqrt()
            } else {
                rank as f32
            }
    }
}

/// Which modules an adapter is for, as its configuration says.
struct Targets {
    /// ends of their names; `None` where a pattern or nothing names them
    modules: Option<Vec<String>>,
    /// ends of names of those that are left out
    excluded: Vec<String>,
    /// layers, where not all
    layers: Option<Vec<u32>>,
}

impl Targets {
    fn of(json: &Fields<'_>) -> Result<Self, ModelError> {
        let names = |key: &str| match json.get(key) {
            Some(Value::Array(list)) => {
                let names: Option<Vec<String>> = list.iter().map(|v| v.as_str().map(str::to_owned)).collect();
                let names = names.ok_or_else(|| json.error(key, "is no list of names"))?;
                if names.is_empty() && key == "target_modules" {
                    return Err(json.error(key, "is empty: the adapter is for nothing"));
                }
                Ok(Some(names))
            }
            None | Some(Value::String(_)) => Ok(None),
            Some(_) => Err(json.error(key, "is neither a list of names nor a pattern")),
        };
        let modules = names("target_modules")?;
        let excluded = names("exclude_modules")?;
        let by_pattern = json.get("exclude_modules").is_some_and(Value::is_string);
        let key = "layers_to_transform";
        let layers = json
            .ids(key)
            .map_err(|_| json.error(key, "is neither a layer nor a list of layers"))?;
        Ok(Self {
            modules: modules.filter(|_| !by_pattern),
            excluded: excluded.unwrap_or_default(),
            layers: json.get(key).map(|_| layers),
        })
    }

    fn name(&self, modules: &[String], module: &str) -> bool {
        let ends_in = |names: &[String]| names.iter().any(|name| is_end_of(name, module));
        let layer = module.split('.').find_map(|part| part.parse::<u32>().ok());
        let of_layer = self
            .layers
            .as_ref()
            .is_none_or(|layers| layer.is_some_and(|layer| layers.contains(&layer)));
        ends_in(modules) && !ends_in(&self.excluded) && of_layer
    }
}

/// Whether a module is of this name, or a module within others is.
fn is_end_of(name: &str, module: &str) -> bool {
    let before = module.strip_suffix(name);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The two factors of a matrix's update.
#[derive(Default)]
struct Factors {
    /// `[rank, columns]`
    a: Option<Entry>,
    /// `[rows, rank]`
    b: Option<Entry>,
}

impl Checkpoint {
    /// Adds the adapter in this folder to the matrices that it is for: `W + factor * s * B A`, reckoned in f32 and
    /// held as the matrix was, where `s` is `lora_alpha / r`, or `lora_alpha / sqrt(r)` with `use_rslora`. Several
    /// adapters are added one after the other.
    ///
    /// # Errors
    /// An adapter of another kind or for another model, and what of it cannot be merged, by name.
    pub fn merge_lora(&mut self, adapter: &Path, factor: f32) -> Result<(), ModelError> {
        if self.gguf.is_some() {
            let reason = "adapters are merged into the folder that a model was published in, and this model was \
                          opened from a GGUF file: give --model that folder";
            return Err(ModelError::NotAModel {
                path: adapter.to_path_buf(),
                reason: reason.to_owned(),
            });
        }
        let config = adapter.join(CONFIG);
        let settings = Fields::parse(&folder::read_text(&config)?, &config)?;
        let (scaling, targets) = (scaling(&settings)?, Targets::of(&settings)?);
        let path = adapter.join(WEIGHTS);
        let bytes = Bytes::map(&path)?;
        let updates = self.updates(&path, &bytes)?;
        self.check_targets(&targets, &updates, &path)?;
        let mut rank = 0;
        for (name, (a, b)) in &updates {
            let read = |entry: &Entry| read(&path, &bytes, entry);
            rank = rank.max(a.shape[0]);
            let said = scaling.rank_of(&self.entries[name].stored_name);
            if let Some(said) = said.filter(|said| *said != a.shape[0]) {
                let problem = format!("has rank {}, but {CONFIG} says r {said}", a.shape[0]);
                return Err(ModelError::tensor(&path, &a.stored_name, problem));
            }
            let scale = factor * scaling.of(a.shape[0]);
            self.add(name, &read(a)?, &read(b)?, scale);
        }
        self.notes.push(format!(
            "{} matrices have the adapter {} merged into them (rank {rank}{})",
            updates.len(),
            adapter.display(),
            if factor == 1.0 {
                String::new()
            } else {
                format!(", times {factor}")
            }
        ));
        Ok(())
    }

    /// The factors of an adapter's file by the canonical name of their matrix, their shapes checked.
    fn updates(&self, path: &Path, bytes: &Bytes) -> Result<BTreeMap<String, (Entry, Entry)>, ModelError> {
        let header = safetensors::header(path, bytes, 0, |_| true)?;
        if let Some((name, _)) = header.halves.first() {
            let problem = "has elements of type U8: only F32, F16 and BF16 are supported";
            return Err(ModelError::tensor(path, name, problem));
        }
        let mut found: BTreeMap<String, Factors> = BTreeMap::new();
        for (stored, entry) in header.entries {
            let other = |problem: &str| ModelError::tensor(path, stored.clone(), problem);
            let module = stored.strip_prefix(PREFIX).unwrap_or(&stored);
            let (module, part) = [".lora_A", ".lora_B"]
                .iter()
                .enumerate()
                .find_map(|(i, part)| {
                    let (module, rest) = module.split_once(part)?;
                    // an adapter may have a name
                    (rest.starts_with('.') && rest.ends_with(".weight")).then_some((module, i))
                })
                .ok_or_else(|| other("cannot be merged: only lora_A and lora_B of linear layers can"))?;
            let name = self
                .family
                .canonical(&format!("{module}.weight"))
                .map(std::borrow::Cow::into_owned);
            let name = name.filter(|name| self.entries.contains_key(name));
            let name = name.ok_or_else(|| {
                other("is for a matrix that this model does not have: the adapter is for another model")
            })?;
            let factors = found.entry(name).or_default();
            let place = if part == 0 { &mut factors.a } else { &mut factors.b };
            if place.replace(entry).is_some() {
                return Err(other("stands twice, under two names of an adapter"));
            }
        }
        if found.is_empty() {
            return Err(ModelError::malformed(path, "adapter", "it holds no tensors"));
        }
        let mut updates = BTreeMap::new();
        for (name, factors) in found {
            let (Some(a), Some(b)) = (factors.a, factors.b) else {
                let problem = "has one of lora_A and lora_B, and not the other";
                return Err(ModelError::tensor(path, name, problem));
            };
            let [rows, columns] = self.entries[&name].shape[..] else {
                return Err(ModelError::tensor(
                    path,
                    a.stored_name,
                    "is for a tensor that is no matrix",
                ));
            };
            let rank = a.shape.first().copied().unwrap_or(0);
            for (entry, expected) in [(&a, [rank, columns]), (&b, [rows, rank])] {
                if entry.shape != expected || rank == 0 {
                    return Err(ModelError::Shape {
                        file: path.to_path_buf(),
                        tensor: entry.stored_name.clone(),
                        found: entry.shape.clone(),
                        expected: expected.to_vec(),
                    });
                }
            }
            updates.insert(name, (a, b));
        }
        Ok(updates)
    }

    /// Whether the adapter has factors for all the matrices that its configuration names, and for no others, which
    /// peft would not use.
    fn check_targets(
        &self,
        targets: &Targets,
        updates: &BTreeMap<String, (Entry, Entry)>,
        path: &Path,
    ) -> Result<(), ModelError> {
        let Some(modules) = &targets.modules else {
            return Ok(());
        };
        for (name, entry) in &self.entries {
            let Some(module) = entry.stored_name.strip_suffix(".weight") else {
                continue;
            };
            let wanted = targets.name(modules, module) && entry.shape.len() == 2;
            match updates.get(name) {
                None if wanted => {
                    let problem =
                        format!("has no lora_A and lora_B, though {CONFIG} names it in target_modules");
                    return Err(ModelError::tensor(path, &entry.stored_name, problem));
                }
                Some((a, _)) if !wanted => {
                    let problem = format!("is for a module that target_modules in {CONFIG} does not name");
                    return Err(ModelError::tensor(path, &a.stored_name, problem));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `W += scale * B A` of the matrix of this name.
    fn add(&mut self, name: &str, a: &[f32], b: &[f32], scale: f32) {
        let entry = &self.entries[name];
        let (dtype, columns) = (entry.dtype, entry.shape[1]);
        let rank = a.len() / columns;
        let mut matrix = self.raw(name, entry).to_f32();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = b.len().div_ceil(rank).div_ceil(threads);
        std::thread::scope(|scope| {
            for (rows, b) in matrix.chunks_mut(share * columns).zip(b.chunks(share * rank)) {
                scope.spawn(move || {
                    for (row, b) in rows.chunks_exact_mut(columns).zip(b.chunks_exact(rank)) {
                        for (b, a) in b.iter().zip(a.chunks_exact(columns)) {
                            let factor = scale * b;
                            row.iter_mut().zip(a).for_each(|(w, a)| *w += factor * a);
                        }
                    }
                });
            }
        });
        let bytes: Vec<u8> = match dtype {
            Dtype::BF16 => matrix
                .iter()
                .flat_map(|w| half::bf16::from_f32(*w).to_le_bytes())
                .collect(),
            Dtype::F16 => matrix
                .iter()
                .flat_map(|w| half::f16::from_f32(*w).to_le_bytes())
                .collect(),
            _ => matrix.iter().flat_map(|w| w.to_le_bytes()).collect(),
        };
        let file = self.sources.len();
        let range = 0..bytes.len();
        self.sources.push(Arc::new(Bytes::Owned(bytes)));
        if let Some(entry) = self.entries.get_mut(name) {
            (entry.file, entry.range, entry.exponents) = (file, range, None);
            entry.dtype = match dtype {
                Dtype::BF16 | Dtype::F16 => dtype,
                _ => Dtype::F32,
            };
        }
    }
}

/// The values of a factor, which must be numbers.
fn read(path: &Path, bytes: &Bytes, entry: &Entry) -> Result<Vec<f32>, ModelError> {
    let raw = RawTensor {
        name: entry.stored_name.clone(),
        dtype: entry.dtype,
        shape: entry.shape.clone(),
        bytes: (&bytes[entry.range.clone()]).into(),
    };
    all_finite(raw.to_f32(), path, &entry.stored_name)
}

/// Reads an adapter_config.json; what would change the arithmetic and is not carried out is refused.
fn scaling(json: &Fields<'_>) -> Result<Scaling, ModelError> {
    match json.text("peft_type")? {
        Some("LORA") => {}
        Some(other) => {
            let problem = format!("is {}: only LORA adapters can be merged", shown(other));
            return Err(json.error("peft_type", problem));
        }
        None => return Err(json.error("peft_type", "is missing: this is no adapter of peft")),
    }
    for key in [
        "use_dora",
        "fan_in_fan_out",
        "lora_bias",
        "use_qalora",
        "use_bdlora",
    ] {
        if json.flag(key)? == Some(true) {
            return Err(json.error(key, "is true: such an adapter cannot be merged here"));
        }
    }
    let filled = |key: &str| {
        json.get(key).is_some_and(|value| match value {
            Value::Object(map) => !map.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        })
    };
    for key in [
        "modules_to_save",
        "alpha_pattern",
        "layer_replication",
        "target_parameters",
        "trainable_token_indices",
        "alora_invocation_tokens",
    ] {
        if filled(key) {
            return Err(json.error(key, "is set: such an adapter cannot be merged here"));
        }
    }
    if let Some(bias) = json.text("bias")?.filter(|bias| *bias != "none") {
        return Err(json.error("bias", format!("is {}: only \"none\" can be merged", shown(bias))));
    }
    // these take a part of the base's weights into the factors, and leave another base
    let begins = json.get("init_lora_weights");
    let begins = begins.filter(|v| !v.is_boolean() && !KEPT_BASE.iter().any(|kept| *v == kept));
    if let Some(other) = begins {
        let other = shown(other.as_str().unwrap_or("no text"));
        let problem = format!("is {other}: such an adapter may be for other weights than the base's own");
        return Err(json.error("init_lora_weights", problem));
    }
    if let Some(task) = json.text("task_type")?.filter(|task| *task != "CAUSAL_LM") {
        let problem = format!("is {}: only adapters of CAUSAL_LM are merged", shown(task));
        return Err(json.error("task_type", problem));
    }
    let alpha = json.factor("lora_alpha")?;
    let mut ranks = Vec::new();
    if let Some(pattern) = json.object("rank_pattern")? {
        for name in pattern.keys() {
            ranks.push((name.to_owned(), pattern.required_size(name)?));
        }
    }
    // names may be patterns, which are not followed
    let by_name = !ranks
        .iter()
        .any(|(name, _)| name.contains(['*', '^', '$', '(', '[', '\\', '|', '+', '?']));
    let alpha = alpha.ok_or_else(|| json.error("lora_alpha", "is missing: it scales the adapter"))?;
    Ok(Scaling {
        alpha: alpha as f32,
        rank: Some(json.required_size("r")?).filter(|_| by_name),
        ranks: ranks.into_iter().filter(|_| by_name).collect(),
        root: json.flag("use_rslora")?.unwrap_or(false),
    })
}
