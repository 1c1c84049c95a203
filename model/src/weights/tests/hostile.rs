//! Damaged files: whatever is cut off or changed, the answer is a model or one sentence, never a panic and
//! never an allocation that the file's size does not justify.

use std::io::{Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::*;

/// Opens the file after each of three changes to each of these bytes, and reads what opens.
fn flip(path: &Path, open_at: &Path, positions: &[usize]) {
    let original = fs::read(path).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let mut set = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    let mut refused = 0;
    for at in positions.iter().copied() {
        let byte = original[at];
        for change in [0x01, 0x80, 0xff] {
            set(at, byte ^ change);
            match Checkpoint::open(open_at) {
                Ok(c) => _ = read_all(&c),
                Err(error) => {
                    let sentence = error.to_string();
                    assert!(
                        sentence.len() < 2000 && !sentence.contains('\n'),
                        "{at}: {sentence}"
                    );
                    refused += 1;
                }
            }
        }
        set(at, byte);
    }
    assert!(refused > positions.len() / 4, "{refused} of {}", positions.len());
    Checkpoint::open(open_at).unwrap();
}

#[test]
fn changed_safetensors_headers() {
    let folder = tempfile::tempdir().unwrap();
    folders::Model::golden("case-tiny-like-bf16").write(folder.path());
    let path = folder.path().join("model.safetensors");
    let header = 8 + u64::from_le_bytes(fs::read(&path).unwrap()[..8].try_into().unwrap()) as usize;
    flip(&path, folder.path(), &(0..header).collect::<Vec<_>>());
}

#[test]
fn changed_gguf_headers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    fs::copy(golden("gguf-gqa/gqa-q8_0.gguf"), &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let first = bytes.windows(13).position(|w| w == b"output.weight").unwrap();
    let last = bytes
        .windows(18)
        .rposition(|w| w == b"blk.2.attn_v.weigh")
        .unwrap()
        + 64;
    // The tokenizer's strings, between the hyperparameters and the tensors, are many and alike.
    let positions: Vec<_> = (0..last)
        .filter(|at| *at < 1300 || *at > first - 400 || at % 13 == 0)
        .collect();
    flip(&path, &path, &positions);
}

#[test]
fn truncated_files() {
    let folder = tempfile::tempdir().unwrap();
    folders::Model::golden("case-gqa").write(folder.path());
    let safetensors = folder.path().join("model.safetensors");
    let gguf = folder.path().join("m.gguf");
    fs::copy(golden("gguf-gqa/gqa-q8_0.gguf"), &gguf).unwrap();
    for (path, open_at) in [(&safetensors, folder.path()), (&gguf, &gguf)] {
        let len = fs::metadata(path).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let cuts = (0..400).map(|i| len - 1 - i * (len / 500)).chain((0..200).rev());
        let mut last = len;
        for cut in cuts.filter(|cut| *cut < len) {
            last = last.min(cut);
            file.set_len(last).unwrap();
            let sentence = refusal(open_at);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(sentence.contains(name), "{sentence}");
        }
    }
}

proptest! {
    /// Rubbish behind a good beginning.
    #[test]
    fn rubbish(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        version in 2_u32..4,
        keys in 0_u64..9,
    ) {
        let mut file = b"GGUF".to_vec();
        file.extend(version.to_le_bytes());
        file.extend(1_u64.to_le_bytes());
        file.extend(keys.to_le_bytes());
        file.append(&mut bytes.clone());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        fs::write(&path, &file).unwrap();
        prop_assert!(Checkpoint::open(&path).is_err());

        let config = fs::read_to_string(golden("case-gqa/config.json")).unwrap();
        let mut weights = (bytes.len() as u64).to_le_bytes().to_vec();
        weights.append(&mut bytes);
        prop_assert!(Checkpoint::from_bytes(&config, weights.leak()).is_err());
    }

    /// An array that announces far more than the file holds.
    #[test]
    fn absurd_counts(kind in 0_u32..14, count in any::<u64>()) {
        let mut file = b"GGUF".to_vec();
        for word in [3_u32, 0, 0, 1, 0, 1, 0] {
            file.extend(word.to_le_bytes());
        }
        file.push(b'k');
        file.extend(9_u32.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend([0; 64]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        fs::write(&path, &file).unwrap();
        prop_assert!(Checkpoint::open(&path).is_err());
    }
}
