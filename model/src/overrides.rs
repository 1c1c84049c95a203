//! Every sampling setting in one table, and settings that a caller puts over those that a model recommends.
//!
//! A row of the table is a setting's name in JSON, its flag, how it is called in a sentence, its range, what
//! a generation_config.json and a request may say of it, and its help. Flags, request fields, configuration
//! files and the requests to engines elsewhere follow the table, so a setting is added by its row; one that
//! [`Sampling`] has and the table has not does not compile.

use serde::{Deserialize, Serialize};

use crate::sampling::Sampling;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct SamplingSetting {
    /// Name of the field, in JSON.
    pub name: &'static str,
    /// Name of the flag, without its dashes.
    pub flag: &'static str,
    /// The setting in a sentence.
    pub label: &'static str,
    /// Whether it is a whole number from 0.
    pub whole: bool,
    /// What it must be.
    pub right: &'static str,
    /// Whether a number is that.
    pub within: fn(f64) -> bool,
    /// What a request's field must be.
    pub in_request: &'static str,
    /// What a generation_config.json may say.
    pub in_file: &'static str,
    /// Whether a number is what the file may say.
    pub fits: fn(f64) -> bool,
    /// What the flag's value is called.
    pub value_name: &'static str,
    /// One line of help.
    pub help: &'static str,
}

/// A number that a setting may be.
trait Number: Copy {
    const WHOLE: bool;
    fn of(number: f64) -> Self;
    fn number(self) -> f64;
}

impl Number for f64 {
    const WHOLE: bool = false;
    fn of(number: f64) -> Self {
        number
    }
    fn number(self) -> f64 {
        self
    }
}

impl Number for usize {
    const WHOLE: bool = true;
    fn of(number: f64) -> Self {
        number as usize
    }
    fn number(self) -> f64 {
        self as f64
    }
}

macro_rules! table {
    ($($name:ident: $type:ty {
        flag: $flag:literal,
        label: $label:literal,
        must: $right:literal, $within:expr,
        in_file: $in_file:literal, $fits:expr,
        in_request: $in_request:literal,
        help: $value:literal, $help:literal,
    })*) => {
        /// Sampling settings that replace what the model's generation_config.json recommends.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct SamplingOverrides {
            $(#[doc = $help] pub $name: Option<$type>,)*
        }

        /// Every sampling setting, in the order of the flags.
        pub const SAMPLING_SETTINGS: &[SamplingSetting] = &[$(SamplingSetting {
            name: stringify!($name),
            flag: $flag,
            label: $label,
            whole: <$type as Number>::WHOLE,
            right: $right,
            within: $within,
            in_request: $in_request,
            in_file: $in_file,
            fits: $fits,
            value_name: $value,
            help: $help,
        }),*];

        impl SamplingOverrides {
            /// Reads every setting by its row.
            ///
            /// # Errors
            /// Those of `read`.
            pub fn read<E>(
                mut read: impl FnMut(&'static SamplingSetting) -> Result<Option<f64>, E>,
            ) -> Result<Self, E> {
                let mut rows = SAMPLING_SETTINGS.iter();
                Ok(Self {
                    $($name: read(rows.next().expect("a row for each"))?.map(<$type as Number>::of),)*
                })
            }

            /// The setting of a row.
            pub fn get(&self, setting: &SamplingSetting) -> Option<f64> {
                match setting.name {
                    $(stringify!($name) => self.$name.map(Number::number),)*
                    _ => None,
                }
            }

            /// These settings, and those of `other` for what is not set.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)* }
            }

            /// Those that change how tokens are drawn.
            #[must_use]
            pub fn effective(self) -> Self {
                let off = Sampling::default();
                Self { $($name: self.$name.filter(|value| *value != off.$name),)* }
            }

            /// The settings in force over what is recommended; what is taken from there is named in `taken`.
            pub fn over(self, recommended: Self, taken: &mut Vec<String>) -> Sampling {
                let off = Sampling::default();
                $(if let (None, Some(value)) = (self.$name, recommended.$name) {
                    taken.push(format!("{} {value}", $label));
                })*
                let all = self.or(recommended);
                Sampling { $($name: all.$name.unwrap_or(off.$name),)* }
            }
        }

        impl From<&Sampling> for SamplingOverrides {
            fn from(s: &Sampling) -> Self {
                Self { $($name: Some(s.$name),)* }
            }
        }
    };
}

