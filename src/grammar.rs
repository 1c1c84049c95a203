//! Text that must be JSON: which ids may come next in a trace. A trace's ids follow from its own text alone, so what it draws does not
//! depend on the batch.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

/// States of a lexer, at most: each takes a kilobyte or two.
const STATES: usize = 20_000;

/// A vocabulary as grammars read it; made once for a model.
pub(crate) struct Words {
    factory: ParserFactory,
    stop_ids: Vec<u32>,
    size: u32,
}

impl Words {
    /// Of `size` ids, with the bytes that each adds to a text (none for ids that add none), and those that end a trace.
    ///
    /// # Errors
    /// A vocabulary without an id that ends a trace.
    pub(crate) fn new(size: u32, bytes: impl Fn(u32) -> Vec<u8>, stop_ids: Vec<u32>) -> Result<Self, String> {
        let end = *stop_ids.first().ok_or("no id ends a trace of this model")?;
        let special = |id: u32| [&[TokTrie::SPECIAL_TOKEN_MARKER], format!("<[{id}]>").as_bytes()].concat();
        let words: Vec<Vec<u8>> = (0..size)
            .map(|id| match bytes(id) {
                empty if empty.is_empty() || stop_ids.contains(&id) => special(id),
                bytes => bytes,
            })
            .collect();
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|e| e.to_string())?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_lexer_states: STATES,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        Ok(Self {
            factory,
            stop_ids,
            size,
        })
    }
}

/// What a text must be; shared by the traces of a problem.
pub struct Grammar {
    words: Arc<Words>,
    /// as it is before the first id
    first: Mutex<Matcher>,
    /// the ids that end thinking, where a trace may think first
    thinking: Option<Thinking>,
}

/// Where thinking begins and ends.
#[derive(Clone, Debug)]
pub(crate) struct Thinking {
    /// the id that opens it, where the model opens it itself
    pub(crate) open: Option<u32>,
    /// the ids that close it
    pub(crate) close: Vec<u32>,
    /// whether the prompt has opened it
    pub(crate) is_open: bool,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a grammar over {} ids", self.words.size)
    }
}

impl Grammar {
    /// JSON of this schema, or any JSON object.
    ///
    /// # Errors
    /// What of a schema is not known or is too large.
    pub(crate) fn json(
        schema: Option<&Value>,
        words: &Arc<Words>,
        thinking: Option<Thinking>,
    ) -> Result<Self, String> {
        let any = json!({ "type": "object" });
        let mut schema = schema.unwrap_or(&any).clone();
        // a small model could go on with blanks for ever
        if let Value::Object(fields) = &mut schema {
            fields.entry("x-guidance").or_insert_with(
                || json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " }),
            );
        }
        let grammar = TopLevelGrammar::from_json_schema(schema);
        let first = Matcher::new(words.factory.create_parser(grammar));
        match first.get_error() {
            Some(why) => Err(why.lines().next().unwrap_or_default().to_owned()),
            None => Ok(Self {
                words: words.clone(),
                first: Mutex::new(first),
                thinking,
            }),
        }
    }

    /// A trace of it that has no ids yet.
    pub(crate) fn begin(&self) -> Follower {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        Follower {
            words: self.words.clone(),
            matcher: first.clone(),
            opens: self.thinking.as_ref().and_then(|thinking| thinking.open),
            closes: self
                .thinking
                .as_ref()
                .map(|thinking| thinking.close.clone())
                .unwrap_or_default(),
            thinks: self.thinking.as_ref().is_some_and(|thinking| thinking.is_open),
            read: 0,
            banned: Vec::new(),
        }
    }
}

/// Follows one trace.
pub(crate) struct Follower {
    words: Arc<Words>,
    matcher: Matcher,
    opens: Option<u32>,
    closes: Vec<u32>,
    thinks: bool,
    /// ids of the trace that were read
    read: usize,
    banned: Vec<u32>,
}

impl Follower {
    /// The ids that may not be drawn after those that were followed.
    pub(crate) fn banned(&self) -> &[u32] {
        &self.banned
    }

