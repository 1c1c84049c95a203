//! Replies of named requests, kept for a while for clients that lost theirs and ask again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::choice::Choice;
use super::jobs::Key;
use super::logprobs::TextToken;

/// How long a reply is kept, how many are, and how many bytes they take together.
const TIME: Duration = Duration::from_secs(600);
const REPLIES: usize = 64;
const BYTES: usize = 16 << 20;

/// A reply and the name that it is digest for by.
struct Reply<T> {
    key: Key,
    reply: T,
    bytes: usize,
    since: Instant,
}

/// The replies that are kept, oldest first.
pub(super) struct ReplyCache<T> {
    replies: VecDeque<Reply<T>>,
}

impl<T> Default for ReplyCache<T> {
    fn default() -> Self {
        let replies = VecDeque::new();
        Self { replies }
    }
}

impl<T: Clone> ReplyCache<T> {
    /// Keeps a reply of so many bytes, in place of the oldest ones where it must be; one that is larger than
    /// all may be is not kept.
    pub(super) fn put(&mut self, key: Key, reply: T, bytes: usize, now: Instant) {
        self.replies.retain(|r| r.key.name != key.name);
        if bytes > BYTES {
            return;
        }
        self.replies.push_back(Reply {
            key,
            reply,
            bytes,
            since: now,
        });
        self.forget(now);
    }

    /// The reply of this name and what it answered, if it is still kept.
    pub(super) fn get(&mut self, name: &[u8; 32], now: Instant) -> Option<(T, [u8; 32])> {
        self.forget(now);
        let found = self.replies.iter().find(|r| r.key.name == *name)?;
        Some((found.reply.clone(), found.key.digest))
    }

    fn forget(&mut self, now: Instant) {
        let mut bytes: usize = self.replies.iter().map(|r| r.bytes).sum();
        while let Some(oldest) = self.replies.front()
            && (bytes > BYTES || self.replies.len() > REPLIES || now.duration_since(oldest.since) >= TIME)
        {
            bytes -= oldest.bytes;
            self.replies.pop_front();
        }
    }
}

/// Bytes that choices take in memory, closely enough.
pub(super) fn bytes(choices: &[Choice]) -> usize {
    let json = |value: serde_json::Result<Value>| value.as_ref().map_or(0, weight);
    let one = |c: &Choice| {
        let texts = c.text.len() + c.whole.content.len() + c.whole.reasoning.len();
        size_of::<Choice>()
            + texts
            + c.tokens.iter().map(TextToken::size).sum::<usize>()
            + json(serde_json::to_value(&c.whole.logprobs))
            + weight(&c.tts)
            + json(serde_json::to_value(&c.traces))
    };
    choices.iter().map(one).sum()
}

fn weight(value: &Value) -> usize {
    let inside: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(all) => all.iter().map(weight).sum(),
        // a name, and the tree that holds it
        Value::Object(all) => all
            .iter()
            .map(|(name, value)| 64 + name.len() + weight(value))
            .sum(),
        _ => 0,
    };
    size_of::<Value>() + inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: usize) -> Key {
        let name = *blake3::hash(&i.to_le_bytes()).as_bytes();
        Key {
            name,
            digest: [7; 32],
        }
    }

    #[test]
    fn replies_are_kept_for_a_while_and_within_bounds() {
        let now = Instant::now();
        let has = |kept: &mut ReplyCache<()>, i: usize, now| kept.get(&key(i).name, now).is_some();
        let mut kept = ReplyCache::default();
        for i in 0..=REPLIES {
            kept.put(key(i), (), 1, now);
        }
        assert!(!has(&mut kept, 0, now) && has(&mut kept, 1, now) && has(&mut kept, REPLIES, now));
        assert_eq!(kept.get(&key(1).name, now).unwrap().1, [7; 32]);
        // one that is large takes the place of many, one that is too large has none
        kept.put(key(1000), (), BYTES - 10, now);
        assert!(
            !has(&mut kept, REPLIES - 10, now) && has(&mut kept, REPLIES, now) && has(&mut kept, 1000, now)
        );
        kept.put(key(1001), (), BYTES + 1, now);
        assert!(!has(&mut kept, 1001, now) && has(&mut kept, 1000, now));
        kept.put(key(1002), (), BYTES, now);
        assert_eq!(kept.replies.len(), 1);
        kept = ReplyCache::default();
        kept.put(key(1), (), 1, now);
        kept.put(key(1), (), 2, now + TIME / 2);
        assert_eq!(kept.replies.len(), 1);
        assert!(has(&mut kept, 1, now + TIME) && !has(&mut kept, 1, now + TIME * 3 / 2));
        assert_eq!(kept.replies.len(), 0);
    }

    #[test]
    fn a_reply_weighs_at_least_what_its_json_does() {
        let value = serde_json::json!({ "a": [1, 2.5, null, true], "b": { "c": "text", "d": {} } });
        assert!(weight(&value) >= value.to_string().len());
    }
}
