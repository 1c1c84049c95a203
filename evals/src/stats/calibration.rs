//! Whether a score means what it says: reliability diagrams, and the scores of right and wrong traces side by
//! side.

use super::{Interval, StatsError, wilson};

/// Some scored things that stand together in a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct ReliabilityBin {
    /// Lower end of the scores in it.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How many there are.
    pub count: usize,
    /// Their mean score.
    pub score: f64,
    /// The share of them that is right.
    pub right: f64,
    /// Wilson's interval of that share. It takes them as independent, which traces of one problem are not:
    /// for traces it is the least that the spread can be.
    pub interval: Interval,
}

/// A reliability diagram of a score that claims to be a probability, such as the winner's share of the vote.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Reliability {
    /// The bins that hold something, upwards.
    pub bins: Vec<ReliabilityBin>,
    /// Expected calibration error: the mean of |score - share right| over the bins, weighted by their counts
    /// (M. Naeini, G. Cooper, M. Hauskrecht, AAAI 2015).
    pub calibration_error: f64,
    /// Mean of (score - right)^2 over all (G. Brier, Monthly Weather Review 78, 1950).
    pub brier: f64,
}

/// The reliability of probabilities in `bins` bins of equal width over [0, 1].
///
/// # Errors
/// When there are none, one is not in [0, 1], there is no bin, or the level is not between 0 and 1.
pub fn reliability(scored: &[(f64, bool)], bins: usize, level: f64) -> Result<Reliability, StatsError> {
    if scored.is_empty() || bins == 0 {
        return Err(StatsError::Empty("a reliability diagram"));
    }
    if let Some((p, _)) = scored.iter().find(|(p, _)| !(0.0..=1.0).contains(p)) {
        return Err(StatsError::NotAProbability(*p));
    }
    let mut members = vec![Vec::new(); bins];
    for &(p, right) in scored {
        members[((p * bins as f64) as usize).min(bins - 1)].push((p, right));
    }
    let width = 1.0 / bins as f64;
    let filled = members
        .iter()
        .enumerate()
        .filter(|(_, members)| !members.is_empty());
    let bins = filled
        .map(|(i, members)| bin(members, i as f64 * width, (i + 1) as f64 * width, level))
        .collect::<Result<Vec<_>, _>>()?;
    let n = scored.len() as f64;
    let calibration_error = bins
        .iter()
        .map(|b| b.count as f64 * (b.score - b.right).abs())
        .sum::<f64>()
        / n;
    let brier = scored
        .iter()
        .map(|&(p, right)| (p - f64::from(u8::from(right))).powi(2))
        .sum::<f64>()
        / n;
    Ok(Reliability {
        bins,
        calibration_error,
        brier,
    })
}

/// The share right by rank of the score, in about `bins` bins of equal count, upwards: for scores that are no
/// probabilities, such as confidences. Equal scores stand in one bin.
///
/// # Errors
/// When there are none, one is not a number, there is no bin, or the level is not between 0 and 1.
pub fn right_by_rank(
    scored: &[(f64, bool)],
    bins: usize,
    level: f64,
) -> Result<Vec<ReliabilityBin>, StatsError> {
    if scored.is_empty() || bins == 0 {
        return Err(StatsError::Empty("a diagram by rank"));
    }
    if scored.iter().any(|(score, _)| !score.is_finite()) {
        return Err(StatsError::NotFinite("a diagram by rank"));
    }
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = sorted.len();
    let mut result = Vec::new();
    let mut from = 0;
    for i in 1..=bins {
        let mut to = (n * i / bins).max(from);
        while to > from && to < n && sorted[to].0 == sorted[to - 1].0 {
            to += 1;
        }
        if to > from {
            let members = &sorted[from..to];
            result.push(bin(members, members[0].0, members[members.len() - 1].0, level)?);
            from = to;
        }
    }
    Ok(result)
}

fn bin(members: &[(f64, bool)], low: f64, high: f64, level: f64) -> Result<ReliabilityBin, StatsError> {
    let right = members.iter().filter(|m| m.1).count();
    let n = members.len() as f64;
    Ok(ReliabilityBin {
        low,
        high,
        count: members.len(),
        score: members.iter().map(|m| m.0).sum::<f64>() / n,
        right: right as f64 / n,
        interval: wilson(right as u64, members.len() as u64, level)?,
    })
}

/// How many right and wrong ones have a score in each of several bins of equal width.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Histogram {
    /// Ends of the bins, one more than there are bins. A bin holds its lower end, the last one also its
    /// upper.
    pub edges: Vec<f64>,
    /// Right ones in each bin.
    pub right: Vec<u64>,
    /// Wrong ones in each bin.
    pub wrong: Vec<u64>,
    /// How many had no finite score and are in no bin.
    pub left_out: u64,
}

/// The scores of right and wrong ones in `bins` bins between the lowest and the highest.
///
/// # Errors
/// When no score is finite, or there is no bin.
pub fn histogram(scored: &[(f64, bool)], bins: usize) -> Result<Histogram, StatsError> {
    let finite: Vec<(f64, bool)> = scored
        .iter()
        .copied()
        .filter(|(score, _)| score.is_finite())
        .collect();
    if finite.is_empty() || bins == 0 {
        return Err(StatsError::Empty("a histogram"));
    }
    let low = finite.iter().map(|s| s.0).fold(f64::INFINITY, f64::min);
    let high = finite.iter().map(|s| s.0).fold(f64::NEG_INFINITY, f64::max);
    // Scores that are all equal get a bin around them.
    let (low, high) = if low < high {
        (low, high)
    } else {
        (low - 0.5, high + 0.5)
    };
    let edges: Vec<f64> = (0..=bins)
        .map(|i| {
            let at = i as f64 / bins as f64;
            low * (1.0 - at) + high * at
        })
        .collect();
    let (mut right, mut wrong) = (vec![0; bins], vec![0; bins]);
    for (score, is_right) in &finite {
        let at = edges.partition_point(|edge| edge <= score).clamp(1, bins) - 1;
        let counts = if *is_right { &mut right } else { &mut wrong };
        counts[at] += 1;
    }
    Ok(Histogram {
        edges,
        right,
        wrong,
        left_out: (scored.len() - finite.len()) as u64,
    })
}
