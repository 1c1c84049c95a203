//! Scratch memory of forward passes on a device: activations, what a pass is told, and logits.

use super::device::{Address, Buffer, Device, DeviceError, Packed};
use crate::spec::{Mixer, MlpSpec, ModelSpec};

/// Widths of a model's activations.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widths {
    pub(super) hidden: usize,
    /// outputs of a part's first product
    pub(super) u: usize,
    /// channels of a convolution
    pub(super) channels: usize,
    /// outputs of a recurrent part before its gate
    pub(super) y: usize,
    /// inputs of a part's second product
    pub(super) a: usize,
    pub(super) vocab: usize,
    /// numbers of a partial result of attention: heads * (head_dim + 2)
    pub(super) partial: usize,
    pub(super) experts: usize,
    pub(super) active: usize,
    /// width of an expert
    pub(super) expert: usize,
}

/// Columns that a product reads of an input.
pub(super) fn whole(width: usize) -> usize {
    width.next_multiple_of(64)
}

impl Widths {
    pub(super) fn of(spec: &ModelSpec) -> Self {
        let mut w = Self {
            hidden: spec.hidden,
            vocab: spec.vocab,
            ..Self::default()
        };
        let act = |mlp: &MlpSpec| whole(mlp.width);
        for mixer in spec.mixers() {
            let (u, channels, y, a) = match mixer {
                Mixer::Attention(a) => {
                    w.partial = a.heads * (a.head_dim + 2);
                    let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
                    (q * if a.gate.is_some() { 2 } else { 1 } + 2 * kv, 0, 0, whole(q))
                }
                Mixer::Mamba2(m) => (m.in_proj.rows, m.channels(), m.width(), whole(m.width())),
                Mixer::GatedDelta(d) => (
                    d.channels() + d.width() + 2 * d.heads,
                    d.channels(),
                    d.width(),
                    whole(d.width()),
                ),
                Mixer::ShortConv(c) => (3 * c.channels, 0, 0, whole(c.channels)),
                Mixer::Mlp(m) => (0, 0, 0, act(m)),
                Mixer::Moe(m) => {
                    w.experts = w.experts.max(m.experts.len());
                    w.active = w.active.max(m.active);
                    w.expert = m.experts.iter().map(act).fold(w.expert, usize::max);
                    (0, 0, 0, m.shared.as_ref().map_or(0, |shared| act(&shared.mlp)))
                }
            };
            w.u = w.u.max(u);
            w.channels = w.channels.max(channels);
            w.y = w.y.max(y);
            w.a = w.a.max(a);
        }
        w
    }

    /// Tiles of 16 rows that the experts' rows fill at most.
    pub(super) fn tiles(&self, rows: usize) -> usize {
        let picks = rows * self.active;
        picks.min(picks / 16 + self.experts)
    }

    /// Bytes of scratch memory for `rows` rows of which `logits` have logits.
    pub(super) fn bytes(&self, rows: usize, logits: usize) -> usize {
        let row =
            4 * (self.hidden + self.u + self.channels + self.y) + 6 * (whole(self.hidden) + self.a) + 48;
        let gathered = 16 * (6 * (whole(self.hidden) + self.expert) + 4 * self.hidden + 8);
        rows * row
            + self.tiles(rows) * gathered
            + rows * (4 * self.experts + 12 * self.active)
            + logits * 4 * self.vocab
    }
}

/// The two forms of a product's input, as f32 and as fragments of bf16.
pub(super) struct Both {
    plain: Buffer,
    packed: Buffer,
    width: usize,
}

/// An input of products: rows of `stride` numbers, fragments of tiles of 16 rows, either or both.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Input {
    pub(super) plain: Address,
    pub(super) packed: Address,
    pub(super) stride: usize,
    pub(super) tiles: usize,
}

impl Input {
    /// As the kernels' `Out`.
    pub(super) fn out(&self) -> Packed {
        Packed::new()
            .at(self.plain)
            .at(self.packed)
            .u32(self.stride)
            .u32(self.tiles)
    }
}

impl Both {
    fn new(device: &dyn Device, rows: usize, width: usize) -> Result<Self, DeviceError> {
        let width = whole(width);
        Ok(Self {
            plain: device.alloc(rows * width * 4)?,
            packed: device.alloc(rows.next_multiple_of(16) * width * 2)?,
            width,
        })
    }
    /// For `rows` rows; the forms that are asked for.
    pub(super) fn input(&self, rows: usize, plain: bool, packed: bool) -> Input {
        let or_none = |wanted: bool, buffer: &Buffer| if wanted { buffer.at } else { Address(0) };
        Input {
            plain: or_none(plain, &self.plain),
            packed: or_none(packed, &self.packed),
            stride: self.width,
            tiles: rows.div_ceil(16),
        }
    }
}

