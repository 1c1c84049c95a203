//! Recordings and sets made elsewhere: fields of other names, lengths that are none, files without an answer.

use serde_json::{Value, json};

use super::{Ran, ran, refused, tts, write};

fn lines(objects: &[Value]) -> String {
    objects.iter().map(|o| o.to_string() + "\n").collect()
}

fn replayed(file: &str, more: &[&str]) -> Ran {
    ran(&[&["replay", file, "--strategy", "majority", "--json"], more].concat())
}

/// Three traces of 40 tokens, of which the surest is right and two agree on something else.
fn unsure() -> Value {
    json!({
        "problem_id": "p", "gold": "7", "answers": ["7", "8", "8"], "lengths": [40, 40, 40],
        "confidences": [vec![20.0; 40], vec![1.0; 40], vec![1.0; 40]],
    })
}

#[test]
fn confidences_beside_answers_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "pool.jsonl", &lines(&[unsure()]));
    assert_eq!(replayed(&file, &[]).objects()[0]["answer"], "8");
    let weighted = ran(&["replay", &file, "--strategy", "weighted", "--json"]);
    assert_eq!(weighted.objects()[0]["answer"], "7", "{}", weighted.err);
    // the lengths are those of the confidences where none are given
    let mut without = unsure();
    without.as_object_mut().unwrap().remove("lengths");
    let file = write(&folder, "without.jsonl", &lines(&[without]));
    assert_eq!(replayed(&file, &[]).objects()[0]["tokens"]["generated"], 120);
    // one trace's are broken: it votes, without a weight
    for broken in [json!(["x"]), json!([1.0]), json!(3), json!([null])] {
        let mut pool = unsure();
        pool["confidences"][1] = broken.clone();
        let file = write(&folder, "broken.jsonl", &lines(&[pool]));
        let ran = replayed(&file, &[]);
        assert_eq!(ran.objects()[0]["answer"], "8", "{broken}");
        assert!(
            ran.err.contains("trace 1 of problem `p`, item 1"),
            "{broken}: {}",
            ran.err
        );
    }
    // log-probabilities too
    let mut likely = unsure();
    likely["logprobs"] = json!([vec![-0.1; 40], vec![-3.0; 40], vec![-3.0; 40]]);
    let file = write(&folder, "likely.jsonl", &lines(&[likely]));
    let voted = ran(&[
        "replay",
        &file,
        "--strategy",
        "weighted",
        "--vote",
        "logprob-weighted",
        "--json",
    ]);
    assert_eq!(voted.objects()[0]["answer"], "7", "{}", voted.err);
    let mut pool = unsure();
    pool["confidences"] = json!([[1.0]]);
    let ran = replayed(&write(&folder, "few.jsonl", &lines(&[pool])), &[]);
    assert!(ran.err.contains("are not one a trace"), "{}", ran.err);
}

