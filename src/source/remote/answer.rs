//! What the answers of an OpenAI-compatible engine mean.

use tts_strategies::{Finish, confidence_of_logprobs};

use crate::fmt::shown;
use crate::openai::{self, Completion, Logprobs, TopLogprob, error_message};
use crate::prompt::{THINK_END, THINK_START};
use tts_model::sampling::{Drawn, TOP};

/// Log-probabilities at and below this stand for none: JSON has no infinity.
const MASKED: f64 = -9998.0;
/// Errors within a stream that the same request would meet again.
const REFUSALS: [u64; 6] = [400, 401, 403, 404, 413, 422];

/// What one event brought of a trace.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Delta {
    pub(super) tokens: Vec<Drawn>,
    pub(super) text: String,
    pub(super) reported: Option<u64>,
    pub(super) prompt_tokens: Option<u64>,
    pub(super) end: Option<Finish>,
    /// fewest most likely tokens that a token of it came with; nothing where none did
    pub(super) top: Option<usize>,
    /// at its end: most log-probabilities of the trace named other tokens than its text holds
    pub(super) misnamed: bool,
}

impl Delta {
    /// Takes in the delta that came after this one.
    pub(super) fn join(&mut self, next: Self) {
        self.tokens.extend(next.tokens);
        self.text.push_str(&next.text);
        self.reported = next.reported.or(self.reported);
        self.prompt_tokens = next.prompt_tokens.or(self.prompt_tokens);
        self.end = next.end.or(self.end);
        self.top = [self.top, next.top].into_iter().flatten().min();
        self.misnamed |= next.misnamed;
    }
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.text.is_empty() && self.end.is_none()
    }
}

/// The answer to one request, event by event.
#[derive(Debug)]
pub(super) struct Answer {
    k: Option<usize>,
    /// reasoning that comes in a field of its own has begun, and not ended
    in_reasoning: bool,
    /// tokens whose names were compared with the text that came with them, and those of another text
    named: usize,
    misnamed: usize,
}

impl Answer {
    /// Confidence is over the `k` most likely tokens, where that many come; without log-probabilities
    /// (`None`) a token is an id or, failing that, a piece of text.
    pub(super) fn new(k: Option<usize>) -> Self {
        Self {
            k,
            in_reasoning: false,
            named: 0,
            misnamed: 0,
        }
    }

    /// Reads an event's data.
    pub(super) fn event(&mut self, data: &[u8]) -> Result<Delta, StreamError> {
        let chunk: Completion = serde_json::from_slice(data)
            .map_err(|e| StreamError::new(format!("it sent what is no JSON of a completion ({e})")))?;
        if let Some(error) = chunk.error {
            return Err(StreamError {
                why: format!("it reported an error: {}", error_message(&error)),
                refused: error["code"]
                    .as_u64()
                    .filter(|code| REFUSALS.contains(code))
                    .map(|code| code as u16),
            });
        }
        let mut delta = Delta::default();
        if let Some(usage) = chunk.usage.flatten() {
            // a count that no answer can have is none
            let count = |n: Option<u64>| n.filter(|n| *n <= u64::from(u32::MAX));
            (delta.reported, delta.prompt_tokens) =
                (count(usage.completion_tokens), count(usage.prompt_tokens));
        }
        let Some(choice) = chunk.choices.into_iter().next() else {
            return Ok(delta);
        };
        delta.text = choice.text.unwrap_or_default();
        let names = choice.logprobs.as_ref().and_then(names);
        let came: String = match &choice.delta {
            Some(added) => [&added.reasoning_content, &added.reasoning, &added.content]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect(),
            None => delta.text.clone(),
        };
        if let Some((tokens, named)) = names.filter(|_| !came.is_empty()) {
            self.named += tokens;
            self.misnamed += if is_text_of(&named, &came) { 0 } else { tokens };
        }
        if let Some(added) = choice.delta {
            self.write(added, &mut delta.text);
        }
        let ids = choice.token_ids.unwrap_or_default();
        let entries = choice.logprobs.map(scored).unwrap_or_default();
        if let Some(k) = self.k {
            delta.top = entries.iter().map(|e| e.top.len()).min();
            let drawn = |(i, entry): (usize, Scored)| entry.drawn(ids.get(i).copied(), k);
            delta.tokens = entries.into_iter().enumerate().map(drawn).collect();
        } else if !ids.is_empty() {
            delta.tokens = ids.into_iter().map(bare).collect();
        } else if !delta.text.is_empty() {
            delta.tokens = vec![bare(u32::MAX)];
        }
        delta.end = match choice.finish_reason.as_deref() {
            None => None,
            Some("length") => Some(Finish::Length),
            Some("stop" | "eos" | "tool_calls" | "function_call") => Some(Finish::Stop),
            Some(other) => {
                return Err(StreamError::new(format!(
                    "it ended a trace with `{}`",
                    shown(other)
                )));
            }
        };
        // a few may be held back, or be half of a character
        delta.misnamed = delta.end.is_some() && self.named >= 4 && 2 * self.misnamed > self.named;
        Ok(delta)
    }

