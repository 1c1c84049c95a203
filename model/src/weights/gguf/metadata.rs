//! The metadata of a GGUF file: its hyperparameters, its tokenizer, its chat template.

use std::collections::BTreeMap;

#[cfg(test)]
use candle_core::quantized::gguf_file;

/// One value. Integers of every width are kept in two kinds, arrays in the three that files have.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    Integers(Vec<i64>),
    List(Vec<Value>),
}

/// The metadata of a GGUF file, by key. Every getter gives None for a key that is absent or of another type.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufMetadata {
    values: BTreeMap<String, Value>,
}

impl GgufMetadata {
    pub(super) fn new(values: BTreeMap<String, Value>) -> Self {
        Self { values }
    }

    /// The names of all keys in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The string under `key`; `None` where there is none or it is of another type.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer of any width that fits.
    pub fn u32(&self, key: &str) -> Option<u32> {
        self.u64(key)?.try_into().ok()
    }

    /// An integer of any width that is not negative.
    pub fn u64(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Unsigned(v) => Some(*v),
            Value::Signed(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// The floating-point number under `key`; `None` where there is none or it is of another type.
    pub fn f32(&self, key: &str) -> Option<f32> {
        match self.values.get(key)? {
            Value::F32(v) => Some(*v),
            Value::F64(v) => Some(*v as f32),
            _ => None,
        }
    }

    /// The truth value under `key`; `None` where there is none or it is of another type.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.values.get(key)? {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// An array of strings (`tokenizer.ggml.tokens`, `tokenizer.ggml.merges`).
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.values.get(key)? {
            Value::Texts(v) => Some(v),
            _ => None,
        }
    }

    /// An array of integers (`tokenizer.ggml.token_type`).
    pub fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.values.get(key)? {
            Value::Integers(v) => Some(v),
            _ => None,
        }
    }

    /// An array of floating-point numbers (`tokenizer.ggml.scores`).
    pub fn f32s(&self, key: &str) -> Option<&[f32]> {
        match self.values.get(key)? {
            Value::F32s(v) => Some(v),
            _ => None,
        }
    }

    /// The same metadata in candle's type, to compare with what candle reads.
    #[cfg(test)]
    pub(crate) fn to_candle(&self) -> gguf_file::Content {
        gguf_file::Content {
            magic: gguf_file::VersionedMagic::GgufV3,
            metadata: self
                .values
                .iter()
                .map(|(key, value)| (key.clone(), to_candle(value)))
                .collect(),
            tensor_infos: std::collections::HashMap::new(),
            tensor_data_offset: 0,
        }
    }
}

#[cfg(test)]
fn to_candle(value: &Value) -> gguf_file::Value {
    use gguf_file::Value as Theirs;
    match value {
        Value::Unsigned(v) => u32::try_from(*v).map_or(Theirs::U64(*v), Theirs::U32),
        Value::Signed(v) => i32::try_from(*v).map_or(Theirs::I64(*v), Theirs::I32),
        Value::F32(v) => Theirs::F32(*v),
        Value::F64(v) => Theirs::F64(*v),
        Value::Bool(v) => Theirs::Bool(*v),
        Value::Text(v) => Theirs::String(v.clone()),
        Value::Texts(v) => Theirs::Array(v.iter().cloned().map(Theirs::String).collect()),
        Value::F32s(v) => Theirs::Array(v.iter().copied().map(Theirs::F32).collect()),
        Value::Integers(v) => Theirs::Array(v.iter().map(|i| to_candle(&Value::Signed(*i))).collect()),
        Value::List(v) => Theirs::Array(v.iter().map(to_candle).collect()),
    }
}