#[test]
fn answers_under_another_key_are_named_or_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, object: Value| write(&folder, name, &lines(&[object]));
    let dump = |key: &str| {
        let trace = |answer: &str| {
            let mut trace = json!({"confs": [1.0, 2.0]});
            trace[key] = json!(answer);
            trace
        };
        json!({"qid": "q", "ground_truth": "5", "traces": [trace("5"), trace("5"), trace("6")]})
    };
    // DeepConf's own name and the usual one
    for key in ["extracted_answer", "answer"] {
        let result = replayed(&file("dump.jsonl", dump(key)), &[]).objects().remove(0);
        assert_eq!(
            (&result["answer"], &result["correct"]),
            (&json!("5"), &json!(true)),
            "{key}"
        );
    }
    let pool = json!({"problem_id": "q", "predictions": ["5", "5", "6"], "lengths": [1, 2, 3]});
    let single = json!({"problem_id": "q", "trace": 0, "prediction": "5", "tokens": 3});
    let text = json!({"problem_id": "q", "output": "so \\boxed{5}", "tokens": 3});
    let cases = [
        (dump("guess"), "answer=guess", "confs, guess"),
        (pool, "answer=predictions", "lengths, predictions, problem_id"),
        (
            single,
            "answer=prediction",
            "prediction, problem_id, tokens, trace",
        ),
        (text, "text=output", "output, problem_id, tokens"),
    ];
    for (object, field, fields) in cases {
        let file = file("other.jsonl", object);
        let sweep = folder.path().join("sweep").to_str().unwrap().to_owned();
        for command in [
            &["replay", &file, "--strategy", "majority"][..],
            &["sweep", "--replay", &file, "--run", &sweep],
            &["pilot", "--replay", &file],
            &["report", &file],
        ] {
            refused(
                command,
                &[
                    "other.jsonl",
                    "what a trace answered",
                    "--field answer=NAME",
                    fields,
                ],
            );
        }
        assert_eq!(
            replayed(&file, &["--field", field]).objects()[0]["answer"],
            "5",
            "{field}"
        );
        assert!(ran(&["report", &file, "--field", field]).out.contains("Problems"));
    }
    // two that may be it
    let both = file(
        "both.jsonl",
        json!({"qid": "q", "answer": "6", "prediction": "5", "tokens": 3}),
    );
    refused(
        &["replay", &both, "--strategy", "majority"],
        &["`answer` and `prediction`", "--field gold=NAME"],
    );
    let named = replayed(&both, &["--field", "answer=prediction", "--field", "gold=answer"]);
    assert_eq!(named.objects()[0]["correct"], false);
    // what else is called otherwise
    let long = file(
        "long.jsonl",
        json!({"problem_id": "q", "answers": ["5"], "sizes": [3]}),
    );
    refused(
        &["replay", &long, "--strategy", "majority"],
        &["how many tokens", "--field tokens=NAME", "sizes"],
    );
    assert_eq!(
        replayed(&long, &["--field", "tokens=sizes"]).objects()[0]["tokens"]["generated"],
        3
    );
    let sure = file(
        "sure.jsonl",
        json!({"problem_id": "q", "answers": ["5"], "scores": [[1.0, 2.0]], "lengths": [2]}),
    );
    refused(
        &["replay", &sure, "--strategy", "weighted"],
        &["confidence", "scores", "--field confidence=NAME"],
    );
    ran(&[
        "replay",
        &sure,
        "--strategy",
        "weighted",
        "--field",
        "confidence=scores",
    ]);
    refused(
        &["replay", &sure, "--strategy", "majority", "--field", "colour=red"],
        &["--field colour=red", "gold"],
    );
    // a sweep remembers what is what, so that its report finds the recording
    let guess = file("guess.jsonl", dump("guess"));
    let dir = folder.path().join("guesses").to_str().unwrap().to_owned();
    ran(&[
        "sweep",
        "--replay",
        &guess,
        "--strategies",
        "majority",
        "--traces",
        "1,3",
        "--run",
        &dir,
        "--field",
        "answer=guess",
    ]);
    let report = ran(&["report", &dir]);
    assert!(!report.err.contains("not at hand"), "{}", report.err);
}

#[test]
fn a_field_that_is_named_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let list = json!({"problem_id": "q", "gold": "5", "answers": ["5", "5"], "lengths": [1, 2]});
    let single = json!({"problem_id": "q", "trace": 0, "answer": "5", "tokens": 3, "gold": "5"});
    let dump = json!({"qid": "q", "ground_truth": "5", "traces": [{"answer": "5", "confs": [1.0, 2.0]}]});
    for object in [list, single, dump] {
        let file = write(&folder, "recording.jsonl", &lines(&[object]));
        for field in ["text=nope", "gold=nope", "confidence=nope", "id=nope"] {
            let command = ["replay", &file, "--strategy", "majority", "--field", field];
            refused(
                &command,
                &[field, "nope", "recording.jsonl", "a line has the fields"],
            );
        }
    }
}

