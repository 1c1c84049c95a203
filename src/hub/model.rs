//! All files of a model, from the cache or the hub.

use std::path::PathBuf;

use super::cache::RepoCache;
use super::session::Session;
use super::{HubError, HubOptions, Progress, Repo, not_cached, select};

/// The folder or GGUF file of a model: from the cache if it is whole there, else from the hub.
pub(super) fn resolve(
    repo: &Repo,
    file: Option<&str>,
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, HubError> {
    let missing = match cached_model(repo, file, options) {
        Ok(path) => return Ok(path),
        Err(missing) => missing,
    };
    if options.offline {
        return Err(not_cached(repo, options, missing));
    }
    let session = Session::open(repo, options, progress)?;
    let names: Vec<String> = session.listed.iter().map(|file| file.name.clone()).collect();
    let has = |name: &str| names.iter().any(|listed| listed == name);
    if file.is_none() && !has(select::CONFIG) && has(select::ADAPTER) {
        return Err(adapter(&session, repo, progress));
    }
    let loose = select::weights_without_index(&names);
    if file.is_some() || !has(select::CONFIG) || (loose.is_empty() && !has(select::INDEX)) {
        let name = select::gguf(&names, file, &repo.to_string())?;
        let mut wanted = select::side_files(&session.listed);
        wanted.extend(session.listed.iter().find(|file| file.name == name).cloned());
        let paths = session.fetch_all(&wanted, progress)?;
        return paths.into_iter().next_back().ok_or(HubError::NoWeights {
            repo: repo.to_string(),
        });
    }
    session.fetch_all(&select::side_files(&session.listed), progress)?;
    let names = match session.cache.file(&session.commit, select::INDEX) {
        Some(path) => {
            let index = std::fs::read_to_string(&path);
            let index = index.map_err(|error| HubError::io(&path, "read", error))?;
            select::shards(&index, &repo.to_string())?
        }
        None => loose,
    };
    let shards = names.into_iter().map(|name| {
        let listed = session.listed.iter().find(|file| file.name == name).cloned();
        listed.ok_or(HubError::MissingShard {
            repo: repo.to_string(),
            shard: name,
        })
    });
    session.fetch_all(&shards.collect::<Result<Vec<_>, _>>()?, progress)?;
    Ok(session.cache.snapshot(&session.commit))
}

/// The model in the cache, or the names of what is missing there.
fn cached_model(repo: &Repo, file: Option<&str>, options: &HubOptions) -> Result<PathBuf, String> {
    let cache = RepoCache::new(&options.cache, repo);
    let commit = cache
        .commit(&repo.revision)
        .ok_or_else(|| "every file".to_owned())?;
    let names = cache.names(&commit);
    let has = |name: &str| names.iter().any(|cached| cached == name);
    // Which of a repository's GGUF files is meant can be known from what is cached only if it is named, or
    // nobody can be asked.
    if file.is_some() || (options.offline && !has(select::CONFIG)) {
        let name = select::gguf(&names, file, &repo.to_string());
        let name = name.map_err(|_| file.unwrap_or("the model").to_owned())?;
        return cache.file(&commit, &name).ok_or(name);
    }
    for name in [select::CONFIG, "tokenizer.json"] {
        if !has(name) {
            return Err(name.to_owned());
        }
    }
    let weights = match cache.file(&commit, select::INDEX) {
        Some(path) => {
            let index = std::fs::read_to_string(path).unwrap_or_default();
            select::shards(&index, &repo.to_string()).unwrap_or_default()
        }
        None => select::weights_without_index(&names),
    };
    match weights.iter().find(|name| !has(name)) {
        Some(missing) => Err(missing.clone()),
        None if weights.is_empty() => Err("model.safetensors".to_owned()),
        None => Ok(cache.snapshot(&commit)),
    }
}

/// The error for an adapter, with the name of the model that it belongs to.
fn adapter(session: &Session<'_>, repo: &Repo, progress: &mut dyn FnMut(Progress<'_>)) -> HubError {
    let file = session
        .listed
        .iter()
        .find(|file| file.name == select::ADAPTER)
        .cloned();
    let text = session
        .fetch_all(&Vec::from_iter(file), progress)
        .ok()
        .and_then(|paths| std::fs::read_to_string(paths.first()?).ok());
    let config: serde_json::Value = text
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let base = config
        .get("base_model_name_or_path")
        .and_then(serde_json::Value::as_str);
    let base = base.unwrap_or("its base model").to_owned();
    HubError::Adapter {
        repo: repo.to_string(),
        base,
    }
}
