//! What the tests of the engine share: small models, problems whose answers are made of token ids, and checks
//! that hold for every run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tts::engine::memory::MemoryPlan;
use tts::engine::scheduler::{EngineRequest, Scheduler};
use tts::prompt::Rendered;
use tts::run::{
    self, Bounds, Control, Decided, Decode, Looks, Observer, Outcome, Phase, Request, RunError, Setup,
    StoppingRules, ToText, TraceRecord,
};
use tts_evals::answer::{FnReader, ReadAnswer};
use tts_model::cpu::CpuExecutor;
use tts_model::cpu::kernels::Tier;
use tts_model::executor::{Executor, SeqId, StepRow};
use tts_model::sampling::{Sampling, Stream};
use tts_model::weights::Checkpoint;
use tts_model::{Formats, KvFormat, Model, WeightFormat};
use tts_strategies::{Consensus, Fate, Overrides, Preset, Strategy, Window};

use crate::fixture;

/// Rows of the vocabulary of `golden/case-gqa`.
pub(crate) const VOCAB: u32 = 336;

pub(crate) fn model(name: &str, format: impl Into<Formats>) -> Arc<Model> {
    let weights = Checkpoint::open(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    Arc::new(Model::load(&weights, format).unwrap_or_else(|e| panic!("{name}: {e}")))
}

pub(crate) fn gqa() -> Arc<Model> {
    model("golden/case-gqa", WeightFormat::F32)
}

/// f32 weights beside keys and values held in this way.
pub(crate) fn holding(kv: KvFormat) -> Formats {
    Formats {
        weights: WeightFormat::F32,
        kv: Some(kv),
        ..Formats::default()
    }
}

/// [`gqa`] for each way to hold keys and values.
pub(crate) fn gqa_in_each() -> [(KvFormat, Arc<Model>); 3] {
    KvFormat::ALL.map(|kv| (kv, model("golden/case-gqa", holding(kv))))
}

/// Ids as decimal numbers.
pub(crate) struct Words;

impl Decode for Words {
    fn decode(&self, ids: &[u32]) -> String {
        ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
    }

    fn to_text(&self) -> ToText {
        let mut before = "";
        Box::new(move |id| format!("{}{id}", std::mem::replace(&mut before, " ")))
    }
}

/// The last id modulo 3.
fn reader() -> Arc<dyn ReadAnswer> {
    Arc::new(FnReader::new(|text| {
        Some((text.rsplit(' ').next()?.parse::<u32>().ok()? % 3).to_string())
    }))
}

/// `n` ids of a text.
pub(crate) fn prompt(n: usize, seed: usize) -> Vec<u32> {
    (0..n)
        .map(|i| ((i * i * 7 + i * 3 + seed * 101 + 11) % 300) as u32)
        .collect()
}

/// Every `step`th id ends a trace.
pub(crate) fn stops(step: usize) -> Vec<u32> {
    (3..VOCAB).step_by(step).collect()
}

/// All ids but these.
pub(crate) fn all_but(ids: &[u32]) -> Vec<u32> {
    (0..VOCAB).filter(|id| !ids.contains(id)).collect()
}

/// A preset made fit for short traces: a warm-up of 6 or 12, windows of 8 tokens, and consensus only where
/// asked for.
pub(crate) fn preset(name: &str, consensus: Option<f64>) -> Preset {
    let mut preset = Preset::named(name).unwrap();
    let mut overrides = Overrides::default().with("window", Window::Fixed(8));
    if matches!(name, "deepconf-low" | "deepconf-high") {
        overrides.set("warmup", if name == "deepconf-low" { 6 } else { 12 });
        overrides.set("consensus", consensus.map_or(Consensus::Off, Consensus::At));
    }
    if matches!(name, "continuation" | "particles") {
        overrides.set("spacing", 8);
    }
    preset.apply(&overrides).unwrap();
    preset
}

/// A problem to run in a test, with what it is run with.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) prompt: Vec<u32>,
    pub(crate) strategy: Preset,
    pub(crate) bounds: Bounds,
    pub(crate) rules: StoppingRules,
    pub(crate) sampling: Sampling,
    pub(crate) seed: u64,
    pub(crate) banned_ids: Vec<u32>,
}

