//! Hundreds of requests at once, none lost.

use std::collections::BTreeMap;
use std::thread;

use serde_json::json;

use super::{Running, few};

#[test]
fn hundreds_of_requests_at_once_are_all_answered() {
    let server = Running::with(few(), |o| o.limits.requests = 400);
    let clients = 200;
    let ask = |i: usize| {
        // some stream, some ask for something else
        let fields = json!({ "traces": 2, "max_tokens": 24, "seed": i % 20, "stream": i.is_multiple_of(3) });
        let reply = server.chat(fields);
        if i.is_multiple_of(3) {
            reply.events().pop().unwrap()
        } else {
            reply.ok()
        }
    };
    let replies: Vec<_> = thread::scope(|scope| {
        let ask = &ask;
        let clients: Vec<_> = (0..clients).map(|i| scope.spawn(move || ask(i))).collect();
        clients.into_iter().map(|c| c.join().unwrap()).collect()
    });
    let mut digests = BTreeMap::new();
    for (i, reply) in replies.iter().enumerate() {
        let digest = reply["tts"]["digest"].as_str().unwrap();
        assert_eq!(
            *digests.entry(i % 20).or_insert(digest),
            digest,
            "one seed, one answer"
        );
    }
    assert_eq!(digests.len(), 20);
    let spent: u64 = replies
        .iter()
        .map(|r| r["tts"]["tokens"]["generated"].as_u64().unwrap())
        .sum();
    assert_eq!(server.metric("tts_tokens_total"), spent as f64);
    assert_eq!(server.metric("tts_problems_total"), clients as f64);
    assert_eq!(server.metric("tts_requests_running"), 0.0);
}
