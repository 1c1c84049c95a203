//! A scene as SVG.

use std::fmt::Write;

use super::scene::{Anchor, ColourRole, Label, Outline, Paint, Part, Scene, SceneItem, Shape, Theme};
use crate::report::escape::markup;

/// The fonts of plots, the reader's own.
const FONTS: &str =
    "ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,Ubuntu,'Noto Sans','DejaVu Sans',sans-serif";

/// A file of its own: light, or dark where its reader prefers that.
pub(crate) fn file(scene: &Scene) -> String {
    let mut style = String::from("@media (prefers-color-scheme: dark){");
    for (role, class) in ColourRole::ALL {
        let colour = role.colour(Theme::Dark);
        let _ = write!(
            style,
            ".f-{class}{{fill:#{colour:06x}}}.k-{class}{{stroke:#{colour:06x}}}"
        );
    }
    style.push('}');
    let surface = format!(
        "<rect class=\"f-surface\" width=\"{}\" height=\"{}\" fill=\"#{:06x}\"/>\n",
        number(scene.width),
        number(scene.height),
        ColourRole::Surface.colour(Theme::Light)
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" \
         {2}<style>{style}</style>\n{surface}{3}</svg>\n",
        number(scene.width),
        number(scene.height),
        opening(scene),
        body(scene, |tip| format!("><title>{tip}</title>"), false)
    )
}

/// A part of a page, whose style sheet colours the classes `f-*` (fills) and `k-*` (strokes). Shapes that
/// have something to say are of the class `m`, and the page's script says it.
pub(crate) fn inline(scene: &Scene) -> String {
    let tip = |tip: &str| format!(" data-tip=\"{}\">", tip.replace('\n', "&#10;"));
    format!(
        "<svg class=\"plot\" tabindex=\"0\" {}{}</svg>\n",
        opening(scene),
        body(scene, tip, true)
    )
}

fn opening(scene: &Scene) -> String {
    format!(
        "viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\" \
         font-family=\"{FONTS}\">\n<title>{}</title>\n<desc>{}</desc>\n",
        number(scene.width),
        number(scene.height),
        markup(&format!("{}. {}", scene.title, scene.description)),
        markup(&scene.title),
        markup(&scene.description)
    )
}

/// What is drawn; `said` ends the tag of a shape that has something to say with that. `live` are parts that a page's script can switch.
fn body(scene: &Scene, said: impl Fn(&str) -> String, live: bool) -> String {
    let mut out = String::new();
    for item in &scene.items {
        match item {
            SceneItem::Shape(shape) => draw(&mut out, shape, &said),
            SceneItem::Label(label) => write_label(&mut out, label),
            SceneItem::Begin(part) if live => begin(&mut out, part),
            SceneItem::End if live => out.push_str("</g>\n"),
            SceneItem::Begin(_) | SceneItem::End => {}
        }
    }
    out
}

fn begin(out: &mut String, part: &Part) {
    let _ = match part {
        Part::Series { index, off } => {
            let off = if *off { " class=\"off\"" } else { "" };
            write!(out, "<g data-series=\"{index}\"{off}>")
        }
        Part::Switch { index, off, name } => write!(
            out,
            "<g class=\"switch\" data-switch=\"{index}\" role=\"switch\" tabindex=\"0\" aria-checked=\"{}\" \
             aria-label=\"{}\">",
            !off,
            markup(name)
        ),
    };
}

/// At most two decimals.
fn number(x: f64) -> String {
    let x = if x.is_finite() { x } else { 0.0 };
    let text = format!("{x:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn draw(out: &mut String, shape: &Shape, said: impl Fn(&str) -> String) {
    if let Some(tip) = &shape.tip {
        let _ = write!(out, "<g class=\"m\"{}", said(&markup(tip)));
    }
    match &shape.outline {
        Outline::Line(points) => path(out, points, false),
        Outline::Polygon(points) => path(out, points, true),
        Outline::Rect { x, y, width, height } => {
            let _ = write!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
                number(*x),
                number(*y),
                number(*width),
                number(*height)
            );
        }
        Outline::Circle {
            centre: (x, y),
            radius,
        } => {
            let _ = write!(
                out,
                "<circle cx=\"{}\" cy=\"{}\" r=\"{}\"",
                number(*x),
                number(*y),
                number(*radius)
            );
        }
    }
    paint(out, &shape.paint);
    out.push_str(if shape.tip.is_some() { "/></g>\n" } else { "/>\n" });
}

fn path(out: &mut String, points: &[(f64, f64)], closed: bool) {
    out.push_str("<path d=\"");
    for (i, (x, y)) in points.iter().enumerate() {
        let _ = write!(
            out,
            "{}{} {}",
            if i == 0 { "M" } else { "L" },
            number(*x),
            number(*y)
        );
    }
    out.push_str(if closed { "Z\"" } else { "\"" });
}

fn paint(out: &mut String, paint: &Paint) {
    let mut classes = Vec::new();
    let mut attributes = String::new();
    match paint.fill {
        Some(role) => {
            classes.push(format!("f-{}", role.class()));
            let _ = write!(attributes, " fill=\"#{:06x}\"", role.colour(Theme::Light));
        }
        None => attributes.push_str(" fill=\"none\""),
    }
    if let Some(stroke) = paint.stroke {
        classes.push(format!("k-{}", stroke.role.class()));
        let _ = write!(
            attributes,
            " stroke=\"#{:06x}\" stroke-width=\"{}\" stroke-linejoin=\"round\"",
            stroke.role.colour(Theme::Light),
            number(stroke.width)
        );
        let lengths = stroke.dash.lengths();
        if !lengths.is_empty() {
            let lengths: Vec<String> = lengths.iter().map(f32::to_string).collect();
            let _ = write!(attributes, " stroke-dasharray=\"{}\"", lengths.join(" "));
        }
    }
    if paint.opacity < 1.0 {
        let _ = write!(attributes, " opacity=\"{}\"", number(paint.opacity));
    }
    if !classes.is_empty() {
        let _ = write!(out, " class=\"{}\"", classes.join(" "));
    }
    out.push_str(&attributes);
}

fn write_label(out: &mut String, label: &Label) {
    let (x, y) = (number(label.at.0), number(label.at.1));
    let anchor = match label.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let turned = if label.upwards {
        format!(" transform=\"rotate(-90 {x} {y})\"")
    } else {
        String::new()
    };
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\"{anchor}{turned} class=\"f-{}\" \
         fill=\"#{:06x}\">{}</text>",
        number(label.size),
        label.role.class(),
        label.role.colour(Theme::Light),
        markup(&label.text)
    );
}
