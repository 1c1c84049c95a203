//! What `--model` may say.

use std::fmt;
use std::path::{Path, PathBuf};

use super::HubError;

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelSource {
    /// The model inside this program, which has no files.
    Bundled,
    /// A folder with config.json and safetensors.
    Folder(PathBuf),
    /// A GGUF file on this disk.
    Gguf(PathBuf),
    /// A model that Ollama keeps on this disk, by its name there.
    Ollama(String),
    /// A repository on a Hugging Face hub.
    Hub {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// A GGUF file of it, or a part of that file's name such as `Q8_0`.
        file: Option<String>,
        /// A branch, tag or commit.
        revision: String,
    },
}

/// The revision of a repository that is meant when none is named.
pub(crate) const DEFAULT_REVISION: &str = "main";

impl ModelSource {
    /// Understands `./folder`, `file.gguf`, `org/name`, `org/name:file.gguf`, `org/name:Q8_0`,
    /// `org/name@revision`,
    /// `org/name@revision:file.gguf`, `ollama:name` and `bundled`. What exists on this disk wins.
    ///
    /// # Errors
    /// [`HubError::PathMissing`], [`HubError::NotGguf`], [`HubError::NotAModel`] and [`HubError::BadName`].
    pub(crate) fn parse(text: &str) -> Result<Self, HubError> {
        let path = Path::new(text);
        if !text.is_empty() && path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if !text.is_empty() && path.exists() {
            return match is_gguf(text) {
                true => Ok(Self::Gguf(path.to_owned())),
                false => Err(HubError::NotGguf {
                    path: path.to_owned(),
                }),
            };
        }
        if text == "bundled" {
            return Ok(Self::Bundled);
        }
        if let Some(name) = text.strip_prefix("ollama:") {
            return Ok(Self::Ollama(name.to_owned()));
        }
        let (repository, file) = match text.split_once(':') {
            Some((repository, file)) => (repository, Some(file)),
            None => (text, None),
        };
        let (repo, revision) = match repository.split_once('@') {
            Some((repo, revision)) => (repo, revision),
            None => (repository, DEFAULT_REVISION),
        };
        let looks_like_path = text.starts_with(['.', '/', '~', '\\'])
            || text.contains('\\')
            || text.ends_with('/')
            || (file.is_none() && (is_gguf(text) || repo.matches('/').count() > 1));
        if looks_like_path {
            return Err(HubError::PathMissing {
                path: path.to_owned(),
            });
        }
        if !is_repo_name(repo) {
            return Err(HubError::NotAModel {
                text: text.to_owned(),
            });
        }
        check_revision(revision)?;
        if let Some(file) = file.filter(|file| !is_safe_name(file)) {
            return Err(HubError::BadName {
                text: file.to_owned(),
                what: "file",
            });
        }
        let file = file.map(str::to_owned);
        Ok(Self::Hub {
            repo: repo.to_owned(),
            file,
            revision: revision.to_owned(),
        })
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundled => f.write_str("bundled"),
            Self::Ollama(name) => write!(f, "ollama:{name}"),
            Self::Folder(path) | Self::Gguf(path) => write!(f, "{}", path.display()),
            Self::Hub { repo, file, revision } => {
                f.write_str(repo)?;
                if revision != DEFAULT_REVISION {
                    write!(f, "@{revision}")?;
                }
                file.as_ref().map_or(Ok(()), |file| write!(f, ":{file}"))
            }
        }
    }
}

pub(super) fn is_gguf(name: &str) -> bool {
    name.len() > 5 && name.to_ascii_lowercase().ends_with(".gguf")
}

/// `org/name` of letters, digits, `-`, `_` and `.`, as the hub allows them.
pub(super) fn is_repo_name(text: &str) -> bool {
    let part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty()
            && part.len() <= 96
            && part.chars().all(allowed)
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    text.split_once('/')
        .is_some_and(|(organisation, name)| part(organisation) && part(name))
}

/// A revision becomes a file name below `refs/` and a part of an address.
pub(super) fn check_revision(revision: &str) -> Result<(), HubError> {
    match is_safe_name(revision) && revision.len() <= 255 {
        true => Ok(()),
        false => Err(HubError::BadName {
            text: revision.to_owned(),
            what: "revision",
        }),
    }
}

/// Whether a name from outside stays below the folder it is joined to, on every platform.
pub(super) fn is_safe_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.ends_with([' ', '.'])
            && !part
                .chars()
                .any(|c| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'))
    };
    name.len() <= 1024 && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(repo: &str, file: Option<&str>, revision: &str) -> ModelSource {
        let file = file.map(str::to_owned);
        ModelSource::Hub {
            repo: repo.into(),
            file,
            revision: revision.into(),
        }
    }

    #[test]
    fn names_are_understood_and_print_as_they_are_written() {
        let cases = [
            ("bundled", ModelSource::Bundled),
            ("ollama:falcon:1b", ModelSource::Ollama("falcon:1b".to_owned())),
            ("tiiuae/Falcon-H1R-7B", hub("tiiuae/Falcon-H1R-7B", None, "main")),
            ("o/n:q/m-Q4_K_M.gguf", hub("o/n", Some("q/m-Q4_K_M.gguf"), "main")),
            ("o/n:Q8_0", hub("o/n", Some("Q8_0"), "main")),
            ("o/n@refs/pr/3", hub("o/n", None, "refs/pr/3")),
            ("o/n@v1.0:m.GGUF", hub("o/n", Some("m.GGUF"), "v1.0")),
        ];
        for (text, source) in cases {
            assert_eq!(ModelSource::parse(text).unwrap(), source, "{text}");
            assert_eq!(source.to_string(), text);
        }
    }

    #[test]
    fn what_exists_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("m.gguf"), "").unwrap();
        std::fs::write(path("model.safetensors"), "").unwrap();
        let folder_name = folder.path().display().to_string();
        assert_eq!(
            ModelSource::parse(&folder_name).unwrap(),
            ModelSource::Folder(folder.path().into())
        );
        assert_eq!(
            ModelSource::parse(&path("m.gguf")).unwrap(),
            ModelSource::Gguf(path("m.gguf").into())
        );
        assert!(matches!(
            ModelSource::parse(&path("model.safetensors")),
            Err(HubError::NotGguf { .. })
        ));
        // `src/hub` is a folder of this package, where tests run.
        assert_eq!(
            ModelSource::parse("src/hub").unwrap(),
            ModelSource::Folder("src/hub".into())
        );
    }

    #[test]
    fn what_does_not_exist_gets_a_sentence() {
        for path in [
            "./nowhere",
            "/nowhere",
            "~/x",
            "nowhere.gguf",
            "a/b/c",
            "models/x.gguf",
            "C:\\models",
            "o/n/",
        ] {
            assert!(
                matches!(ModelSource::parse(path), Err(HubError::PathMissing { .. })),
                "{path}"
            );
        }
        for text in [
            "",
            "gpt2",
            "o//n",
            "o n/m",
            "o/n--m",
            "https://example.com/x",
            "-o/n",
            "o/é",
        ] {
            let error = ModelSource::parse(text).err().unwrap();
            assert!(
                matches!(error, HubError::NotAModel { .. } | HubError::PathMissing { .. }),
                "{text}: {error}"
            );
        }
        for text in [
            "o/n@../x",
            "o/n@",
            "o/n:../x.gguf",
            "o/n:",
            "o/n:/etc/x.gguf",
            "o/n:a\u{0}.gguf",
        ] {
            assert!(
                matches!(ModelSource::parse(text), Err(HubError::BadName { .. })),
                "{text}"
            );
        }
    }
}
