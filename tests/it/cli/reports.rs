//! `tts report` and `tts pilot`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{copy_of, path, ran, refused};

/// A copy of the recorded run, to write into.
fn recorded() -> (tempfile::TempDir, String) {
    let copy = copy_of(&PathBuf::from(path("report/run")));
    let run = copy.path().to_str().unwrap().to_owned();
    (copy, run)
}

#[test]
fn a_report_stands_in_its_folder_and_is_made_again() {
    let (folder, run) = recorded();
    let at = |name: &str| folder.path().join(name);
    let object = ran(&["report", &run, "--json"]).objects().remove(0);
    let kept = |name: &str| -> Value { serde_json::from_slice(&fs::read(at(name)).unwrap()).unwrap() };
    assert_eq!(kept("results.json"), object);
    let svg = fs::read(at("plots/accuracy-tokens.svg")).unwrap();
    assert!(fs::metadata(at("plots/accuracy-tokens.png")).unwrap().len() > 1000);
    fs::remove_dir_all(at("plots")).unwrap();
    fs::write(at("results.json"), "what is this").unwrap();
    ran(&["report", &run, "--quiet"]);
    assert_eq!(
        (
            kept("results.json"),
            fs::read(at("plots/accuracy-tokens.svg")).unwrap()
        ),
        (object, svg)
    );
    // nothing that is written there stands in the way of going on, and one that cannot be written is no error
    fs::remove_file(at("results.json")).unwrap();
    fs::create_dir(at("results.json")).unwrap();
    assert!(
        ran(&["report", &run])
            .err
            .contains("results.json cannot be written")
    );
}

