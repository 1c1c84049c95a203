//! Models that Ollama keeps on this disk: a manifest for each name, which says which blob holds the weights.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::HubError;
use super::source::is_safe_name;

/// What a manifest calls the layer that holds the weights.
const WEIGHTS: &str = "application/vnd.ollama.image.model";
/// The names of the registry that is meant when none is named, the newer first.
const REGISTRIES: [&str; 2] = ["ollama.com", "registry.ollama.ai"];

/// The GGUF file of a model: `name`, `name:tag`, `user/name:tag` or `host/user/name:tag`.
///
/// # Errors
/// [`HubError::BadName`], and [`HubError::NoOllamaModel`] where Ollama has no such model, or not in one GGUF
/// file.
pub(super) fn find(name: &str, stores: &[PathBuf]) -> Result<PathBuf, HubError> {
    if !is_safe_name(&name.replace(':', "/")) {
        return Err(HubError::BadName {
            text: name.to_owned(),
            what: "Ollama model",
        });
    }
    let missing = |reason: String| HubError::NoOllamaModel {
        name: name.to_owned(),
        reason,
    };
    // a port in the host's name is no tag
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name, "latest"),
    };
    let parts: Vec<_> = path.split('/').collect();
    let (host, rest) = match parts[..] {
        [model] => (REGISTRIES[1], format!("library/{model}")),
        [user, model] => (REGISTRIES[1], format!("{user}/{model}")),
        [host, ref rest @ ..] => (host, rest.join("/")),
        [] => unreachable!("a split gives at least one part"),
    };
    let manifests = stores
        .iter()
        .flat_map(|store| candidates(host, &rest, tag).map(move |m| (store, store.join(m))));
    let Some((store, place)) = manifests.into_iter().find(|(_, place)| place.is_file()) else {
        let places: Vec<_> = stores.iter().map(|s| s.display().to_string()).collect();
        return Err(missing(format!(
            "there is no manifest of {rest}:{tag} in {}; `ollama pull {name}` fetches it, and OLLAMA_MODELS \
             names another folder",
            places.join(" or ")
        )));
    };
    let mut manifest = read(&place).map_err(missing)?;
    // the same model for several programs: the file as it was pulled comes first
    if let Some(children) = manifest["manifests"].as_array() {
        let digest = ["ggml", "llamacpp"]
            .iter()
            .find_map(|runner| children.iter().find(|c| c["runner"] == *runner)?["digest"].as_str());
        let digest = digest.ok_or_else(|| missing(format!("{} names no GGUF file", place.display())))?;
        manifest = read(&blob(store, digest).map_err(missing)?).map_err(missing)?;
    }
    let layers = manifest["layers"]
        .as_array()
        .ok_or_else(|| missing(format!("{} is no manifest", place.display())))?;
    let weights: Vec<_> = layers
        .iter()
        .filter(|l| l["mediaType"] == WEIGHTS)
        .filter_map(|l| l["digest"].as_str())
        .collect();
    let [digest] = weights[..] else {
        return Err(missing(format!(
            "{} names {} layers of weights, not one",
            place.display(),
            weights.len()
        )));
    };
    blob(store, digest).map_err(missing)
}

/// Where a manifest may be, in the order in which Ollama looks: its newer layout has the registry's newer
/// name.
fn candidates(host: &str, rest: &str, tag: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let own = [host];
    let hosts: &[&str] = if REGISTRIES.contains(&host) {
        &REGISTRIES
    } else {
        &own
    };
    let below = |layout: &str, host: &str| Path::new(layout).join(host).join(rest).join(tag);
    let newer = below("manifests-v2", &hosts[0].replace(':', "%3A"));
    let older: Vec<_> = hosts.iter().rev().map(|host| below("manifests", host)).collect();
    std::iter::once(newer).chain(older)
}

fn read(place: &Path) -> Result<Value, String> {
    let text = tts_model::files::read_regular(place, 1 << 20)
        .map_err(|e| format!("{} cannot be read: {e}", place.display()))?;
    serde_json::from_slice(&text).map_err(|_| format!("{} is no manifest", place.display()))
}

