//! Which files of a repository a model needs.

use std::collections::BTreeSet;

use super::source::{is_gguf, is_safe_name};
use super::{HubError, RemoteFile};

pub(super) const CONFIG: &str = "config.json";
pub(super) const ADAPTER: &str = "adapter_config.json";
pub(super) const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// Small files beside the weights, wanted where they exist. The weights come last, so that a snapshot that
/// has them is whole.
const SIDE_FILES: [&str; 8] = [
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tts.json",
    INDEX,
];

/// What to fetch first, whatever the weights are.
pub(super) fn side_files(files: &[RemoteFile]) -> Vec<RemoteFile> {
    let listed = |name: &&str| files.iter().find(|file| file.name == **name).cloned();
    SIDE_FILES.iter().filter_map(listed).collect()
}

/// Names of the weight files in the root of a folder without an index.
pub(super) fn weights_without_index(names: &[String]) -> Vec<String> {
    if names.iter().any(|name| name == SINGLE) {
        return vec![SINGLE.to_owned()];
    }
    let weights = |name: &&String| {
        name.ends_with(".safetensors") && !name.contains('/') && !name.starts_with("adapter_")
    };
    names.iter().filter(weights).cloned().collect()
}

/// Names of the shards that an index lists, each once.
pub(super) fn shards(index: &str, repo: &str) -> Result<Vec<String>, HubError> {
    let index: serde_json::Value = serde_json::from_str(index).unwrap_or_default();
    let map = index.get("weight_map").and_then(serde_json::Value::as_object);
    let names = map
        .into_iter()
        .flat_map(|map| map.values())
        .filter_map(|name| name.as_str());
    let names: BTreeSet<&str> = names.collect();
    if let Some(name) = names.iter().find(|name| !is_safe_name(name)) {
        return Err(HubError::UnsafeName {
            repo: repo.to_owned(),
            name: (*name).to_owned(),
        });
    }
    if names.is_empty() {
        return Err(HubError::MissingShard {
            repo: repo.to_owned(),
            shard: "every shard".to_owned(),
        });
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// The GGUF file that is meant: by its whole name, by its last part, by a piece of it such as `Q8_0`, or the
/// only one.
pub(super) fn gguf(names: &[String], wanted: Option<&str>, repo: &str) -> Result<String, HubError> {
    let all: Vec<&String> = names.iter().filter(|name| is_gguf(name)).collect();
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let fitting: Vec<&String> = match wanted {
        None => all.clone(),
        Some(wanted) => match all.iter().find(|name| name.as_str() == wanted) {
            Some(exact) => vec![exact],
            None => {
                let wanted = wanted.to_ascii_lowercase();
                let equal: Vec<&String> = all.iter().copied().filter(|name| last(name) == wanted).collect();
                match equal.is_empty() && !is_gguf(&wanted) {
                    true => all
                        .iter()
                        .copied()
                        .filter(|name| last(name).contains(&wanted))
                        .collect(),
                    false => equal,
                }
            }
        },
    };
    let list = |names: &[&String]| {
        let shown: Vec<&str> = names.iter().take(20).map(|name| name.as_str()).collect();
        if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(", ")
        }
    };
    match (fitting.as_slice(), wanted) {
        ([one], _) if is_split(one) => Err(HubError::SplitGguf {
            repo: repo.to_owned(),
            file: (*one).clone(),
        }),
        ([one], _) => Ok((*one).clone()),
        ([first, ..], _) if fitting.iter().all(|name| is_split(name)) => Err(HubError::SplitGguf {
            repo: repo.to_owned(),
            file: (*first).clone(),
        }),
        ([_, ..], _) => Err(HubError::SeveralGguf {
            repo: repo.to_owned(),
            files: list(&fitting),
        }),
        ([], None) => Err(HubError::NoWeights {
            repo: repo.to_owned(),
        }),
        ([], Some(wanted)) => Err(HubError::NoSuchGguf {
            repo: repo.to_owned(),
            wanted: wanted.to_owned(),
            files: list(&all),
        }),
    }
}

/// Whether a file is one part of several, as `name-00001-of-00003.gguf`.
fn is_split(name: &str) -> bool {
    let stem = name
        .len()
        .checked_sub(".gguf".len())
        .and_then(|end| name.get(..end))
        .unwrap_or(name);
    let mut parts = stem.rsplit('-');
    let number = |text: Option<&str>| {
        text.is_some_and(|text| text.len() == 5 && text.chars().all(|c| c.is_ascii_digit()))
    };
    number(parts.next()) && parts.next() == Some("of") && number(parts.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gguf_file_is_chosen_by_name_or_piece() {
        let names: Vec<String> = [
            "README.md",
            "a-Q4_K_M.gguf",
            "a-Q8_0.gguf",
            "old/a-Q8_0.gguf",
            "big-00001-of-00002.gguf",
            "big-00002-of-00002.gguf",
        ]
        .map(str::to_owned)
        .to_vec();
        let choose = |wanted| gguf(&names, wanted, "o/n");
        assert_eq!(choose(Some("a-Q8_0.gguf")).unwrap(), "a-Q8_0.gguf");
        assert_eq!(choose(Some("old/a-Q8_0.gguf")).unwrap(), "old/a-Q8_0.gguf");
        assert_eq!(choose(Some("q4_k_m")).unwrap(), "a-Q4_K_M.gguf");
        assert!(matches!(choose(Some("q8_0")), Err(HubError::SeveralGguf { .. })));
        assert!(matches!(
            choose(Some("Q8_0.gguf")),
            Err(HubError::NoSuchGguf { .. })
        ));
        assert!(matches!(choose(Some("big")), Err(HubError::SplitGguf { .. })));
        assert!(matches!(choose(None), Err(HubError::SeveralGguf { .. })));
        assert!(matches!(
            gguf(&names[..1], None, "o/n"),
            Err(HubError::NoWeights { .. })
        ));
        assert_eq!(gguf(&names[1..2], None, "o/n").unwrap(), "a-Q4_K_M.gguf");
    }

    #[test]
    fn shards_come_once_and_stay_in_the_folder() {
        let index =
            r#"{"weight_map": {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}}"#;
        assert_eq!(
            shards(index, "o/n").unwrap(),
            ["m-1.safetensors", "m-2.safetensors"]
        );
        let evil = r#"{"weight_map": {"a": "../../x"}}"#;
        assert!(matches!(shards(evil, "o/n"), Err(HubError::UnsafeName { .. })));
        assert!(matches!(shards("{", "o/n"), Err(HubError::MissingShard { .. })));
    }
}