#[test]
fn a_report_in_every_form() {
    let (_copy, run) = recorded();
    let plain = ran(&["report", &run]).out;
    for part in [
        "Strategies",
        "deepconf-low",
        "Tokens a problem, by fate",
        "AUROC",
        "pass@12",
        "keep_top",
        "prompter",
    ] {
        assert!(plain.contains(part), "{part}");
    }
    assert!(ran(&["report", &run, "--markdown"]).out.starts_with("# run "));
    let csv = ran(&["report", &run, "--csv"]).out;
    assert!(
        csv.starts_with("series,strategy,slots,budget,accuracy.mean,"),
        "{csv}"
    );
    assert_eq!(ran(&["report", &run, "--csv", "problems"]).out.lines().count(), 7);
    let objects = ran(&["report", &run, "--json"]).objects();
    assert_eq!(
        (objects.len(), objects[0]["counts"]["problems"].as_u64()),
        (1, Some(6))
    );
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ran = ran(&[
        "report",
        &run,
        "--html",
        &at("page.html"),
        "--plots",
        &at("plots"),
        "--problem",
        objects[0]["problems"][0]["id"].as_str().unwrap(),
    ]);
    assert_eq!(ran.out, "", "files were asked for");
    assert!(
        fs::read_to_string(at("page.html"))
            .unwrap()
            .starts_with("<!doctype html>")
    );
    let plots: Vec<_> = fs::read_dir(at("plots"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in [
        "accuracy-tokens.svg",
        "accuracy-tokens.png",
        "traces-confidence.svg",
        "fates.png",
    ] {
        assert!(plots.iter().any(|p| p == name), "{name}: {plots:?}");
    }
}

/// Any number of series: some are drawn, the others are named, and each can be asked for.
#[test]
fn a_plot_shows_the_series_that_are_asked_for() {
    let (folder, run) = recorded();
    let swept = folder.path().join("swept").to_str().unwrap().to_owned();
    let strategies = "majority,weighted,deepconf-low,deepconf-high,deepconf-offline,adaptive,adaptive-consistency,\
                      best-of-infinity,cges,esc,short-m-at-k,best-of-n,rpc,borda";
    let all: Vec<&str> = strategies.split(',').collect();
    ran(&[
        "sweep",
        "--replay",
        &run,
        "--strategies",
        strategies,
        "--traces",
        "2,6,12",
        "--run",
        &swept,
    ]);
    let plots = folder.path().join("drawn");
    let drawn = |more: &[&str]| {
        let head = ["report", &swept, "--plots", plots.to_str().unwrap()];
        ran(&[&head[..], more].concat());
        fs::read_to_string(plots.join("accuracy-tokens.svg")).unwrap()
    };
    let named = |svg: &str| -> Vec<&str> {
        let is_there = |name: &&&str| svg.contains(&format!(">{name}</text>"));
        all.iter().filter(is_there).copied().collect()
    };
    let svg = drawn(&[]);
    assert_eq!(named(&svg).len(), 8, "{svg}");
    assert!(named(&svg).contains(&"majority") && svg.contains("6 more: --series"));
    assert_eq!(named(&drawn(&["--series", "all"])), all);
    let two = drawn(&["--series", "esc,borda"]);
    assert_eq!(named(&two), ["esc", "borda"]);
    assert!(two.contains("bands: 95%"), "two have room for bands");
    let bare = drawn(&[
        "--series",
        "esc,borda",
        "--no-bands",
        "--size",
        "1200x700",
        "--title",
        "A <title>",
    ]);
    assert!(
        bare.contains("no bands") && bare.contains("width=\"1200\" height=\"700\""),
        "{bare}"
    );
    assert!(
        bare.contains(">A &lt;title&gt;</text>")
            && bare.matches("<path").count() < two.matches("<path").count()
    );
    // on a page every one of them can be switched on
    let page = folder.path().join("page.html");
    ran(&["report", &swept, "--html", page.to_str().unwrap()]);
    let html = fs::read_to_string(page).unwrap();
    for (off, switches) in [("true", 8), ("false", 6)] {
        let checked = format!("aria-checked=\"{off}\"");
        assert_eq!(html.matches(&checked).count(), 2 * switches, "both plots: {off}");
    }
    assert_eq!(html.matches("class=\"off\"").count(), 2 * 6);
    refused(
        &["report", &swept, "--series", "nobody"],
        &["--series nobody", "majority", "borda"],
    );
    refused(&["report", &swept, "--size", "10x10"], &["--size", "1200x700"]);
}

#[test]
fn what_cannot_be_reported_is_refused() {
    let (_copy, run) = recorded();
    refused(&["report", "no/such/folder"], &["no/such/folder", "run folder"]);
    refused(&["report", &run, "--problem", "nobody"], &["nobody"]);
    refused(
        &["report", &run, "--html", "/no/such/folder/page.html"],
        &["page.html", "cannot be written"],
    );
    refused(&["pilot"], &["--data"]);
    refused(&["pilot", "--replay", "no/such/folder"], &["no/such/folder"]);
    refused(&["pilot", "--replay", &run, "--margin", "2"], &["--margin"]);
}

#[test]
fn a_pilot_live_and_over_its_own_recording() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run").to_str().unwrap().to_owned();
    let live = ran(&[
        "pilot",
        "--data",
        "heldout",
        "--problems",
        "3",
        "--traces",
        "4",
        "--budget",
        "4",
        "--max-tokens",
        "120",
        "--run",
        &dir,
        "--json",
    ]);
    let live = live.objects().remove(0);
    assert_eq!(
        (
            live["problems"].as_u64(),
            live["traces"].as_u64(),
            live["whole"].as_u64()
        ),
        (Some(3), Some(12), Some(600))
    );
    assert!(live["seconds"].as_f64().unwrap() > 0.0);
    let again = ran(&[
        "pilot", "--replay", &dir, "--data", "heldout", "--budget", "4", "--json",
    ])
    .objects()
    .remove(0);
    let settled = |mut v: Value| {
        v.as_object_mut().unwrap().remove("seconds");
        v
    };
    assert_eq!(
        settled(live),
        settled(again),
        "deciding over the recording gives what the live pilot gave"
    );
    let words = ran(&["pilot", "--replay", &dir, "--budget", "4"]).out;
    for part in ["adaptive-consistency", "--slots", "the whole set", "evidence"] {
        assert!(words.contains(part), "{part}: {words}");
    }
}
