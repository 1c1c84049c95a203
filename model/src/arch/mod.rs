//! The families of models that can be run: each is one file that turns a configuration into a [`ModelSpec`],
//! and one row here.

mod common;
mod dense;
mod falcon_h1;
mod gpt_oss;
mod granitehybrid;
mod lfm2;
mod llama;
mod nemotron_h;
mod phi3;
mod published;
mod qwen2;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod smollm3;
mod source;

use std::borrow::Cow;
use std::path::Path;

use crate::error::{ModelError, shown};
use crate::json::Fields;
use crate::spec::ModelSpec;
pub(crate) use source::{FURTHER, GgufNames, GgufSource, Tensors};

/// Every family that can be run.
static REGISTER: &[Architecture] = &[
    falcon_h1::ARCHITECTURE,
    qwen2::ARCHITECTURE,
    qwen3::ARCHITECTURE,
    nemotron_h::ARCHITECTURE,
    granitehybrid::ARCHITECTURE,
    llama::ARCHITECTURE,
    smollm3::ARCHITECTURE,
    phi3::ARCHITECTURE,
    qwen3_moe::ARCHITECTURE,
    lfm2::ARCHITECTURE,
    lfm2::MOE,
    qwen3_5::ARCHITECTURE,
    qwen3_5::MOE,
    qwen3_5::NEXT,
    gpt_oss::ARCHITECTURE,
];

/// A family of models: what its files call it, and how they become a [`ModelSpec`].
pub struct Architecture {
    /// Its name: transformers' `model_type`.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Published models of it.
    pub models: &'static str,
    /// What it was compared with, and with which weights.
    pub checked: &'static str,
    /// The paper or report that describes it.
    pub paper: &'static str,
    /// Other spellings of `model_type`.
    pub(crate) aliases: &'static [&'static str],
    /// Entries of config.json's `architectures` that it covers.
    pub(crate) classes: &'static [&'static str],
    /// Its names in GGUF files, the usual one first: `general.architecture`.
    pub gguf: &'static [&'static str],
    /// Reads a config.json; what it leaves open is settled by the tensors that are there.
    pub(crate) from_config: fn(&Fields<'_>, &Tensors<'_>) -> Result<ModelSpec, ModelError>,
    /// Reads the metadata of a GGUF file.
    pub(crate) from_gguf: fn(&GgufSource<'_>) -> Result<ModelSpec, ModelError>,
    /// GGUF's tensor names and the canonical ones, which are those of the Hugging Face folder.
    pub(crate) gguf_names: GgufNames,
    /// How names in a folder begin where the model is a part of a larger one, and what stands for that in canonical
    /// names; nothing where the tensor is another part's.
    pub(crate) prefixes: &'static [(&'static str, Option<&'static str>)],
    /// The flag of config.json that says whether a bias of this canonical name is there.
    pub(crate) bias_flag: fn(&str) -> Option<&'static str>,
    /// Whether its GGUF files fold multipliers into weights, so that a shared embedding has lost the scale of
    /// the logits.
    pub(crate) folds_multipliers: bool,
    /// The shapes of published models with the names of each, the usual one first, for measurements on random
    /// weights.
    pub(crate) shapes: fn() -> Vec<Shape>,
}

impl Architecture {
    /// The canonical name of a tensor of a folder; `None` where it is another part's of a larger model.
    pub(crate) fn canonical<'a>(&self, stored: &'a str) -> Option<Cow<'a, str>> {
        for (prefix, own) in self.prefixes {
            if let Some(rest) = stored.strip_prefix(prefix) {
                return own.map(|own| Cow::Owned(format!("{own}{rest}")));
            }
        }
        Some(Cow::Borrowed(stored))
    }
}

/// A published shape: its names, the usual one first, and the model.
pub(crate) type Shape = (&'static [&'static str], ModelSpec);

impl std::fmt::Debug for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every family that can be run, in the order of the register.
pub fn register() -> &'static [Architecture] {
    REGISTER
}

/// The family of this name.
pub(crate) fn named(name: &str) -> Option<&'static Architecture> {
    REGISTER.iter().find(|a| a.name == name)
}

