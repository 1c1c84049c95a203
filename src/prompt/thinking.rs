//! The marks that a model puts around its thinking: `<think>` in its text, other tokens, or the channels of
//! OpenAI's harmony format (gpt-oss).
//!
//! All text says `<think>` and `</think>`: other marks are written so as ids become text, and there is one
//! place to know what a model's own are.

use super::vocabulary::Vocabulary;
use super::{THINK_END, THINK_START};

/// Pairs of tokens that open and close thinking in other families: Mistral's Magistral, Cohere's Command A and
/// ByteDance's Seed-OSS.
const PAIRS: [(&str, &str); 3] = [
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
];

/// What opens a message of harmony in which the model thinks, and what ends one and begins the last, in which
/// it answers.
const ANALYSIS: &str = "<|channel|>analysis<|message|>";
const FINAL: &str = "<|end|><|start|>assistant<|channel|>final<|message|>";

/// How a model marks its thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ThinkingMarks {
    /// `<think>` and `</think>` in its text, or none.
    Plain,
    /// Two tokens of these ids and texts.
    Tokens {
        ids: [u32; 2],
        texts: (&'static str, &'static str),
    },
    /// A message in a channel: the answer is in the channel `final`, all others are thinking.
    Harmony(HarmonyIds),
}

/// Ids of the tokens that frame a message of harmony.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HarmonyIds {
    start: u32,
    channel: u32,
    message: u32,
    end: u32,
}

impl ThinkingMarks {
    /// Those of the model that has this vocabulary.
    pub(super) fn of(vocabulary: &Vocabulary) -> Self {
        let special = |token| vocabulary.special_id(token);
        if let (Some(start), Some(channel), Some(message), Some(end)) = (
            special("<|start|>"),
            special("<|channel|>"),
            special("<|message|>"),
            special("<|end|>"),
        ) {
            return Self::Harmony(HarmonyIds {
                start,
                channel,
                message,
                end,
            });
        }
        if vocabulary.id(THINK_START).is_some() {
            return Self::Plain;
        }
        let pair = |texts: &(&'static str, &'static str)| {
            let ids = [vocabulary.id(texts.0)?, vocabulary.id(texts.1)?];
            Some(Self::Tokens { ids, texts: *texts })
        };
        PAIRS.iter().find_map(pair).unwrap_or(Self::Plain)
    }

    /// What opens thinking and what ends it and begins the answer, as the model writes them.
    pub(super) fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => (THINK_START, THINK_END),
            Self::Tokens { texts, .. } => texts,
            Self::Harmony(_) => (ANALYSIS, FINAL),
        }
    }

    /// Whether a text that the model is to go on from ends within its thinking.
    pub(super) fn open_in(self, text: &str) -> bool {
        let last = |mark: &str| text.rfind(mark);
        match self {
            Self::Harmony(_) => {
                let opened = last(ANALYSIS);
                opened.is_some() && opened > last("<|end|>") && opened > last("<|channel|>final<|message|>")
            }
            _ => last(self.texts().0) > last(self.texts().1),
        }
    }
}

/// What a token is in the text of a model with marks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A part of the text.
    Text,
    /// A part of a frame, which is not in the text.
    Frame,
    /// This mark of thinking.
    Mark(&'static str),
}

/// Reads the frames of a text, token after token.
#[derive(Clone, Debug)]
pub(super) struct FrameReader {
    marks: ThinkingMarks,
    place: Place,
    /// bytes of the channel's name so far
    channel: Vec<u8>,
    thinking: bool,
    /// a mark was written
    marked: bool,
    /// text came before any frame: the prompt had opened the message that it is of
    unframed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Text,
    /// behind `<|start|>`: who speaks
    Role,
    /// behind `<|channel|>`: its name, and what else a head says
    Channel,
}

/// Bytes of a channel's name that are looked at.
const MOST_NAME: usize = 64;

impl FrameReader {
    pub(super) fn new(marks: ThinkingMarks) -> Self {
        Self {
            marks,
            place: Place::Text,
            channel: Vec::new(),
            thinking: false,
            marked: false,
            unframed: false,
        }
    }

    /// What the next token is; `bytes` gives its text, special or not.
    pub(super) fn read(&mut self, id: u32, bytes: impl FnOnce() -> Vec<u8>) -> Part {
        let frame = match self.marks {
            ThinkingMarks::Plain => return Part::Text,
            ThinkingMarks::Tokens {
                ids: [open, close], ..
            } => {
                return match id {
                    id if id == open => Part::Mark(THINK_START),
                    id if id == close => Part::Mark(THINK_END),
                    _ => Part::Text,
                };
            }
            ThinkingMarks::Harmony(frame) => frame,
        };
        match id {
            id if id == frame.start => self.place = Place::Role,
            id if id == frame.channel => {
                self.place = Place::Channel;
                self.channel.clear();
            }
            id if id == frame.message => return self.message(),
            id if id == frame.end => self.place = Place::Text,
            _ => match self.place {
                Place::Text => {
                    self.unframed |= !self.marked;
                    return Part::Text;
                }
                Place::Role => {}
                Place::Channel => {
                    if self.channel.len() < MOST_NAME {
                        self.channel.extend(bytes());
                    }
                }
            },
        }
        Part::Frame
    }

    /// A message begins: in a channel of thinking, or with the answer.
    fn message(&mut self) -> Part {
        let name = String::from_utf8_lossy(&self.channel);
        let name = name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default();
        let thinks = self.place == Place::Channel && name != "final";
        self.place = Place::Text;
        let before = std::mem::replace(&mut self.thinking, thinks);
        let began_inside = !self.marked && self.unframed;
        match (before, thinks) {
            (false, true) if !began_inside => {
                self.marked = true;
                Part::Mark(THINK_START)
            }
            (before, false) if before || began_inside => {
                self.marked = true;
                Part::Mark(THINK_END)
            }
            _ => Part::Frame,
        }
    }
}
