//! An SVG document as pixels, with a font that comes along.

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree},
};

use crate::ToolError;

/// Pixels of the PNG to one of the SVG, for letters that are sharp on any screen.
const SCALE: u32 = 2;
/// The most pixels of a picture: 256 MiB while it is drawn.
const MOST_PIXELS: u64 = 1 << 26;

/// `assets/README.md` says where it comes from.
static FONT: &[u8] = include_bytes!("../../assets/inter-latin.otf");

/// Checks that a picture of this size can be drawn.
pub(super) fn check(size: [u32; 2]) -> Result<(), ToolError> {
    let [width, height] = size.map(|len| u64::from(len) * u64::from(SCALE));
    if width.saturating_mul(height) <= MOST_PIXELS {
        return Ok(());
    }
    Err(ToolError::PictureSize {
        width,
        height,
        most: MOST_PIXELS,
    })
}

/// Draws a document of this size.
pub(super) fn render(svg: &str, size: [u32; 2]) -> Result<Vec<u8>, ToolError> {
    check(size)?;
    let failed = |reason: String| ToolError::Picture { reason };
    let mut options = Options {
        font_family: "Inter".to_owned(),
        ..Options::default()
    };
    options.fontdb_mut().load_font_data(FONT.to_vec());
    let tree = Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let [width, height] = size.map(|len| len * SCALE);
    let mut pixels =
        Pixmap::new(width, height).ok_or_else(|| failed(format!("{width} × {height} pixels")))?;
    let scale = SCALE as f32;
    resvg::render(
        &tree,
        Transform::from_scale(scale, scale),
        &mut pixels.as_mut(),
    );
    pixels
        .encode_png()
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(svg: &str) -> Pixmap {
        let document = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"40\" height=\"20\">{svg}</svg>"
        );
        Pixmap::decode_png(&render(&document, [40, 20]).unwrap()).unwrap()
    }

    #[test]
    fn the_picture_has_twice_the_size_and_the_colours_of_the_document() {
        let picture = pixels("<rect x=\"10\" width=\"30\" height=\"20\" fill=\"#171b49\"/>");
        assert_eq!((picture.width(), picture.height()), (80, 40));
        let at = |x, y| {
            let colour = picture.pixel(x, y).unwrap().demultiply();
            [colour.red(), colour.green(), colour.blue(), colour.alpha()]
        };
        assert_eq!(at(21, 10), [0x17, 0x1b, 0x49, 255]);
        assert_eq!(at(5, 10)[3], 0);
    }

    #[test]
    fn letters_are_drawn_whatever_fonts_the_machine_has() {
        let inked = |text: &str| {
            let picture = pixels(&format!(
                "<text x=\"2\" y=\"15\" font-family=\"Inter, sans-serif\" font-size=\"12\">{text}</text>"
            ));
            picture
                .pixels()
                .iter()
                .filter(|pixel| pixel.alpha() > 128)
                .count()
        };
        assert_eq!(inked(" "), 0);
        let [one, three] = ["l", "lll"].map(inked);
        assert!(one > 10 && three > 2 * one, "{one}, {three}");
        assert!(
            inked("東") > 0,
            "a letter that the font lacks shows as a box"
        );
    }
}