#[test]
fn what_contradicts_itself_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let said = |object: Value, parts: &[&str]| {
        let ran = replayed(&write(&folder, "two.jsonl", &lines(&[object])), &[]);
        for part in parts {
            assert!(ran.err.contains(part), "{part}: {}", ran.err);
        }
        ran.objects().remove(0)
    };
    let golds = &["right answers that differ", "`gold` is 5", "--field gold=NAME"];
    let pool = json!({"problem_id": "q", "answers": ["5", "5"], "lengths": [1, 2], "gold": "5"});
    for (name, other) in [
        ("answer", json!("6")),
        ("ground_truth", json!(7)),
        ("target", json!("x")),
    ] {
        let mut pool = pool.clone();
        pool[name] = other;
        assert_eq!(said(pool, golds)["correct"], true, "{name}");
    }
    let single = json!({"problem_id": "q", "answer": "5", "tokens": 2, "gold": "5", "ground_truth": "6"});
    said(single, golds);
    let mut same = pool.clone();
    (same["answer"], same["ground_truth"]) = (json!("5.0"), json!(5));
    let ran = replayed(&write(&folder, "same.jsonl", &lines(&[same])), &[]);
    assert!(!ran.err.contains("differ"), "{}", ran.err);
    // both kinds of a problem
    let mut both = pool.clone();
    both["traces"] = json!([{"answer": "6", "tokens": 3}]);
    let result = said(both, &["the list of answers counts"]);
    assert_eq!(result["answer"], "5");
    let mut few = pool;
    few["texts"] = json!(["so \\boxed{5}"]);
    said(few, &["`texts` or `finish_reasons` are not one a trace"]);
    // a length and a confidence under two names
    let mut long = json!({"problem_id": "q", "answer": "5", "tokens": 5, "num_tokens": 9, "gold": "5"});
    said(long.clone(), &["under two names", "`num_tokens` and `tokens`"]);
    long["num_tokens"] = json!(5);
    let ran = replayed(&write(&folder, "same.jsonl", &lines(&[long])), &[]);
    assert!(!ran.err.contains("two names"), "{}", ran.err);
    let mut sure = unsure();
    sure["confs"] = json!([vec![1.0; 40], vec![1.0; 40], vec![1.0; 40]]);
    said(sure, &["`confs` and `confidences`"]);
    // one problem in two shapes
    let list = json!({"problem_id": "q", "gold": "5", "answers": ["5", "5"], "lengths": [1, 2]});
    let single = json!({"problem_id": "q", "trace": 0, "answer": "6", "tokens": 3, "gold": "6"});
    let ran = replayed(&write(&folder, "shapes.jsonl", &lines(&[list, single])), &[]);
    assert_eq!(ran.objects().len(), 1, "{}", ran.err);
    assert!(ran.err.contains("stand in the recording before"), "{}", ran.err);
    // an answer of the recording's own beside the text
    let text = json!({"problem_id": "q", "text": "so \\boxed{6}", "prediction": "5", "tokens": 3});
    let file = write(&folder, "text.jsonl", &lines(&[text]));
    refused(
        &["replay", &file, "--strategy", "majority"],
        &["what a trace answered", "prediction", "--field answer=NAME"],
    );
    for (field, answer) in [("answer=prediction", "5"), ("text=text", "6")] {
        assert_eq!(
            replayed(&file, &["--field", field]).objects()[0]["answer"],
            answer
        );
    }
}

#[test]
fn how_a_trace_ended_is_read_in_the_words_of_engines() {
    let folder = tempfile::tempdir().unwrap();
    let trace = |i: usize, answer: &str, end: (&str, &str)| {
        let mut trace = json!({"problem_id": "q", "trace": i, "answer": answer, "tokens": 9, "gold": "5"});
        trace[end.0] = json!(end.1);
        trace
    };
    let lines_of = |key: &str| {
        let ends = [("73", "length"), ("73", "length"), ("5", "stop")];
        let all: Vec<Value> = (0..3).map(|i| trace(i, ends[i].0, (key, ends[i].1))).collect();
        lines(&all)
    };
    for key in ["finish", "finish_reason", "stop_reason"] {
        let result = replayed(&write(&folder, "ends.jsonl", &lines_of(key)), &[])
            .objects()
            .remove(0);
        assert_eq!(result["answer"], "5", "traces that were cut have no vote: {key}");
        let unknown = lines_of(key).replace("stop\"", "bored\"");
        let ran = Ran::of(&mut tts(&[
            "replay",
            &write(&folder, "odd.jsonl", &unknown),
            "--strategy",
            "majority",
        ]));
        assert!(ran.err.contains("unknown `finish`"), "{key}: {}", ran.err);
    }
    let pool = json!({"problem_id": "q", "gold": "5", "answers": ["73", "73", "5"], "lengths": [9, 9, 9],
        "finish_reasons": ["length", "length", "stop"]});
    let result = replayed(&write(&folder, "pool.jsonl", &lines(&[pool])), &[])
        .objects()
        .remove(0);
    assert_eq!(result["answer"], "5");
}

