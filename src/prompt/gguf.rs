//! The tokenizer that a GGUF file carries in its metadata.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::PromptError;
use super::vocabulary::Vocabulary;

/// Split pattern of Llama 3: contractions, words with one leading mark, digits in threes, punctuation, line
/// ends, blanks.
const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with every digit alone (Qwen 2).
const SINGLE_DIGIT_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The same with marks, which many scripts write after a letter, as a part of words (Qwen 3.5).
const MARKED_LETTERS_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words of one case or with a capital, contractions with them, numbers in groups of three (GPT-4o).
const GPT_4O_SPLIT: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same without contractions, every digit alone (Mistral's Tekken).
const TEKKEN_SPLIT: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names of Llama 3's way, which takes a word that is a token as it is, whether or not merges lead to it.
const LLAMA3: [&str; 7] = [
    "llama-bpe",
    "llama3",
    "llama-v3",
    "falcon-h1",
    "falcon3",
    "lfm2",
    "pixtral",
];

/// `tokenizer.ggml.token_type`: what is never in a text.
const UNUSED: i32 = 5;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// The `tokenizer.*` keys of a GGUF file, as plain fields.
#[derive(Debug, Clone, Default)]
pub struct GgufTokenizer {
    /// `tokenizer.ggml.model`; `gpt2` is byte-level BPE.
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the split pattern.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, in the order of their ids.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, one a token; may be empty.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`, two tokens with a space between them.
    pub merges: Vec<String>,
    /// Id of the token that begins a text, from `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// Id of the token that ends a text, from `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`. Kept for the record: a prompt has the BOS that its template writes,
    /// and no other.
    pub add_bos: Option<bool>,
    /// The chat template in Jinja, from `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

impl GgufTokenizer {
    /// The text of the token `id`.
    pub(super) fn token(&self, id: Option<u32>) -> Option<&str> {
        self.tokens.get(id? as usize).map(String::as_str)
    }

    /// Builds the tokenizer; `origin` is the file that an error names.
    pub(super) fn vocabulary(&self, origin: &str) -> Result<Vocabulary, PromptError> {
        let refuse = |reason: String| PromptError::Tokenizer {
            origin: origin.to_owned(),
            reason,
        };
        if self.model != "gpt2" {
            return Err(refuse(format!(
                "tokenizer.ggml.model is {:?} and only \"gpt2\" (byte-level BPE) is read; put the model's \
                 tokenizer.json beside the file",
                self.model
            )));
        }
        if !self.token_types.is_empty() && self.token_types.len() != self.tokens.len() {
            return Err(refuse(format!(
                "it has {} tokens and {} token types",
                self.tokens.len(),
                self.token_types.len()
            )));
        }
        let pre_tokenizer = self.pre_tokenizer(origin)?;
        let model = self.model(origin)?;
        let added = self
            .tokens
            .iter()
            .enumerate()
            .filter_map(|(id, token)| match self.kind(id) {
                CONTROL => Some(AddedToken::from(token.as_str(), true).normalized(false)),
                USER_DEFINED => Some(AddedToken::from(token.as_str(), false).normalized(false)),
                _ => None,
            });
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        tokenizer
            .add_tokens(added)
            .map_err(|error| refuse(error.to_string()))?;
        Vocabulary::new(tokenizer, origin, self.digest())
    }

    fn kind(&self, id: usize) -> i32 {
        self.token_types.get(id).copied().unwrap_or(1)
    }

    fn pre_tokenizer(&self, origin: &str) -> Result<PreTokenizerWrapper, PromptError> {
        let pattern = match self.pre.as_deref().unwrap_or("default") {
            name if LLAMA3.contains(&name) => LLAMA3_SPLIT,
            "qwen2" | "deepseek-r1-qwen" | "megrez" => SINGLE_DIGIT_SPLIT,
            "qwen35" => MARKED_LETTERS_SPLIT,
            "gpt-4o" => GPT_4O_SPLIT,
            "tekken" => TEKKEN_SPLIT,
            "smollm" => {
                let digits = Digits::new(true);
                let rest = ByteLevel::new(false, true, true);
                return Ok(Sequence::new(vec![digits.into(), rest.into()]).into());
            }
            "gpt-2" => return Ok(ByteLevel::new(false, true, true).into()),
            other => {
                let reason = format!(
                    "tokenizer.ggml.pre is {other:?}, whose way of splitting text is not known here; put the \
                     model's tokenizer.json beside the file"
                );
                return Err(PromptError::Tokenizer {
                    origin: origin.to_owned(),
                    reason,
                });
            }
        };
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(|error| {
            PromptError::Tokenizer {
                origin: origin.to_owned(),
                reason: error.to_string(),
            }
        })?;
        let bytes = ByteLevel::new(false, true, false);
        Ok(Sequence::new(vec![split.into(), bytes.into()]).into())
    }

    /// The BPE model: every token but those of type unused, which only fill the vocabulary up, and the merges
    /// by rank.
    fn model(&self, origin: &str) -> Result<BPE, PromptError> {
        let refuse = |reason: String| PromptError::Tokenizer {
            origin: origin.to_owned(),
            reason,
        };
        let mut vocabulary = Vocab::default();
        for (id, token) in self.tokens.iter().enumerate() {
            if self.kind(id) == UNUSED {
                continue;
            }
            let id = u32::try_from(id).map_err(|_| refuse("it has too many tokens".to_owned()))?;
            if let Some(twin) = vocabulary.insert(token.clone(), id) {
                return Err(refuse(format!(
                    "ids {twin} and {id} are the same token {token:?}"
                )));
            }
        }
        let mut merges = Vec::with_capacity(self.merges.len());
        for merge in &self.merges {
            let known = |left: &str, right: &str| {
                vocabulary.contains_key(left)
                    && vocabulary.contains_key(right)
                    && vocabulary.contains_key(&format!("{left}{right}"))
            };
            let (left, right) = merge
                .split_once(' ')
                .filter(|(left, right)| known(left, right))
                .ok_or_else(|| refuse(format!("merge {merge:?} makes a token that its vocabulary lacks")))?;
            merges.push((left.to_owned(), right.to_owned()));
        }
        let model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .ignore_merges(self.ignore_merges());
        model.build().map_err(|error| refuse(error.to_string()))
    }

    fn ignore_merges(&self) -> bool {
        let pre = self.pre.as_deref().unwrap_or_default();
        LLAMA3.contains(&pre) || pre == "tekken"
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut field = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        field(&self.model);
        field(self.pre.as_deref().unwrap_or_default());
        for list in [&self.tokens, &self.merges] {
            field(&list.len().to_string());
            list.iter().for_each(|text| field(text));
        }
        self.token_types.iter().for_each(|kind| field(&kind.to_string()));
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    #[test]
    fn text_is_split_as_each_name_says() {
        let text = "It's HTTPServer 12345 cafe\u{301}s a/b//\n\n  x";
        let split = |name: &str| {
            let metadata = GgufTokenizer {
                pre: Some(name.to_owned()),
                ..GgufTokenizer::default()
            };
            let mut parts = PreTokenizedString::from(text);
            let ways = metadata.pre_tokenizer("m.gguf").unwrap();
            ways.pre_tokenize(&mut parts).unwrap();
            let splits = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let words = splits.into_iter().map(|(_, (from, to), _)| &text[from..to]);
            words.collect::<Vec<_>>().join("|")
        };
        let llama = "It|'s| HTTPServer| |123|45| cafe|\u{301}s| a|/b|//\n\n| | x";
        for name in LLAMA3 {
            assert_eq!(split(name), llama, "{name}");
        }
        let digits = "It|'s| HTTPServer| |1|2|3|4|5| cafe|\u{301}s| a|/b|//\n\n| | x";
        for name in ["qwen2", "deepseek-r1-qwen", "megrez"] {
            assert_eq!(split(name), digits, "{name}");
        }
        let marked = "It|'s| HTTPServer| |1|2|3|4|5| cafe\u{301}s| a|/b|//\n\n| | x";
        assert_eq!(split("qwen35"), marked);
        let cased = "It's| HTTPServer| |123|45| cafe\u{301}s| a|/b|//\n\n| | x";
        assert_eq!(split("gpt-4o"), cased);
        let single = "It|'s| HTTPServer| |1|2|3|4|5| cafe\u{301}s| a|/b|//\n\n| | x";
        assert_eq!(split("tekken"), single);
        let gpt2 = "It|'s| HTTPServer| |1|2|3|4|5| cafe|\u{301}|s| a|/|b|//|\n\n | x";
        assert_eq!(split("smollm"), gpt2);
    }
}
