//! The convolution of LFM2's short-convolution parts: `y = C * conv(B * x)`, position by position.

#![allow(unsafe_code, reason = "tasks touch different channels of the same memory")]

use super::buf::{Buf, Rows, Shared, padded};
use super::pool::ThreadPool;
use crate::cpu::Feed;
use crate::cpu::state::ConvLayout;

/// Channels of a task.
const CHANNELS: usize = 256;

/// Takes the rows of `u`, `[B, C, x]` each, to y; the windows of the feeds' sequences move on.
pub(crate) fn run(
    pool: &mut ThreadPool,
    layout: &ConvLayout,
    (weight, bias): (&Buf, &Buf),
    u: &Rows,
    y: &mut Rows,
    feeds: &mut [Feed<'_>],
) {
    let (channels, stride, slots) = (layout.channels, padded(layout.channels), layout.taps - 1);
    let parts = channels.div_ceil(CHANNELS);
    let (out, out_stride) = (Shared(y.as_mut_ptr()), y.stride());
    let count = feeds.len();
    let feeds = Shared(feeds.as_mut_ptr());
    pool.run(count * parts, |task, _| {
        let first = task % parts * CHANNELS;
        let range = first..channels.min(first + CHANNELS);
        let width = range.len();
        // SAFETY: only shared parts of a feed are read; its channels in this range belong to this task, in
        // the window as in the rows of y
        let (feed, window) = unsafe {
            let feed = &*feeds.at(task / parts).cast_const();
            let window = feed.sequence.window.raw().add(layout.window_offset + first);
            (feed, window)
        };
        let at = |slot: usize| {
            // SAFETY: as above; the slot lies in the window
            unsafe { std::slice::from_raw_parts_mut(window.add(slot * stride), width) }
        };
        for i in 0..feed.tokens.len() {
            let position = feed.sequence.len() + i;
            let row = u.row(feed.row + i);
            let (b, rest) = row.split_at(channels);
            let (c, x) = rest.split_at(channels);
            // SAFETY: as above
            let y = unsafe {
                let row = out.at((feed.row + i) * out_stride + first);
                std::slice::from_raw_parts_mut(row, width)
            };
            y.copy_from_slice(&bias[range.clone()]);
            // slot of the oldest position, which makes room for this one
            let oldest = position.checked_rem(slots).unwrap_or(0);
            for tap in 0..slots {
                let (past, weight) = (
                    at((oldest + tap) % slots),
                    &weight[tap * stride + first..][..width],
                );
                for ((y, w), p) in y.iter_mut().zip(weight).zip(past.iter()) {
                    *y += w * p;
                }
            }
            let weight = &weight[slots * stride + first..][..width];
            let inputs = b[range.clone()].iter().zip(&x[range.clone()]);
            for (((y, w), (b, x)), c) in y.iter_mut().zip(weight).zip(inputs).zip(&c[range.clone()]) {
                *y = (*y + w * (b * x)) * c;
            }
            if slots > 0 {
                let inputs = b[range.clone()].iter().zip(&x[range.clone()]);
                for (slot, (b, x)) in at(oldest).iter_mut().zip(inputs) {
                    *slot = b * x;
                }
            }
        }
    });
}