#[test]
fn a_set_that_contradicts_itself_is_said_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let solved = |name: &str, text: &str| {
        let args = [
            "solve",
            "--data",
            &write(&folder, name, text),
            "--traces",
            "1",
            "--max-tokens",
            "2",
        ];
        Ran::of(&mut tts(&args)).err
    };
    let golds = solved(
        "golds.jsonl",
        "{\"id\":\"a\",\"question\":\"Find 3\",\"answer\":\"5\",\"gold\":\"6\"}",
    );
    assert!(
        golds.contains("another answer in the field gold") && golds.contains("--field answer"),
        "{golds}"
    );
    let same = solved(
        "same.jsonl",
        "{\"id\":\"a\",\"question\":\"Find 3\",\"answer\":\"5\",\"gold\":5.0}",
    );
    assert!(!same.contains("another answer"), "{same}");
    let asked = solved(
        "asked.jsonl",
        "{\"id\":\"a\",\"question\":\"Find 3\",\"problem\":\"Find 4\",\"answer\":\"5\"}",
    );
    assert!(asked.contains("another question in the field problem"), "{asked}");
    for (header, column) in [
        ("id,question,answer,answer", "answer"),
        ("id,question,question,answer", "question"),
    ] {
        let file = write(&folder, "twice.csv", &format!("{header}\na,Find 3,5,6\n"));
        refused(
            &["solve", "--data", &file],
            &["twice.csv", column, "stands twice"],
        );
    }
}

