//! The letters of painted plots, and how wide a text is.

use std::sync::LazyLock;

use tiny_skia::{Path, PathBuilder};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

static FACE: LazyLock<Face<'static>> = LazyLock::new(|| {
    Face::parse(epaint_default_fonts::UBUNTU_LIGHT, 0).expect("the font in the program is a font")
});

/// Readers of SVG bring fonts of their own, and most are wider.
const ROOM: f64 = 1.1;

/// About how wide a text is, in pixels.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    let units: u32 = text
        .chars()
        .map(|c| u32::from(FACE.glyph_hor_advance(glyph(c)).unwrap_or(0)))
        .sum();
    f64::from(units) * size / f64::from(FACE.units_per_em()) * ROOM
}

/// The outline of a text that begins at (0, 0) on its baseline, and where it ends. A letter that the font
/// lacks is drawn as its sign for that.
pub(super) fn outline(text: &str, size: f32) -> (Option<Path>, f32) {
    let scale = size / f32::from(FACE.units_per_em());
    let mut pen = Pen {
        path: PathBuilder::new(),
        x: 0.0,
        scale,
    };
    for c in text.chars() {
        let id = glyph(c);
        FACE.outline_glyph(id, &mut pen);
        pen.x += f32::from(FACE.glyph_hor_advance(id).unwrap_or(0)) * scale;
    }
    let end = pen.x;
    (pen.path.finish(), end)
}

fn glyph(c: char) -> GlyphId {
    FACE.glyph_index(c).unwrap_or(GlyphId(0))
}

struct Pen {
    path: PathBuilder,
    x: f32,
    scale: f32,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }
    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }
    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }
    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }
    fn close(&mut self) {
        self.path.close();
    }
}
