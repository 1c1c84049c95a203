//! A hub of files in memory, on a port of this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::super::{HubOptions, ModelSource, Progress, resolve};

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(super) const SECRET: &str = "hf_secretsecretsecret";

pub(super) fn model_files() -> Files {
    let weights: Vec<u8> = (0..600_000u32)
        .flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 8).to_le_bytes())
        .collect();
    let mut files = BTreeMap::new();
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "README.md",
    ] {
        files.insert(name.to_owned(), format!("{{\"file\": {name:?}}}").into_bytes());
    }
    files.insert("model.safetensors".to_owned(), weights);
    Arc::new(files)
}

/// A hub and its storage on another port, which is another host to a client.
pub(super) fn stand_in(files: &Files) -> (Server, Server) {
    let stored = Arc::clone(files);
    let storage = Server::new(move |seen| storage_answer(seen, &stored));
    let (listed, address) = (Arc::clone(files), storage.address.clone());
    let hub = Server::new(move |seen| hub_answer(seen, &listed, Some(&address)));
    (hub, storage)
}

pub(super) fn options(hub: &Server, cache: &TempDir) -> HubOptions {
    let mut options = HubOptions::new(cache.path());
    options.endpoint.clone_from(&hub.address);
    options.token = Some(SECRET.to_owned());
    options.backoff = Duration::from_millis(1);
    options.timeout = Duration::from_secs(20);
    options
}

pub(super) fn model() -> ModelSource {
    ModelSource::parse("org/name").unwrap()
}

pub(super) fn quiet() -> impl FnMut(Progress<'_>) {
    |_| ()
}

/// A failed look-up's sentence, which never holds the token.
pub(super) fn sentence(source: &ModelSource, options: &HubOptions) -> String {
    let error = resolve(source, options, &mut quiet()).unwrap_err();
    let text = error.to_string();
    assert!(
        !text.contains(SECRET) && !format!("{error:?}").contains(SECRET),
        "{text}"
    );
    text
}

pub(super) fn repo_folder(cache: &TempDir) -> PathBuf {
    cache.path().join("models--org--name")
}

pub(super) fn weights_blob(cache: &TempDir, files: &Files) -> PathBuf {
    repo_folder(cache)
        .join("blobs")
        .join(sha256(&files["model.safetensors"]))
}

pub(super) fn incomplete(cache: &TempDir, files: &Files) -> PathBuf {
    weights_blob(cache, files).with_extension("incomplete")
}

/// A request that the stand-in received.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Default, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    pub(super) cut: Option<usize>,
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A server whose answers a closure makes.
pub(super) struct Server {
    pub(super) address: String,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(super) fn new(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { address, seen }
    }

    pub(super) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn count(&self, method: &str, part: &str) -> usize {
        self.requests()
            .iter()
            .filter(|seen| seen.method == method && seen.path.contains(part))
            .count()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Seen>>, answer: &dyn Fn(&Seen) -> Reply) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
    let seen = Seen {
        method: method.clone(),
        path,
        headers: headers.collect(),
    };
    log.lock().unwrap().push(seen.clone());
    let reply = answer(&seen);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let sent = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    if method != "HEAD" {
        let _ = stream.write_all(&reply.body[..sent]);
    }
    let _ = stream.flush();
}

/// A body, or the rest of it from where `Range` says.
pub(super) fn ranged(seen: &Seen, body: &[u8]) -> Reply {
    let from = seen.headers.get("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    match from {
        None => Reply {
            status: 200,
            body: body.to_vec(),
            ..Reply::default()
        },
        Some(from) if from >= body.len() => Reply::status(416),
        Some(from) => Reply {
            status: 206,
            body: body[from..].to_vec(),
            ..Reply::default()
        }
        .header(
            "Content-Range",
            format!("bytes {from}-{}/{}", body.len() - 1, body.len()),
        ),
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(super) type Files = Arc<BTreeMap<String, Vec<u8>>>;

/// Answers as the hub does: a list, small files with git's hash as their ETag, weights with a redirect to
/// `storage`.
pub(super) fn hub_answer(seen: &Seen, files: &Files, storage: Option<&str>) -> Reply {
    let path = seen.path.split('?').next().unwrap_or_default();
    if path.starts_with("/api/") {
        let list: Vec<_> = files
            .keys()
            .map(|name| serde_json::json!({"rfilename": name}))
            .collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": list})
            .to_string()
            .into_bytes();
        return Reply {
            status: 200,
            body,
            ..Reply::default()
        };
    }
    let Some((name, body)) = path
        .split_once(&format!("/resolve/{COMMIT}/"))
        .and_then(|(_, name)| files.get_key_value(name))
    else {
        return Reply::status(404).header("X-Error-Code", "EntryNotFound");
    };
    match storage.filter(|_| name.ends_with(".safetensors") || name.ends_with(".gguf")) {
        Some(storage) => Reply::status(302)
            .header("X-Linked-Etag", format!("\"{}\"", sha256(body)))
            .header("X-Linked-Size", body.len())
            .header("X-Repo-Commit", COMMIT)
            .header("Location", format!("{storage}/{name}?Signature=abc")),
        None => ranged(seen, body).header("ETag", format!("W/\"{:040x}\"", body.len())),
    }
}

pub(super) fn storage_answer(seen: &Seen, files: &Files) -> Reply {
    let name = seen
        .path
        .trim_start_matches('/')
        .split('?')
        .next()
        .unwrap_or_default();
    files
        .get(name)
        .map_or_else(|| Reply::status(404), |body| ranged(seen, body))
}
