//! Problem sets as users have them.

use tts_evals::data::{DataError, Dataset, Fields, load, load_first};

fn set(text: &str) -> Dataset {
    load(text.as_bytes(), "set.jsonl", &Fields::default()).expect("a readable set")
}

fn error(bytes: &[u8]) -> String {
    load(bytes, "set.jsonl", &Fields::default())
        .expect_err("an unreadable set")
        .to_string()
}

#[test]
fn json_lines_with_every_kind_of_answer() {
    let data = set(
        "\u{feff}{\"problem\": \"a\", \"answer\": 27.0, \"level\": 3}\r\n\r\n{\"Problem\": \"b\", \"Answer\": \"025\", \"ID\": 7}\r\n\
        {\"question\": \"c\", \"answer\": \"6 * 7 = 42\\n#### 42\"}\n{\"prompt\": \"d\", \"expected_answer\": \"$\\\\frac12$\"}\n\
        {\"question\": \"e\", \"solution\": \"so \\\\boxed{9}\"}\n{\"question\": \"f\"}\n",
    );
    let answers: Vec<_> = data.problems.iter().map(|p| p.answer.as_deref()).collect();
    assert_eq!(
        answers,
        [
            Some("27"),
            Some("025"),
            Some("42"),
            Some("\\frac12"),
            Some("9"),
            None
        ]
    );
    let ids: Vec<_> = data.problems.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, ["line-1", "7", "line-4", "line-5", "line-6", "line-7"]);
    assert_eq!(data.problems[0].extra["level"], 3);
    assert_eq!(data.digest.len(), 64);
    assert_eq!(
        data.warnings,
        ["1 of 6 problems of set.jsonl have no answer to grade by (the first: line-7)"]
    );
}

#[test]
fn answers_under_other_names_are_found_or_missed_in_a_sentence() {
    for name in [
        "gold",
        "target",
        "ground_truth",
        "correct_answer",
        "final_answer",
        "reference_answer",
    ] {
        for value in ["5", "\"5\"", "[5]", "\"so 5\\n#### 5\""] {
            let data = set(&format!(
                "{{\"question\": \"a\", \"qid\": 7, \"{name}\": {value}}}"
            ));
            assert_eq!(data.problems[0].answer.as_deref(), Some("5"), "{name}: {value}");
            assert_eq!(data.problems[0].id, "7");
            assert!(data.warnings.is_empty() && data.problems[0].extra.is_empty());
        }
        // what is no answer is left where it stands
        let data = set(&format!("{{\"question\": \"a\", \"{name}\": {{\"b\": [1]}}}}"));
        assert!(data.problems[0].answer.is_none() && data.problems[0].extra.contains_key(name));
        assert!(
            data.warnings[0].contains("its fields are") && data.warnings[0].contains(name),
            "{:?}",
            data.warnings
        );
    }
    // the usual names come first
    let data = set("{\"question\": \"a\", \"gold\": \"6\", \"answer\": \"5\"}");
    assert_eq!(data.problems[0].answer.as_deref(), Some("5"));
    let mut fields = Fields::default();
    fields.set("answer=solution").expect("a field");
    let worked = load(
        br#"{"question": "a", "solution": "so \\boxed{9}", "answer": 8}"#,
        "s",
        &fields,
    );
    assert_eq!(worked.expect("a set").problems[0].answer.as_deref(), Some("9"));
}

#[test]
fn an_array_and_csv_give_the_same_problems() {
    let array = set("[\n {\"id\": \"x\", \"problem\": \"1, 2?\", \"answer\": 3}]");
    let csv = set("id,problem,answer\r\nx,\"1, 2?\",3\r\n");
    assert_eq!(array.problems, csv.problems);
}

