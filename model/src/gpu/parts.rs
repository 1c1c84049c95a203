//! The parts of a model in a device's memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::device::{Address, Buffer, Defines, Device, DeviceError, bytes_of};
use super::matrix::{Failure, Matrix, Rows, alike};
use crate::cpu::linear::{factors, gathered, held_as};
use crate::spec::{
    AttentionSpec, GatedDeltaSpec, KeySharing, LinearSpec, Mamba2Spec, Mixer, MlpInput, MlpSpec, ModelSpec,
    MoeSpec, NormSpec, Residual, Routing, ShortConvSpec,
};
use crate::weights::Checkpoint;
use crate::{KvFormat, ModelError, StateFormat, WeightFormat};

/// Most ids of a vocabulary: sums of a draw's weights are 64-bit integers.
const MOST_IDS: usize = 1 << 18;

/// Loads parts onto a device.
pub(super) struct Loader<'a> {
    pub(super) device: &'a dyn Device,
    pub(super) weights: &'a Checkpoint,
    pub(super) format: WeightFormat,
    /// bytes of matrices by the type of their weights
    pub(super) held: RefCell<BTreeMap<&'static str, u64>>,
}

/// Numbers on a device; none where there are none.
pub(super) struct Numbers(Option<Buffer>);

impl Numbers {
    pub(super) fn at(&self) -> Address {
        self.0.as_ref().map_or(Address(0), |buffer| buffer.at)
    }
}

/// Matrices that read one input and whose outputs stand side by side.
pub(super) struct Wide {
    /// each with its first column
    pub(super) matrices: Vec<(Matrix, usize)>,
}

pub(super) struct Norm {
    pub(super) weight: Numbers,
    pub(super) eps: f32,
}

pub(super) struct Attention {
    pub(super) index: usize,
    /// queries, keys, values and, if there is one, the gate
    pub(super) input: Wide,
    pub(super) o: Matrix,
    pub(super) widths: [usize; 4],
    pub(super) q_norm: Option<Norm>,
    pub(super) k_norm: Option<Norm>,
    pub(super) sinks: Numbers,
    pub(super) window: usize,
    /// its table, and how many pairs of dimensions turn
    pub(super) rope: Option<usize>,
}

pub(super) struct Recurrent {
    pub(super) index: usize,
    pub(super) input: Wide,
    /// first columns of the gate, of what passes the convolution, of step sizes and of strengths
    pub(super) columns: [usize; 4],
    pub(super) channels: usize,
    pub(super) heads: usize,
    pub(super) width: usize,
    pub(super) conv: Numbers,
    pub(super) conv_bias: Numbers,
    pub(super) a: Numbers,
    pub(super) d: Numbers,
    pub(super) dt_bias: Numbers,
    pub(super) limit: (f32, f32),
    /// the kind of norm at the gate, its groups, weight and eps
    pub(super) gate: (usize, usize, Norm),
    pub(super) output: Matrix,
}

pub(super) struct ShortConv {
    pub(super) index: usize,
    pub(super) channels: usize,
    pub(super) input: Matrix,
    pub(super) conv: Numbers,
    pub(super) bias: Numbers,
    pub(super) output: Matrix,
}

/// What a feed-forward part does between its matrices: a sink of the kernels, with alpha and limit.
#[derive(Clone, Copy)]
pub(super) struct Activation {
    pub(super) sink: usize,
    pub(super) alpha: f32,
    pub(super) limit: f32,
}

/// A feed-forward part, or the experts of a mixture as stacks.
pub(super) struct Mlp {
    pub(super) activation: Activation,
    pub(super) width: usize,
    pub(super) input: Matrix,
    pub(super) down: Matrix,
}

pub(super) struct Moe {
    pub(super) router: Matrix,
    pub(super) routing: Routing,
    pub(super) correction: Numbers,
    pub(super) active: usize,
    pub(super) count: usize,
    pub(super) experts: Mlp,
    pub(super) shared: Option<(Mlp, Option<Matrix>)>,
    pub(super) scale: f32,
}