/// What a pass is told of its rows: slots, positions and ids of rows; slots, first rows and counts of feeds; rows whose logits
/// are wanted. They are copied to the device at once.
#[derive(Default)]
pub(super) struct Told {
    pub(super) slot: Vec<u64>,
    pub(super) feed_slot: Vec<u64>,
    pub(super) position: Vec<u32>,
    pub(super) id: Vec<u32>,
    pub(super) feed_first: Vec<u32>,
    pub(super) feed_count: Vec<u32>,
    pub(super) wanted: Vec<u32>,
    bytes: Vec<u8>,
}

/// Where that lies on the device.
#[derive(Clone, Copy)]
pub(super) struct ToldAt {
    pub(super) slot: Address,
    pub(super) feed_slot: Address,
    pub(super) position: Address,
    pub(super) id: Address,
    pub(super) feed_first: Address,
    pub(super) feed_count: Address,
    pub(super) wanted: Address,
}

impl Told {
    pub(super) fn clear(&mut self) {
        self.slot.clear();
        self.feed_slot.clear();
        for list in [
            &mut self.position,
            &mut self.id,
            &mut self.feed_first,
            &mut self.feed_count,
            &mut self.wanted,
        ] {
            list.clear();
        }
    }

    fn write(&mut self, device: &dyn Device, to: &Buffer, rows: usize) {
        self.bytes.clear();
        for list in [&self.slot, &self.feed_slot] {
            self.bytes.extend(list.iter().flat_map(|v| v.to_le_bytes()));
            self.bytes.resize(self.bytes.len() + 8 * (rows - list.len()), 0);
        }
        for list in [
            &self.position,
            &self.id,
            &self.feed_first,
            &self.feed_count,
            &self.wanted,
        ] {
            self.bytes.extend(list.iter().flat_map(|v| v.to_le_bytes()));
            self.bytes.resize(self.bytes.len() + 4 * (rows - list.len()), 0);
        }
        device.write(to.at, &self.bytes);
    }
}

/// Scratch memory for up to so many rows.
pub(super) struct Space {
    /// rows, rows with logits, partial results of attention a row
    room: [usize; 3],
    pub(super) told: Told,
    told_at: Buffer,
    pub(super) h: Buffer,
    pub(super) x: Both,
    pub(super) u: Buffer,
    pub(super) xbc: Buffer,
    pub(super) y: Buffer,
    pub(super) a: Both,
    pub(super) partial: Buffer,
    pub(super) logits: Buffer,
    pub(super) moe: MoeSpace,
}

/// What a mixture of experts needs beside that.
pub(super) struct MoeSpace {
    pub(super) scores: Buffer,
    pub(super) picks: Buffer,
    pub(super) weights: Buffer,
    pub(super) place: Buffer,
    pub(super) source: Buffer,
    pub(super) expert: Buffer,
    pub(super) factors: Buffer,
    pub(super) x: Both,
    pub(super) a: Both,
    pub(super) y: Buffer,
}

impl Space {
    pub(super) fn new(device: &dyn Device, w: &Widths, room: [usize; 3]) -> Result<Self, DeviceError> {
        let [rows, logits, splits] = room;
        let floats = |count: usize| device.alloc(count * 4);
        let gathered = w.tiles(rows) * 16;
        Ok(Self {
            room,
            told: Told::default(),
            told_at: device.alloc(rows * 36)?,
            h: floats(rows * w.hidden)?,
            x: Both::new(device, rows.max(logits), w.hidden)?,
            u: floats(rows * w.u)?,
            xbc: floats(rows * w.channels)?,
            y: floats(rows * w.y)?,
            a: Both::new(device, rows, w.a)?,
            partial: floats(rows * w.partial * splits)?,
            logits: floats(logits * w.vocab)?,
            moe: MoeSpace {
                scores: floats(rows * w.experts)?,
                picks: floats(rows * w.active)?,
                weights: floats(rows * w.active)?,
                place: floats(rows * w.active)?,
                source: floats(gathered)?,
                expert: floats(gathered / 16)?,
                factors: floats(rows)?,
                x: Both::new(device, gathered, w.hidden)?,
                a: Both::new(device, gathered, w.expert)?,
                y: floats(gathered * w.hidden)?,
            },
        })
    }

    /// Whether it has room.
    pub(super) fn holds(&self, room: [usize; 3]) -> bool {
        self.room.iter().zip(room).all(|(have, want)| *have >= want)
    }
    /// What it has room for.
    pub(super) fn room(&self) -> [usize; 3] {
        self.room
    }

    /// Copies what a pass is told to the device.
    pub(super) fn tell(&mut self, device: &dyn Device) {
        self.told.write(device, &self.told_at, self.room[0]);
    }
    pub(super) fn told_at(&self) -> ToldAt {
        let rows = self.room[0] as u64;
        let at = |bytes: u64| self.told_at.at.plus(rows * bytes);
        ToldAt {
            slot: at(0),
            feed_slot: at(8),
            position: at(16),
            id: at(20),
            feed_first: at(24),
            feed_count: at(28),
            wanted: at(32),
        }
    }
}
