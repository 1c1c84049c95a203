//! Verbatim loops: a trace that repeats one exact cycle says nothing new, and says it with confidence.

/// A loop is one exact cycle, at least this often,
const LOOP_REPEATS: usize = 8;
/// over at least this many tokens,
const LOOP_TOKENS: usize = 1024;
/// looked for every so many tokens.
pub(super) const LOOP_EVERY: usize = 64;

/// Whether the ids end in one exact cycle of any length, often and long enough.
pub(super) fn is_loop(ids: &[u32]) -> bool {
    let n = ids.len();
    if n < LOOP_TOKENS {
        return false;
    }
    (1..=n / LOOP_REPEATS).any(|period| {
        let needed = LOOP_TOKENS.max(period * LOOP_REPEATS);
        needed <= n && (0..needed - period).all(|back| ids[n - 1 - back] == ids[n - 1 - back - period])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_exact_cycles_that_are_long_and_frequent_enough() {
        let cycle = |period: usize, n: usize| (0..n).map(|i| (i % period) as u32).collect::<Vec<_>>();
        assert!(is_loop(&cycle(1, 1024)));
        assert!(!is_loop(&cycle(1, 1023)));
        assert!(is_loop(&cycle(100, 1024)));
        assert!(is_loop(&cycle(1000, 8000)));
        assert!(!is_loop(&cycle(1000, 7999)));
        let mut broken = cycle(100, 1024);
        broken[1000] = 7777;
        assert!(!is_loop(&broken));
        let mut later: Vec<u32> = (0..5000).collect();
        later.extend(cycle(3, 1024));
        assert!(is_loop(&later));
    }
}
