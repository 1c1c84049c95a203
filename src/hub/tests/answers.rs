//! What a hub, or none, may answer, and how the environment is read.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::stand_in::*;
use crate::hub::*;

#[test]
fn offline_uses_what_is_there_and_names_what_is_not() {
    let (files, cache) = (model_files(), TempDir::new().unwrap());
    let (hub, _storage) = stand_in(&files);
    let mut options = options(&hub, &cache);
    options.offline = true;
    let text = sentence(&model(), &options);
    assert!(
        text.contains("HF_HUB_OFFLINE") && text.contains("org/name"),
        "{text}"
    );
    assert!(hub.requests().is_empty());
    options.offline = false;
    let folder = resolve(&model(), &options, &mut quiet()).unwrap();
    options.offline = true;
    assert_eq!(resolve(&model(), &options, &mut quiet()).unwrap(), folder);
    fs::remove_file(weights_blob(&cache, &files)).unwrap();
    let text = sentence(&model(), &options);
    assert!(text.contains("missing: model.safetensors"), "{text}");
    // Online only what is missing is fetched.
    options.offline = false;
    let before = hub.count("GET", "/resolve/");
    assert_eq!(resolve(&model(), &options, &mut quiet()).unwrap(), folder);
    assert_eq!(hub.count("GET", "/resolve/"), before + 1);
}

#[test]
fn refusals_get_a_sentence_each() {
    let cases: [(u16, &str, bool, &str); 9] = [
        (401, "GatedRepo", false, "set HF_TOKEN"),
        (403, "GatedRepo", false, "accept its terms at"),
        (401, "", true, "does not let your token read org/name"),
        (403, "GatedRepo", true, "does not let your token read org/name"),
        (401, "RepoNotFound", false, "check the spelling"),
        (404, "RepoNotFound", true, "check the spelling"),
        (404, "RevisionNotFound", true, "no revision \"v9\""),
        (418, "", true, "answered 418"),
        (503, "", true, "it answered 503"),
    ];
    for (status, code, with_token, part) in cases {
        let cache = TempDir::new().unwrap();
        let hub = Server::new(move |_| Reply::status(status).header("X-Error-Code", code));
        let mut options = options(&hub, &cache);
        options.retries = 2;
        if !with_token {
            options.token = None;
        }
        let text = sentence(&ModelSource::parse("org/name@v9").unwrap(), &options);
        assert!(text.contains(part), "{status} {code}: {text}");
        assert_eq!(hub.requests().len(), if status == 503 { 3 } else { 1 });
        assert!(!text.contains("@@"));
    }
}

#[test]
fn a_busy_hub_is_asked_again() {
    let (files, cache) = (model_files(), TempDir::new().unwrap());
    let (listed, left) = (Arc::clone(&files), Mutex::new(3));
    let hub = Server::new(move |seen| {
        let mut left = left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Reply::status([500, 429, 503][*left]).header("Retry-After", 0);
        }
        hub_answer(seen, &listed, None)
    });
    assert!(resolve(&model(), &options(&hub, &cache), &mut quiet()).is_ok());
}

#[test]
fn a_silent_or_absent_network_ends_in_time() {
    let cache = TempDir::new().unwrap();
    let silent = Server::new(|_| {
        std::thread::sleep(Duration::from_secs(60));
        Reply::status(200)
    });
    let mut options = options(&silent, &cache);
    options.timeout = Duration::from_millis(200);
    options.retries = 1;
    let start = Instant::now();
    let text = sentence(&model(), &options);
    assert!(text.contains("did not answer in time"), "{text}");
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    options.endpoint = format!("http://127.0.0.1:{port}");
    let text = sentence(&model(), &options);
    assert!(text.contains("check the network"), "{text}");
    options.endpoint = "http://nowhere.invalid".to_owned();
    let text = sentence(&model(), &options);
    assert!(text.contains("nowhere.invalid"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_hub_that_is_none_or_wants_to_leave_the_cache_is_refused() {
    let answers = [
        ("<html>login</html>".to_owned(), "check HF_ENDPOINT"),
        (
            r#"{"sha": "../../x", "siblings": []}"#.to_owned(),
            "names no commit",
        ),
        (format!(r#"{{"sha": "{COMMIT}"}}"#), "no list of files"),
        (
            format!(r#"{{"sha": "{COMMIT}", "siblings": []}}"#),
            "no model that can be run",
        ),
        (
            format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "../../evil.safetensors"}}]}}"#),
            "not a safe name",
        ),
        (
            format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "/etc/passwd"}}]}}"#),
            "not a safe name",
        ),
        (
            format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "a\\..\\b"}}]}}"#),
            "not a safe name",
        ),
    ];
    for (body, part) in answers {
        let cache = TempDir::new().unwrap();
        let hub = Server::new(move |_| Reply {
            status: 200,
            body: body.clone().into_bytes(),
            ..Reply::default()
        });
        let text = sentence(&model(), &options(&hub, &cache));
        assert!(text.contains(part), "{part}: {text}");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
    let cache = TempDir::new().unwrap();
    let circle = Server::new(|seen| Reply::status(307).header("Location", &seen.path));
    let text = sentence(&model(), &options(&circle, &cache));
    assert!(text.contains("too many redirects"), "{text}");
}

#[test]
fn the_environment_is_read_as_python_reads_it() {
    let home = TempDir::new().unwrap();
    let home_path = home.path().display().to_string();
    let read = |pairs: &[(&'static str, &str)]| {
        let pairs: BTreeMap<_, _> = pairs
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        HubOptions::from_variables(|name| pairs.get(name).cloned())
    };
    let plain = read(&[("HOME", &home_path)]).unwrap();
    assert_eq!(plain.cache, home.path().join(".cache/huggingface/hub"));
    assert_eq!((plain.token, plain.offline), (None, false));
    let all = read(&[
        ("HOME", &home_path),
        ("HF_HOME", "~/hf"),
        ("HF_ENDPOINT", "https://mirror.example/"),
        ("HF_HUB_OFFLINE", "True"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "7"),
    ])
    .unwrap();
    assert_eq!(all.cache, home.path().join("hf/hub"));
    assert_eq!(
        (all.endpoint.as_str(), all.offline, all.timeout.as_secs()),
        ("https://mirror.example", true, 7)
    );
    fs::create_dir(home.path().join("hf")).unwrap();
    fs::write(home.path().join("hf/token"), "hf_file\n").unwrap();
    let token = |pairs: &[(&'static str, &str)]| read(pairs).unwrap().token;
    let hf_home = ("HF_HOME", format!("{home_path}/hf"));
    assert_eq!(token(&[("HF_HOME", &hf_home.1)]).as_deref(), Some("hf_file"));
    assert_eq!(
        token(&[("HF_HOME", &hf_home.1), ("HF_TOKEN", " hf_env ")]).as_deref(),
        Some("hf_env")
    );
    let cache = read(&[("HF_HUB_CACHE", "/elsewhere"), ("HF_HUB_OFFLINE", "0")]).unwrap();
    assert_eq!(
        (cache.cache.as_path(), cache.offline),
        (Path::new("/elsewhere"), false)
    );
    assert!(matches!(read(&[]), Err(HubError::NoCache)));
    let wrong = [
        ("HF_ENDPOINT", "mirror"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
        ("HF_TOKEN", "a\nb"),
    ];
    for (name, value) in wrong {
        let error = read(&[("HOME", &home_path), (name, value)]).unwrap_err();
        assert!(
            error.to_string().contains(name) && !error.to_string().contains("a\nb"),
            "{error}"
        );
    }
}