    /// What is added to the text, with reasoning between the marks that it has in a plain text.
    fn write(&mut self, added: openai::Delta, out: &mut String) {
        if let Some(reasoning) = added
            .reasoning_content
            .or(added.reasoning)
            .filter(|r| !r.is_empty())
        {
            if !std::mem::replace(&mut self.in_reasoning, true) {
                out.push_str(THINK_START);
            }
            // it says itself where reasoning ends
            out.push_str(&reasoning.replace(THINK_END, ""));
        }
        if let Some(content) = added.content.filter(|c| !c.is_empty()) {
            if std::mem::take(&mut self.in_reasoning) {
                out.push_str(THINK_END);
            }
            out.push_str(&content);
        }
    }
}

/// How many tokens are named by text, and what they come to; nothing where ids stand for them.
fn names(logprobs: &Logprobs) -> Option<(usize, String)> {
    let tokens: Vec<&str> = match logprobs {
        Logprobs::Chat(logprobs) => logprobs.content.iter().map(|e| e.token.as_str()).collect(),
        Logprobs::Text(logprobs) => logprobs.tokens.iter().map(String::as_str).collect(),
    };
    let by_id = tokens.iter().any(|token| id(token).is_some());
    (!by_id && !tokens.is_empty()).then(|| (tokens.len(), tokens.concat()))
}

/// Whether tokens of these names may be this text: marks of ends may be missing in it, and either may hold
/// back what the other has; each token is named once.
fn is_text_of(named: &str, came: &str) -> bool {
    // as vocabularies write white space
    let named = named.replace(['\u{120}', '\u{2581}', '\u{10a}'], " ");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (named, came) = (words(&named), words(came));
    let Some(at) = named.find(&came) else {
        return came.contains(&named);
    };
    let rest = [&named[..at], &named[at + came.len()..]].concat();
    let rest = rest.trim();
    rest.starts_with(['<', '[']) || rest.len() < came.len()
}

/// Why what came in a stream is no event of a completion.
#[derive(Debug)]
pub(super) struct StreamError {
    /// What is wrong, as a sentence.
    pub(super) why: String,
    /// The status with which the engine refuses the request: some say so within a stream that began well.
    pub(super) refused: Option<u16>,
}

impl StreamError {
    pub(super) fn new(why: String) -> Self {
        Self { why, refused: None }
    }
}

/// A token of which nothing is known but that it came.
fn bare(id: u32) -> Drawn {
    Drawn {
        id,
        logprob: f32::NAN,
        confidence: f32::NAN,
        entropy: f32::NAN,
        self_certainty: f32::NAN,
        top: [f32::NEG_INFINITY; TOP],
    }
}

/// How far above 0 a log-probability may be by rounding.
const ROUNDING: f64 = 1e-3;