/// The shape of a published model by its name, as `falcon-h1r-7b` or `Qwen/Qwen3-8B`; the owner is passed over.
pub fn shape(name: &str) -> Option<ModelSpec> {
    let name = name.to_ascii_lowercase();
    let own = name.rsplit('/').next().unwrap_or_default();
    let own = own.strip_suffix("-instruct").unwrap_or(own);
    let mut shapes = REGISTER.iter().flat_map(|a| (a.shapes)());
    shapes
        .find(|(names, _)| names.contains(&own))
        .map(|(_, spec)| spec)
        .or_else(|| published::named(&name))
}

/// The names that [`shape`] knows.
pub fn shape_names() -> Vec<&'static str> {
    let shapes = REGISTER.iter().flat_map(|a| (a.shapes)());
    shapes
        .map(|(names, _)| names[0])
        .chain(published::names())
        .collect()
}

/// The names of all families, for a sentence.
pub(crate) fn known() -> String {
    let name = |a: &Architecture| match a.gguf {
        [gguf] if *gguf == a.name => a.name.to_owned(),
        names => format!("{} (GGUF: {})", a.name, names.join(", ")),
    };
    REGISTER.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The family that a config.json names.
pub(crate) fn of_config(json: &Fields<'_>, file: &Path) -> Result<&'static Architecture, ModelError> {
    let classes: Vec<&str> = json
        .get("architectures")
        .and_then(|v| v.as_array())
        .map(|names| names.iter().filter_map(|n| n.as_str()).collect())
        .unwrap_or_default();
    let covers = |a: &&Architecture| a.classes.iter().any(|class| classes.contains(class));
    let found = match (json.text("model_type")?, classes.first()) {
        (Some(kind), first) => {
            let of_kind = |a: &&Architecture| a.name == kind || a.aliases.contains(&kind);
            match (REGISTER.iter().find(of_kind), first) {
                (Some(family), None) => return Ok(family),
                (Some(family), Some(_)) if covers(&family) => return Ok(family),
                (Some(family), Some(class)) => {
                    let expected = family.classes.join(" or ");
                    let problem = format!(
                        "names {}, but a {kind} model that can be run is a {expected}",
                        shown(class)
                    );
                    return Err(json.error("architectures", problem));
                }
                (None, Some(class)) => format!("{} ({})", shown(kind), shown(class)),
                (None, None) => shown(kind),
            }
        }
        (None, Some(class)) => match REGISTER.iter().find(covers) {
            Some(family) => return Ok(family),
            None => shown(class),
        },
        (None, None) => {
            return Err(json.error(
                "model_type",
                format!("is missing: it names the family of a model, one of {}", known()),
            ));
        }
    };
    Err(ModelError::Architecture {
        file: file.to_path_buf(),
        found,
        known: known(),
    })
}

/// The family that a GGUF file names.
pub(crate) fn of_gguf(name: Option<&str>, file: &Path) -> Result<&'static Architecture, ModelError> {
    let Some(name) = name else {
        let all: Vec<&str> = REGISTER.iter().flat_map(|a| a.gguf).copied().collect();
        let problem = format!(
            "is missing: it names the family of a model, one of {}",
            all.join(", ")
        );
        return Err(ModelError::field(file, "general.architecture", problem));
    };
    REGISTER
        .iter()
        .find(|a| a.gguf.contains(&name))
        .ok_or_else(|| ModelError::Architecture {
            file: file.to_path_buf(),
            found: shown(name),
            known: known(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stands_for_two_families() {
        let mut names: Vec<&str> = Vec::new();
        for family in register() {
            let kinds = std::iter::once(&family.name).chain(family.aliases);
            names.extend(kinds.chain(family.classes).copied());
            assert!(family.paper.len() > 5 && known().contains(family.name));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let mut files: Vec<&str> = register()
            .iter()
            .flat_map(|family| family.gguf)
            .copied()
            .collect();
        let count = files.len();
        files.sort_unstable();
        files.dedup();
        assert_eq!(files.len(), count);
    }
}
