//! Files on their way: whole, cut, resumed, damaged.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::stand_in::*;
use crate::hub::*;

#[test]
fn a_model_is_fetched_into_the_shared_layout_and_then_used_from_there() {
    let (files, cache) = (model_files(), TempDir::new().unwrap());
    let (hub, storage) = stand_in(&files);
    let options = options(&hub, &cache);
    let mut finished = Vec::new();
    let mut bytes = 0;
    let folder = resolve(&model(), &options, &mut |event| match event {
        Progress::Finished { file } => finished.push(file.to_owned()),
        Progress::Bytes {
            file: "model.safetensors",
            done,
            total,
        } => {
            assert_eq!(total, Some(2_400_000));
            bytes = done;
        }
        _ => (),
    })
    .unwrap();
    assert_eq!(folder, repo_folder(&cache).join("snapshots").join(COMMIT));
    assert_eq!(finished.last().unwrap(), "model.safetensors");
    assert_eq!((finished.len(), bytes), (5, 2_400_000));
    for (name, body) in files.iter().filter(|(name, _)| *name != "README.md") {
        assert_eq!(&fs::read(folder.join(name)).unwrap(), body, "{name}");
    }
    assert!(!folder.join("README.md").exists());
    assert_eq!(
        fs::read_to_string(repo_folder(&cache).join("refs/main")).unwrap(),
        COMMIT
    );
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(folder.join("model.safetensors")).unwrap(),
        Path::new("../../blobs").join(sha256(&files["model.safetensors"]))
    );
    let before = (hub.requests().len(), storage.requests().len());
    assert_eq!(resolve(&model(), &options, &mut quiet()).unwrap(), folder);
    let by_commit = ModelSource::parse(&format!("org/name@{COMMIT}")).unwrap();
    assert_eq!(resolve(&by_commit, &options, &mut quiet()).unwrap(), folder);
    assert_eq!(
        (hub.requests().len(), storage.requests().len()),
        before,
        "asked again"
    );
}

#[test]
fn the_token_goes_to_the_endpoint_alone() {
    let (files, cache) = (model_files(), TempDir::new().unwrap());
    let (hub, storage) = stand_in(&files);
    let options = options(&hub, &cache);
    resolve(&model(), &options, &mut quiet()).unwrap();
    let bearer = format!("Bearer {SECRET}");
    assert!(
        hub.requests()
            .iter()
            .all(|seen| seen.headers.get("authorization") == Some(&bearer))
    );
    assert!(!storage.requests().is_empty());
    for seen in storage.requests() {
        assert!(!format!("{seen:?}").contains(SECRET), "{seen:?}");
    }
    assert!(!format!("{options:?}").contains(SECRET));
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let (files, cache) = (model_files(), TempDir::new().unwrap());
    let stored = Arc::clone(&files);
    // Cut three times, the second time before a single byte.
    let cuts = Mutex::new(vec![700_000, 0, 1_000_000]);
    let storage = Server::new(move |seen| {
        let mut reply = storage_answer(seen, &stored);
        reply.cut = cuts.lock().unwrap().pop();
        reply
    });
    let (listed, address) = (Arc::clone(&files), storage.address.clone());
    let hub = Server::new(move |seen| hub_answer(seen, &listed, Some(&address)));
    let mut options = options(&hub, &cache);
    options.retries = 1;
    let mut retries = 0;
    let folder = resolve(&model(), &options, &mut |event| {
        retries += u32::from(matches!(event, Progress::Retrying { .. }));
    });
    // The second cut brings nothing, and one failure without a byte is allowed.
    let folder = folder.unwrap();
    assert_eq!(retries, 3);
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        files["model.safetensors"]
    );
    let ranges: Vec<_> = storage
        .requests()
        .iter()
        .map(|seen| seen.headers.get("range").cloned())
        .collect();
    let at = |from: usize| Some(format!("bytes={from}-"));
    assert_eq!(ranges, [None, at(1_000_000), at(1_000_000), at(1_700_000)]);
}