impl Task {
    /// 24 traces of up to 60 tokens, 8 at a time, after 70 tokens of prompt.
    pub(crate) fn new(id: &str, strategy: &str) -> Self {
        Self {
            id: id.to_owned(),
            prompt: prompt(70, 0),
            strategy: preset(strategy, None),
            bounds: Bounds::new(24, 8.into(), None),
            rules: StoppingRules {
                stop_ids: stops(12),
                max_tokens: 60,
                loop_stop: true,
                ..StoppingRules::default()
            },
            sampling: Sampling::default(),
            seed: 1,
            banned_ids: Vec::new(),
        }
    }

    pub(crate) fn setup(&self) -> Setup {
        self.setup_with(self.strategy.build())
    }

    pub(crate) fn request(&self) -> Request {
        let prompt = Rendered {
            ids: self.prompt.clone(),
            ..Rendered::default()
        };
        Request {
            sampling: self.sampling.clone(),
            seed: self.seed,
            banned_ids: self.banned_ids.clone(),
            ..Request::new(self.setup(), prompt)
        }
    }

    pub(crate) fn setup_with(&self, strategy: Box<dyn Strategy>) -> Setup {
        Setup {
            id: self.id.clone(),
            strategy,
            reader: reader(),
            decode: Arc::new(Words),
            rules: Arc::new(self.rules.clone()),
            bounds: self.bounds.clone(),
            recorded: Vec::new(),
            scripted: Vec::new(),
            looks: Looks::None,
        }
    }

    /// The row of one of its traces that has drawn `index` tokens.
    pub(crate) fn row(&self, trace: u32, seq: SeqId, index: usize) -> StepRow<'_> {
        StepRow {
            seq,
            sampling: &self.sampling,
            stream: Stream::new(self.seed, &self.id, trace),
            index,
            forced: None,
            banned_ids: &self.banned_ids,
            top_logprobs: 0,
            lookahead: 0,
            stop_ids: &[],
        }
    }
}

pub(crate) type Reply = Result<Outcome, RunError>;

/// A scheduler with the replies of the problems it has run.
pub(crate) struct Engine {
    pub(crate) scheduler: Scheduler,
    replies: Arc<Mutex<BTreeMap<String, Reply>>>,
    /// ids in order of reply
    pub(crate) order: Arc<Mutex<Vec<String>>>,
}

impl Engine {
    pub(crate) fn new(model: &Arc<Model>, threads: usize, tier: Tier, plan: MemoryPlan) -> Self {
        Self::on(Box::new(CpuExecutor::new(model.clone(), threads, tier)), plan)
    }

    pub(crate) fn on(executor: Box<dyn Executor>, plan: MemoryPlan) -> Self {
        Self {
            scheduler: Scheduler::new(executor, plan),
            replies: Arc::default(),
            order: Arc::default(),
        }
    }

    /// One that keeps up to so many bytes of prompts.
    pub(crate) fn with_prefixes(executor: Box<dyn Executor>, plan: MemoryPlan, bytes: u64) -> Self {
        let mut engine = Self::on(executor, plan);
        engine.scheduler = engine.scheduler.keeping_prefixes(bytes);
        engine
    }

    /// One thread, the best tier, memory without end.
    pub(crate) fn roomy(model: &Arc<Model>) -> Self {
        Self::new(model, 1, Tier::detect(), roomy(64))
    }

    pub(crate) fn request(&self, task: &Task) -> EngineRequest {
        let (replies, order, id) = (self.replies.clone(), self.order.clone(), task.id.clone());
        EngineRequest {
            run: task.request(),
            observer: Observer::default(),
            reply: Box::new(move |reply| {
                order.lock().unwrap().push(id.clone());
                assert!(
                    replies.lock().unwrap().insert(id, reply).is_none(),
                    "one reply a problem"
                );
            }),
        }
    }

    pub(crate) fn submit(&mut self, task: &Task) -> Arc<Control> {
        let request = self.request(task);
        let control = request.observer.control.clone();
        self.scheduler.submit(request);
        control
    }

    /// Steps until nothing is left; `each` sees the scheduler after every one.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(&Scheduler)) {
        while !self.scheduler.is_idle() {
            self.scheduler.step();
            each(&self.scheduler);
        }
    }

    pub(crate) fn reply(&self, id: &str) -> Option<Reply> {
        self.replies.lock().unwrap().remove(id)
    }

    /// Runs one problem to its end.
    pub(crate) fn run(&mut self, task: &Task) -> Outcome {
        self.submit(task);
        self.finish(|_| ());
        let outcome = self.reply(&task.id).unwrap().unwrap_or_else(|e| panic!("{e}"));
        check(task, &outcome);
        outcome
    }
}

