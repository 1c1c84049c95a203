//! Tasks: sets of the hub from its cache, and how their answers are compared.

use std::fs;

use super::{Ran, ran, refused, tts, write};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache that holds one file of a data set, as the hub's own tools leave it.
fn cache(repo: &str, file: &str, bytes: &[u8]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home
        .path()
        .join("hub")
        .join(format!("datasets--{}", repo.replace('/', "--")));
    let path = folder.join("snapshots").join(COMMIT).join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
    fs::write(path, bytes).unwrap();
    home
}

fn dry_run(home: &tempfile::TempDir, task: &str) -> Ran {
    let mut command = tts(&["solve", "--data", task, "--limit", "1", "--dry-run", "--json"]);
    Ran::of(command.env("HF_HOME", home.path()))
}

#[test]
fn a_set_of_the_hub_is_read_from_the_cache_without_a_network() {
    let parquet = include_bytes!("../../../evals/tests/fixtures/snappy.parquet");
    let home = cache(
        "HuggingFaceH4/aime_2024",
        "data/train-00000-of-00001.parquet",
        parquet,
    );
    let read = dry_run(&home, "aime24");
    assert_eq!(read.code, 0, "{}", read.err);
    let prompt = read.objects().remove(0);
    assert_eq!(prompt["problem_id"], "60");
    let text = prompt["prompt"].as_str().unwrap();
    assert!(
        text.contains("What is $1+1$?") && text.contains("\\boxed{}"),
        "{text}"
    );
    // It is not the contest, and the task knows.
    assert!(
        read.err.contains("the answers in") && read.err.contains("are not those that the task knows"),
        "{}",
        read.err
    );
    assert!(read.err.contains("has 30 problems, but"), "{}", read.err);

    let missing = dry_run(&home, "aime26");
    assert_eq!(missing.code, 2);
    assert!(
        missing.err.contains("MathArena/aime_2026") && missing.err.contains("HF_HUB_OFFLINE"),
        "{}",
        missing.err
    );
}

#[test]
fn damaged_sets_are_refused_in_a_sentence() {
    let parquet = include_bytes!("../../../evals/tests/fixtures/snappy.parquet");
    for (at, flip) in [(20, 0xff), (300, 0xff), (parquet.len() - 6, 0x7f)] {
        let mut damaged = parquet.to_vec();
        damaged[at] ^= flip;
        let home = cache(
            "HuggingFaceH4/aime_2024",
            "data/train-00000-of-00001.parquet",
            &damaged,
        );
        let read = dry_run(&home, "aime24");
        assert!(!read.err.contains("panicked"), "{}", read.err);
        assert!(
            read.code == 0 || (read.code == 2 && read.err.contains("train-00000-of-00001.parquet")),
            "{}",
            read.err
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let csv = write(
        &folder,
        "gpqa_diamond.csv",
        "Record ID,Question,Correct Answer\nr1,Which?,this\n",
    );
    let home = cache("Idavidrein/gpqa", "gpqa_diamond.csv", &fs::read(csv).unwrap());
    let read = dry_run(&home, "gpqa-diamond");
    assert_eq!(read.code, 2);
    assert!(
        read.err.contains("\"Incorrect Answer 1\" holds no option"),
        "{}",
        read.err
    );
}

#[test]
fn what_graders_disagree_about_is_an_option() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        &folder,
        "answers.jsonl",
        "{\"prediction\": \"10\\\\%\", \"gold\": \"10\"}\n{\"prediction\": \"2, 1\", \"gold\": \"1, \
         2\"}\n{\"prediction\": \"10m\", \"gold\": \"10\"}\n{\"prediction\": \"[0,1)\", \"gold\": \
         \"(0,1)\"}\n{\"prediction\": \"3.141592653589793\", \"gold\": \"\\\\pi\"}\n{\"prediction\": \
         \"3.14\", \"gold\": \"\\\\pi\"}\n{\"prediction\": \"x >= 2\", \"gold\": \"[2, \\\\infty)\"}\n",
    );
    let verdicts = |flags: &[&str]| -> Vec<bool> {
        let out = ran(&[&["grade", &file][..], flags].concat()).objects();
        out.iter().map(|line| line["equal"] == true).collect()
    };
    assert_eq!(verdicts(&[]), [false, true, false, false, true, false, false]);
    assert_eq!(
        verdicts(&["--percent", "lenient", "--list-order", "strict"]),
        [true, false, false, false, true, false, false]
    );
    assert_eq!(
        verdicts(&["--units", "lenient", "--brackets", "lenient"]),
        [false, true, true, true, true, false, false]
    );
    assert_eq!(
        verdicts(&["--decimals", "exact"]),
        [false, true, false, false, false, false, false]
    );
    assert_eq!(
        verdicts(&["--tolerance", "0.01"]),
        [false, true, false, false, true, true, false]
    );
    assert_eq!(
        verdicts(&["--relations", "lenient"]),
        [false, true, false, false, true, false, true]
    );
    refused(
        &["grade", &file, "--tolerance", "5"],
        &["--tolerance 5 is no share"],
    );
    refused(&["grade", &file, "--percent", "maybe"], &["--percent", "exact"]);
}

#[test]
fn strategies_are_explained_with_their_settings() {
    let list = ran(&["list", "strategies", "--json"]).objects();
    let names: Vec<_> = list.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, tts::strategies::names().collect::<Vec<_>>());
    for s in &list {
        assert!(
            s["description"].as_str().unwrap().len() > 20 && s["settings"].is_object(),
            "{s}"
        );
        assert!(s["citation"].as_str().unwrap().starts_with("arXiv "), "{s}");
        let about = s["about_settings"].as_object().unwrap();
        assert!(about.keys().eq(s["settings"].as_object().unwrap().keys()), "{s}");
        let count = &about["count_truncated"];
        assert_eq!(
            (&count["flag"], &count["default"]),
            (&"--count-truncated".into(), &false.into())
        );
    }
}