#[test]
fn a_trace_without_a_length_has_no_vote_and_its_problem_stays() {
    let folder = tempfile::tempdir().unwrap();
    let good = json!({"problem_id": "b", "gold": "5", "answers": ["5", "5"], "lengths": [10, 10]});
    for bad in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!(null),
        json!("10"),
        json!(1e300),
        json!([]),
    ] {
        // the first trace would decide
        let pool =
            json!({"problem_id": "a", "gold": "73", "answers": ["5", "5", "73"], "lengths": [bad, bad, 10]});
        let file = write(&folder, "pool.jsonl", &lines(&[pool, good.clone()]));
        let run = replayed(&file, &[]);
        let results = run.objects();
        assert_eq!(
            (results.len(), &results[0]["answer"], &results[0]["correct"]),
            (2, &json!("73"), &json!(true)),
            "{bad}"
        );
        assert_eq!(results[0]["traces"]["failed"], 2, "{bad}");
        assert!(
            run.err.contains("trace 0 of problem `a`, line 1") && run.err.contains("no vote"),
            "{bad}: {}",
            run.err
        );
        // and in lines of single traces
        let single = |trace: i32, answer: &str, tokens: &Value| json!({"problem_id": "a", "trace": trace, "answer": answer, "tokens": tokens, "gold": "73"});
        let all = lines(&[
            single(1, "73", &json!(10)),
            single(0, "5", &bad),
            single(2, "5", &bad),
        ]);
        let run = replayed(&write(&folder, "traces.jsonl", &all), &[]);
        assert_eq!(
            (&run.objects()[0]["answer"], &run.objects()[0]["traces"]["failed"]),
            (&json!("73"), &json!(2)),
            "{bad}"
        );
        assert!(
            run.err.contains("trace 0 of problem `a`, line 2"),
            "{bad}: {}",
            run.err
        );
    }
    // lists that are none, and a problem without any
    for none in [
        json!({"answers": null, "lengths": [3]}),
        json!({"answers": "5"}),
        json!({"answers": [], "lengths": []}),
        json!({}),
    ] {
        let mut pool = json!({"problem_id": "a", "gold": "5"});
        pool.as_object_mut()
            .unwrap()
            .extend(none.as_object().unwrap().clone());
        for order in [[good.clone(), pool.clone()], [pool, good.clone()]] {
            let file = write(&folder, "none.jsonl", &lines(&order));
            let run = ran(&["replay", &file, "--strategy", "majority"]);
            assert!(
                run.err.contains("1 of 2 right") && run.err.contains("problem `a`"),
                "{none}: {}",
                run.err
            );
        }
    }
    // problems of which nothing is left count as not answered, everywhere
    let broken = [
        json!({"problem_id": "a", "gold": "5", "answers": ["5"], "lengths": [0]}),
        json!({"problem_id": "c", "gold": "5", "answers": ["5"]}),
        json!({"problem_id": "d", "gold": "5", "answers": ["5", "5"], "lengths": [1]}),
    ];
    let file = write(
        &folder,
        "broken.jsonl",
        &(lines(std::slice::from_ref(&good)) + &lines(&broken)),
    );
    let run = ran(&["replay", &file, "--strategy", "majority"]);
    assert!(run.err.contains("1 of 4 right"), "{}", run.err);
    let dir = folder.path().join("sweep").to_str().unwrap().to_owned();
    let swept = ran(&[
        "sweep",
        "--replay",
        &file,
        "--strategies",
        "majority",
        "--traces",
        "1,2",
        "--run",
        &dir,
        "--json",
    ]);
    let row = &swept.objects()[0];
    assert_eq!(
        (&row["graded"], &row["accuracy"]["mean"]),
        (&json!(4), &json!(0.25)),
        "{row}"
    );
    assert!(
        swept
            .err
            .contains("3 problems without a complete trace, counted as not answered (the first: a)"),
        "{}",
        swept.err
    );
    let singles = [
        json!({"problem_id": "a", "trace": 0, "answer": "5", "tokens": 3, "gold": "5"}),
        json!({"problem_id": "b", "trace": 0, "answer": "5", "tokens": 0, "gold": "5"}),
        json!({"problem_id": "c", "trace": "x", "answer": "5", "tokens": 3, "gold": "5"}),
        json!({"problem_id": "d", "trace": 0, "answer": "5", "tokens": 3, "finish": "bored", "gold": "5"}),
        json!({"problem_id": "e", "trace": 0, "answer": ["5"], "tokens": 3, "confidence": "high", "gold": "5"}),
    ];
    let run = ran(&[
        "replay",
        &write(&folder, "singles.jsonl", &lines(&singles)),
        "--strategy",
        "majority",
    ]);
    for part in [
        "1 of 5 right",
        "problem `b`, line 2",
        "problem `c`, line 3",
        "problem `d`, line 4",
        "trace 0 of problem `e`",
    ] {
        assert!(run.err.contains(part), "{part}: {}", run.err);
    }
}