/// What a problem's traces are recorded to from then on.
pub(crate) fn recording(request: &mut EngineRequest) -> Arc<Mutex<Vec<TraceRecord>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let sink = kept.clone();
    request.observer.records = Some(Box::new(move |record| {
        sink.lock().unwrap().push(record.clone());
        Ok(())
    }));
    kept
}

/// Rows for a batch, and memory without end.
pub(crate) fn roomy(max_batch: usize) -> MemoryPlan {
    MemoryPlan {
        max_batch,
        budget: 1 << 50,
        bytes_per_trace: 0,
        expected_tokens: 4096,
        busy: None,
    }
}

/// A trace's ids, and its log-probabilities and confidences as bits.
pub(crate) type Bits = Vec<(u32, u32, u32)>;

pub(crate) fn bits(record: &TraceRecord) -> Bits {
    let a = &record.arrays;
    assert!(
        [a.len, a.token_ids.len(), a.logprobs.len(), a.confidence.len()]
            .iter()
            .all(|n| *n == record.tokens)
    );
    a.token_ids
        .iter()
        .zip(&a.logprobs)
        .zip(&a.confidence)
        .map(|((id, l), c)| (*id, l.to_bits(), c.to_bits()))
        .collect()
}

/// All traces by index.
pub(crate) fn traces(records: &[TraceRecord]) -> BTreeMap<u32, Bits> {
    records.iter().map(|r| (r.trace, bits(r))).collect()
}

/// Where both runs have a token it is the same token.
#[track_caller]
pub(crate) fn agree(what: &str, a: &BTreeMap<u32, Bits>, b: &BTreeMap<u32, Bits>) {
    let mut common = 0;
    for (trace, a) in a {
        let Some(b) = b.get(trace) else { continue };
        let n = a.len().min(b.len());
        assert!(a[..n] == b[..n], "{what}: trace {trace}");
        common += n;
    }
    assert!(common > 0, "{what}: nothing in common");
}

/// Everything that was decided, but for the time it took.
pub(crate) fn verdict(d: &Decided) -> String {
    let timeless = Decided {
        seconds: 0.0,
        ..d.clone()
    };
    format!("{timeless:#?}")
}

/// What holds for every run: each token and each trace is booked once, and a replay of the records decides
/// alike, token for token.
#[track_caller]
pub(crate) fn check(task: &Task, outcome: &Outcome) {
    let (d, records) = (&outcome.decided, &outcome.records);
    assert!(
        d.launched <= task.bounds.traces as u64
            && d.launched == d.traces.total()
            && d.launched == records.len() as u64
    );
    assert_eq!(
        d.tokens.total(),
        records.iter().map(|r| r.generated() as u64).sum::<u64>()
    );
    let by_fate = |fate: Fate| {
        let of = records
            .iter()
            .filter(|r| r.finish.fate(r.phase == Phase::Warmup) == fate);
        of.fold((0, 0), |(n, tokens), r| (n + 1, tokens + r.generated() as u64))
    };
    let fates = [
        Fate::Warmup,
        Fate::Finished,
        Fate::Stopped,
        Fate::Cancelled,
        Fate::Truncated,
        Fate::Failed,
    ];
    let booked = |b: &run::FateCounts| {
        [
            b.warmup,
            b.finished,
            b.stopped,
            b.cancelled,
            b.truncated,
            b.failed,
        ]
    };
    for ((fate, n), tokens) in fates.into_iter().zip(booked(&d.traces)).zip(booked(&d.tokens)) {
        assert_eq!(by_fate(fate), (n, tokens), "{fate:?}");
    }
    let recorded = records.iter().cloned().map(Arc::new).collect();
    let setup = Setup {
        recorded,
        scripted: d.external_events.clone(),
        // one that waits for another prompt has come to its end here
        looks: match d.wanted_prompt {
            None => Looks::Recorded,
            Some(_) => Looks::None,
        },
        bounds: outcome.bounds.clone(),
        ..task.setup()
    };
    let (problem, replayed) = run::replay(setup, |trace| panic!("replay wants more of trace {trace}"));
    assert_eq!(verdict(&problem.decide(&replayed)), verdict(d), "replay");
    let plain = |r: &TraceRecord| TraceRecord {
        fresh: false,
        ..r.clone()
    };
    let (live, replayed): (Vec<_>, Vec<_>) = (
        records.iter().map(plain).collect(),
        replayed.iter().map(plain).collect(),
    );
    assert_eq!(live, replayed);
}