    /// Follows a trace to the end of these ids, which go on from those of the last call; `always` are never drawn, and sorted.
    pub(crate) fn follow(&mut self, ids: &[u32], always: &[u32]) {
        while self.read < ids.len() {
            let id = ids[self.read];
            self.read += 1;
            if self.thinks {
                self.thinks = self.closes.is_empty() || !ids[..self.read].ends_with(&self.closes);
            } else if self.read == 1 && Some(id) == self.opens {
                self.thinks = true;
            } else if self.matcher.consume_token(id).is_err() {
                // what was forced, or a grammar that grew beyond its limits: the trace can only end
                break;
            }
        }
        self.banned.clear();
        if self.thinks {
            // what it is to say comes after its thinking
            self.banned.extend_from_slice(&self.words.stop_ids);
            self.banned.extend_from_slice(always);
            return;
        }
        let mask = match self.matcher.is_error() || self.matcher.is_stopped() {
            true => None,
            false => self.matcher.compute_mask().ok(),
        };
        let ends = mask.is_none() || self.matcher.is_accepting().unwrap_or(true);
        let opens = self.opens.filter(|_| self.read == 0);
        self.banned.extend((0..self.words.size).filter(|id| {
            let may = match &mask {
                _ if self.words.stop_ids.contains(id) => ends,
                Some(mask) => mask.is_allowed(*id) || Some(*id) == opens,
                None => false,
            };
            !may || (always.binary_search(id).is_ok() && !self.words.stop_ids.contains(id))
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as ids, and one that ends a trace.
    fn words() -> Arc<Words> {
        let bytes = |id: u32| if id < 256 { vec![id as u8] } else { Vec::new() };
        Arc::new(Words::new(258, bytes, vec![256]).unwrap())
    }

    fn allowed(follower: &mut Follower, text: &[u32]) -> Vec<u32> {
        follower.follow(text, &[]);
        (0..258).filter(|id| !follower.banned().contains(id)).collect()
    }

    fn ids(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn what_may_follow_is_what_the_schema_says() {
        let schema = json!({
            "type": "object", "properties": { "a": { "enum": [12, 17] } }, "required": ["a"],
            "additionalProperties": false,
        });
        let grammar = Grammar::json(Some(&schema), &words(), None).unwrap();
        let mut follower = grammar.begin();
        assert_eq!(allowed(&mut follower, &[]), ids("{"));
        let upto = ids("{\"a\": 1");
        assert_eq!(allowed(&mut follower, &upto), ids("27"));
        let whole = ids("{\"a\": 17}");
        assert_eq!(allowed(&mut follower, &whole), [256], "only its end may follow");
        // another trace of it begins anew, and one that is taken up is where it was
        assert_eq!(allowed(&mut grammar.begin(), &[]), ids("{"));
        assert_eq!(allowed(&mut grammar.begin(), &upto), ids("27"));
        // what does not fit can only end
        assert_eq!(allowed(&mut grammar.begin(), &ids("{\"b")), [256]);
    }

    #[test]
    fn thinking_is_free() {
        let thinking = |is_open| Thinking {
            open: Some(257),
            close: ids("</t>"),
            is_open,
        };
        for is_open in [true, false] {
            let grammar = Grammar::json(None, &words(), Some(thinking(is_open))).unwrap();
            let mut follower = grammar.begin();
            let mut text = Vec::new();
            if !is_open {
                let first = allowed(&mut follower, &text);
                assert!(first.contains(&257) && first.contains(&u32::from(b'{')) && !first.contains(&97));
                text.push(257);
            }
            text.extend(ids("so { what"));
            let free = allowed(&mut follower, &text);
            assert!(free.len() == 257 && !free.contains(&256), "all but its end");
            text.extend(ids("</t>"));
            let after = allowed(&mut follower, &text);
            assert!(
                after.contains(&u32::from(b'{')) && !after.contains(&97) && !after.contains(&257),
                "{after:?}"
            );
        }
    }

    #[test]
    fn hostile_schemas_are_refused_or_bounded() {
        let words = words();
        // as deep as the body of a request may be
        let deep = (0..120).fold(
            json!({ "type": "string" }),
            |inner, _| json!({ "type": "array", "items": inner }),
        );
        let many: Vec<String> = (0..200_000).map(|i| format!("value number {i}")).collect();
        let began = std::time::Instant::now();
        for schema in [
            json!({ "type": "nonsense" }),
            json!({ "$ref": "https://example.org/elsewhere.json" }),
            json!({ "type": "string", "pattern": "(a{1,5000}){1,5000}" }),
            json!({ "enum": many }),
            deep,
        ] {
            if let Ok(grammar) = Grammar::json(Some(&schema), &words, None) {
                grammar.begin().follow(&[], &[]);
            }
        }
        assert!(
            began.elapsed().as_secs() < 60,
            "bounded by fuel, not by the clock"
        );
        assert!(Grammar::json(Some(&json!({ "type": "nonsense" })), &words, None).is_err());
    }
}
