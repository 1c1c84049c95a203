//! The tensors that a model needs.

use super::{DecaySpec, LinearSpec, Mixer, ModelSpec, NormSpec, Routing};

/// What a tensor is for, which says what random weights have in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of a product or the embedding.
    Matrix,
    /// The weight of a norm.
    Norm,
    /// The weight of a norm, less 1.
    CenteredNorm,
    /// Taps of a convolution.
    Convolution,
    /// The logarithm of a decay rate.
    LogDecay,
    /// A decay rate of a Mamba-2 head, or its logarithm.
    Decay,
    /// Of the input itself in a state update.
    Skip,
    /// Of a step size.
    StepBias,
    /// Of a product or a convolution.
    Bias,
    /// Scores of attention that no key has.
    Sink,
}

/// A tensor that a model needs.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Its canonical name: the one in the Hugging Face folder.
    pub name: String,
    /// Its shape; dimensions of 1 may be left out or added.
    pub shape: Vec<usize>,
    /// Another shape that it may have.
    pub or_shape: Option<Vec<usize>>,
    /// What it is for.
    pub role: Role,
    /// Ends the sentence that says that it is missing: why it should be there, or nothing.
    pub why: &'static str,
}

impl ModelSpec {
    /// Every tensor that the model has, each once: the ends, then layer by layer the matrices before the
    /// small ones.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = Inventory::default();
        list.add(Role::Matrix, &self.embed.tensor, &[self.vocab, self.hidden], "");
        list.norm(&self.norm, self.hidden);
        if let Some(head) = &self.head.tensor {
            let why =
                ", but its configuration does not say that the embedding is shared (tie_word_embeddings)";
            list.add(Role::Matrix, head, &[self.vocab, self.hidden], why);
        }
        for layer in &self.layers {
            let mixers = || layer.iter().flat_map(|residual| &residual.mixers);
            mixers()
                .flat_map(Mixer::linears)
                .for_each(|linear| list.linear(linear));
            for residual in layer {
                list.norm(&residual.norm, self.hidden);
            }
            mixers().for_each(|mixer| list.small(mixer));
        }
        list.0
    }
}

/// Tensors in the order in which they are met.
#[derive(Default)]
struct Inventory(Vec<TensorSpec>);

impl Inventory {
    fn add(&mut self, role: Role, name: &str, shape: &[usize], why: &'static str) {
        // a matrix that is a part of a tensor comes beside the tensor's other parts
        if self.0.iter().rev().take(6).any(|known| known.name == name) {
            return;
        }
        self.0.push(TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            or_shape: None,
            role,
            why,
        });
    }

    fn norm(&mut self, norm: &NormSpec, width: usize) {
        let role = if norm.zero_centered {
            Role::CenteredNorm
        } else {
            Role::Norm
        };
        self.add(role, &norm.tensor, &[width], "");
    }

    fn decay(&mut self, decay: &DecaySpec, heads: usize) {
        let role = match decay {
            DecaySpec::Log(_) => Role::LogDecay,
            DecaySpec::Rate(_) => Role::Decay,
        };
        self.add(role, decay.tensor(), &[heads], "");
    }

    fn linear(&mut self, linear: &LinearSpec) {
        self.add(Role::Matrix, &linear.weight, &linear.tensor_shape(), "");
        if let Some(bias) = &linear.bias {
            self.add(Role::Bias, &bias.tensor, &linear.bias_shape(), bias.why);
        }
    }

    /// The tensors of a part that are no matrices.
    fn small(&mut self, mixer: &Mixer) {
        match mixer {
            Mixer::Attention(a) => {
                for norm in a.q_norm.iter().chain(&a.k_norm) {
                    self.norm(norm, a.head_dim);
                }
                if let Some(sinks) = &a.sinks {
                    self.add(
                        Role::Sink,
                        sinks,
                        &[a.heads],
                        ", but attention of this model has sinks",
                    );
                }
            }
            Mixer::Mamba2(m) => {
                self.add(Role::Convolution, &m.conv, &[m.channels(), 1, m.taps], "");
                if let Some(bias) = &m.conv_bias {
                    self.add(Role::Bias, &bias.tensor, &[m.channels()], bias.why);
                }
                self.decay(&m.decay, m.heads);
                self.add(Role::Skip, &m.skip, &[m.heads], "");
                self.add(Role::StepBias, &m.dt_bias, &[m.heads], "");
                if let Some(gated) = &m.norm {
                    self.add(Role::Norm, &gated.norm.tensor, &[m.width()], gated.why);
                    if let Some(added) = self.0.last_mut() {
                        added.or_shape = Some(vec![m.groups, m.width() / m.groups]);
                    }
                }
            }
            Mixer::Mlp(_) => {}
            Mixer::Moe(m) => {
                if let Routing::Sigmoid {
                    correction: Some(name),
                    ..
                } = &m.routing
                {
                    self.add(Role::Bias, name, &[m.experts.len()], "");
                }
            }
            Mixer::GatedDelta(d) => {
                self.add(Role::Convolution, &d.conv, &[d.channels(), 1, d.taps], "");
                self.decay(&d.decay, d.heads);
                self.add(Role::StepBias, &d.dt_bias, &[d.heads], "");
                self.norm(&d.norm, d.head_dim);
            }
            Mixer::ShortConv(c) => {
                self.add(Role::Convolution, &c.conv, &[c.channels, 1, c.taps], "");
                if let Some(bias) = &c.conv_bias {
                    self.add(Role::Bias, &bias.tensor, &[c.channels], bias.why);
                }
            }
        }
    }
}
