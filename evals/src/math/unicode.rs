//! Unicode to plain LaTeX: digits and letters of other alphabets and fonts, signs, raised and lowered
//! characters.

use std::borrow::Cow;

/// The first code points of ten decimal digits in a row, by script.
const DIGIT_BLOCKS: [u32; 12] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0be6, 0x0c66, 0x0e50, 0x0ed0, 0xff10,
];

/// The names of the small Greek letters from U+03B1 on.
const GREEK: [&str; 25] = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
];

/// What a character is written as in LaTeX.
fn latex(c: char) -> Option<&'static str> {
    Some(match c {
        '−' | '–' | '—' | '‐' | '‑' | '﹣' => "-",
        '⋅' | '·' | '∗' | '•' | '∙' | '✕' | '⨯' => "*",
        '×' => "\\times ",
        '÷' | '∕' | '⁄' | '⧸' => "/",
        '√' => "\\sqrt ",
        '∛' => "\\sqrt[3] ",
        '∜' => "\\sqrt[4] ",
        '∞' => "\\infty ",
        '≤' | '⩽' | '≦' => "\\le ",
        '≥' | '⩾' | '≧' => "\\ge ",
        '≠' => "\\ne ",
        '≈' | '≃' | '∼' => "\\approx ",
        '≡' => "\\equiv ",
        '∈' => "\\in ",
        '∪' | '⋃' => "\\cup ",
        '∩' | '⋂' => "\\cap ",
        '∖' => "\\setminus ",
        '∧' => "\\land ",
        '∨' => "\\lor ",
        '±' => "\\pm ",
        '∓' => "\\mp ",
        '°' | 'º' | '˚' => "\\degree ",
        '℃' => "\\degree \\text{C}",
        '℉' => "\\degree \\text{F}",
        '∅' | '⌀' => "\\emptyset ",
        '∣' => "\\mid ",
        '→' | '⟶' => "\\to ",
        '⇒' | '⟹' => "\\implies ",
        '⇔' | '⟺' => "\\iff ",
        '⊂' => "\\subset ",
        '⊆' => "\\subseteq ",
        '⊃' => "\\supset ",
        '⊇' => "\\supseteq ",
        '∠' => "\\angle ",
        '△' => "\\triangle ",
        '∴' => "\\therefore ",
        '⌊' => "\\lfloor ",
        '⌋' => "\\rfloor ",
        '⌈' => "\\lceil ",
        '⌉' => "\\rceil ",
        '⟨' | '〈' => "\\langle ",
        '⟩' | '〉' => "\\rangle ",
        'ℝ' => "\\mathbb{R}",
        'ℤ' => "\\mathbb{Z}",
        'ℕ' => "\\mathbb{N}",
        'ℚ' => "\\mathbb{Q}",
        'ℂ' => "\\mathbb{C}",
        'ℓ' => "\\ell ",
        'ℎ' => "h",
        'ℯ' => "e",
        'ⅈ' => "i",
        'ⅇ' => "e",
        '½' => "\\frac{1}{2}",
        '⅓' => "\\frac{1}{3}",
        '⅔' => "\\frac{2}{3}",
        '¼' => "\\frac{1}{4}",
        '¾' => "\\frac{3}{4}",
        '⅕' => "\\frac{1}{5}",
        '⅖' => "\\frac{2}{5}",
        '⅗' => "\\frac{3}{5}",
        '⅘' => "\\frac{4}{5}",
        '⅙' => "\\frac{1}{6}",
        '⅚' => "\\frac{5}{6}",
        '⅐' => "\\frac{1}{7}",
        '⅛' => "\\frac{1}{8}",
        '⅜' => "\\frac{3}{8}",
        '⅝' => "\\frac{5}{8}",
        '⅞' => "\\frac{7}{8}",
        '⅑' => "\\frac{1}{9}",
        '⅒' => "\\frac{1}{10}",
        '’' | '′' | '‘' => "'",
        '″' => "''",
        '“' | '”' => "\"",
        '…' | '⋯' => "\\dots ",
        '€' => "\\euro ",
        '£' => "\\pounds ",
        '¥' => "\\yen ",
        '¢' => "\\cent ",
        '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{200e}' | '\u{200f}' | '\u{2060}' | '\u{2061}'
        | '\u{2062}' | '\u{feff}' | '\u{ad}' | '\u{fe0f}' => "",
        '٫' => ".",
        '٬' => ",",
        '、' | '،' => ", ",
        '；' | '؛' => "; ",
        '。' | '｡' => ". ",
        '【' | '「' | '『' | '《' => "(",
        '】' | '」' | '』' | '》' => ")",
        'µ' => "\\mu ",
        'ϕ' => "\\phi ",
        'ϵ' => "\\epsilon ",
        'Γ' => "\\Gamma ",
        'Δ' | '∆' => "\\Delta ",
        'Θ' => "\\Theta ",
        'Λ' => "\\Lambda ",
        'Ξ' => "\\Xi ",
        'Π' => "\\Pi ",
        'Σ' => "\\Sigma ",
        'Φ' => "\\Phi ",
        'Ψ' => "\\Psi ",
        'Ω' => "\\Omega ",
        'Ⅰ' => "I",
        'Ⅱ' => "II",
        'Ⅲ' => "III",
        'Ⅳ' => "IV",
        'Ⅴ' => "V",
        _ => return None,
    })
}

