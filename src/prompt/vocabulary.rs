//! The tokenizer, and the bytes of every token.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokenizers::{DecoderWrapper, ModelWrapper, Tokenizer};

use super::detokenizer::decode;
use super::thinking::ThinkingMarks;
use super::{Detokenizer, PromptError};
use crate::caught::caught;

/// A tokenizer ready for use.
pub(super) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    pieces: Pieces,
    /// The token with the highest id.
    last: (String, u32),
    marks: ThinkingMarks,
    origin: String,
    /// blake3 of what the tokenizer was made from.
    pub(super) digest: [u8; 32],
}

/// How ids become text.
#[derive(Clone)]
pub(super) enum Pieces {
    /// Byte-level vocabularies: each token is a string of bytes.
    Bytes(Arc<TokenBytes>),
    /// Any other: the tokenizer's own decoder.
    Library(Arc<Tokenizer>),
}

/// The bytes of each token, end to end.
pub(super) struct TokenBytes {
    bytes: Vec<u8>,
    /// `ends[id]` and whether the token is special; a hole in the vocabulary is empty.
    ends: Vec<(usize, bool)>,
}

impl Pieces {
    /// The text of one token, special or not.
    pub(super) fn bytes(&self, id: u32) -> Vec<u8> {
        match self {
            Self::Bytes(table) => table.get(id, false).unwrap_or_default().to_vec(),
            Self::Library(tokenizer) => decode(tokenizer, &[id], false).into_bytes(),
        }
    }
}

impl TokenBytes {
    /// The bytes of `id`: none beyond the vocabulary, none for a special token that is to be skipped.
    pub(super) fn get(&self, id: u32, skip_special: bool) -> Option<&[u8]> {
        let id = id as usize;
        let &(end, special) = self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1].0 };
        (!(special && skip_special)).then(|| &self.bytes[start..end])
    }

    /// Bytes of the longest token.
    fn longest(&self) -> usize {
        let mut start = 0;
        let lengths = self
            .ends
            .iter()
            .map(|(end, _)| end - std::mem::replace(&mut start, *end));
        lengths.max().unwrap_or(0)
    }
}

impl Vocabulary {
    /// Reads the text of a `tokenizer.json`; `origin` is what errors call it.
    pub(super) fn from_json(json: &str, origin: &str) -> Result<Self, PromptError> {
        let refuse = |reason: String| PromptError::Tokenizer {
            origin: origin.to_owned(),
            reason,
        };
        let parts: PartsOfJson = serde_json::from_str(json).map_err(|e| refuse(e.to_string()))?;
        parts.check().map_err(refuse)?;
        let tokenizer = caught(|| Tokenizer::from_bytes(json))
            .map_err(refuse)?
            .map_err(|e| refuse(e.to_string()))?;
        Self::new(tokenizer, origin, *blake3::hash(json.as_bytes()).as_bytes())
    }

