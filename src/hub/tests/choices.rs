//! Which files of a repository are taken.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use tempfile::TempDir;

use super::stand_in::*;
use crate::hub::{self, *};

#[test]
fn shards_are_fetched_as_the_index_says() {
    let mut files = BTreeMap::clone(&model_files());
    let weights = files.remove("model.safetensors").unwrap();
    let (first, second) = weights.split_at(900_000);
    files.insert("model-00001-of-00002.safetensors".into(), first.to_vec());
    files.insert("model-00002-of-00002.safetensors".into(), second.to_vec());
    files.insert("other.safetensors".into(), vec![1]);
    let map = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    files.insert("model.safetensors.index.json".into(), map.into());
    let (files, cache) = (Arc::new(files), TempDir::new().unwrap());
    let (hub, _storage) = stand_in(&files);
    let mut options = options(&hub, &cache);
    let folder = resolve(&model(), &options, &mut quiet()).unwrap();
    assert_eq!(
        fs::read(folder.join("model-00002-of-00002.safetensors")).unwrap(),
        second
    );
    assert!(!folder.join("other.safetensors").exists());
    options.offline = true;
    assert!(resolve(&model(), &options, &mut quiet()).is_ok());
    fs::remove_file(folder.join("model-00001-of-00002.safetensors")).unwrap();
    assert!(sentence(&model(), &options).contains("missing: model-00001-of-00002.safetensors"));
    let mut lacking = BTreeMap::clone(&files);
    lacking.remove("model-00001-of-00002.safetensors");
    let (hub, _storage) = stand_in(&Arc::new(lacking));
    let cache = TempDir::new().unwrap();
    let mut other = options.clone();
    (other.cache, other.endpoint, other.offline) = (cache.path().into(), hub.address.clone(), false);
    assert!(sentence(&model(), &other).contains("lacks model-00001-of-00002.safetensors"));
}

#[test]
fn a_gguf_file_comes_with_the_small_files_beside_it() {
    let mut files = BTreeMap::clone(&model_files());
    let weights = files.remove("model.safetensors").unwrap();
    files.insert("m-Q8_0.gguf".into(), weights.clone());
    files.insert("m-Q4_0.gguf".into(), weights[..1000].to_vec());
    let (files, cache) = (Arc::new(files), TempDir::new().unwrap());
    let (hub, storage) = stand_in(&files);
    let mut options = options(&hub, &cache);
    let text = sentence(&model(), &options);
    assert!(
        text.contains("m-Q4_0.gguf, m-Q8_0.gguf") && text.contains("org/name:FILE"),
        "{text}"
    );
    for name in ["org/name:m-Q8_0.gguf", "org/name:q8_0"] {
        let path = resolve(&ModelSource::parse(name).unwrap(), &options, &mut quiet()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), weights);
        assert!(path.with_file_name("config.json").is_file());
    }
    assert_eq!(storage.requests().len(), 1);
    let text = sentence(&ModelSource::parse("org/name:Q6_K").unwrap(), &options);
    assert!(
        text.contains("\"Q6_K\"") && text.contains("m-Q4_0.gguf"),
        "{text}"
    );
    options.offline = true;
    assert!(
        resolve(
            &ModelSource::parse("org/name:m-Q8_0.gguf").unwrap(),
            &options,
            &mut quiet()
        )
        .is_ok()
    );
    assert!(sentence(&ModelSource::parse("org/name:m-Q4_0.gguf").unwrap(), &options).contains("m-Q4_0.gguf"));
}

#[test]
fn an_adapter_names_the_model_it_belongs_to() {
    let config = r#"{"base_model_name_or_path": "org/base"}"#;
    let files = BTreeMap::from([
        ("adapter_config.json".to_owned(), config.into()),
        ("adapter_model.safetensors".to_owned(), vec![0; 10]),
    ]);
    let (hub, storage) = stand_in(&Arc::new(files));
    let cache = TempDir::new().unwrap();
    let text = sentence(&model(), &options(&hub, &cache));
    assert!(text.contains("merge it into org/base"), "{text}");
    assert!(storage.requests().is_empty());
}

#[test]
fn data_sets_live_beside_models() {
    let files = BTreeMap::from([("data/test 1.jsonl".to_owned(), b"{}\n".to_vec())]);
    let files = Arc::new(files);
    let cache = TempDir::new().unwrap();
    let listed = Arc::clone(&files);
    let hub = Server::new(move |seen| {
        let path = seen.path.replace("%20", " ");
        hub_answer(&Seen { path, ..seen.clone() }, &listed, None)
    });
    let mut options = options(&hub, &cache);
    let repo = Repo::new(RepoKind::Dataset, "org/set", "refs/pr/1").unwrap();
    let listed = Session::open(&repo, &options, &mut quiet()).unwrap().listed;
    assert_eq!(listed[0].name, "data/test 1.jsonl");
    let path = hub::files(&repo, &["data/test 1.jsonl"], &options, &mut quiet())
        .unwrap()
        .remove(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
    assert!(
        path.starts_with(
            cache
                .path()
                .join("datasets--org--set/snapshots")
                .join(COMMIT)
                .join("data")
        )
    );
    assert_eq!(
        fs::read_to_string(cache.path().join("datasets--org--set/refs/refs/pr/1")).unwrap(),
        COMMIT
    );
    assert_eq!(
        hub.count("GET", "/api/datasets/org/set/revision/refs%2Fpr%2F1"),
        2
    );
    assert_eq!(
        hub.count(
            "GET",
            &format!("/datasets/org/set/resolve/{COMMIT}/data/test%201.jsonl")
        ),
        1
    );
    options.offline = true;
    assert_eq!(
        hub::files(&repo, &["data/test 1.jsonl"], &options, &mut quiet()).unwrap(),
        [path]
    );
    let error = hub::files(&repo, &["no.jsonl"], &options, &mut quiet()).unwrap_err();
    assert!(matches!(error, HubError::NotCached { .. }), "{error}");
    options.offline = false;
    let error = hub::files(&repo, &["no.jsonl"], &options, &mut quiet()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("data set org/set@refs/pr/1 has no file"),
        "{error}"
    );
    let error = hub::files(&repo, &["../no"], &options, &mut quiet()).unwrap_err();
    assert!(matches!(error, HubError::BadName { .. }), "{error}");
}
