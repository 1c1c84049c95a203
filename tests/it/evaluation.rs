//! A set of problems evaluated through the library: planned, recorded, gone on with, cut.

use std::path::Path;

use futures::StreamExt;
use tts::evaluation::{Evaluated, Evaluation, Options, RecordOptions, Resumed};
use tts::replay::{Replay, ReplaySettings};
use tts::run::{AnswerSettings, Manifest, RunError, SolvedRecord, Status};
use tts::solver::Reader;
use tts::strategies::Preset;
use tts::{Error, LoadOptions, Loaded, ProblemSet, Settings, Solver, Tts};

const TRACES: usize = 6;
const MAX_TOKENS: usize = 60;

fn set() -> ProblemSet {
    let mut set = ProblemSet::open("heldout", &[], &mut |_| ()).unwrap();
    set.data.problems.truncate(3);
    set
}

fn runner(set: &ProblemSet, seed: u64) -> Solver {
    let settings = Settings {
        strategy: Preset::named("majority").unwrap(),
        traces: TRACES,
        slots: Some(4.into()),
        max_tokens: Some(MAX_TOKENS),
        threads: Some(2),
        seed,
        instruction: set.instruction(),
        ..Settings::default()
    };
    let loaded = Loaded::open(&LoadOptions::default(), &mut |_| ()).unwrap();
    let reader = Reader::Rules(set.reader().unwrap());
    Solver::local(loaded, settings).unwrap().with_reader(reader)
}

fn recorded<'a>(
    runner: &'a Solver,
    set: &ProblemSet,
    dir: &Path,
) -> Result<(Evaluation<'a>, Resumed), Error> {
    let mut evaluation = Evaluation::new(runner, &set.data.problems)?;
    let options = RecordOptions {
        data: Some(set.data.digest.clone()),
        answers: AnswerSettings::of(set.task.as_ref(), &set.reader()?),
        checkpoint: None,
    };
    let resumed = evaluation.record(dir, options)?;
    Ok((evaluation, resumed))
}

async fn results(evaluation: &Evaluation<'_>, options: Options) -> Vec<Result<Evaluated, Error>> {
    evaluation.run(options).unwrap().collect().await
}

#[tokio::test]
async fn a_set_is_recorded_and_printed_again_without_work() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("run");
    let set = set();
    let first = runner(&set, 0);
    let (evaluation, resumed) = recorded(&first, &set, &dir).unwrap();
    assert_eq!((resumed.traces, resumed.warnings.len()), (0, 0));
    let plan = evaluation.plan();
    assert_eq!(plan.tokens, (3 * TRACES * MAX_TOKENS) as u64);
    assert!(plan.slots == 4.into() && plan.side_by_side == 3 && plan.rows == 12 && plan.memory > 0);

    let ended = results(&evaluation, Options::default()).await;
    let ended: Vec<Evaluated> = ended.into_iter().map(Result::unwrap).collect();
    let ids: Vec<&str> = ended.iter().map(|e| e.record.problem_id.as_str()).collect();
    let asked: Vec<&str> = set.data.problems.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, asked, "in the set's order, whichever ended first");
    for e in &ended {
        let solved = e.solved.as_ref().unwrap();
        assert_eq!(solved.records.len(), TRACES);
        // what a file says is what the result says, and no field is without a name
        let read: SolvedRecord = serde_json::from_value(solved.to_json()).unwrap();
        assert_eq!((&read, read.other.len()), (&e.record, 0));
        assert_eq!(read.machine.as_ref().map(|m| m.other.len()), Some(0));
    }
    evaluation.close(true).unwrap();
    let manifest = Manifest::read(&dir).unwrap().unwrap();
    assert_eq!((manifest.status, manifest.problems.len()), (Status::Finished, 3));
    assert!(manifest.traces.other.is_empty() && manifest.decisions.other.is_empty());
    assert_eq!(
        manifest.decisions.answers.unwrap().task.as_deref(),
        Some("heldout")
    );

    let second = runner(&set, 0);
    let (again, resumed) = recorded(&second, &set, &dir).unwrap();
    assert_eq!(resumed.traces, 3 * TRACES);
    for (now, before) in results(&again, Options::default()).await.into_iter().zip(&ended) {
        let now = now.unwrap();
        assert!(now.solved.is_none(), "nothing is left to do");
        assert_eq!(now.record, before.record);
    }
    again.close(true).unwrap();

    let other = runner(&set, 1);
    let error = recorded(&other, &set, &dir).err().unwrap().to_string();
    assert!(error.contains("`seed` was 0 and is now 1"), "{error}");
}

