//! Traces that are a function of (trace, token index), and a driver that stands in for an engine.

use std::sync::Arc;

use tts::run::{
    Bounds, Decided, DecisionSettings, Decode, Looks, MachineInfo, Manifest, ProblemRun, RecordSink, Setup,
    SolvedRecord, StoppingRules, StrategyRecord, ToText, Token, TraceRecord, TraceSettings,
};
use tts_evals::answer::FnReader;
use tts_model::sampling::Drawn;
use tts_strategies::{Overrides, Preset};

pub(super) const ID: &str = "the problem";
const STOP: u32 = 2;
const ANSWER: u32 = 1000;

pub(super) struct Job {
    pub(super) strategy: &'static str,
    pub(super) traces: usize,
    pub(super) slots: usize,
    pub(super) longest: u64,
}

impl Job {
    pub(super) fn new(strategy: &'static str) -> Self {
        Self {
            strategy,
            traces: 48,
            slots: 10,
            longest: 120,
        }
    }

    pub(super) fn setup(&self, recorded: Vec<Arc<TraceRecord>>) -> Setup {
        let mut preset = Preset::named(self.strategy).expect("shipped");
        if self.strategy == "deepconf-low" || self.strategy == "deepconf-high" {
            preset
                .apply(&Overrides::default().with("warmup", self.traces / 4))
                .expect("in range");
        }
        let longest = self.longest;
        Setup {
            id: ID.to_owned(),
            strategy: preset.build(),
            reader: Arc::new(FnReader::new(|text| {
                Some(text.rsplit_once("\\boxed{")?.1.split_once('}')?.0.to_owned())
            })),
            decode: Arc::new(Words),
            rules: Arc::new(StoppingRules {
                stop_ids: vec![STOP],
                max_tokens: longest as usize + 1,
                ..StoppingRules::default()
            }),
            bounds: Bounds::new(self.traces, self.slots.into(), None),
            recorded,
            scripted: vec![],
            looks: Looks::None,
        }
    }

    fn token(&self, trace: u32, i: usize) -> Drawn {
        let own = noise(trace, 1_000_000);
        let length = self.longest / 2 + own % (self.longest / 2);
        let right = !own.is_multiple_of(3);
        let i = i as u64;
        let x = noise(trace, i);
        let id = match length - i {
            1 => STOP,
            2 => ANSWER + if right { 0 } else { (own % 7) as u32 },
            // an early guess, so that a trace that is cut short has an answer too
            _ if i == 5 => ANSWER + (own % 5) as u32,
            _ => 10 + (x % 900) as u32,
        };
        // wrong traces become less sure, right ones differ among themselves
        let doubt = if right {
            ((own >> 20) % 100) as f32 / 50.0
        } else if i > 10 {
            4.0
        } else {
            1.0
        };
        let float = |shift: u32| ((x >> shift) % 1000) as f32 / 250.0;
        Drawn {
            id,
            logprob: -float(10),
            confidence: 12.0 + float(20) - doubt,
            entropy: float(30),
            self_certainty: float(40),
            top: std::array::from_fn(|i| -float(10) - i as f32),
        }
    }
}

fn noise(trace: u32, i: u64) -> u64 {
    let mut x = (u64::from(trace) << 32 ^ i)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(0xD1B5_4A32_D192_ED03);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

struct Words;

impl Decode for Words {
    fn decode(&self, ids: &[u32]) -> String {
        let word = |id: &u32| match *id {
            STOP => "<end>".to_owned(),
            id if id >= ANSWER => format!("\\boxed{{{}}}", id - ANSWER),
            id => format!("w{id} "),
        };
        ids.iter().map(word).collect()
    }

    fn to_text(&self) -> ToText {
        Box::new(|id| Self.decode(&[id]))
    }
}

/// All that a run came to.
#[derive(Debug)]
pub(super) struct End {
    pub(super) decided: Decided,
    pub(super) records: Vec<TraceRecord>,
    /// (trace, index) of every token that was not read from a record
    pub(super) live: Vec<(u32, usize)>,
}

impl PartialEq for End {
    /// Everything but the time it took and where the tokens came from.
    fn eq(&self, other: &Self) -> bool {
        let decided = |d: &Decided| {
            let text = (
                d.answer.clone(),
                d.classes.clone(),
                d.strategy.clone(),
                d.solution.clone(),
                d.digest.clone(),
                d.extractions.clone(),
            );
            (
                d.decision.clone(),
                text,
                d.traces,
                d.launched,
                d.tokens,
                d.ticks,
                d.external_events.clone(),
            )
        };
        let records = |records: &[TraceRecord]| {
            let plain = |r: &TraceRecord| {
                let mut r = TraceRecord {
                    seconds: 0.0,
                    fresh: true,
                    is_solution: false,
                    self_certainty_sum: None,
                    ..r.clone()
                };
                // only a complete trace's is recorded
                if r.finish != tts_strategies::Finish::Stop {
                    r.scores.self_certainty = None;
                }
                // what a recording strategy without a window, or with another one, did not need
                (
                    r.scores.mean,
                    r.scores.tail,
                    r.scores.bottom,
                    r.scores.lowest_group,
                ) = (None, None, None, None);
                r
            };
            records.iter().map(plain).collect::<Vec<_>>()
        };
        decided(&self.decided) == decided(&other.decided) && records(&self.records) == records(&other.records)
    }
}

/// Ticks until the problem is decided or `watch(problem, stop)` says stop; `watch` comes between two ticks,
/// as an engine's own doings do.
pub(super) fn drive(
    mut problem: ProblemRun,
    mut sink: Option<RecordSink>,
    mut watch: impl FnMut(&mut ProblemRun, &mut bool),
) -> End {
    let job = Job {
        strategy: "",
        traces: 0,
        slots: 0,
        longest: problem.rules().max_tokens as u64 - 1,
    };
    let (mut records, mut live, mut stop) = (Vec::new(), Vec::new(), false);
    loop {
        watch(&mut problem, &mut stop);
        if !stop {
            problem.tick(|_, trace| {
                live.push((trace.id(), trace.tokens()));
                Token::Drawn(job.token(trace.id(), trace.tokens()))
            });
        }
        for record in problem.take_ended() {
            if record.fresh
                && let Some(sink) = &mut sink
            {
                sink(&record).expect("recorded");
            }
            records.push(record);
        }
        if stop || problem.is_over() {
            let decided = problem.decide(&records);
            return End {
                decided,
                records,
                live,
            };
        }
    }
}

pub(super) fn manifest(job: &Job) -> Manifest {
    let decisions = DecisionSettings {
        strategy: Some(StrategyRecord {
            name: Some(job.strategy.to_owned()),
            ..StrategyRecord::default()
        }),
        traces: Some(job.traces),
        slots: Some(job.slots.into()),
        ..DecisionSettings::default()
    };
    Manifest::new(traces("abc"), decisions, None, MachineInfo::default())
}

/// The settings of a model's traces.
pub(super) fn traces(model: &str) -> TraceSettings {
    TraceSettings {
        model: Some(model.to_owned()),
        seed: Some(1),
        ..TraceSettings::default()
    }
}

/// A decided problem.
pub(super) fn solved(id: &str, answer: Option<String>) -> SolvedRecord {
    SolvedRecord {
        problem_id: id.to_owned(),
        answer,
        ..SolvedRecord::default()
    }
}

/// A folder in memory where the system has one: thousands of runs make their files durable here.
pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a folder")
}