/// How far above 1 the sum of probabilities may be by rounding: engines write a few digits of bf16.
const MOST_ABOVE_ONE: f64 = 0.05;

/// A token with log-probabilities.
struct Scored {
    id: Option<u32>,
    logprob: Option<f64>,
    /// of the most likely tokens, largest first
    top: Vec<f64>,
}

impl Scored {
    fn new(id: Option<u32>, logprob: Option<f64>, top: impl IntoIterator<Item = Option<f64>>) -> Self {
        let mut top: Vec<f64> = top.into_iter().flatten().collect();
        top.sort_unstable_by(|a, b| b.total_cmp(a));
        // no probability is above 1, and no sum of some, rounding aside: such numbers are of another kind
        let sum: f64 = top.iter().map(|p| p.exp()).sum();
        if top.first().is_some_and(|p| *p > ROUNDING) || sum > 1.0 + MOST_ABOVE_ONE {
            top.clear();
        }
        let logprob = logprob.filter(|p| *p <= ROUNDING);
        Self { id, logprob, top }
    }

    fn drawn(self, id: Option<u32>, k: usize) -> Drawn {
        let mut drawn = bare(id.or(self.id).unwrap_or(u32::MAX));
        drawn.logprob = self.logprob.map_or(f32::NAN, |p| p as f32);
        if self.top.len() >= k {
            let unmasked = self.top[..k].iter().copied().filter(|p| *p > MASKED);
            drawn.confidence = confidence_of_logprobs(unmasked).map_or(f32::NAN, |c| c as f32);
        }
        for (slot, p) in drawn.top.iter_mut().zip(self.top.iter().filter(|p| **p > MASKED)) {
            *slot = *p as f32;
        }
        drawn
    }
}

/// The tokens that come with log-probabilities.
fn scored(logprobs: Logprobs) -> Vec<Scored> {
    match logprobs {
        Logprobs::Chat(logprobs) => {
            let one = |e: openai::TokenLogprob| {
                let top = e.top_logprobs.unwrap_or_default();
                let top = top.into_iter().map(|t: TopLogprob| t.logprob);
                Scored::new(e.id.or_else(|| id(&e.token)), e.logprob, top)
            };
            logprobs.content.into_iter().map(one).collect()
        }
        Logprobs::Text(logprobs) => {
            let mut top = logprobs.top_logprobs.unwrap_or_default().into_iter();
            let tokens = logprobs.tokens;
            let one = |(i, logprob): (usize, Option<f64>)| {
                let top = top.next().flatten().unwrap_or_default();
                Scored::new(tokens.get(i).and_then(|t| id(t)), logprob, top.into_values())
            };
            logprobs.token_logprobs.into_iter().enumerate().map(one).collect()
        }
    }
}

