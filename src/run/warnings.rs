//! Counted warnings: what was wrong with a recording that can be read all the same.

use std::collections::BTreeMap;

/// What can be wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LineIssue {
    Torn,
    NotJson,
    KeyTwice,
    NoName,
    NoTokens,
    Finish,
    NotUtf8,
    NoBytes,
    Altered,
    LineAltered,
    NoSpan,
    /// `fork` or `shown` names no trace before it.
    Origin,
    Lengths,
    NotNumbers,
    Impossible,
    BadIds,
    Gold,
    Golds,
    ListsAndTraces,
    Values,
    Manifest,
    Twice,
    Pool,
    TwoEnds,
    NotDecided,
    Confidences,
    AnswerKind,
    GoldKind,
    NoTraces,
}

impl LineIssue {
    fn sentence(self) -> &'static str {
        match self {
            Self::Torn => "unfinished last lines were cut off",
            Self::KeyTwice => "lines in which a key stands twice were passed over",
            Self::NotJson => "lines that are not JSON objects were passed over",
            Self::NoName => "lines without a `problem_id` or a whole-number `trace` have no vote",
            Self::NoTokens => {
                "traces whose number of tokens is none, or not whole and at least 1, have no vote"
            }
            Self::Finish => {
                "traces with an unknown `finish` have no vote (known: stop, length, loop, low_confidence, \
                 cancelled, failed)"
            }
            Self::NotUtf8 => "lines hold bytes that are not UTF-8; those were replaced",
            Self::NoBytes => "traces whose arrays are not in tokens.bin were passed over",
            Self::Altered => "traces whose arrays in tokens.bin are not what was written were passed over",
            Self::LineAltered => {
                "lines that are not what was written (their `line_check` says so) were passed over"
            }
            Self::Origin => {
                "traces whose `fork` or `shown` names no trace before them were passed over: they are no draws of their own"
            }
            Self::NoSpan => "lines whose `arrays` name no bytes were passed over",
            Self::Lengths => "arrays whose length is not the trace's number of tokens were passed over",
            Self::NotNumbers => "arrays that hold something else than numbers (NaN, null) were passed over",
            Self::Impossible => {
                "arrays with confidences below 0 or log-probabilities above, which none can be, were passed over"
            }
            Self::BadIds => "arrays of token ids that hold something else than ids were passed over",
            Self::Gold => "problems with several different `gold` answers; the first one counts",
            Self::Golds => {
                "lines name right answers that differ, under several names; the first one counts (--field gold=NAME \
                 names another)"
            }
            Self::Values => "lines say the same thing under two names and not alike; the first name counts",
            Self::ListsAndTraces => {
                "problems have a list of answers and traces of their own; the list of answers counts"
            }
            Self::TwoEnds => "traces stand complete in several lines; the one with the most tokens counts",
            Self::Twice => "problems that stand in the recording before were passed over",
            Self::Pool => "traces of problems whose `answers` and `lengths` differ in number have no vote",
            Self::Confidences => {
                "problems whose `confidences`, `logprobs`, `texts` or `finish_reasons` are not one a trace were read without them"
            }
            Self::AnswerKind => "answers that are neither text nor a number count as none",
            Self::NoTraces => "problems without a trace count as not answered",
            Self::GoldKind => "right answers that are neither text nor a number were passed over",
            Self::NotDecided => "lines of problems.jsonl that are no decided problems were passed over",
            Self::Manifest => "manifest.json is not one of this tool's and was not read",
        }
    }
}

/// How often each thing happened, and where first.
#[derive(Clone, Debug, Default)]
pub(super) struct Warnings {
    issues: BTreeMap<LineIssue, (u64, String)>,
    /// What was done about them, each a sentence.
    said: Vec<String>,
}

impl Warnings {
    pub(super) fn add(&mut self, issue: LineIssue, place: impl FnOnce() -> String) {
        self.issues.entry(issue).or_insert_with(|| (0, place())).0 += 1;
    }
    pub(super) fn say(&mut self, sentence: String) {
        self.said.push(sentence);
    }
    pub(super) fn merge(&mut self, other: &Self) {
        self.said.extend(other.said.iter().cloned());
        for (issue, (n, place)) in &other.issues {
            self.issues.entry(*issue).or_insert_with(|| (0, place.clone())).0 += n;
        }
    }
    pub(super) fn sentences(&self) -> Vec<String> {
        let counted = |(issue, (n, place)): (&LineIssue, &(u64, String))| {
            format!("{n}: {} (the first: {place})", issue.sentence())
        };
        let counted = self.issues.iter().map(counted);
        counted.chain(self.said.iter().cloned()).collect()
    }
}
