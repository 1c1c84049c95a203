//! Where something ran, for the record.

use serde::{Deserialize, Serialize};

use super::settings::OtherFields;

/// Where something ran, for the record: nothing depends on it but time and memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineInfo {
    /// The model as it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The GPU that computed it, as its maker calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Threads that computed the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Instruction set of its kernels: `portable`, `avx2`, `avx512`, `avx512bf16` or `amx`; on a GPU its
    /// architecture, the compiler and the version of the kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Most rows of a batch: traces that get a token in one step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch: Option<usize>,
    /// Most traces of this problem that had a sequence or a stream at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rows: Option<usize>,
    /// Slots that were asked for, where memory or the batch gave fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_wanted: Option<usize>,
    /// Sentences about memory and engines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// The recording that was decided over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// The remote engines that were asked, none where the model ran here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<EngineInfo>,
    /// More facts: of remote engines, what came of each address.
    #[serde(flatten)]
    pub other: OtherFields,
}

/// A remote engine: its address, and what it said that it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineInfo {
    /// Its address, as `http://127.0.0.1:8000/v1`.
    pub url: Option<String>,
    /// What it said that it is.
    pub engine: Option<String>,
    /// Its version as it says it.
    pub version: Option<String>,
    /// What else it said.
    #[serde(flatten)]
    pub other: OtherFields,
}
