//! Values of settings: the types that a strategy's setting can have, and how each is written.

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::scores::Statistic;
use crate::vote::VoteKind;

/// Group size: a number of tokens, or `"auto"` (see [`crate::windows::auto_window`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Window {
    /// From the median length of the first traces.
    #[default]
    Auto,
    /// A group is this many tokens, at least 1.
    Fixed(usize),
}

/// The share of the vote that ends a problem, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Consensus {
    /// Never end a problem early.
    #[default]
    Off,
    /// End it when the leading class holds at least this share.
    At(f64),
}

impl Consensus {
    /// The share, unless it is off.
    pub fn share(self) -> Option<f64> {
        match self {
            Consensus::Off => None,
            Consensus::At(share) => Some(share),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Auto => f.write_str("auto"),
            Window::Fixed(n) => n.fmt(f),
        }
    }
}

impl fmt::Display for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Consensus::Off => f.write_str("off"),
            Consensus::At(share) => share.fmt(f),
        }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.trim() {
            "auto" => Ok(Window::Auto),
            n => n
                .parse()
                .map(Window::Fixed)
                .map_err(|_| format!("window must be a number of tokens or \"auto\", not \"{s}\"")),
        }
    }
}

impl FromStr for Consensus {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.trim() {
            "off" => Ok(Consensus::Off),
            x => x
                .parse()
                .map(Consensus::At)
                .map_err(|_| format!("consensus must be a share such as 0.95 or \"off\", not \"{s}\"")),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Window::Auto => s.serialize_str("auto"),
            Window::Fixed(n) => s.serialize_u64(*n as u64),
        }
    }
}

impl Serialize for Consensus {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Consensus::Off => s.serialize_str("off"),
            Consensus::At(share) => s.serialize_f64(*share),
        }
    }
}

/// A number or a word, as these two settings are written.
struct NumberOrWord<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for NumberOrWord<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a word")
    }

    fn visit_str<E: de::Error>(self, s: &str) -> Result<T, E> {
        s.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<T, E> {
        self.visit_str(&n.to_string())
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<T, E> {
        self.visit_str(&n.to_string())
    }

    fn visit_f64<E: de::Error>(self, x: f64) -> Result<T, E> {
        self.visit_str(&x.to_string())
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NumberOrWord(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Consensus {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NumberOrWord(std::marker::PhantomData))
    }
}

/// A type of Rust that a setting can have.
pub trait SettingType: Copy + Into<Value> {
    /// The value, if it is one of this type.
    fn of(value: Value) -> Option<Self>;
}

macro_rules! values {
    ($($(#[$doc:meta])* $variant:ident($type:ty): $what:literal,)*) => {
        /// The value of a setting. In TOML and JSON it stands as what it holds.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        #[non_exhaustive]
        pub enum Value {
            $($(#[$doc])* $variant($type),)*
        }

        /// The type of a [`Value`]. As a seed it reads one of this type from any format of serde.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ValueType {
            $($(#[$doc])* $variant,)*
        }

        impl Value {
            /// The type that the value has.
            pub fn value_type(self) -> ValueType {
                match self {
                    $(Value::$variant(_) => ValueType::$variant,)*
                }
            }
        }

        impl fmt::Display for Value {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Value::$variant(value) => value.fmt(f),)*
                }
            }
        }

        impl ValueType {
            /// What is expected of a value, to follow "must be" in a sentence.
            pub fn expected(self) -> &'static str {
                match self {
                    $(ValueType::$variant => $what,)*
                }
            }
        }

        impl<'de> DeserializeSeed<'de> for ValueType {
            type Value = Value;

            fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
                match self {
                    $(ValueType::$variant => <$type>::deserialize(d).map(Value::$variant),)*
                }
            }
        }

        $(
            impl From<$type> for Value {
                fn from(value: $type) -> Self {
                    Value::$variant(value)
                }
            }

            impl SettingType for $type {
                fn of(value: Value) -> Option<Self> {
                    match value {
                        Value::$variant(value) => Some(value),
                        _ => None,
                    }
                }
            }
        )*
    };
}

values! {
    /// A whole number that is not negative.
    Count(usize): "a whole number",
    /// A number with or without a fraction.
    Number(f64): "a number",
    /// Yes or no, as `true` or `false`.
    Switch(bool): "true or false",
    /// A number of tokens, or `"auto"`.
    Window(Window): "a number of tokens, or \"auto\"",
    /// A share, or `"off"`.
    Consensus(Consensus): "a share, or \"off\"",
    /// The name of a vote.
    Vote(VoteKind): "the name of a vote, as \"majority\" or \"min-weighted\"",
    /// The name of a statistic.
    Statistic(Statistic): "the name of a statistic, as \"mean\" or \"lowest-group\"",
}

impl Value {
    /// The number in it, which a range is about; `None` for words such as `"auto"`.
    pub(crate) fn number(self) -> Option<f64> {
        match self {
            Value::Count(n) | Value::Window(Window::Fixed(n)) => Some(n as f64),
            Value::Number(x) | Value::Consensus(Consensus::At(x)) => Some(x),
            _ => None,
        }
    }

    /// The value as one of another type, where a plain number stands for it.
    pub(crate) fn to_type(self, wanted: ValueType) -> Option<Value> {
        match (self, wanted) {
            (value, wanted) if value.value_type() == wanted => Some(value),
            (Value::Count(n), ValueType::Window) => Some(Value::Window(Window::Fixed(n))),
            (Value::Count(n), ValueType::Number) => Some(Value::Number(n as f64)),
            (Value::Number(x), ValueType::Consensus) => Some(Value::Consensus(Consensus::At(x))),
            _ => None,
        }
    }
}

impl ValueType {
    /// A value from its text on a command line.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        fn number<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
            text.parse().map_err(|e: T::Err| e.to_string())
        }
        match self {
            ValueType::Count => number(text).map(Value::Count),
            ValueType::Number => number(text).map(Value::Number),
            ValueType::Switch => number(text).map(Value::Switch),
            ValueType::Window => text.parse().map(Value::Window),
            ValueType::Consensus => text.parse().map(Value::Consensus),
            ValueType::Vote | ValueType::Statistic => {
                let named = de::value::StrDeserializer::<de::value::Error>::new(text);
                let names = self.names().unwrap_or_default();
                self.deserialize(named)
                    .map_err(|_| format!("it is one of {}", names.join(", ")))
            }
        }
    }

    /// The names that there are, where a value is one of a few.
    pub fn names(self) -> Option<Vec<&'static str>> {
        match self {
            ValueType::Vote => Some(VoteKind::ALL.iter().map(|vote| vote.name()).collect()),
            ValueType::Statistic => Some(Statistic::ALL.iter().map(|statistic| statistic.name()).collect()),
            _ => None,
        }
    }
}