/// A letter or digit of a mathematical font, and the full-width twins of ASCII.
fn plain(c: char) -> Option<char> {
    let code = c as u32;
    if let Some(block) = DIGIT_BLOCKS.iter().find(|b| (**b..**b + 10).contains(&code)) {
        return char::from_digit(code - block, 10);
    }
    let letter = |n: u32| {
        char::from_u32(if n < 26 {
            'A' as u32 + n
        } else {
            'a' as u32 + n - 26
        })
    };
    match code {
        0xff01..=0xff5e => char::from_u32(code - 0xfee0),
        0x3000 | 0xa0 | 0x2000..=0x200a | 0x202f | 0x205f => Some(' '),
        0x1d400..=0x1d6a3 => letter((code - 0x1d400) % 52),
        0x1d6a8..=0x1d7cb => match (code - 0x1d6a8) % 58 {
            n @ 26..=50 => char::from_u32(0x3b1 + n - 26),
            _ => None,
        },
        0x1d7ce..=0x1d7ff => char::from_digit((code - 0x1d7ce) % 10, 10),
        _ => None,
    }
}

fn raised(c: char) -> Option<char> {
    const RAISED: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣ";
    let at = RAISED.chars().position(|r| r == c)?;
    "0123456789+-=()nix".chars().nth(at)
}

fn lowered(c: char) -> Option<char> {
    const LOWERED: &str = "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₕₖₗₘₙₚₛₜᵢⱼ";
    let at = LOWERED.chars().position(|l| l == c)?;
    "0123456789+-=()aeoxhklmnpstij".chars().nth(at)
}

/// A text in ASCII as far as its characters have a spelling in LaTeX; the letters of other languages stay.
/// Linear in the text.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        type Shift = fn(char) -> Option<char>;
        let shifts: [(Shift, char); 2] = [(raised, '^'), (lowered, '_')];
        if let Some((shift, mark)) = shifts.into_iter().find(|(shift, _)| shift(c).is_some()) {
            out.push(mark);
            out.push('{');
            out.extend(shift(c));
            while let Some(next) = chars.peek().copied().and_then(shift) {
                out.push(next);
                chars.next();
            }
            out.push('}');
            continue;
        }
        let c = plain(c).unwrap_or(c);
        match (
            latex(c),
            (c as u32).checked_sub(0x3b1).and_then(|n| GREEK.get(n as usize)),
        ) {
            (Some(spelled), _) => out.push_str(spelled),
            (None, Some(name)) => {
                out.push('\\');
                out.push_str(name);
                out.push(' ');
            }
            (None, None) => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn characters_are_spelled_in_latex() {
        for (text, folded) in [
            ("10⁵", "10^{5}"),
            ("2⁻³", "2^{-3}"),
            ("x₁₂", "x_{12}"),
            ("٧٣", "73"),
            ("۷۳", "73"),
            ("１０４", "104"),
            ("𝟭𝟬𝟰", "104"),
            ("𝑥²", "x^{2}"),
            ("π/2", "\\pi /2"),
            ("𝜋", "\\pi "),
            ("（３，４）", "(3,4)"),
            ("7个", "7个"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
    }
}
