//! Words of the language around a value: units, number words, and words that change what is said.

use num_bigint::BigInt;
use num_rational::BigRational;

/// Units: a name for each, and its other spellings. A spelling of one letter counts only where the text says
/// that it is a word (`\text{m}`).
const UNITS: &[(&str, &str)] = &[
    ("mm", "millimeter millimeters millimetre millimetres"),
    ("cm", "centimeter centimeters centimetre centimetres"),
    ("dm", "decimeter decimeters"),
    ("m", "meter meters metre metres"),
    ("km", "kilometer kilometers kilometre kilometres"),
    ("in", "inch inches"),
    ("ft", "foot feet"),
    ("yd", "yard yards yds"),
    ("mi", "mile miles"),
    ("mg", "milligram milligrams"),
    ("g", "gram grams gm"),
    ("kg", "kilogram kilograms kgs"),
    ("oz", "ounce ounces"),
    ("lb", "pound pounds lbs"),
    ("ton", "tons tonne tonnes"),
    ("ml", "mL milliliter milliliters millilitre millilitres"),
    ("l", "L liter liters litre litres"),
    ("gal", "gallon gallons"),
    ("pt", "pint pints"),
    ("qt", "quart quarts"),
    ("cup", "cups"),
    ("ms", "millisecond milliseconds"),
    ("s", "sec secs second seconds"),
    ("min", "mins minute minutes"),
    ("h", "hr hrs hour hours"),
    ("day", "days"),
    ("week", "weeks wk wks"),
    ("month", "months"),
    ("year", "years yr yrs"),
    ("cent", "cents"),
    ("dollar", "dollars usd USD bucks"),
    ("euro", "euros eur EUR"),
    ("yen", ""),
    ("mph", ""),
    ("kmh", "kph"),
    ("pound sterling", "gbp GBP"),
    ("N", "newton newtons"),
    ("J", "joule joules"),
    ("kJ", "kilojoule kilojoules"),
    ("W", "watt watts"),
    ("kW", "kilowatt kilowatts"),
    ("V", "volt volts"),
    ("A", "amp amps ampere amperes"),
    ("K", "kelvin kelvins"),
    ("C", "celsius Celsius"),
    ("F", "fahrenheit Fahrenheit"),
    ("Pa", "pascal pascals"),
    ("Hz", "hertz"),
    ("mol", "mole moles"),
    ("radian", "radians rad"),
    ("degree", ""),
    ("arcmin", "arcminute arcminutes"),
    ("arcsec", "arcsecond arcseconds"),
    ("grad", "grads gradian gradians gon"),
    ("th", "st nd rd"),
    ("acre", "acres"),
    ("hectare", "hectares ha"),
    ("unit", "units"),
    ("points", "pts"),
    ("o'clock", ""),
];

/// The name of a unit that is known.
pub(crate) fn unit(word: &str) -> Option<&'static str> {
    let lower = word.to_ascii_lowercase();
    let spelled = |spelling: &str| spelling == word || (word.len() > 1 && spelling == lower);
    UNITS
        .iter()
        .find(|(name, others)| {
            spelled(name) || others.split(' ').any(|other| !other.is_empty() && spelled(other))
        })
        .map(|(name, _)| *name)
}

/// Whether a unit, by its name, measures something; otherwise it is a thing that is counted: `apples`, for which
/// another answer may have another word.
pub(crate) fn measures(name: &str) -> bool {
    let known = |word: &str| {
        let word = word.split('^').next().unwrap_or(word);
        UNITS.iter().any(|(unit, _)| *unit == word) || matches!(word, "sterling" | "degree")
    };
    name != "points" && name.split(' ').any(known)
}

/// The factor that a number word stands for.
pub(crate) fn factor(word: &str) -> Option<BigRational> {
    const SHARES: [(&str, i64); 20] = [
        ("halve", 2),
        ("third", 3),
        ("fourth", 4),
        ("fifth", 5),
        ("sixth", 6),
        ("seventh", 7),
        ("eighth", 8),
        ("ninth", 9),
        ("tenth", 10),
        ("eleventh", 11),
        ("twelfth", 12),
        ("fifteenth", 15),
        ("sixteenth", 16),
        ("twentieth", 20),
        ("thirtieth", 30),
        ("fiftieth", 50),
        ("hundredth", 100),
        ("thousandth", 1_000),
        ("millionth", 1_000_000),
        ("billionth", 1_000_000_000),
    ];
    let lower = word.to_ascii_lowercase();
    // Parts are many: "5 sixths"; "5 sixth" may be the sixth of something.
    if let Some(part) = lower.strip_suffix('s')
        && let Some((_, share)) = SHARES.iter().find(|(name, _)| *name == part)
    {
        return Some(BigRational::new(BigInt::from(1), BigInt::from(*share)));
    }
    let whole: i64 = match lower.strip_suffix('s').unwrap_or(&lower) {
        "dozen" => 12,
        "score" => 20,
        "gros" | "gross" => 144,
        "hundred" => 100,
        "thousand" => 1_000,
        "myriad" => 10_000,
        "lakh" => 100_000,
        "million" | "mio" => 1_000_000,
        "crore" => 10_000_000,
        "billion" | "bn" | "milliard" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        "quadrillion" => 1_000_000_000_000_000,
        "quintillion" => 1_000_000_000_000_000_000,
        "googol" => return Some(BigRational::from_integer(BigInt::from(10).pow(100))),
        _ => return None,
    };
    Some(BigRational::from_integer(BigInt::from(whole)))
}