    /// Wraps a tokenizer that is already built.
    pub(super) fn new(mut tokenizer: Tokenizer, origin: &str, digest: [u8; 32]) -> Result<Self, PromptError> {
        let refuse = |reason: String| PromptError::Tokenizer {
            origin: origin.to_owned(),
            reason,
        };
        // A file may carry the truncation and padding of its training: a prompt is never cut or padded.
        tokenizer
            .with_truncation(None)
            .map_err(|e| refuse(e.to_string()))?;
        tokenizer.with_padding(None);
        // Dropout makes other tokens of the same text each time; it too is for training.
        if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            tokenizer.with_model(ModelWrapper::BPE(bpe));
        }
        let last = tokenizer
            .get_vocab(true)
            .into_iter()
            .max_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        let last = last.ok_or_else(|| refuse("its vocabulary is empty".to_owned()))?;
        if last.1 >= MAX_IDS {
            return Err(refuse(format!(
                "token {:?} has the impossible id {}",
                last.0, last.1
            )));
        }
        let tokenizer = Arc::new(tokenizer);
        let pieces = match tokenizer.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => Pieces::Bytes(Arc::new(token_bytes(&tokenizer, last.1))),
            _ => Pieces::Library(Arc::clone(&tokenizer)),
        };
        let mut vocabulary = Self {
            tokenizer,
            pieces,
            last,
            marks: ThinkingMarks::Plain,
            origin: origin.to_owned(),
            digest,
        };
        vocabulary.marks = ThinkingMarks::of(&vocabulary);
        Ok(vocabulary)
    }

    /// How the model marks its thinking.
    pub(super) fn marks(&self) -> ThinkingMarks {
        self.marks
    }

    /// One more than the highest id.
    pub(super) fn size(&self) -> usize {
        self.last.1 as usize + 1
    }

    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The id of `token` if it is a special token.
    pub(super) fn special_id(&self, token: &str) -> Option<u32> {
        self.tokenizer
            .get_added_vocabulary()
            .is_special_token(token)
            .then(|| self.id(token))
            .flatten()
    }

    /// Ids of `text`; special tokens written in it are recognised and none is put before or after it. A text
    /// of far more than `most` tokens is refused before all of it was encoded.
    pub(super) fn encode(&self, text: &str, most: Option<usize>) -> Result<Vec<u32>, PromptError> {
        let large = text.len() > LARGE;
        // what large texts take is taken by one at a time
        let _turn = large.then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(most) = most.filter(|most| text.len() > PIECE.max(*most)) {
            self.refuse_long(text, most)?;
        }
        let encoding = self.encoding(text)?;
        let ids = encoding.get_ids().to_vec();
        drop(encoding);
        if large {
            give_memory_back();
        }
        Ok(ids)
    }

    fn encoding(&self, text: &str) -> Result<tokenizers::Encoding, PromptError> {
        let failed = |reason: String| PromptError::Encode {
            origin: self.origin.clone(),
            reason,
        };
        caught(|| self.tokenizer.encode_fast(text, false))
            .map_err(failed)?
            .map_err(|error| failed(error.to_string()))
    }

    /// Refuses a text that has more than `most` tokens by its bytes, or by the tokens of its beginning.
    fn refuse_long(&self, text: &str, most: usize) -> Result<(), PromptError> {
        // the last word of a beginning is cut, and may be more tokens than the whole word is
        let too_many = most.saturating_add(256);
        if let (Pieces::Bytes(table), None) = (&self.pieces, self.tokenizer.get_normalizer())
            && text.len() / table.longest().max(1) > too_many
        {
            return Err(PromptError::TooLong { most });
        }
        let mut piece = PIECE;
        while piece < text.len() {
            let end = text.floor_char_boundary(piece);
            if self.encoding(&text[..end])?.len() > too_many {
                return Err(PromptError::TooLong { most });
            }
            piece = piece.saturating_mul(4);
        }
        Ok(())
    }

    pub(super) fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        if skip_special && self.marks != ThinkingMarks::Plain {
            let mut detokenizer = self.detokenizer(true);
            let mut text = String::new();
            for id in ids {
                text.push_str(detokenizer.push(*id));
            }
            text.push_str(detokenizer.finish());
            return text;
        }
        match &self.pieces {
            Pieces::Bytes(table) => {
                let pieces = ids.iter().filter_map(|&id| table.get(id, skip_special));
                let bytes = pieces.flatten().copied().collect::<Vec<u8>>();
                match String::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
                }
            }
            Pieces::Library(tokenizer) => decode(tokenizer, ids, skip_special),
        }
    }

    /// The bytes that a token adds to a text: none for ids without text, nothing where they depend on the
    /// tokens before it.
    pub(super) fn bytes_of(&self, id: u32, skip_special: bool) -> Option<Vec<u8>> {
        match &self.pieces {
            Pieces::Bytes(table) => Some(table.get(id, skip_special).unwrap_or_default().to_vec()),
            Pieces::Library(tokenizer) => {
                let token = tokenizer.id_to_token(id)?;
                // the form of a byte in vocabularies that fall back on bytes
                let byte = token.strip_prefix("<0x")?.strip_suffix('>')?;
                u8::from_str_radix(byte, 16).ok().map(|byte| vec![byte])
            }
        }
    }

    pub(super) fn detokenizer(&self, skip_special: bool) -> Detokenizer {
        Detokenizer::new(self.pieces.clone(), skip_special, self.marks)
    }

    pub(super) fn check(&self, vocab_size: usize) -> Result<(), PromptError> {
        if self.size() <= vocab_size {
            return Ok(());
        }
        Err(PromptError::VocabularyTooSmall {
            origin: self.origin.clone(),
            token: self.last.0.clone(),
            id: self.last.1,
            tokenizer_size: self.size(),
            vocab_size,
        })
    }
}

/// Bytes of a text that is encoded beside no other of this size.
const LARGE: usize = 256 << 10;
/// Bytes of the beginning by which a long text is looked at first.
const PIECE: usize = 64 << 10;
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Gives the system back what was freed. A text takes some hundred times its size in small pieces while it is
/// encoded, which the allocator would keep.
fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "a function of the C library that takes a number")]
    // SAFETY: it may be called at any time, from any thread
    unsafe {
        libc::malloc_trim(0);
    }
}

/// No vocabulary has this many tokens; a table for more would be memory asked for by a corrupt file.
const MAX_IDS: u32 = 1 << 24;