#[test]
fn named_fields_win_and_must_exist() {
    let mut fields = Fields::default();
    fields.set("question=ask").expect("a field");
    fields.set("id=key").expect("a field");
    let line = br#"{"ask": "real", "question": "decoy", "key": 1}"#;
    assert_eq!(
        load(line, "s", &fields).expect("a set").problems[0].problem,
        "real"
    );
    let missing = load(br#"{"question": "q"}"#, "s", &fields)
        .expect_err("no such field")
        .to_string();
    assert!(
        missing.contains("s, line 1")
            && missing.contains("looked for ask")
            && missing.contains("has question"),
        "{missing}"
    );
    assert!(matches!(
        fields.set("colour=red"),
        Err(DataError::BadField { .. })
    ));
}

#[test]
fn errors_name_file_line_and_field() {
    assert!(error(b"").contains("set.jsonl holds no problems"));
    assert!(error(b"\xff\xfea\0").contains("UTF-16"));
    assert!(error(b"{\"question\": \"a\"}\n{\"question\": \"\xe9\"}").contains("line 2: byte 32"));
    assert!(
        error(b"{\"question\": \"a\"}\n{\"question\": ").starts_with("set.jsonl, line 2: not valid JSON")
    );
    assert!(error(b"{\"question\": \"a\"}\n[1]").contains("expected an object, found an array"));
    assert!(error(b"{\"question\": [1]}").contains("the field \"question\" must be a string"));
    assert!(error(b"{\"question\": \" \"}").contains("the field \"question\" is empty"));
    assert!(error(b"{\"text\": \"a\"}").contains("--field question=NAME"));
    assert!(
        error(b"{\"id\": 1, \"question\": \"a\"}\n{\"id\": \"1\", \"question\": \"b\"}")
            .contains("\"1\" stands at line 1 and again at line 2")
    );
    assert!(error(b"a,b\n1\n").contains("line 2"));
}

#[test]
fn a_lost_backslash_is_warned_about() {
    let data = set(r#"{"problem": "What is \frac12?", "answer": "\text{no}"}"#);
    assert_eq!(data.warnings.len(), 2);
    assert!(data.warnings[0].contains("U+000C") && data.warnings[1].contains("the answer holds"));
}

#[test]
fn selecting() {
    let data = set(
        "{\"id\": \"a\", \"question\": \"1\"}\n{\"id\": \"b\", \"question\": \"2\"}\n{\"id\": \"c\", \"question\": \"3\"}",
    );
    let ids = |ids: &[&str], limit| -> Vec<String> {
        let ids: Vec<String> = ids.iter().map(|s| (*s).to_owned()).collect();
        data.select(&ids, limit)
            .expect("known ids")
            .into_iter()
            .map(|p| p.id)
            .collect()
    };
    assert_eq!(ids(&[], Some(2)), ["a", "b"]);
    assert_eq!(ids(&["c", "a"], None), ["c", "a"]);
    let unknown = data
        .select(&["z".to_owned()], None)
        .expect_err("unknown")
        .to_string();
    assert!(unknown.contains("the id z") && unknown.contains("a, b, c"));
}

const SNAPPY: &[u8] = include_bytes!("fixtures/snappy.parquet");

#[cfg(feature = "parquet")]
#[test]
fn parquet_gives_the_rows_that_were_written() {
    let set = load(SNAPPY, "set.parquet", &Fields::default()).expect("a readable set");
    let read: Vec<_> = set
        .problems
        .iter()
        .map(|p| (p.id.as_str(), p.problem.as_str(), p.answer.as_deref()))
        .collect();
    assert_eq!(
        read,
        [
            ("60", "What is $1+1$?", Some("2")),
            ("61", "What is \\frac12 + 1?", Some("\\frac{3}{2}")),
            ("62", "Zwei Fünftel?", Some("0.4")),
            ("63", "None?", None),
        ]
    );
    let first = &set.problems[0].extra;
    assert_eq!(first["score"], 1.5);
    assert_eq!(first["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(first["meta"], serde_json::json!({"year": 2024, "easy": true}));
    assert_eq!(set.problems[2].extra["score"], serde_json::Value::Null);
    assert_eq!(set.warnings.len(), 1, "one has no answer: {:?}", set.warnings);
    // Uncompressed and without dictionaries; gzip, two row groups, pages of the second version.
    for other in [
        &include_bytes!("fixtures/plain.parquet")[..],
        &include_bytes!("fixtures/gzip-groups.parquet")[..],
    ] {
        assert_eq!(
            load(other, "set.parquet", &Fields::default())
                .expect("a readable set")
                .problems,
            set.problems
        );
    }
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_that_cannot_be_read_gets_a_sentence() {
    let zstd = error(include_bytes!("fixtures/zstd.parquet"));
    assert!(
        zstd.starts_with("set.jsonl, ") && zstd.contains("compressed by zstd"),
        "{zstd}"
    );
    assert!(error(b"PAR1....").contains("set.jsonl, the parquet file: not readable"));
    // Cut anywhere, or with a byte changed anywhere: a set or a sentence, never a panic.
    for at in 4..SNAPPY.len() {
        let _ = load(&SNAPPY[..at], "cut", &Fields::default());
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = SNAPPY.to_vec();
            damaged[at] ^= flip;
            let _ = load(&damaged, "damaged", &Fields::default());
        }
    }
}

#[test]
fn choices_are_written_under_the_question() {
    let task = tts_evals::task::Task::named("gpqa-diamond").expect("a task");
    let csv = "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n\
        r1,Which?,right,wrong 1,wrong 2,wrong 3\nr2,Which?,right,wrong 1,wrong 2,wrong 3\nr3,Which?,right,wrong 1,wrong 2,wrong 3\n";
    let set = load(csv.as_bytes(), "set.csv", &task.data.fields).expect("a readable set");
    let mut orders = std::collections::BTreeSet::new();
    for p in &set.problems {
        let letter = p.answer.as_deref().expect("a letter");
        assert!(p.problem.starts_with("Which?\n\nA) "), "{}", p.problem);
        assert!(
            p.problem.contains(&format!("{letter}) right")),
            "{} {letter}",
            p.problem
        );
        assert_eq!(p.problem.lines().count(), 6);
        orders.insert(p.problem.clone());
    }
    assert!(orders.len() > 1, "each problem has an order of its own");
    assert_eq!(
        set,
        load(csv.as_bytes(), "set.csv", &task.data.fields).expect("a readable set"),
        "the same every time"
    );
    let missing = load(
        b"Record ID,Question,Correct Answer\nr1,Which?,right\n",
        "set.csv",
        &task.data.fields,
    );
    assert!(
        missing
            .expect_err("no options")
            .to_string()
            .contains("\"Incorrect Answer 1\" holds no option")
    );

    let task = tts_evals::task::Task::named("mmlu-pro").expect("a task");
    let line = br#"{"question_id": 1, "question": "Which?", "options": ["red", "green"], "answer": "B"}"#;
    let set = load(line, "set.jsonl", &task.data.fields).expect("a readable set");
    assert_eq!(set.problems[0].problem, "Which?\n\nA) red\nB) green");
    assert_eq!(set.problems[0].answer.as_deref(), Some("B"));
    let odd = br#"{"question_id": 1, "question": "Which?", "options": "red", "answer": "B"}"#;
    assert!(
        load(odd, "set.jsonl", &task.data.fields)
            .expect_err("no list")
            .to_string()
            .contains("must be a list")
    );
}

#[test]
fn copies_of_a_set_have_the_same_answers() {
    use tts_evals::answer::AnswerKind::{Integer, Math};
    let a = set(
        "{\"id\": 1, \"question\": \"a\", \"answer\": \"025\"}\n{\"id\": 2, \"question\": \"b\", \"answer\": 7.0}",
    );
    let b = set(
        "{\"id\": 9, \"question\": \"B\", \"answer\": \"7\"}\n{\"id\": 8, \"question\": \"A\", \"answer\": \"$25$\"}",
    );
    assert_eq!(a.answers_digest(Integer), b.answers_digest(Integer));
    assert_ne!(a.digest, b.digest);
    let c = set("{\"question\": \"a\", \"answer\": \"26\"}\n{\"question\": \"b\", \"answer\": 7}");
    assert_ne!(a.answers_digest(Integer), c.answers_digest(Integer));
    let mut kept = set(
        "{\"question\": \"a\", \"answer\": \"1\", \"type\": \"number\"}\n{\"question\": \"b\", \"answer\": \"1\", \"type\": \"essay\"}",
    );
    kept.keep("type", &["number".to_owned()]);
    assert_eq!(kept.problems.len(), 1);
    assert_eq!(kept.answers_digest(Math), kept.answers_digest(Math));
}

#[test]
fn no_more_of_a_set_is_read_than_is_asked_for() {
    let first = |text: &str, most| load_first(text.as_bytes(), "set", &Fields::default(), most);
    let lines = "{\"question\": \"a\"}\n{\"question\": \"b\"}\n{\"question\": \"c";
    let array = "[{\"question\": \"a\"}, {\"question\": \"b\"}, 3]";
    let csv = "question,answer\na,1\nb,2\nc,3,4,5\n";
    for text in [lines, array, csv] {
        let data = first(text, 2).expect("two whole problems");
        let asked: Vec<_> = data.problems.iter().map(|p| p.problem.as_str()).collect();
        assert_eq!(asked, ["a", "b"]);
        assert!(first(text, 3).is_err(), "{text}");
    }
}