table! {
    temperature: f64 {
        flag: "temperature",
        label: "temperature",
        must: "between 0 (greedy) and 100", |x| (0.0..=100.0).contains(&x),
        in_file: "a number from 0", |x| x >= 0.0,
        in_request: "a number",
        help: "T", "Divides the logits; 0 takes the likeliest token",
    }
    top_p: f64 {
        flag: "top-p",
        label: "top-p",
        must: "above 0 and at most 1", |x| x > 0.0 && x <= 1.0,
        in_file: "a number above 0 and at most 1", |x| x > 0.0 && x <= 1.0,
        in_request: "a number",
        help: "P", "Keeps the likeliest tokens that hold this share of the probability",
    }
    top_k: usize {
        flag: "top-k",
        label: "top-k",
        must: "a whole number from 0", |_| true,
        in_file: "a whole number from 0", |_| true,
        in_request: "a whole number; 0 or -1 keeps all",
        help: "K", "Keeps this many of the likeliest tokens; 0 keeps all",
    }
    min_p: f64 {
        flag: "min-p",
        label: "min-p",
        must: "between 0 and 1", |x| (0.0..=1.0).contains(&x),
        in_file: "a number from 0 to 1", |x| (0.0..=1.0).contains(&x),
        in_request: "a number",
        help: "P", "Keeps tokens at least this fraction as likely as the likeliest",
    }
    repetition_penalty: f64 {
        flag: "repetition-penalty",
        label: "repetition penalty",
        must: "between 0.01 and 100", |x| (0.01..=100.0).contains(&x),
        in_file: "a number above 0", |x| x > 0.0,
        in_request: "a number",
        help: "X", "Makes tokens that came before less likely; 1 is off",
    }
    presence_penalty: f64 {
        flag: "presence-penalty",
        label: "presence penalty",
        must: "between -100 and 100", |x| x.abs() <= 100.0,
        in_file: "a number", |_| true,
        in_request: "a number",
        help: "X", "Subtracted from the logits of tokens that the trace holds",
    }
    frequency_penalty: f64 {
        flag: "frequency-penalty",
        label: "frequency penalty",
        must: "between -100 and 100", |x| x.abs() <= 100.0,
        in_file: "a number", |_| true,
        in_request: "a number",
        help: "X", "The same, once for each time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_their_rows_and_put_over_each_other() {
        let read =
            SamplingOverrides::read(|s| Ok::<_, ()>((s.name != "min_p").then_some(s.name.len() as f64)));
        let read = read.unwrap();
        assert_eq!(
            (read.temperature, read.top_k, read.min_p),
            (Some(11.0), Some(5), None)
        );
        let own = SamplingOverrides {
            temperature: Some(0.5),
            ..SamplingOverrides::default()
        };
        let recommended = SamplingOverrides {
            temperature: Some(0.6),
            top_p: Some(0.95),
            top_k: Some(0),
            ..SamplingOverrides::default()
        };
        let mut taken = Vec::new();
        let s = own.over(recommended, &mut taken);
        assert_eq!((s.temperature, s.top_p, s.top_k, s.min_p), (0.5, 0.95, 0, 0.0));
        assert_eq!(taken, ["top-p 0.95", "top-k 0"]);
        assert_eq!(recommended.effective().top_k, None);
        let all = SamplingOverrides::from(&s);
        assert_eq!(all.temperature, Some(0.5));
        let numbers: Vec<_> = SAMPLING_SETTINGS.iter().map(|row| all.get(row)).collect();
        assert_eq!(numbers, [0.5, 0.95, 0.0, 0.0, 1.0, 0.0, 0.0].map(Some));
        assert_eq!(own.get(&SAMPLING_SETTINGS[1]), None);
    }
}