/// The number of an ordinal in words.
pub(crate) fn ordinal(word: &str) -> Option<i64> {
    const ORDINALS: [&str; 20] = [
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
        "tenth",
        "eleventh",
        "twelfth",
        "thirteenth",
        "fourteenth",
        "fifteenth",
        "sixteenth",
        "seventeenth",
        "eighteenth",
        "nineteenth",
        "twentieth",
    ];
    let lower = word.to_ascii_lowercase();
    let place = ORDINALS.iter().position(|name| *name == lower)?;
    i64::try_from(place + 1).ok()
}

/// Words that change a value before them: what they stand in is not that value.
pub(crate) fn changes(word: &str) -> bool {
    const WORDS: [&str; 91] = [
        "point",
        "hundredth",
        "thousandth",
        "millionth",
        "billionth",
        "trillionth",
        "trillionths",
        "zillion",
        "zillions",
        "gazillion",
        "gazillions",
        "bazillion",
        "jillion",
        "umpteen",
        "googolplex",
        "mil",
        "mils",
        "mille",
        "permille",
        "promille",
        "permil",
        "permyriad",
        "ppm",
        "ppb",
        "ppt",
        "bp",
        "bps",
        "percentile",
        "percentiles",
        "quartile",
        "decile",
        "percentage",
        "octal",
        "binary",
        "ternary",
        "hex",
        "hexadecimal",
        "power",
        "powers",
        "exponent",
        "doubled",
        "tripled",
        "halved",
        "inverse",
        "reciprocal",
        "negative",
        "or",
        "and",
        "less",
        "more",
        "fewer",
        "greater",
        "than",
        "minus",
        "plus",
        "times",
        "divided",
        "not",
        "no",
        "over",
        "under",
        "above",
        "below",
        "between",
        "even",
        "odd",
        "am",
        "pm",
        "remainder",
        "mod",
        "modulo",
        "choose",
        "higher",
        "lower",
        "larger",
        "smaller",
        "most",
        "least",
        "squared",
        "cubed",
        "factorial",
        "off",
        "half",
        "quarter",
        "quarters",
        "up",
        "versus",
        "vs",
        "each",
        "is",
        "are",
    ];
    WORDS.contains(&word.to_ascii_lowercase().as_str()) || ordinal(word).is_some_and(|place| place > 2)
}

/// Words that tie a value to what follows: at once behind a value they make it a part of something else.
pub(crate) fn ties(word: &str) -> bool {
    const WORDS: [&str; 20] = [
        "of", "out", "to", "in", "for", "when", "if", "where", "with", "from", "by", "at", "on", "as", "per",
        "unless", "while", "such", "that", "since",
    ];
    WORDS.contains(&word.to_ascii_lowercase().as_str())
}

/// Words before a value that say no more than that it comes.
pub(crate) fn introduces(word: &str) -> bool {
    const WORDS: [&str; 22] = [
        "clearly",
        "simply",
        "just",
        "indeed",
        "obviously",
        "about",
        "approximately",
        "approx",
        "roughly",
        "exactly",
        "therefore",
        "thus",
        "so",
        "hence",
        "the",
        "answer",
        "is",
        "final",
        "answers",
        "are",
        "total",
        "result",
    ];
    WORDS.contains(&word.to_ascii_lowercase().as_str())
}

/// Whether letters without spaces are variables side by side: `xy`, `ab`, `xyz`, but not "no" or "odd".
pub(crate) fn is_product(word: &str) -> bool {
    const WORDS: [&str; 32] = [
        "no", "is", "if", "am", "pm", "of", "to", "in", "at", "by", "it", "we", "an", "as", "be", "do", "on",
        "or", "so", "he", "up", "us", "my", "me", "go", "vs", "st", "th", "rd", "nd", "sq", "cu",
    ];
    let lower = word.to_ascii_lowercase();
    let roman = word.bytes().all(|b| matches!(b, b'I' | b'V' | b'X'));
    match lower.as_bytes() {
        [_, _] => !roman && !WORDS.contains(&lower.as_str()) && unit(word).is_none(),
        [a, b, c] => a + 1 == *b && b + 1 == *c,
        _ => false,
    }
}