pub(super) enum Part {
    Attention(Attention),
    Recurrent(Recurrent),
    ShortConv(ShortConv),
    Mlp(Mlp),
    Moe(Box<Moe>),
}

/// One residual branch: a norm, and what is added to the residual stream.
pub(super) struct Branch {
    pub(super) norm: Norm,
    pub(super) parts: Vec<Part>,
}

/// Places in a sequence's memory that the next parts take.
#[derive(Default)]
pub(super) struct Places {
    attention: usize,
    recurrent: usize,
    conv: usize,
}

impl Loader<'_> {
    pub(super) fn numbers(&self, values: &[f32]) -> Result<Numbers, Failure> {
        let buffer = self.device.alloc(size_of_val(values))?;
        self.device.write(buffer.at, &bytes_of(values));
        Ok(Numbers(Some(buffer)))
    }

    fn rows(&self, spec: &LinearSpec, scale: f32, format: WeightFormat) -> Result<Rows<'_>, ModelError> {
        let (factors, bias) = factors(self.weights, spec, scale)?;
        Ok(Rows {
            raw: held_as(gathered(self.weights, spec)?, format),
            scale: factors.into_iter().map(|f| f * spec.input_scale).collect(),
            bias,
        })
    }

    fn counted(&self, matrix: Matrix) -> Matrix {
        *self.held.borrow_mut().entry(matrix.format).or_default() += matrix.bytes();
        matrix
    }

    fn upload(&self, parts: &[Rows<'_>]) -> Result<Matrix, DeviceError> {
        Ok(self.counted(Matrix::upload(self.device, parts)?))
    }

    pub(super) fn matrix(&self, spec: &LinearSpec, scale: f32) -> Result<Matrix, Failure> {
        self.matrix_as(spec, scale, self.format)
    }

    pub(super) fn matrix_as(
        &self,
        spec: &LinearSpec,
        scale: f32,
        format: WeightFormat,
    ) -> Result<Matrix, Failure> {
        Ok(self.upload(&[self.rows(spec, scale, format)?])?)
    }

    fn stacked<'a>(
        &self,
        stack: impl Iterator<Item = Result<Vec<Rows<'a>>, ModelError>>,
        count: usize,
        gate: bool,
    ) -> Result<Matrix, Failure> {
        Ok(self.counted(Matrix::stacked(self.device, stack, count, gate)?))
    }

    /// Matrices of one input side by side, those of one type as one.
    fn wide(&self, specs: &[(&LinearSpec, f32)]) -> Result<Wide, Failure> {
        let mut runs: Vec<(usize, Vec<Rows<'_>>)> = Vec::new();
        let mut column = 0;
        for (spec, scale) in specs {
            let rows = self.rows(spec, *scale, self.format)?;
            let start = column;
            column += spec.rows;
            match runs.last_mut() {
                Some((_, run)) if alike(&[&run[0], &rows]) => run.push(rows),
                _ => runs.push((start, vec![rows])),
            }
        }
        let matrices = runs
            .into_iter()
            .map(|(first, run)| Ok((self.upload(&run)?, first)));
        Ok(Wide {
            matrices: matrices.collect::<Result<_, Failure>>()?,
        })
    }

    /// The weight of a norm as it is multiplied, times a factor.
    pub(super) fn norm(&self, spec: &NormSpec, width: usize, factor: f32) -> Result<Norm, Failure> {
        let mut weight = self.weights.norm(spec, width)?;
        weight.iter_mut().for_each(|w| *w *= factor);
        Ok(Norm {
            weight: self.numbers(&weight)?,
            eps: spec.eps,
        })
    }

    /// The taps of a depthwise convolution as `[taps][channels]`.
    fn taps(&self, name: &str, channels: usize, taps: usize) -> Result<Numbers, Failure> {
        let weight = self.weights.vector(name, channels * taps)?;
        let mut out = vec![0.0; weight.len()];
        for (i, w) in weight.iter().enumerate() {
            out[i % taps * channels + i / taps] = *w;
        }
        self.numbers(&out)
    }

    fn bias(&self, bias: Option<&crate::spec::BiasSpec>, len: usize) -> Result<Numbers, Failure> {
        match bias {
            Some(bias) => self.numbers(&self.weights.vector(&bias.tensor, len)?),
            None => self.numbers(&vec![0.0; len]),
        }
    }

    pub(super) fn branch(&self, spec: &Residual, places: &mut Places) -> Result<Branch, Failure> {
        let mut parts = Vec::new();
        for mixer in &spec.mixers {
            parts.push(match mixer {
                Mixer::Attention(a) => Part::Attention(self.attention(a, spec.scale, places)?),
                Mixer::Mamba2(m) => Part::Recurrent(self.mamba(m, spec.scale, places)?),
                Mixer::GatedDelta(d) => Part::Recurrent(self.delta(d, spec.scale, places)?),
                Mixer::ShortConv(c) => Part::ShortConv(self.short_conv(c, spec.scale, places)?),
                Mixer::Mlp(m) => Part::Mlp(self.mlp(&[m], spec.scale)?),
                Mixer::Moe(m) => Part::Moe(Box::new(self.moe(m, spec.scale)?)),
            });
        }
        Ok(Branch {
            norm: self.norm(&spec.norm, self.weights.spec.hidden, 1.0)?,
            parts,
        })
    }

    fn attention(&self, a: &AttentionSpec, scale: f32, places: &mut Places) -> Result<Attention, Failure> {
        // the scale of the scores rides on q, whose rotation is linear: on its norm where there is one
        let (of_q, of_norm) = if a.q_norm.is_some() {
            (1.0, a.scale)
        } else {
            (a.scale, 1.0)
        };
        let mut inputs = vec![(&a.q, of_q), (&a.k, 1.0), (&a.v, 1.0)];
        inputs.extend(a.gate.iter().map(|gate| (gate, 1.0)));
        places.attention += 1;
        let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        Ok(Attention {
            index: places.attention - 1,
            input: self.wide(&inputs)?,
            o: self.matrix(&a.o, scale)?,
            widths: [q, kv, kv, if a.gate.is_some() { q } else { 0 }],
            q_norm: a
                .q_norm
                .as_ref()
                .map(|n| self.norm(n, a.head_dim, of_norm))
                .transpose()?,
            k_norm: a
                .k_norm
                .as_ref()
                .map(|n| self.norm(n, a.head_dim, 1.0))
                .transpose()?,
            sinks: match &a.sinks {
                Some(name) => self.numbers(&self.weights.finite(name, a.heads)?)?,
                None => Numbers(None),
            },
            window: a.window.unwrap_or(0),
            rope: a.rope,
        })
    }

    fn mamba(&self, m: &Mamba2Spec, scale: f32, places: &mut Places) -> Result<Recurrent, Failure> {
        places.recurrent += 1;
        let (width, channels) = (m.width(), m.channels());
        let gate = match &m.norm {
            Some(gated) => {
                let kind = if gated.before_gate { 2 } else { 1 };
                (kind, m.groups, self.norm(&gated.norm, width, 1.0)?)
            }
            None => (
                0,
                1,
                Norm {
                    weight: Numbers(None),
                    eps: 0.0,
                },
            ),
        };
        Ok(Recurrent {
            index: places.recurrent - 1,
            input: self.wide(&[(&m.in_proj, 1.0)])?,
            columns: [0, width, width + channels, 0],
            channels,
            heads: m.heads,
            width,
            conv: self.taps(&m.conv, channels, m.taps)?,
            conv_bias: self.bias(m.conv_bias.as_ref(), channels)?,
            a: self.numbers(&self.weights.decay(&m.decay, m.heads)?)?,
            d: self.numbers(&self.weights.vector(&m.skip, m.heads)?)?,
            dt_bias: self.numbers(&self.weights.vector(&m.dt_bias, m.heads)?)?,
            limit: m.time_step_limit,
            gate,
            output: self.matrix(&m.out_proj, scale)?,
        })
    }

    fn delta(&self, d: &GatedDeltaSpec, scale: f32, places: &mut Places) -> Result<Recurrent, Failure> {
        places.recurrent += 1;
        let (width, channels) = (d.width(), d.channels());
        let weight = self.weights.norm(&d.norm, d.head_dim)?;
        let norm = Norm {
            weight: self.numbers(&weight.repeat(d.heads))?,
            eps: d.norm.eps,
        };
        Ok(Recurrent {
            index: places.recurrent - 1,
            input: self.wide(&[(&d.qkv, 1.0), (&d.z, 1.0), (&d.b, 1.0), (&d.a, 1.0)])?,
            columns: [channels, 0, channels + width + d.heads, channels + width],
            channels,
            heads: d.heads,
            width,
            conv: self.taps(&d.conv, channels, d.taps)?,
            conv_bias: self.bias(None, channels)?,
            a: self.numbers(&self.weights.decay(&d.decay, d.heads)?)?,
            d: Numbers(None),
            dt_bias: self.numbers(&self.weights.vector(&d.dt_bias, d.heads)?)?,
            limit: (0.0, f32::INFINITY),
            gate: (2, d.heads, norm),
            output: self.matrix(&d.out_proj, scale)?,
        })
    }

    fn short_conv(&self, c: &ShortConvSpec, scale: f32, places: &mut Places) -> Result<ShortConv, Failure> {
        places.conv += 1;
        Ok(ShortConv {
            index: places.conv - 1,
            channels: c.channels,
            input: self.matrix(&c.in_proj, 1.0)?,
            conv: self.taps(&c.conv, c.channels, c.taps)?,
            bias: self.bias(c.conv_bias.as_ref(), c.channels)?,
            output: self.matrix(&c.out_proj, scale)?,
        })
    }

    /// A feed-forward part, or parts of one shape as a stack.
    fn mlp(&self, parts: &[&MlpSpec], scale: f32) -> Result<Mlp, Failure> {
        let activation = match &parts[0].input {
            MlpInput::SwiGlu { .. } => Activation {
                sink: 3,
                alpha: 0.0,
                limit: 0.0,
            },
            MlpInput::ClampedSwiGlu { alpha, limit, .. } => Activation {
                sink: 4,
                alpha: *alpha,
                limit: *limit,
            },
            MlpInput::SquaredRelu { .. } => Activation {
                sink: 2,
                alpha: 0.0,
                limit: 0.0,
            },
        };
        let gate = activation.sink != 2;
        let inputs = |part: &MlpSpec| -> Result<Vec<Rows<'_>>, ModelError> {
            let mut rows = match &part.input {
                MlpInput::SwiGlu { gate, up } | MlpInput::ClampedSwiGlu { gate, up, .. } => {
                    vec![
                        self.rows(gate, 1.0, self.format)?,
                        self.rows(up, 1.0, self.format)?,
                    ]
                }
                MlpInput::SquaredRelu { up } => vec![self.rows(up, 1.0, self.format)?],
            };
            if !alike(&rows.iter().collect::<Vec<_>>()) {
                for rows in &mut rows {
                    rows.raw = held_as(rows.raw.clone(), WeightFormat::F32);
                }
            }
            Ok(rows)
        };
        Ok(Mlp {
            activation,
            width: parts[0].width,
            input: self.stacked(parts.iter().map(|p| inputs(p)), parts.len(), gate)?,
            down: self.stacked(
                parts
                    .iter()
                    .map(|p| Ok(vec![self.rows(&p.down, scale, self.format)?])),
                parts.len(),
                false,
            )?,
        })
    }

    fn moe(&self, m: &MoeSpec, scale: f32) -> Result<Moe, Failure> {
        let count = m.experts.len();
        let correction = match &m.routing {
            Routing::Sigmoid {
                correction: Some(name),
                ..
            } => self.numbers(&self.weights.finite(name, count)?)?,
            _ => Numbers(None),
        };
        let shared = match &m.shared {
            Some(shared) => {
                let gate = shared.gate.as_ref();
                let gate = gate
                    .map(|gate| self.matrix_as(gate, 1.0, WeightFormat::F32))
                    .transpose()?;
                Some((self.mlp(&[&shared.mlp], scale)?, gate))
            }
            None => None,
        };
        Ok(Moe {
            router: self.matrix_as(&m.router, 1.0, WeightFormat::F32)?,
            routing: m.routing.clone(),
            correction,
            active: m.active,
            count,
            experts: self.mlp(&m.experts.iter().collect::<Vec<_>>(), 1.0)?,
            shared,
            scale,
        })
    }
}