#[test]
fn right_answers_are_found_or_their_absence_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for key in [
        "gold",
        "ground_truth",
        "target",
        "gold_answer",
        "expected_answer",
        "correct_answer",
        "answer",
        "solution",
    ] {
        let right = if key == "solution" { "so \\boxed{5}" } else { "5" };
        let mut pool = json!({"problem_id": "q", "answers": ["5"], "lengths": [3]});
        pool[key] = json!(right);
        let result = replayed(&write(&folder, "pool.jsonl", &lines(&[pool])), &[])
            .objects()
            .remove(0);
        assert_eq!(
            (&result["gold"], &result["correct"]),
            (&json!("5"), &json!(true)),
            "{key}"
        );
        let set =
            json!({"qid": "x", "prompt": "Find the greatest common divisor of 437 and 161.", key: right});
        let file = write(&folder, "set.jsonl", &lines(&[set]));
        let solved = ran(&[
            "solve",
            "--data",
            &file,
            "--traces",
            "1",
            "--max-tokens",
            "4",
            "--json",
        ])
        .objects()
        .remove(0);
        assert_eq!(
            (&solved["gold"], &solved["problem_id"]),
            (&json!("5"), &json!("x")),
            "{key}"
        );
    }
    let pool = json!({"problem_id": "q", "answers": ["5"], "lengths": [3], "label": "5"});
    let file = write(&folder, "pool.jsonl", &lines(&[pool]));
    let run = replayed(&file, &[]);
    assert!(
        run.err.contains("nothing is graded")
            && run.err.contains("label")
            && run.err.contains("--field gold=NAME"),
        "{}",
        run.err
    );
    assert_eq!(
        replayed(&file, &["--field", "gold=label"]).objects()[0]["correct"],
        true
    );
    let strangers = write(
        &folder,
        "set.jsonl",
        "{\"id\": \"other\", \"question\": \"?\", \"answer\": 5}\n",
    );
    refused(
        &["replay", &file, "--strategy", "majority", "--data", &strangers],
        &["`q` there, `other` here"],
    );
    let set = "{\"qid\": 1, \"prompt\": \"a\", \"label\": \"5\"}\n{\"qid\": 2, \"prompt\": \"b\", \"label\": \"5\"}\n";
    let set = write(&folder, "labels.jsonl", set);
    let solve = ["solve", "--data", &set, "--traces", "1", "--max-tokens", "2"];
    let run = Ran::of(&mut tts(&solve));
    assert!(
        run.err.contains("no answers to grade by")
            && run.err.contains("qid, prompt, label")
            && run.err.contains("--field answer=NAME"),
        "{}",
        run.err
    );
    let run = Ran::of(&mut tts(&[&solve[..], &["--field", "answer=label"]].concat()));
    assert!(run.err.contains(" of 2 right"), "{}", run.err);
}

#[test]
fn a_set_or_a_replay_without_a_single_answer_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let none = |id: &str| json!({"problem_id": id, "gold": "5", "answers": [null, ""], "lengths": [3, 3]});
    let file = write(&folder, "none.jsonl", &lines(&[none("a"), none("b")]));
    let code = |args: &[&str]| Ran::of(&mut tts(args)).code;
    assert_eq!(code(&["replay", &file, "--strategy", "majority"]), 1);
    let some = json!({"problem_id": "c", "gold": "5", "answers": ["5"], "lengths": [3]});
    let file = write(&folder, "some.jsonl", &lines(&[none("a"), some]));
    assert_eq!(code(&["replay", &file, "--strategy", "majority"]), 0);
    let set =
        "{\"question\": \"Find the greatest common divisor of 437 and 161.\", \"answer\": 23}\n".repeat(2);
    let set = write(&folder, "set.jsonl", &set);
    assert_eq!(
        code(&[
            "solve",
            "--data",
            &set,
            "--traces",
            "1",
            "--max-tokens",
            "1",
            "--answer-pattern",
            "(never)"
        ]),
        1
    );
}

#[test]
fn a_pilot_looks_at_what_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let pool = |id: &str, lengths: Value| json!({"problem_id": id, "gold": "5", "answers": ["5", "5", "6"], "lengths": lengths});
    let pools = [
        pool("a", json!([3, 0, 3])),
        pool("b", json!([3, 3, 3])),
        pool("c", json!([0, 0, 0])),
    ];
    let file = write(&folder, "pools.jsonl", &lines(&pools));
    let run = ran(&["pilot", "--replay", &file, "--draws", "2", "--json"]);
    let pilot = &run.objects()[0];
    assert_eq!((&pilot["problems"], &pilot["traces"]), (&json!(2), &json!(5)));
    let notes = pilot["notes"].to_string();
    assert!(
        notes.contains("1 problem without a trace that can be read, left out (the first: c)"),
        "{notes}"
    );
}

