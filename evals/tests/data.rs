//! Problem sets as users have them.

use tts_evals::data::{DataError, Dataset, Fields, load};

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
    assert_eq!(answers, [Some("27"), Some("025"), Some("42"), Some("\\frac12"), Some("9"), None]);
    let ids: Vec<_> = data.problems.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, ["line-1", "7", "line-4", "line-5", "line-6", "line-7"]);
    assert_eq!(data.problems[0].extra["level"], 3);
    assert_eq!(data.digest.len(), 64);
    assert!(data.warnings.is_empty());
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
    assert_eq!(load(line, "s", &fields).expect("a set").problems[0].problem, "real");
    let missing = load(br#"{"question": "q"}"#, "s", &fields).expect_err("no such field").to_string();
    assert!(
        missing.contains("s, line 1") && missing.contains("looked for ask") && missing.contains("has question"),
        "{missing}"
    );
    assert!(matches!(fields.set("colour=red"), Err(DataError::BadField { .. })));
}

#[test]
fn errors_name_file_line_and_field() {
    assert!(error(b"").contains("set.jsonl holds no problems"));
    assert!(error(b"\xff\xfea\0").contains("UTF-16"));
    assert!(error(b"{\"question\": \"a\"}\n{\"question\": \"\xe9\"}").contains("line 2: byte 32"));
    assert!(error(b"{\"question\": \"a\"}\n{\"question\": ").starts_with("set.jsonl, line 2: not valid JSON"));
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
    let data = set("{\"id\": \"a\", \"question\": \"1\"}\n{\"id\": \"b\", \"question\": \"2\"}\n{\"id\": \"c\", \"question\": \"3\"}");
    let ids = |ids: &[&str], limit| -> Vec<String> {
        let ids: Vec<String> = ids.iter().map(|s| (*s).to_owned()).collect();
        data.select(&ids, limit).expect("known ids").into_iter().map(|p| p.id).collect()
    };
    assert_eq!(ids(&[], Some(2)), ["a", "b"]);
    assert_eq!(ids(&["c", "a"], None), ["c", "a"]);
    let unknown = data.select(&["z".to_owned()], None).expect_err("unknown").to_string();
    assert!(unknown.contains("the id z") && unknown.contains("a, b, c"));
}
