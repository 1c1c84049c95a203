//! Mixtures of experts, as most families configure and store them.

use super::check_bounds;
use crate::arch::GgufSource;
use crate::error::ModelError;
use crate::json::Fields;
use crate::spec::{LinearSpec, MlpInput, MlpSpec, MoeSpec, Routing, SharedExpert};

/// How a file holds the matrices of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::arch) enum Stored {
    /// Each as a tensor of its own.
    Each,
    /// Those of all experts as one tensor `[experts, rows, columns]`.
    Stacked,
    /// As `Stacked`, gate and up being rows of one.
    Fused,
}

/// A matrix of an expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::arch) enum Part {
    Gate,
    Up,
    Down,
}

impl Part {
    /// What most families call it.
    fn word(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// GGUF's names of experts, whose matrices are stacked; `$part` is what their canonical names begin with,
/// `$router` the router's.
macro_rules! expert_names {
    ($part:literal, $router:literal) => {
        &[
            ("ffn_gate_inp.weight", $router),
            ("ffn_gate_exps.weight", concat!($part, ".gate_proj.weight")),
            ("ffn_up_exps.weight", concat!($part, ".up_proj.weight")),
            ("ffn_down_exps.weight", concat!($part, ".down_proj.weight")),
        ]
    };
}
pub(in crate::arch) use expert_names;

/// What a family's config.json calls the sizes of its experts.
pub(in crate::arch) struct ExpertKeys {
    /// number of experts; the first that is there counts
    pub(in crate::arch) count: &'static [&'static str],
    pub(in crate::arch) active: &'static str,
    pub(in crate::arch) width: &'static str,
}

/// The experts of a model.
#[derive(Clone, Debug)]
pub(in crate::arch) struct Experts {
    pub(in crate::arch) count: usize,
    pub(in crate::arch) active: usize,
    pub(in crate::arch) width: usize,
    pub(in crate::arch) routing: Routing,
    pub(in crate::arch) stored: Stored,
}

impl Experts {
    /// Reads a config.json; `None` where it has no experts.
    pub(in crate::arch) fn of_config(
        json: &Fields<'_>,
        keys: &ExpertKeys,
        routing: Routing,
        stored: Stored,
    ) -> Result<Option<Self>, ModelError> {
        let Some(key) = keys.count.iter().find(|key| json.get(key).is_some()) else {
            return Ok(None);
        };
        let count = json.required_size(key)?;
        if count == 0 {
            return Ok(None);
        }
        let experts = Self {
            count,
            active: json.required_size(keys.active)?,
            width: json.required_size(keys.width)?,
            routing,
            stored,
        };
        check_bounds(
            json.file(),
            &[
                (count, key, 1 << 12),
                (experts.active, keys.active, count),
                (experts.width, keys.width, 1 << 22),
            ],
        )?;
        Ok(Some(experts))
    }

    /// Reads the `expert_*` keys; `None` where there are no experts.
    pub(in crate::arch) fn of_gguf(
        source: &GgufSource<'_>,
        routing: Routing,
    ) -> Result<Option<Self>, ModelError> {
        let [count_key, active_key, width_key] =
            ["expert_count", "expert_used_count", "expert_feed_forward_length"].map(|key| source.key(key));
        let count = source.optional(&count_key)?.unwrap_or(0);
        if count == 0 {
            return Ok(None);
        }
        let experts = Self {
            count,
            active: source.size(&active_key)?,
            width: source.size(&width_key)?,
            routing,
            stored: Stored::Stacked,
        };
        check_bounds(
            source.path,
            &[
                (count, &count_key, 1 << 12),
                (experts.active, &active_key, count),
                (experts.width, &width_key, 1 << 22),
            ],
        )?;
        Ok(Some(experts))
    }

    /// The names of matrices under `prefix` as most families call them, for [`Self::spec`].
    pub(in crate::arch) fn names(&self, prefix: String) -> impl Fn(usize, Part) -> String {
        let stored = self.stored;
        move |expert, part| match (stored, part) {
            (Stored::Fused, Part::Down) => format!("{prefix}.down_proj"),
            (Stored::Fused, _) => format!("{prefix}.gate_up_proj"),
            (Stored::Each, part) => format!("{prefix}.{expert}.{}_proj.weight", part.word()),
            (Stored::Stacked, part) => format!("{prefix}.{}_proj.weight", part.word()),
        }
    }

    /// The part. `name` is that of a matrix of an expert, without the expert where matrices are stacked;
    /// where there is no gate the activation is the squared relu.
    pub(in crate::arch) fn spec(
        &self,
        hidden: usize,
        router: String,
        gated: bool,
        name: impl Fn(usize, Part) -> String,
        shared: Option<SharedExpert>,
    ) -> MoeSpec {
        let linear = |expert: usize, part: Part| {
            let (rows, columns) = match part {
                Part::Down => (hidden, self.width),
                Part::Gate | Part::Up => (self.width, hidden),
            };
            let one = LinearSpec::new(name(expert, part), rows, columns);
            let fused = match part {
                Part::Gate => one.clone().within(0, 2 * rows),
                Part::Up => one.clone().within(rows, 2 * rows),
                Part::Down => one.clone(),
            };
            match self.stored {
                Stored::Each => one,
                Stored::Stacked => one.of_stack(expert, self.count),
                Stored::Fused => fused.of_stack(expert, self.count),
            }
        };
        let expert = |expert: usize| MlpSpec {
            width: self.width,
            input: if gated {
                MlpInput::SwiGlu {
                    gate: linear(expert, Part::Gate),
                    up: linear(expert, Part::Up),
                }
            } else {
                MlpInput::SquaredRelu {
                    up: linear(expert, Part::Up),
                }
            },
            down: linear(expert, Part::Down),
        };
        MoeSpec {
            router: LinearSpec::new(router, self.count, hidden),
            routing: self.routing.clone(),
            active: self.active,
            experts: (0..self.count).map(expert).collect(),
            shared,
        }
    }
}