#[test]
fn what_an_earlier_run_left_is_used_and_damage_in_it_is_found() {
    let files = model_files();
    let whole = &files["model.safetensors"];
    let mut damaged = whole[..1_000_000].to_vec();
    damaged[17] ^= 1;
    let longer = [whole.as_slice(), b"more"].concat();
    // What was left, and the ranges that are asked for then.
    let at = |from: usize| Some(format!("bytes={from}-"));
    let cases = [
        (whole[..1_000_000].to_vec(), vec![at(1_000_000)]),
        (whole.clone(), vec![]),
        (damaged, vec![at(1_000_000), None]),
        (longer, vec![None]),
    ];
    for (left, asked) in cases {
        let cache = TempDir::new().unwrap();
        let (hub, storage) = stand_in(&files);
        fs::create_dir_all(repo_folder(&cache).join("blobs")).unwrap();
        fs::write(incomplete(&cache, &files), left).unwrap();
        let folder = resolve(&model(), &options(&hub, &cache), &mut quiet()).unwrap();
        assert_eq!(&fs::read(folder.join("model.safetensors")).unwrap(), whole);
        let ranges: Vec<_> = storage
            .requests()
            .iter()
            .map(|seen| seen.headers.get("range").cloned())
            .collect();
        assert_eq!(ranges, asked);
        assert!(!incomplete(&cache, &files).exists());
    }
}

#[test]
fn a_wrong_checksum_or_length_is_refused() {
    let files = model_files();
    let mut wrong = files["model.safetensors"].clone();
    wrong[1] ^= 1;
    let longer = [files["model.safetensors"].as_slice(), b"more"].concat();
    for (body, part) in [
        (wrong, "arrived damaged"),
        (longer, "2400004 bytes where the hub says 2400000"),
    ] {
        let cache = TempDir::new().unwrap();
        let storage = Server::new(move |seen| ranged(seen, &body));
        let (listed, address) = (Arc::clone(&files), storage.address.clone());
        let hub = Server::new(move |seen| hub_answer(seen, &listed, Some(&address)));
        let text = sentence(&model(), &options(&hub, &cache));
        assert!(
            text.contains(part) && text.contains("model.safetensors"),
            "{text}"
        );
        assert!(!weights_blob(&cache, &files).exists() && !incomplete(&cache, &files).exists());
        assert_eq!(storage.requests().len(), 1);
    }
}

#[test]
fn servers_without_ranges_or_with_wrong_ones_are_survived() {
    let files = model_files();
    let whole = files["model.safetensors"].clone();
    for kind in ["ignores", "416", "elsewhere"] {
        let cache = TempDir::new().unwrap();
        let body = whole.clone();
        let storage = Server::new(move |seen| {
            let plain = Reply {
                status: 200,
                body: body.clone(),
                ..Reply::default()
            };
            match (kind, seen.headers.contains_key("range")) {
                ("416", true) => Reply::status(416),
                ("elsewhere", true) => {
                    Reply { status: 206, ..plain }.header("Content-Range", "bytes 0-2399999/2400000")
                }
                _ => plain,
            }
        });
        let (listed, address) = (Arc::clone(&files), storage.address.clone());
        let hub = Server::new(move |seen| hub_answer(seen, &listed, Some(&address)));
        fs::create_dir_all(repo_folder(&cache).join("blobs")).unwrap();
        fs::write(incomplete(&cache, &files), &whole[..5000]).unwrap();
        let folder = resolve(&model(), &options(&hub, &cache), &mut quiet()).unwrap();
        assert_eq!(
            fs::read(folder.join("model.safetensors")).unwrap(),
            whole,
            "{kind}"
        );
    }
}

#[test]
fn an_etag_cannot_name_a_file_elsewhere() {
    let (files, cache) = (model_files(), TempDir::new().unwrap());
    let listed = Arc::clone(&files);
    let hub = Server::new(move |seen| {
        let mut reply = hub_answer(seen, &listed, None);
        reply.headers.retain(|(name, _)| name != "ETag");
        reply.header("ETag", "\"../../../evil\"")
    });
    let folder = resolve(&model(), &options(&hub, &cache), &mut quiet()).unwrap();
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        files["model.safetensors"]
    );
    assert!(fs::read_dir(repo_folder(&cache).join("blobs")).unwrap().count() == 5);
}

#[test]
fn two_at_once_fetch_a_file_once() {
    let (files, cache) = (model_files(), TempDir::new().unwrap());
    let (hub, storage) = stand_in(&files);
    let options = options(&hub, &cache);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| resolve(&model(), &options, &mut quiet()).unwrap());
        }
    });
    assert_eq!(storage.requests().len(), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named() {
    let (files, cache) = (model_files(), TempDir::new().unwrap());
    let (hub, _storage) = stand_in(&files);
    fs::create_dir_all(repo_folder(&cache).join("blobs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", incomplete(&cache, &files)).unwrap();
    let text = sentence(&model(), &options(&hub, &cache));
    assert!(text.contains("disk is full"), "{text}");
}
