//! What the commands of LaTeX mean. One that is not known makes the answer a text.

use super::lex::{Join, Token};

/// What is to be done with a command.
pub(super) enum Command {
    /// It is a token.
    Is(Token),
    /// It says how things look, and is left out.
    Look,
    /// It is left out with so many arguments behind it.
    Skip(usize),
    /// Its argument holds words.
    Words,
    /// Its argument is a name, and not read further.
    Name,
    /// A line over its argument: repeated digits, a conjugate, or a name.
    Bar,
    /// `\begin`, `\end`
    Environment(bool),
    /// Not known here.
    Unknown,
}

/// The canonical name of a function.
pub(super) fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "sin" => "sin",
        "cos" => "cos",
        "tan" | "tg" => "tan",
        "cot" | "ctg" => "cot",
        "sec" => "sec",
        "csc" | "cosec" => "csc",
        "arcsin" | "asin" => "arcsin",
        "arccos" | "acos" => "arccos",
        "arctan" | "atan" | "arctg" => "arctan",
        "sinh" => "sinh",
        "cosh" => "cosh",
        "tanh" => "tanh",
        "cis" => "cis",
        "ln" => "ln",
        "log" | "lg" => "lg",
        "exp" => "exp",
        "max" => "max",
        "min" => "min",
        "gcd" => "gcd",
        "lcm" => "lcm",
        "det" => "det",
        _ => return None,
    })
}

const LETTERS: [&str; 42] = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "vartheta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "varrho",
    "sigma",
    "varsigma",
    "tau",
    "upsilon",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Pi",
    "Sigma",
    "Upsilon",
    "Phi",
    "Psi",
    "Omega",
    "ell",
    "infty",
];

/// The relation that a command name of one letter too many begins with, and its length.
pub(super) fn relation_before_letter(name: &str) -> Option<(&'static str, usize)> {
    let known = [("leq", "le"), ("geq", "ge"), ("le", "le"), ("ge", "ge")];
    let (spelled, relation) = known
        .into_iter()
        .find(|(spelled, _)| name.starts_with(spelled) && name.len() == spelled.len() + 1)?;
    Some((relation, spelled.len()))
}