#[test]
fn whole_numbers_keep_their_digits_and_a_key_stands_once() {
    let folder = tempfile::tempdir().unwrap();
    // as floats all three would be one
    let long = "{\"problem_id\": \"p\", \"gold\": 5, \"lengths\": [1, 1, 1, 1, 1], \"answers\": \
                [123456789012345678901, 123456789012345678902, 5, 5, 123456789012345678903]}";
    let file = write(&folder, "long.jsonl", long);
    let replayed = ran(&["replay", &file, "--strategy", "majority", "--json"]);
    assert_eq!(replayed.objects()[0]["answer"], "5");
    let grade = |line: &str| Ran::of(tts(&["grade"]).write_stdin(line.to_owned()));
    let other = grade("{\"prediction\": 123456789012345678901, \"gold\": 123456789012345678900}");
    assert_eq!(other.objects()[0]["equal"], false);
    let twice = grade("{\"prediction\": \"5\", \"prediction\": \"73\", \"gold\": \"73\"}");
    assert_eq!(twice.code, 2);
    assert!(twice.err.contains("`prediction` stands twice"), "{}", twice.err);
    let set = write(
        &folder,
        "set.jsonl",
        "{\"id\": 123456789012345678901, \"problem\": \"a\"}\n{\"id\": 123456789012345678902, \"problem\": \"b\"}\n",
    );
    let plan = ran(&[
        "solve",
        "--data",
        &set,
        "--traces",
        "1",
        "--dry-run",
        "--strategy",
        "majority",
    ]);
    assert!(plan.err.contains("2") || plan.out.contains("2"), "{}", plan.out);
    let doubled = write(
        &folder,
        "twice.jsonl",
        "{\"problem\": \"a\", \"answer\": \"5\", \"answer\": \"7\"}",
    );
    refused(
        &["solve", "--data", &doubled, "--traces", "1"],
        &["`answer` stands twice"],
    );
    let pool = "{\"problem_id\": \"p\", \"gold\": \"73\", \"lengths\": [1], \"answers\": [\"5\"], \"answers\": [\"73\"]}\n\
                {\"problem_id\": \"q\", \"gold\": \"1\", \"lengths\": [1], \"answers\": [\"1\"]}\n";
    let file = write(&folder, "pool.jsonl", pool);
    let replayed = ran(&["replay", &file, "--strategy", "majority"]);
    assert!(replayed.err.contains("a key stands twice"), "{}", replayed.err);
}

#[test]
fn a_set_without_a_problem_of_the_recording_is_another_set() {
    let folder = tempfile::tempdir().unwrap();
    let pool = "{\"problem_id\": \"p\", \"gold\": \"1\", \"lengths\": [1, 1], \"answers\": [\"1\", \"1\"]}\n";
    let pool = write(&folder, "pool.jsonl", pool);
    let set = write(
        &folder,
        "set.jsonl",
        "{\"id\": \"other\", \"problem\": \"a\", \"answer\": \"1\"}\n",
    );
    for args in [
        &["replay", &pool, "--strategy", "majority", "--data", &set][..],
        &["pilot", "--replay", &pool, "--data", &set],
    ] {
        refused(args, &["`p` there", "`other` here"]);
    }
}

#[test]
fn problems_without_a_right_answer_are_counted_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let pool = "{\"problem_id\": \"p\", \"gold\": \"1\", \"lengths\": [1], \"answers\": [\"1\"]}\n\
                {\"problem_id\": \"q\", \"gold\": null, \"lengths\": [1], \"answers\": [\"1\"]}\n";
    let pool = write(&folder, "pool.jsonl", pool);
    let replayed = ran(&["replay", &pool, "--strategy", "majority"]);
    assert!(
        replayed.err.contains("1 problem without a right answer"),
        "{}",
        replayed.err
    );
}

#[test]
fn confidences_that_none_can_be_do_not_vote() {
    let folder = tempfile::tempdir().unwrap();
    let pool = |confidences: &str| {
        let line = format!(
            "{{\"problem_id\": \"p\", \"gold\": \"73\", \"lengths\": [1, 1, 1], \"answers\": [\"73\", \"73\", \"5\"], \
             \"confidences\": {confidences}}}\n"
        );
        write(&folder, "pool.jsonl", &line)
    };
    let weighted = |file: &str| ran(&["replay", file, "--strategy", "weighted", "--json"]);
    let sound = weighted(&pool("[[1.0], [1.0], [9.0]]"));
    assert_eq!(sound.objects()[0]["answer"], "5");
    let run = weighted(&pool("[[-1.0], [-1.0], [0.5]]"));
    assert!(run.err.contains("confidences below 0"), "{}", run.err);
}