/// The file that a digest names.
fn blob(store: &Path, digest: &str) -> Result<PathBuf, String> {
    let hex = digest
        .strip_prefix("sha256:")
        .filter(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    let hex = hex.ok_or("its manifest names a file by what is no digest")?;
    let file = store.join("blobs").join(format!("sha256-{hex}"));
    match file.is_file() {
        true => Ok(file),
        false => Err(format!(
            "{} is not there, though its manifest is; `ollama pull` fetches it",
            file.display()
        )),
    }
}

/// Where Ollama keeps its models: the folder of OLLAMA_MODELS, else the user's and the service's.
pub(super) fn stores(variable: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let set = |name| variable(name).filter(|v| !v.is_empty());
    if let Some(folder) = set("OLLAMA_MODELS") {
        return vec![folder.into()];
    }
    let home = set("HOME")
        .or_else(|| set("USERPROFILE"))
        .map(|home| Path::new(&home).join(".ollama/models"));
    home.into_iter()
        .chain([PathBuf::from("/usr/share/ollama/.ollama/models")])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let stores = vec![folder.path().join("nothing"), folder.path().to_owned()];
        (folder, stores)
    }

    fn put(store: &Path, manifest: &str, text: &str) {
        let path = store.join("manifests").join(manifest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn layers(digest: &str) -> String {
        format!(
            r#"{{"schemaVersion": 2, "layers": [{{"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:00"}},
            {{"mediaType": "application/vnd.ollama.image.model", "digest": "{digest}", "size": 4}}]}}"#
        )
    }

    #[test]
    fn names_lead_to_the_blob_of_the_weights() {
        let (folder, stores) = tree();
        let digest = "ab".repeat(32);
        let blob = folder.path().join("blobs").join(format!("sha256-{digest}"));
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::write(&blob, "GGUF").unwrap();
        for (name, manifest) in [
            ("falcon", "registry.ollama.ai/library/falcon/latest"),
            ("falcon:1b-q8_0", "registry.ollama.ai/library/falcon/1b-q8_0"),
            ("me/falcon", "registry.ollama.ai/me/falcon/latest"),
            ("hf.co/me/falcon-GGUF:Q8_0", "hf.co/me/falcon-GGUF/Q8_0"),
            ("host:80/me/falcon", "host:80/me/falcon/latest"),
        ] {
            put(folder.path(), manifest, &layers(&format!("sha256:{digest}")));
            assert_eq!(find(name, &stores).unwrap(), blob, "{name}");
        }
        // the newer layout wins, and may name a manifest for each of several programs
        let other = folder
            .path()
            .join("blobs")
            .join(format!("sha256-{}", "ef".repeat(32)));
        std::fs::write(&other, layers(&format!("sha256:{digest}"))).unwrap();
        let list = format!(
            r#"{{"manifests": [{{"runner": "mlx", "digest": "sha256:00"}}, {{"runner": "ggml", "digest": "sha256:{}"}}]}}"#,
            "ef".repeat(32)
        );
        put(
            folder.path(),
            "../manifests-v2/ollama.com/library/falcon/latest",
            &list,
        );
        put(folder.path(), "registry.ollama.ai/library/falcon/latest", "{}");
        assert_eq!(find("falcon", &stores).unwrap(), blob);
    }

    #[test]
    fn what_is_not_there_gets_a_sentence() {
        let (folder, stores) = tree();
        let error = |name: &str| find(name, &stores).unwrap_err().to_string();
        assert!(
            error("falcon").contains("ollama pull falcon"),
            "{}",
            error("falcon")
        );
        for name in ["", "../x", "a/../b", "/etc/passwd", "a:../b"] {
            assert!(
                matches!(find(name, &stores), Err(HubError::BadName { .. })),
                "{name}"
            );
        }
        for (tag, text, part) in [
            ("damaged", "{".to_owned(), "is no manifest"),
            (
                "split",
                layers(&"ab".repeat(32)).replace("template", "model"),
                "2 layers",
            ),
            ("none", r#"{"layers": []}"#.to_owned(), "0 layers"),
            ("outside", layers("sha256:../../etc/passwd"), "no digest"),
            (
                "gone",
                layers(&format!("sha256:{}", "cd".repeat(32))),
                "is not there",
            ),
        ] {
            put(
                folder.path(),
                &format!("registry.ollama.ai/library/m/{tag}"),
                &text,
            );
            let error = error(&format!("m:{tag}"));
            assert!(error.contains(part), "{tag}: {error}");
        }
    }

    #[test]
    fn the_variable_names_the_only_store() {
        let of = |set: &'static [(&str, &str)]| {
            stores(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(
            of(&[("OLLAMA_MODELS", "/m"), ("HOME", "/h")]),
            [PathBuf::from("/m")]
        );
        assert_eq!(of(&[("HOME", "/h")])[0], PathBuf::from("/h/.ollama/models"));
        assert_eq!(of(&[]).len(), 1);
    }
}
