//! A scene as PNG: the same shapes as in the SVG, painted.

use tiny_skia::{Color, FillRule, LineJoin, Path, PathBuilder, Pixmap, Rect, StrokeDash, Transform};

use super::font;
use super::scene::{Anchor, ColourRole, Label, Outline, Paint, Scene, SceneItem, Theme};

/// Pixels of the picture for each of the scene.
const SCALE: f32 = 2.0;

/// The bytes of the picture; `None` where it would have no or far too many pixels.
pub(crate) fn paint(scene: &Scene, theme: Theme) -> Option<Vec<u8>> {
    let size = |x: f64| (x as f32 * SCALE) as u32;
    let (width, height) = (size(scene.width), size(scene.height));
    if width > 20_000 || height > 20_000 {
        return None;
    }
    let mut pixmap = Pixmap::new(width, height)?;
    let mut canvas = Canvas {
        pixmap: &mut pixmap,
        theme,
    };
    canvas.pixmap.fill(canvas.colour(ColourRole::Surface, 1.0));
    for item in &scene.items {
        match item {
            SceneItem::Shape(shape) => {
                if let Some(path) = outline(&shape.outline) {
                    canvas.shape(&path, &shape.paint);
                }
            }
            SceneItem::Label(label) => canvas.label(label),
            SceneItem::Begin(_) | SceneItem::End => {}
        }
    }
    pixmap.encode_png().ok()
}

struct Canvas<'a> {
    pixmap: &'a mut Pixmap,
    theme: Theme,
}

impl Canvas<'_> {
    fn colour(&self, role: ColourRole, opacity: f64) -> Color {
        let [_, r, g, b] = role.colour(self.theme).to_be_bytes();
        Color::from_rgba8(r, g, b, (opacity.clamp(0.0, 1.0) * 255.0).round() as u8)
    }

    fn paint(&self, role: ColourRole, opacity: f64) -> tiny_skia::Paint<'static> {
        let mut paint = tiny_skia::Paint::default();
        paint.set_color(self.colour(role, opacity));
        paint.anti_alias = true;
        paint
    }

    fn shape(&mut self, path: &Path, how: &Paint) {
        let scale = Transform::from_scale(SCALE, SCALE);
        if let Some(role) = how.fill {
            let paint = self.paint(role, how.opacity);
            self.pixmap
                .fill_path(path, &paint, FillRule::Winding, scale, None);
        }
        if let Some(stroke) = how.stroke {
            let paint = self.paint(stroke.role, how.opacity);
            let stroke = tiny_skia::Stroke {
                width: stroke.width as f32,
                line_join: LineJoin::Round,
                dash: StrokeDash::new(stroke.dash.lengths().to_vec(), 0.0),
                ..tiny_skia::Stroke::default()
            };
            self.pixmap.stroke_path(path, &paint, &stroke, scale, None);
        }
    }

    fn label(&mut self, label: &Label) {
        let (path, width) = font::outline(&label.text, label.size as f32);
        let Some(path) = path else { return };
        let back = match label.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => width / 2.0,
            Anchor::End => width,
        };
        let turn = if label.upwards { -90.0 } else { 0.0 };
        let place = Transform::from_translate(-back, 0.0)
            .post_rotate(turn)
            .post_translate(label.at.0 as f32, label.at.1 as f32)
            .post_scale(SCALE, SCALE);
        let paint = self.paint(label.role, 1.0);
        self.pixmap
            .fill_path(&path, &paint, FillRule::Winding, place, None);
    }
}

/// A path; `None` for shapes without extent.
fn outline(outline: &Outline) -> Option<Path> {
    let line = |points: &[(f64, f64)], closed: bool| {
        let mut path = PathBuilder::new();
        let (first, rest) = points.split_first()?;
        path.move_to(first.0 as f32, first.1 as f32);
        for (x, y) in rest {
            path.line_to(*x as f32, *y as f32);
        }
        if closed {
            path.close();
        }
        path.finish()
    };
    match outline {
        Outline::Line(points) => line(points, false),
        Outline::Polygon(points) => line(points, true),
        Outline::Rect { x, y, width, height } => {
            Rect::from_xywh(*x as f32, *y as f32, *width as f32, *height as f32).map(PathBuilder::from_rect)
        }
        Outline::Circle {
            centre: (x, y),
            radius,
        } => PathBuilder::from_circle(*x as f32, *y as f32, *radius as f32),
    }
}
