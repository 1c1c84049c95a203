//! `tts solve --run`: nothing finished is lost, and nothing is done twice.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{GCD, Ran, ran, refused, tts};

fn settled(mut object: Value) -> Value {
    for field in ["seconds", "machine", "outside"] {
        object.as_object_mut().unwrap().remove(field);
    }
    object
}

#[test]
fn the_same_command_prints_the_same_without_work_and_other_traces_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run").to_str().unwrap().to_owned();
    let args = [
        "solve",
        GCD,
        "--traces",
        "10",
        "--max-tokens",
        "150",
        "--json",
        "--run",
        &dir,
    ];
    let first = ran(&args);
    let plain = ran(&args[..7]);
    assert_eq!(
        settled(first.objects().remove(0)),
        settled(plain.objects().remove(0)),
        "recording changes nothing"
    );
    let lines = || {
        fs::read_to_string(format!("{dir}/traces.jsonl"))
            .unwrap()
            .lines()
            .count()
    };
    let before = lines();
    assert!(before > 0);
    let again = ran(&args);
    assert_eq!(first.out, again.out, "printed again, seconds and all");
    assert_eq!(lines(), before);
    let manifest: Value = serde_json::from_slice(&fs::read(format!("{dir}/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["status"], "finished");
    // another strategy and more traces go on with it
    let more = ran(&[
        "solve",
        GCD,
        "--traces",
        "14",
        "--max-tokens",
        "150",
        "--strategy",
        "majority",
        "--json",
        "--run",
        &dir,
    ]);
    let fresh = ran(&[
        "solve",
        GCD,
        "--traces",
        "14",
        "--max-tokens",
        "150",
        "--strategy",
        "majority",
        "--json",
    ]);
    assert_eq!(
        settled(more.objects().remove(0)),
        settled(fresh.objects().remove(0))
    );
    assert!(lines() > before);
    // another seed would mix traces that do not belong together
    refused(
        &[
            "solve",
            GCD,
            "--seed",
            "1",
            "--traces",
            "10",
            "--max-tokens",
            "150",
            "--run",
            &dir,
        ],
        &["seed", "other settings"],
    );
    refused(
        &[
            "solve",
            GCD,
            "--temperature",
            "0.5",
            "--traces",
            "10",
            "--max-tokens",
            "150",
            "--run",
            &dir,
        ],
        &["temperature"],
    );
    let held = |format| {
        [
            "solve",
            GCD,
            "--kv-dtype",
            format,
            "--traces",
            "10",
            "--max-tokens",
            "150",
            "--run",
            &dir,
        ]
    };
    refused(&held("q8_0"), &["kv_dtype", "\"bf16\"", "\"q8_0\""]);
    // what it was by itself may be said aloud
    ran(&held("bf16"));
}

#[test]
fn a_killed_run_goes_on_and_ends_as_if_it_had_not_been() {
    killed(&[], &[]);
}

/// Its states lie beside its traces, codes and all.
#[test]
fn a_killed_run_with_8_bit_keys_and_values_goes_on_from_its_states() {
    killed(&["--kv-dtype", "q8_0"], &["--checkpoint", "0.01"]);
}

/// Traces that go on from others, and traces that were shown others.
#[test]
fn a_killed_run_whose_traces_are_made_from_others_goes_on() {
    let often = ["--checkpoint", "0.01"];
    let sure = ["--certainty", "0.9999", "--most-traces"];
    let with = |more: &[&'static str]| [more, &sure[..]].concat();
    killed(
        &[
            &with(&["--strategy", "continuation", "--spacing", "8"])[..],
            &["20"],
        ]
        .concat(),
        &often,
    );
    killed(
        &[&with(&["--strategy", "second-look"])[..], &["6"]].concat(),
        &often,
    );
    killed(
        &["--strategy", "particles", "--alpha", "1.5", "--spacing", "16"],
        &often,
    );
}

fn killed(with: &[&str], recording: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run").to_str().unwrap().to_owned();
    let args = [
        "solve",
        "--data",
        "heldout",
        "--limit",
        "3",
        "--traces",
        "40",
        "--slots",
        "4",
        "--max-tokens",
        "300",
        "--json",
    ];
    let args = [&args[..], with].concat();
    let recorded = [&args[..], &["--run", &dir], recording].concat();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tts"))
        .args(&recorded)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let traces = || {
        fs::read_to_string(format!("{dir}/traces.jsonl"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    let patience = Instant::now();
    while traces() < 8 && patience.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = traces();
    assert!(kept >= 8);
    let on = ran(&recorded);
    assert!(on.err.contains("going on"), "{}", on.err);
    let whole = ran(&args);
    let settle = |objects: Vec<Value>| objects.into_iter().map(settled).collect::<Vec<_>>();
    assert_eq!(settle(on.objects()), settle(whole.objects()));
}

/// Numbers that look random and are always the same.
fn drawn(n: usize, below: u64) -> Vec<u64> {
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % below
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn a_recording_killed_at_twenty_points_equals_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let base = [
        "solve",
        "--data",
        "heldout",
        "--limit",
        "4",
        "--traces",
        "24",
        "--slots",
        "5",
        "--max-tokens",
        "150",
        "--strategy",
        "deepconf-low",
        "--consensus",
        "off",
        "--threads",
        "1",
        "--json",
    ];
    let whole = ran(&[&base[..], &["--run", &dir("whole")]].concat());
    let size = |name: &str| fs::metadata(format!("{}/traces.jsonl", dir(name))).map_or(0, |m| m.len());
    let mut points = drawn(20, size("whole"));
    points.sort_unstable();
    // traces in flight are kept too, at every turn, so the process is killed in the middle of traces as well
    // as between them
    let killed = dir("killed");
    let recorded = [&base[..], &["--run", &killed, "--checkpoint", "0.000001"]].concat();
    for (i, point) in points.into_iter().enumerate() {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tts"))
            .args(if i % 2 == 0 {
                &recorded[..]
            } else {
                &recorded[..recorded.len() - 2]
            })
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let patience = Instant::now();
        while size("killed") <= point
            && child.try_wait().unwrap().is_none()
            && patience.elapsed() < Duration::from_secs(120)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let on = ran(&recorded);
    let settle = |objects: Vec<Value>| objects.into_iter().map(settled).collect::<Vec<_>>();
    assert_eq!(settle(on.objects()), settle(whole.objects()));
    let ended = |name: &str| {
        let text = fs::read_to_string(format!("{}/traces.jsonl", dir(name))).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        let mut ended: Vec<_> = lines
            .filter(|l| l["finish"] == "stop" || l["finish"] == "length")
            .map(|l| {
                (
                    l["problem_id"].to_string(),
                    l["trace"].as_u64(),
                    l["tokens"].as_u64(),
                    l["text"].to_string(),
                    l["scores"].to_string(),
                )
            })
            .collect();
        ended.sort();
        ended
    };
    assert_eq!(
        ended("killed"),
        ended("whole"),
        "every trace ended once, as it would have"
    );
    let replayed = |name: &str| settle(ran(&["replay", &dir(name), "--json"]).objects());
    assert_eq!(replayed("killed"), replayed("whole"));
}

#[test]
fn traces_in_flight_are_kept_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run").to_str().unwrap().to_owned();
    refused(
        &["solve", GCD, "--checkpoint", "0", "--run", &dir],
        &["--checkpoint"],
    );
    let without = super::Ran::of(&mut super::tts(&["solve", GCD, "--checkpoint", "5"]));
    assert!(
        without.code == 2 && without.err.contains("--run"),
        "{}",
        without.err
    );
    ran(&[
        "solve",
        GCD,
        "--traces",
        "3",
        "--max-tokens",
        "400",
        "--checkpoint",
        "0.000001",
        "--run",
        &dir,
    ]);
    let text = fs::read_to_string(format!("{dir}/traces.jsonl")).unwrap();
    let in_flight = text
        .lines()
        .filter(|l| l.contains("\"finish\":\"cancelled\""))
        .count();
    assert!(in_flight > 3, "{text}");
}

#[test]
fn a_run_keeps_the_day_that_its_template_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (template, dir) = (at("t.jinja"), at("run"));
    fs::write(
        &template,
        "{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}",
    )
    .unwrap();
    let begin = [
        "solve",
        GCD,
        "--max-tokens",
        "4",
        "--json",
        "--chat-template",
        &template,
        "--run",
        &dir,
    ];
    fn with<'a>(begin: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [begin, more].concat()
    }
    // four tokens are hardly an answer, which is no fault
    let day = |more: &[&str]| {
        let ran = Ran::of(&mut tts(&with(&begin, more)));
        assert!(ran.code < 2, "{}", ran.err);
        ran.objects()[0]["date"].clone()
    };
    // a day that no clock shows now
    assert_eq!(day(&["--traces", "2", "--date", "2024-02-29"]), "2024-02-29");
    assert_eq!(day(&["--traces", "4"]), "2024-02-29", "gone on with another day");
    let manifest = fs::read_to_string(folder.path().join("run/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["traces"]["date"], "2024-02-29");
    refused(
        &with(&begin, &["--traces", "4", "--date", "2024-03-01"]),
        &["date", "2024-02-29", "2024-03-01"],
    );
    refused(
        &with(&begin, &["--traces", "4", "--date", "29.2.2024"]),
        &["--date", "2026-11-30"],
    );
    let prompt = |more: &[&str]| {
        let args = ["solve", GCD, "--dry-run", "--chat-template", &template];
        ran(&[&args[..], more].concat()).out
    };
    assert!(prompt(&["--date", "2024-02-29"]).contains("29 Feb 2024"));
    // a template without a clock says nothing of a day
    let plain = Ran::of(&mut tts(&[
        "solve",
        GCD,
        "--traces",
        "1",
        "--max-tokens",
        "4",
        "--json",
    ]));
    assert!(plain.objects()[0].get("date").is_none());
}

/// A finished run that was damaged, gone on with by the same command: its result is the one before, what was damaged
/// is kept, and a sentence says so.
fn mended(damage: impl Fn(&Path), says: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let args = [
        "solve",
        GCD,
        "--traces",
        "6",
        "--strategy",
        "majority",
        "--json",
        "--run",
        dir.to_str().unwrap(),
    ];
    let first = ran(&args);
    let lines = || {
        fs::read_to_string(dir.join("traces.jsonl"))
            .unwrap()
            .lines()
            .count()
    };
    let before = lines();
    damage(&dir);
    let damaged = fs::read(dir.join("traces.jsonl")).unwrap();
    let again = ran(&args);
    assert_eq!(
        settled(first.objects().remove(0)),
        settled(again.objects().remove(0))
    );
    assert_eq!(lines(), before);
    assert!(says.iter().all(|part| again.err.contains(part)), "{}", again.err);
    assert_eq!(fs::read(dir.join("traces.jsonl.damaged")).unwrap(), damaged);
    assert!(!ran(&args).err.contains("damaged"), "said once");
}

#[test]
fn a_line_that_is_not_what_was_written_is_put_aside_and_made_again() {
    for (from, to) in [
        // the answer of a text, the count of its tokens, how it ended, and which trace it is
        ("\\\\boxed{", "\\\\boxed{9"),
        ("\"tokens\":", "\"tokens\":1"),
        ("\"finish\":\"stop\"", "\"finish\":\"length\""),
        ("\"trace\":0", "\"trace\":7"),
        ("\"arrays\":", "\"array\":"),
        ("\"line_check\":\"", "\"line_check\":\"0"),
    ] {
        let damage = |dir: &Path| {
            let file = dir.join("traces.jsonl");
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains(from), "{from}: {text}");
            fs::write(&file, text.replacen(from, to, 1)).unwrap();
            fs::write(dir.join("problems.jsonl"), "").unwrap();
        };
        mended(damage, &["line_check", "traces.jsonl.damaged"]);
    }
}

#[test]
fn arrays_that_are_gone_are_made_again_and_what_there_was_is_kept() {
    let damage = |dir: &Path| {
        let file = fs::File::options()
            .write(true)
            .open(dir.join("tokens.bin"))
            .unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    mended(damage, &["solved again", "traces.jsonl.damaged"]);
}

#[test]
fn arrays_that_are_not_what_was_written_are_made_again_too() {
    // one bit at the beginning, zeros where a page was lost, and the last byte
    for (part, zeros) in [(0.0, 0), (0.4, 64), (1.0, 0)] {
        let damage = |dir: &Path| {
            let file = dir.join("tokens.bin");
            let mut bytes = fs::read(&file).unwrap();
            let at = ((bytes.len() - 1) as f64 * part) as usize;
            bytes[at] ^= 1;
            bytes[at..][..zeros].fill(0);
            fs::write(&file, bytes).unwrap();
        };
        mended(
            damage,
            &["not what was written", "solved again", "traces.jsonl.damaged"],
        );
    }
}

#[test]
fn variables_of_a_template_are_set_recorded_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (template, dir) = (at("t.jinja"), at("run"));
    let text = "{% if think is defined and not think %}no {% endif %}{{ effort | default('low') }} \
                {{ messages[0].content }}";
    fs::write(&template, text).unwrap();
    let base = ["solve", GCD, "--chat-template", &template];
    let prompt = |args: &[&str]| {
        let set = args
            .iter()
            .flat_map(|arg| ["--template-arg", arg])
            .collect::<Vec<_>>();
        ran(&[&base[..], &["--dry-run"], &set].concat()).out
    };
    assert!(prompt(&[]).contains("low Find") && !prompt(&[]).contains("no low"));
    assert!(
        prompt(&["think=false"]).contains("no low Find"),
        "JSON where it is some"
    );
    let set = prompt(&["think=false", "effort=very high"]);
    assert!(set.contains("no very high Find"), "{set}");
    assert!(prompt(&["effort=3"]).contains("3 Find") && prompt(&["effort=\"3\""]).contains("3 Find"));
    for (args, parts) in [
        (&["efort=3"][..], &["efort", "effort, think", "t.jinja"][..]),
        (&["messages=3"], &["messages", "effort, think"]),
        (&["think"], &["NAME=VALUE"]),
        (&["=3"], &["no name"]),
        (&["a b=3"], &["`a b` is no name"]),
        (&["think=true", "think=true"], &["think", "twice"]),
    ] {
        let set = args
            .iter()
            .flat_map(|arg| ["--template-arg", arg])
            .collect::<Vec<_>>();
        refused(&[&base[..], &set].concat(), parts);
    }
    // a run is one of these prompts
    let begin = [
        &base[..],
        &[
            "--max-tokens",
            "4",
            "--traces",
            "2",
            "--run",
            &dir,
            "--template-arg",
        ],
    ]
    .concat();
    assert!(Ran::of(&mut tts(&[&begin[..], &["effort=high"]].concat())).code < 2);
    let manifest = fs::read_to_string(folder.path().join("run/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["traces"]["template_variables"]["effort"], "high");
    refused(
        &[&begin[..], &["effort=low"]].concat(),
        &["template_variables", "high", "low"],
    );
    // the template of an engine elsewhere is its own
    refused(
        &[
            "solve",
            GCD,
            "--backend",
            "http://127.0.0.1:9/v1",
            "--template-arg",
            "think=false",
        ],
        &["--template-arg", "--backend-api completions"],
    );
}