fn token_bytes(tokenizer: &Tokenizer, last: u32) -> TokenBytes {
    let letters = byte_letters();
    let added = tokenizer.get_added_vocabulary();
    let mut table = TokenBytes {
        bytes: Vec::new(),
        ends: Vec::with_capacity(last as usize + 1),
    };
    for id in 0..=last {
        let token = tokenizer.id_to_token(id).unwrap_or_default();
        let start = table.bytes.len();
        for letter in token.chars() {
            match letters.get(letter as usize).copied().flatten() {
                Some(byte) => table.bytes.push(byte),
                // A token with any character outside the byte alphabet is an added one and stands for itself.
                None => {
                    table.bytes.truncate(start);
                    table.bytes.extend_from_slice(token.as_bytes());
                    break;
                }
            }
        }
        table
            .ends
            .push((table.bytes.len(), added.is_special_token(&token)));
    }
    table
}

/// The byte-level alphabet (Radford et al. 2019): printable bytes stand for themselves, the 68 others are
/// numbered from U+0100.
fn byte_letters() -> [Option<u8>; 256 + 68] {
    let mut letters = [None; 256 + 68];
    let mut next = 256;
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let letter = if printable { usize::from(byte) } else { next };
        next += usize::from(!printable);
        letters[letter] = Some(byte);
    }
    letters
}

/// Parts of a `tokenizer.json` that are looked at first: the library panics on a merge longer than the
/// longest token, and follows a normalizer or decoder that makes gigabytes of a word.
#[derive(Deserialize)]
struct PartsOfJson {
    #[serde(default)]
    model: MergesModel,
    #[serde(default)]
    normalizer: serde_json::Value,
    #[serde(default)]
    decoder: serde_json::Value,
}

/// How many times longer a normalizer or decoder may make a text.
const MOST_GROWTH: usize = 1000;

/// How many times longer a text can become by this normalizer or decoder.
fn growth(step: &serde_json::Value) -> usize {
    let bytes = |key: &str| step[key].as_str().map_or(0, str::len);
    let steps = ["normalizers", "decoders"]
        .into_iter()
        .find_map(|list| step[list].as_array());
    if let Some(steps) = steps {
        return steps.iter().map(growth).fold(1, usize::saturating_mul);
    }
    match step["type"].as_str().unwrap_or_default() {
        "Prepend" => 1 + bytes("prepend"),
        "Replace" => match step["pattern"]["String"].as_str() {
            Some(pattern) if !pattern.is_empty() => bytes("content").div_ceil(pattern.len()).max(1),
            // a pattern may match between any two bytes
            _ => 1 + bytes("content"),
        },
        // no character becomes more than 18 (NFKD of U+FDFA)
        "NFD" | "NFKD" | "NFC" | "NFKC" | "Precompiled" => 18,
        "BertNormalizer" | "Lowercase" | "ByteLevel" | "Nmt" => 3,
        _ => 1 + bytes("suffix") + bytes("prefix") + bytes("pad_token") + bytes("word_delimiter_token"),
    }
}

#[derive(Deserialize, Default)]
struct MergesModel {
    #[serde(default)]
    vocab: LongestToken,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

impl PartsOfJson {
    fn check(&self) -> Result<(), String> {
        for (step, name) in [(&self.normalizer, "normalizer"), (&self.decoder, "decoder")] {
            let growth = growth(step);
            if growth > MOST_GROWTH {
                return Err(format!(
                    "its {name} can make a text {growth} times longer, and no model's does so more than \
                     {MOST_GROWTH} times"
                ));
            }
        }
        let prefix = self
            .model
            .continuing_subword_prefix
            .as_deref()
            .unwrap_or_default()
            .len();
        for merge in &self.model.merges {
            let (left, right) = match merge {
                Merge::Text(text) => text.split_once(' ').unwrap_or((text, "")),
                Merge::Pair(left, right) => (left.as_str(), right.as_str()),
            };
            if right.len() < prefix || left.len() + right.len() - prefix > self.model.vocab.0 {
                return Err(format!(
                    "the merge of {left:?} and {right:?} makes a token that its vocabulary lacks"
                ));
            }
        }
        Ok(())
    }
}

/// Length in bytes of a vocabulary's longest token; nothing else of it is kept.
#[derive(Default)]
struct LongestToken(usize);

impl<'de> Deserialize<'de> for LongestToken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Longest;
        impl<'de> Visitor<'de> for Longest {
            type Value = LongestToken;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<LongestToken, M::Error> {
                let mut longest = 0;
                while let Some((token, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    longest = longest.max(token.len());
                }
                Ok(LongestToken(longest))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<LongestToken, S::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(LongestToken(usize::MAX))
            }
        }
        deserializer.deserialize_any(Longest)
    }
}