#[tokio::test]
async fn an_evaluation_that_is_cut_says_so() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("run");
    let set = set();
    let runner = runner(&set, 0);
    let (evaluation, _) = recorded(&runner, &set, &dir).unwrap();
    let options = Options::default();
    options.interrupt.cancel();
    for result in results(&evaluation, options).await {
        assert!(matches!(result, Err(Error::Run(RunError::NotStarted(_)))));
    }
    drop(evaluation);
    assert_eq!(Manifest::read(&dir).unwrap().unwrap().status, Status::Interrupted);
}

#[test]
fn sets_are_opened_by_name_and_the_others_are_refused() {
    assert_eq!(set().task.unwrap().name, "heldout");
    let dev = ProblemSet::open("dev", &[], &mut |_| ()).unwrap();
    assert_eq!(
        (dev.data.name.as_str(), dev.task.unwrap().name.as_str()),
        ("dev", "heldout")
    );
    let refused = |name: &str| ProblemSet::open(name, &[], &mut |_| ()).unwrap_err().to_string();
    assert!(refused("heldoutt").contains("did you mean `heldout`?"));
    assert!(refused("no/such.jsonl").contains("does not exist"));
    let field = ProblemSet::open("heldout", &["prompt=x".to_owned()], &mut |_| ()).unwrap_err();
    assert!(field.to_string().contains("--field prompt=x"));

    let mut set = set();
    let ids: Vec<String> = set.data.problems.iter().map(|p| p.id.clone()).collect();
    let error = set.retain(&[format!("{}x", ids[1])]).unwrap_err().to_string();
    assert!(error.contains(&format!("did you mean `{}`?", ids[1])), "{error}");
    set.retain(&[ids[2].clone(), ids[0].clone()]).unwrap();
    let left: Vec<&str> = set.data.problems.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(left, [&ids[0], &ids[2]], "in the set's order");
    assert_eq!(set.gold().len(), 2);
}

#[tokio::test]
async fn a_set_is_recorded_and_decided_again_through_the_front_door() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("run");
    let set = set();
    let tts = Tts::open("bundled")
        .strategy("majority")
        .traces(TRACES)
        .slots(4)
        .for_set(&set)
        .unwrap()
        .build()
        .await
        .unwrap();
    let mut evaluation = tts.evaluate(&set.data.problems).unwrap();
    evaluation
        .record(&dir, RecordOptions::of_set(&set).unwrap())
        .unwrap();
    let live = results(&evaluation, Options::default()).await;
    evaluation.close(true).unwrap();
    let again = Replay::open(&dir, ReplaySettings::default()).unwrap();
    assert_eq!(again.problems().len(), live.len());
    for (problem, live) in again.problems().iter().zip(live) {
        let (live, again) = (live.unwrap().record, again.solve(problem).unwrap().record());
        assert!(live.correct.is_some());
        assert_eq!(
            (&live.digest, live.tokens, live.correct),
            (&again.digest, again.tokens, again.correct)
        );
    }
    let shortest = ReplaySettings {
        strategy: Some(Preset::named("short-m-at-k").unwrap()),
        ..ReplaySettings::default()
    };
    let shortest = Replay::open(&dir, shortest).unwrap();
    let solved = shortest.solve(&shortest.problems()[0]).unwrap();
    assert_eq!(solved.strategy, "short-m-at-k");
    assert!(Replay::open(home.path().join("none"), ReplaySettings::default()).is_err());
}
