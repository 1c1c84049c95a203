//! What to use, and whether that is more than a guess.

use tts_evals::stats::{WithinAuroc, clopper_pearson};

use super::scores::LOWEST;
use super::trials::lost;
use super::{LEVEL, MIXED, ScoreTrial, Trial, Verdict};

/// Problems beyond which counting how many more would do is of no use.
const MOST: u64 = 100_000;

/// One that is right clearly more often than plain majority, by more than the margin; else the cheapest that
/// may lose no more than the margin, on other problems too; else one with a smaller gain that is clear; else the
/// cheapest that loses no more than the margin on these problems, of those whose grounds hold; plain majority
/// otherwise.
pub(super) fn advise(trials: &[Trial], margin: f64, confidence_knows: bool) -> &Trial {
    let plain = trials
        .iter()
        .find(|t| t.strategy == "majority")
        .expect("plain majority is always tried");
    let holds = |t: &&Trial| {
        let loses = t.difference.is_some_and(|d| -d <= margin);
        loses && (confidence_knows || !t.reads_confidence)
    };
    let passes = |t: &&Trial| t.strategy != "majority" && t.may_lose.is_some_and(|share| share <= margin);
    let better = |t: &&Trial| t.difference_interval.is_some_and(|i| i.low > 0.0);
    let gain = |t: &&Trial| t.difference.unwrap_or_default();
    let best = trials
        .iter()
        .filter(better)
        .max_by(|a, b| gain(a).total_cmp(&gain(b)));
    // what gains more than others may lose is worth more than what is cheap
    let sound = || trials.iter().find(|t| holds(t) && passes(t));
    best.filter(|t| gain(t) > margin)
        .or_else(sound)
        .or(best)
        .or_else(|| trials.iter().find(holds))
        .unwrap_or(plain)
}

pub(super) fn verdict(
    advice: &Trial,
    scores: &[ScoreTrial],
    graded: usize,
    mixed: usize,
    problems: usize,
    margin: f64,
) -> Verdict {
    let not_enough = |why: String, problems_needed| Verdict::NotEnough { why, problems_needed };
    if graded == 0 {
        return not_enough(
            "no gold answer is known, so nothing can be said about what a strategy loses; name the problem \
             set"
            .to_owned(),
            None,
        );
    }
    let percent = |x: f64| format!("{:.0}%", x * 100.0);
    let n = graded as u64;
    if advice.strategy == "majority" {
        // it is the fallback: say what would have been needed for another advice
        let lowest = scores.iter().find(|s| s.score == LOWEST).or(scores.first());
        return match lowest {
            Some(s) if s.knows => not_enough(
                "every cheaper strategy lost more than the margin on these problems".to_owned(),
                None,
            ),
            Some(s) => {
                let needed = needed_for_auroc(&s.auroc, mixed, problems);
                not_enough(
                    format!(
                        "{mixed} of {problems} problems have right and wrong traces, too few to say that \
                         confidence tells them apart"
                    ),
                    needed,
                )
            }
            None => not_enough(
                format!(
                    "{mixed} of {problems} problems have right and wrong traces: what a score knows can be \
                     seen on no others"
                ),
                None,
            ),
        };
    }
    if advice.difference_interval.is_some_and(|i| i.low > 0.0) {
        // it is right more often, whatever it loses on the way
        return Verdict::Enough;
    }
    let (Some(lost_mean), Some(may_lose)) = (advice.lost, advice.may_lose) else {
        return not_enough("nothing is known about what it loses".to_owned(), None);
    };
    if may_lose <= margin {
        return Verdict::Enough;
    }
    let rate = lost_mean / n as f64;
    let needed = (1..).map(|i| n + i * 5).take_while(|n| *n <= MOST).find(|n| {
        let lost = lost(rate * *n as f64);
        clopper_pearson(lost, *n, LEVEL).is_ok_and(|i| i.high <= margin)
    });
    not_enough(
        format!(
            "it lost {lost_mean:.1} of {graded} problems that plain majority solves, and on others that may \
             be as many as {} of them, more than the {} that are allowed",
            percent(may_lose),
            percent(margin)
        ),
        needed,
    )
}

/// Problems that would narrow the interval of an AUROC until it leaves chance out, if they are like these.
fn needed_for_auroc(auroc: &WithinAuroc, mixed: usize, problems: usize) -> Option<u64> {
    let (sd, above) = (auroc.sd?, auroc.mean - 0.5);
    if above <= 0.0 || mixed == 0 {
        return None;
    }
    let wanted = (1.96 * sd / above).powi(2).max(MIXED as f64) * problems as f64 / mixed as f64;
    let needed = wanted.ceil() as u64;
    (needed <= MOST).then_some(needed.max(problems as u64 + 1))
}

#[cfg(test)]
mod tests {
    use tts_evals::stats::Interval;

    use super::*;
    use crate::run::Slots;

    fn trial(strategy: &str, tokens: f64, difference: f64, may_lose: f64) -> Trial {
        Trial {
            strategy: strategy.to_owned(),
            slots: Slots::fixed(8),
            window: None,
            reads_confidence: false,
            accuracy: Some(0.5 + difference),
            difference: Some(difference),
            difference_interval: Some(Interval {
                low: difference - 0.1,
                high: difference + 0.1,
            }),
            lost: Some(0.0),
            may_lose: Some(may_lose),
            tokens,
            tokens_interval: None,
            share: 1.0,
            ticks: tokens,
        }
    }

    #[test]
    fn what_passes_is_named_before_what_is_cheap_and_a_clear_gain_before_both() {
        let plain = trial("majority", 100.0, 0.0, 0.0);
        let cheap = trial("best-of-infinity", 10.0, -0.02, 0.06);
        let passes = trial("adaptive-consistency", 30.0, -0.003, 0.03);
        let gains = trial("deepconf-low", 40.0, 0.21, 0.12);
        let name = |trials: &[Trial]| {
            let advice = advise(trials, 0.05, false);
            let verdict = verdict(advice, &[], 60, 40, 60, 0.05);
            (advice.strategy.clone(), verdict == Verdict::Enough)
        };
        let named = |strategy: &str, enough| (strategy.to_owned(), enough);
        assert_eq!(
            name(&[cheap.clone(), passes.clone(), plain.clone()]),
            named("adaptive-consistency", true)
        );
        assert_eq!(
            name(&[cheap.clone(), passes, gains.clone(), plain.clone()]),
            named("deepconf-low", true)
        );
        assert_eq!(
            name(&[cheap.clone(), plain.clone()]),
            named("best-of-infinity", false)
        );
        let loses = trial("esc", 20.0, -0.2, 0.3);
        assert_eq!(name(&[loses, plain]), named("majority", false));
    }
}
