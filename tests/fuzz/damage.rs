//! Ways to damage bytes and JSON.

use serde_json::{Value, json};

/// SplitMix64: the same case from the same numbers.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64, target: u64, case: u64) -> Self {
        let mut rng = Self(
            seed ^ target.wrapping_mul(0xd134_2543_de82_ef95) ^ case.wrapping_mul(0x2545_f491_4f6c_dd1d),
        );
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n`.
    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Bytes that mean something to one parser or another.
const WORDS: [&[u8]; 26] = [
    b"\r\n",
    b"\n\n",
    b"\0",
    b"\"",
    b"\\",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"NaN",
    b"\xff\xfe",
    b"\xc3",
    b"\xf0\x9f\x98",
    b"data: ",
    b"data: [DONE]",
    b"<think>",
    b"</think>",
    b"../../",
    b"content-length: 99999999999\r\n",
];

/// Changes a few places; from `from` on, and not beyond `to`.
pub(super) fn bytes(rng: &mut Rng, bytes: &mut Vec<u8>, to: usize) {
    for _ in 0..=rng.below(4) {
        let to = to.min(bytes.len());
        if to == 0 {
            return;
        }
        let at = rng.below(to);
        match rng.below(8) {
            0 => bytes[at] = rng.below(256) as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => drop(bytes.remove(at)),
            3 => drop(bytes.splice(at..at, rng.pick(&WORDS).iter().copied())),
            4 => {
                let end = (at + 1 + rng.below(64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, part));
            }
            5 => {
                // a length or an offset, as binary formats have them
                let number = [
                    0,
                    1,
                    u64::MAX,
                    u64::MAX >> 1,
                    1 << 31,
                    1 << 32,
                    1 << 40,
                    u64::from(u32::MAX),
                ][rng.below(8)]
                .to_le_bytes();
                let width = [4, 8][rng.below(2)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            6 => {
                let end = (at + 1 + rng.below(200)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ if rng.once_in(3) => bytes.truncate(at),
            _ => {}
        }
    }
}

/// A value that is not what it was.
fn other(rng: &mut Rng, old: &Value) -> Value {
    match rng.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1e308),
        7 => json!(-0.5),
        8 => json!(""),
        9 => json!("\u{0}\u{feff}\u{1f600}</think>"),
        10 => json!("x".repeat(1 << rng.below(14))),
        11 => json!([]),
        12 => json!({}),
        13 => (0..rng.below(100)).fold(old.clone(), |inner, _| json!([inner])),
        14 => json!([old, old, old]),
        _ => match old {
            Value::Number(n) => json!(n.as_f64().unwrap_or(0.0) * [2.0, -1.0, 1e6, 0.1][rng.below(4)]),
            Value::String(text) => json!(text.chars().rev().collect::<String>()),
            Value::Array(all) => all.iter().rev().cloned().collect(),
            other => json!({ "a": other }),
        },
    }
}

/// Changes a few values, names and orders anywhere in it.
pub(super) fn json(rng: &mut Rng, value: &mut Value) {
    for _ in 0..=rng.below(3) {
        let mut at = &mut *value;
        // down a random way
        loop {
            let n = match at {
                Value::Array(all) => all.len(),
                Value::Object(all) => all.len(),
                _ => 0,
            };
            if n == 0 || (rng.once_in(5) && !at.is_object()) {
                *at = other(rng, at);
                break;
            }
            let i = rng.below(n);
            if let Value::Object(all) = at
                && rng.once_in(6)
            {
                let name = all.keys().nth(i).expect("below the number of names").clone();
                let old = all.remove(&name).expect("it is there");
                match rng.below(3) {
                    0 => {}
                    1 => drop(all.insert(name + "s", old)),
                    _ => drop(all.insert(name, other(rng, &old))),
                }
                break;
            }
            at = match at {
                Value::Array(all) => &mut all[i],
                Value::Object(all) => all.values_mut().nth(i).expect("below the number of values"),
                _ => unreachable!("it has parts"),
            };
        }
    }
}