/// What is compiled into the kernels of a model.
///
/// # Errors
/// What these kernels do not carry out, the end of a sentence.
pub(super) fn defines(spec: &ModelSpec, kv: KvFormat, state: StateFormat) -> Result<Defines, String> {
    let mut defines = Defines::new();
    if spec.vocab > MOST_IDS {
        return Err(format!(
            "its vocabulary has {} ids, and {MOST_IDS} are the most",
            spec.vocab
        ));
    }
    if kv == KvFormat::Q8_0 {
        return Err("keys and values in 8 bits (--kv-dtype q8_0) are held on the processor only".to_owned());
    }
    for mixer in spec.mixers() {
        let mut mine = Defines::new();
        match mixer {
            Mixer::Attention(a) => {
                let ratio = a.heads / a.kv_heads;
                mine.extend([("HD", a.head_dim), ("KVH", a.kv_heads), ("RATIO", ratio)]);
                if kv == KvFormat::F32 {
                    mine.push(("KV_F32", 1));
                } else if a.head_dim.is_multiple_of(32) && ratio <= 8 {
                    mine.push(("FRAGMENTS", 1));
                }
            }
            Mixer::Mamba2(m) => {
                mine.extend([
                    ("P", m.head_dim),
                    ("N", m.d_state),
                    ("HEADS", m.heads),
                    ("GROUPS", m.groups),
                ]);
                mine.push(("TAPS", m.taps));
            }
            Mixer::GatedDelta(d) => {
                mine.extend([
                    ("P", d.head_dim),
                    ("N", d.key_dim),
                    ("HEADS", d.heads),
                    ("GROUPS", d.key_heads),
                ]);
                mine.extend([("TAPS", d.taps), ("DELTA", 1)]);
                if d.sharing == KeySharing::Interleaved {
                    mine.push(("INTERLEAVED", 1));
                }
            }
            Mixer::ShortConv(c) => mine.push(("SHORT_TAPS", c.taps)),
            Mixer::Mlp(_) => {}
            Mixer::Moe(m) => {
                if m.experts.len() > 1024 || m.active > 64 {
                    return Err(format!(
                        "it has {} experts, of which {} are active",
                        m.experts.len(),
                        m.active
                    ));
                }
            }
        }
        for (name, value) in mine {
            match defines.iter().find(|(of, _)| *of == name) {
                Some((_, other)) if *other != value => {
                    return Err("its layers of one kind have different shapes".to_owned());
                }
                Some(_) => {}
                None => defines.push((name, value)),
            }
        }
    }
    if state == StateFormat::Bf16 && defines.iter().any(|(name, _)| *name == "P") {
        defines.push(("STATE_BF16", 1));
    }
    Ok(defines)
}