/// The id in `token_id:123`, as vLLM writes tokens when it is asked to.
fn id(token: &str) -> Option<u32> {
    token.strip_prefix("token_id:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(data: &Value, k: Option<usize>) -> Delta {
        Answer::new(k)
            .event(data.to_string().as_bytes())
            .expect("a delta")
    }

    #[test]
    fn confidence_is_the_mean_of_the_largest_whatever_order_they_come_in() {
        // the sampled token comes first though it is not among the most likely
        let entry = json!({"token": "x", "logprob": -7.0, "top_logprobs": [
            {"token": "x", "logprob": -7.0}, {"token": "a", "logprob": -0.5},
            {"token": "b", "logprob": -1.5}, {"token": "c", "logprob": -2.5}]});
        let chunk =
            json!({"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [entry]}}]});
        let got = read(&chunk, Some(3));
        assert_eq!(got.tokens.len(), 1);
        assert!((got.tokens[0].confidence - 1.5).abs() < 1e-6 && (got.tokens[0].logprob + 7.0).abs() < 1e-6);
        assert_eq!((got.top, got.text.as_str()), (Some(4), "x"));
        assert!(
            read(&chunk, Some(5)).tokens[0].confidence.is_nan(),
            "five were not given"
        );
        // masked ones have no part
        let entry = json!({
            "token": "x", "logprob": -0.1,
            "top_logprobs": [{"logprob": -0.1}, {"logprob": -9999.0}, {"logprob": -3.0}]
        });
        let chunk = json!({"choices": [{"delta": {"content": "x"}, "logprobs": {"content": [entry]}}]});
        assert!((read(&chunk, Some(3)).tokens[0].confidence - 1.55).abs() < 1e-6);
    }

    #[test]
    fn log_probabilities_above_zero_are_none() {
        let entry =
            |p: f64| json!({"token": "x", "logprob": p, "top_logprobs": [{"logprob": p}, {"logprob": -3.0}]});
        let token = |p: f64| {
            let chunk =
                json!({"choices": [{"delta": {"content": "x"}, "logprobs": {"content": [entry(p)]}}]});
            read(&chunk, Some(2)).tokens[0]
        };
        assert!(token(2.0).confidence.is_nan() && token(2.0).logprob.is_nan());
        assert!(token(1e300).confidence.is_nan());
        assert!((token(1e-6).confidence - 1.5).abs() < 1e-3);
    }

    #[test]
    fn probabilities_that_come_to_more_than_1_are_none() {
        let confidence = |top: &[f64]| {
            let top: Vec<Value> = top.iter().map(|p| json!({"token": "x", "logprob": p})).collect();
            let entry = json!({"token": "x", "logprob": -0.5, "top_logprobs": top});
            let chunk = json!({"choices": [{"delta": {"content": "x"}, "logprobs": {"content": [entry]}}]});
            read(&chunk, Some(2)).tokens[0].confidence
        };
        assert!((confidence(&[-0.5, -1.0]) - 0.75).abs() < 1e-6);
        // what is drawn stands twice; shares of something else
        assert!(confidence(&[-0.5, -0.5, -2.0]).is_nan());
        assert!(confidence(&[-0.01, -0.02]).is_nan() && confidence(&[0.0, 0.0]).is_nan());
        // rounding
        assert!(!confidence(&[-0.0001, -3.1]).is_nan());
    }

    #[test]
    fn tokens_may_be_named_in_other_pieces_than_the_text_comes_in() {
        for (named, came) in [
            ("The answer", "The answer"),
            ("4.<|im_end|>", "4."),
            ("</s>", "."),
            ("x</s>", "x"),
            ("The ans", "The answer"),
            ("The answer", "The answ"),
            ("\u{120}a\u{120}b", " a b"),
        ] {
            assert_eq!(is_text_of(named, came), named != "</s>", "{named}");
        }
        for (named, came) in [
            ("TheThe", "The"),
            ("The The answer answer", "The answer"),
            ("a", "b"),
        ] {
            assert!(!is_text_of(named, came), "{named}");
        }
    }

    #[test]
    fn log_probabilities_of_other_tokens_than_the_text_s_are_noticed() {
        let words = ["The", " answer", " is", " 4", "."];
        let ended = |shift: usize, chat: bool| {
            let mut answer = Answer::new(Some(1));
            let mut misnamed = false;
            for (i, text) in words.iter().enumerate() {
                let token = words[(i + words.len() - shift) % words.len()];
                let (top, finish) = (json!({token: -0.5}), (i == 4).then_some("stop"));
                let choice = match chat {
                    true => {
                        json!({"delta": {"content": text}, "finish_reason": finish, "logprobs": {"content": [
                        {"token": token, "logprob": -0.5, "top_logprobs": [{"token": token, "logprob": -0.5}]}]}})
                    }
                    false => json!({"text": text, "finish_reason": finish, "logprobs": {
                        "tokens": [token], "token_logprobs": [-0.5], "top_logprobs": [top]}}),
                };
                let data = json!({"choices": [choice]}).to_string();
                misnamed |= answer.event(data.as_bytes()).expect("a delta").misnamed;
            }
            misnamed
        };
        for chat in [true, false] {
            assert!(!ended(0, chat) && ended(1, chat) && ended(2, chat), "{chat}");
        }
    }

    #[test]
    fn a_usage_that_cannot_be_read_is_none() {
        for odd in [
            json!(-1),
            json!(1.5),
            json!("12"),
            json!([]),
            json!({}),
            json!(null),
            json!(true),
        ] {
            let usage = json!({"completion_tokens": odd, "prompt_tokens": 4});
            let chunk = json!({"choices": [{"text": "a", "finish_reason": "stop"}], "usage": usage});
            let got = read(&chunk, None);
            assert_eq!(
                (got.end, got.reported, got.prompt_tokens),
                (Some(Finish::Stop), None, Some(4))
            );
        }
        let chunk = json!({"choices": [], "usage": "none"});
        assert_eq!(read(&chunk, None).reported, None);
    }

    #[test]
    fn both_endpoints_and_several_tokens_in_a_chunk_are_read() {
        let plain = json!({"choices": [{"text": "ab", "token_ids": [5, 6],
            "finish_reason": "stop", "logprobs": {
            "tokens": ["token_id:5", "token_id:6"], "token_logprobs": [-0.25, null],
            "top_logprobs": [{"token_id:5": -0.25, "token_id:9": -2.0}, null]}}],
            "usage": {"completion_tokens": 9, "prompt_tokens": 4}});
        let got = read(&plain, Some(2));
        let ids: Vec<_> = got.tokens.iter().map(|t| t.id).collect();
        assert_eq!(
            (ids, got.end, got.reported, got.prompt_tokens),
            (vec![5, 6], Some(Finish::Stop), Some(9), Some(4))
        );
        let boast = json!({"choices": [], "usage": {"completion_tokens": u64::MAX, "prompt_tokens": 4}});
        assert_eq!(
            (read(&boast, None).reported, read(&boast, None).prompt_tokens),
            (None, Some(4))
        );
        assert!((got.tokens[0].confidence - 1.125).abs() < 1e-6);
        assert!(got.tokens[1].confidence.is_nan() && got.tokens[1].logprob.is_nan());
        // without log-probabilities: ids, else one token for a piece of text, none for none
        assert_eq!(read(&plain, None).tokens.len(), 2);
        let text = |text: &str| {
            read(&json!({"choices": [{"delta": {"content": text}}]}), None)
                .tokens
                .len()
        };
        assert_eq!((text("abc"), text("")), (1, 0));
    }

    #[test]
    fn reasoning_stands_between_its_marks() {
        let mut answer = Answer::new(None);
        let mut out = String::new();
        for delta in [
            json!({"role": "assistant", "content": ""}),
            json!({"reasoning_content": "so "}),
            json!({"reasoning": "it is"}),
            json!({"content": "7"}),
            json!({"content": "."}),
        ] {
            let data = json!({"choices": [{"delta": delta}]}).to_string();
            out.push_str(&answer.event(data.as_bytes()).expect("a delta").text);
        }
        assert_eq!(out, "<think>so it is</think>7.");
    }

    #[test]
    fn errors_are_sentences() {
        let wrong = |data: &str| Answer::new(None).event(data.as_bytes()).expect_err("refused");
        let error = |data: &str| wrong(data).why;
        assert!(wrong("{\"error\": {\"message\": \"logprobs of 21\", \"code\": 400}}").refused == Some(400));
        assert!(
            wrong("{\"error\": {\"message\": \"no memory\", \"code\": 500}}")
                .refused
                .is_none()
        );
        assert!(error("{\"error\": {\"message\": \"out of memory\"}}").contains("out of memory"));
        assert!(error("{\"choices\": 7}").contains("no JSON of a completion"));
        assert!(error("{\"choices\": [{\"finish_reason\": \"content_filter\"}]}").contains("content_filter"));
    }
}