/// The meaning of `\name`.
pub(super) fn command(name: &str) -> Command {
    Command::Is(match name {
        "displaystyle" | "textstyle" | "scriptstyle" | "scriptscriptstyle" | "limits" | "nolimits"
        | "left" | "right" | "middle" | "big" | "Big" | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl"
        | "Bigr" | "biggl" | "biggr" | "Biggl" | "Biggr" | "bigm" | "rm" | "bf" | "it" | "sf" | "tt"
        | "sl" | "sc" | "em" | "tiny" | "scriptsize" | "footnotesize" | "small" | "normalsize" | "large"
        | "Large" | "LARGE" | "huge" | "Huge" | "bfseries" | "itshape" | "rmfamily" | "mdseries"
        | "mathbf" | "mathit" | "bm" | "pmb" | "bold" | "boldsymbol" | "mathnormal" | "ensuremath"
        | "underline" | "uline" | "underbar" | "boxed" | "fbox" | "framebox" | "quad" | "qquad"
        | "enspace" | "thinspace" | "medspace" | "thickspace" | "negthinspace" | "hfill" | "space"
        | "hline" | "nonumber" | "notag" | "noindent" | "centering" | "mathstrut" | "strut" | "smash"
        | "mathop" | "mathord" | "therefore" | "because" | "par" | "newline" | "nobreak" | "allowbreak"
        | "relax" => return Command::Look,
        "color" | "hspace" | "vspace" | "phantom" | "hphantom" | "vphantom" | "tag" | "label" | "cline"
        | "textcolor" | "colorbox" | "footnote" | "kern" | "mspace" => return Command::Skip(1),
        "fcolorbox" => return Command::Skip(2),
        "text" | "textbf" | "textit" | "textrm" | "textsf" | "texttt" | "textnormal" | "textup"
        | "textsl" | "textsc" | "emph" | "mbox" | "hbox" | "mathrm" | "mathsf" | "mathtt"
        | "operatorname" | "unit" | "textmd" => return Command::Words,
        "mathbb" | "mathcal" | "mathfrak" | "mathscr" | "vec" | "overrightarrow" | "overleftarrow"
        | "hat" | "widehat" | "tilde" | "widetilde" | "dot" | "ddot" | "overarc" | "wideparen" | "angle"
        | "triangle" | "measuredangle" | "overleftrightarrow" => return Command::Name,
        "overline" | "bar" => return Command::Bar,
        "begin" => return Command::Environment(true),
        "end" => return Command::Environment(false),
        "frac" | "dfrac" | "tfrac" | "cfrac" | "nicefrac" | "sfrac" | "xfrac" | "flatfrac" => {
            Token::Macro("frac")
        }
        "sqrt" => Token::Macro("sqrt"),
        "binom" | "dbinom" | "tbinom" => Token::Macro("binom"),
        "over" => Token::Macro("over"),
        "choose" => Token::Macro("choose"),
        "pmod" | "pod" => Token::Macro("pmod"),
        "bmod" | "mod" => Token::Macro("bmod"),
        "cdot" | "ast" | "cdotp" => Token::Op('*'),
        "times" => Token::Op('*'),
        "div" => Token::Op('/'),
        "pm" => Token::Op('±'),
        "mp" => Token::Op('∓'),
        "cup" | "bigcup" | "union" => Token::Op('U'),
        "cap" | "bigcap" => Token::Op('∩'),
        "setminus" | "backslash" | "smallsetminus" => Token::Op('\\'),
        "degree" | "textdegree" => Token::Degree,
        "lvert" | "rvert" | "vert" => Token::Op('|'),
        "mid" => Token::Op('∣'),
        "lfloor" => Token::Op('⌊'),
        "rfloor" => Token::Op('⌋'),
        "lceil" => Token::Op('⌈'),
        "rceil" => Token::Op('⌉'),
        "lbrace" => Token::Op('S'),
        "rbrace" => Token::Op('s'),
        "lbrack" => Token::Op('['),
        "rbrack" => Token::Op(']'),
        "lparen" => Token::Op('('),
        "rparen" => Token::Op(')'),
        "langle" => Token::Op('('),
        "rangle" => Token::Op(')'),
        "prime" => Token::Op('\''),
        "le" | "leq" | "leqslant" | "leqq" => Token::Rel("le"),
        "lt" => Token::Rel("<"),
        "gt" => Token::Rel(">"),
        "ge" | "geq" | "geqslant" | "geqq" => Token::Rel("ge"),
        "ne" | "neq" => Token::Rel("ne"),
        "approx" | "simeq" | "sim" | "approxeq" | "thickapprox" => Token::Rel("approx"),
        "in" => Token::Rel("in"),
        "equiv" => Token::Rel("equiv"),
        "cong" | "coloneqq" | "triangleq" => Token::Rel("="),
        "colon" => Token::Op(':'),
        "land" | "wedge" => Token::Separator(Join::And),
        "lor" | "vee" => Token::Separator(Join::Or),
        "varnothing" | "emptyset" => Token::Sym("\\emptyset".to_owned()),
        "imath" => Token::Sym("i".to_owned()),
        "jmath" => Token::Sym("j".to_owned()),
        "R" | "Reals" | "reals" => Token::Sym("\\mathbb{R}".to_owned()),
        "N" | "Z" | "Q" | "C" => Token::Sym(format!("\\mathbb{{{name}}}")),
        "cr" => Token::Row,
        "euro" => Token::Currency("euro"),
        "pounds" => Token::Currency("pound sterling"),
        "yen" => Token::Currency("yen"),
        "cent" => Token::Word("cents".to_owned()),
        _ if LETTERS.contains(&name) => Token::Sym(format!("\\{name}")),
        _ => match function(name) {
            Some(name) => Token::Func(name),
            None => return Command::Unknown,
        },
    })
}
