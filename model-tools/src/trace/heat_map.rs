//! The picture: a row for each layer, a cell for each expert, darker where more tokens go.
//!
//! Colours stand for the square root of the share, since a few experts take so much that all
//! others would look alike otherwise; the legend says which colour is which share. Experts that
//! were never chosen are white. A browser shows the figures of the cell under the pointer.

use std::fmt::Write;

use super::{
    LayerRouting, RoutingSums,
    colours::{colour, hex},
    png,
};
use crate::ToolError;

/// Space around the cells, in pixels of the SVG.
const LEFT: u32 = 60;
const RIGHT: u32 = 24;
const TOP: u32 = 72;
const BOTTOM: u32 = 116;
/// Room for title and legend.
const LEAST_WIDTH: u32 = 760;
/// Letters of the title and of the line below that fit in a pixel, about.
const LETTERS_PER_PIXEL: [f64; 2] = [0.11, 0.16];
/// Length of the legend's bar.
const BAR: f64 = 360.0;
/// What numbers beside an axis need.
const LABEL_WIDTH: u32 = 26;
const LABEL_HEIGHT: u32 = 11;

/// Where cells lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    cell: [u32; 2],
    plot: [u32; 2],
    size: [u32; 2],
}

/// A heat map of what was chosen.
#[derive(Clone, Copy, Debug)]
pub struct HeatMap<'a> {
    /// What was counted, of at least one token.
    pub sums: &'a RoutingSums,
    /// The first line.
    pub title: &'a str,
    /// The second line.
    pub subtitle: &'a str,
}

impl Layout {
    fn of(n_layer: usize, n_expert: usize) -> Self {
        let cell = |room: u32, n: usize, [least, most]: [u32; 2]| {
            let n = u32::try_from(n.max(1)).unwrap_or(u32::MAX);
            (room / n).clamp(least, most)
        };
        let cell = [cell(1280, n_expert, [2, 36]), cell(768, n_layer, [4, 28])];
        let len = |n: usize, cell: u32| u32::try_from(n).unwrap_or(u32::MAX).saturating_mul(cell);
        let plot = [len(n_expert, cell[0]), len(n_layer, cell[1])];
        let width = plot[0].saturating_add(LEFT + RIGHT).max(LEAST_WIDTH);
        Self {
            cell,
            plot,
            size: [width, plot[1].saturating_add(TOP + BOTTOM)],
        }
    }
}

impl HeatMap<'_> {
    /// Checks that there can be a PNG of a model of so many layers and experts.
    ///
    /// # Errors
    /// [`ToolError::PictureSize`].
    pub fn check_png(n_layer: usize, n_expert: usize) -> Result<(), ToolError> {
        png::check(Layout::of(n_layer, n_expert).size)
    }

    /// Returns the picture as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let (sums, layout) = (
            self.sums,
            Layout::of(self.sums.n_layer(), self.sums.n_expert()),
        );
        let [width, height] = layout.size;
        let mut svg = String::new();
        let most = sums
            .layers()
            .flat_map(|layer| (0..sums.n_expert()).map(move |expert| layer.share(expert)))
            .fold(0.0, f64::max);
        let longest = LETTERS_PER_PIXEL.map(|letters| (f64::from(width - LEFT) * letters) as usize);
        let (title, subtitle) = (
            text(self.title, longest[0]),
            text(self.subtitle, longest[1]),
        );
        line(
            &mut svg,
            format_args!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" \
             font-family=\"Inter, Helvetica, Arial, sans-serif\" font-size=\"10\" fill=\"#333\">"
            ),
        );
        line(&mut svg, format_args!("<title>{title}</title>"));
        line(
            &mut svg,
            format_args!("<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>"),
        );
        line(
            &mut svg,
            format_args!(
                "<text x=\"{LEFT}\" y=\"30\" font-size=\"17\" fill=\"#111\">{title}</text>"
            ),
        );
        line(
            &mut svg,
            format_args!(
                "<text x=\"{LEFT}\" y=\"51\" font-size=\"12\" fill=\"#555\">{subtitle}</text>"
            ),
        );
        cells(&mut svg, sums, layout, most);
        axes(&mut svg, sums, layout);
        legend(&mut svg, sums, layout, most);
        svg.push_str("</svg>\n");
        svg
    }

    /// Returns the picture as a PNG of twice the size.
    ///
    /// # Errors
    /// [`ToolError::PictureSize`] if there are too many layers and experts.
    pub fn png(&self) -> Result<Vec<u8>, ToolError> {
        png::render(
            &self.svg(),
            Layout::of(self.sums.n_layer(), self.sums.n_expert()).size,
        )
    }
}

/// Appends a line. A string takes whatever is written to it.
fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = svg.write_fmt(text);
    svg.push('\n');
}

fn cells(svg: &mut String, sums: &RoutingSums, layout: Layout, most: f64) {
    let [width, height] = layout.cell;
    for (number, layer) in sums.layers().enumerate() {
        let y = TOP + number as u32 * height;
        line(
            svg,
            format_args!("<g transform=\"translate({LEFT},{y})\" shape-rendering=\"crispEdges\">"),
        );
        for expert in 0..sums.n_expert() {
            let (share, x) = (layer.share(expert), expert as u32 * width);
            let fill = match share {
                0.0 => "#fff".to_owned(),
                share => hex(colour((share / most).sqrt())),
            };
            let about = about(number, expert, &layer);
            line(
                svg,
                format_args!(
                    "<rect x=\"{x}\" width=\"{width}\" height=\"{height}\" \
                 fill=\"{fill}\"><title>{about}</title></rect>"
                ),
            );
        }
        svg.push_str("</g>\n");
    }
    let [width, height] = layout.plot;
    line(
        svg,
        format_args!(
            "<rect x=\"{}.5\" y=\"{}.5\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#999\"/>",
            LEFT - 1,
            TOP - 1,
            width + 1,
            height + 1
        ),
    );
}

/// The figures of a cell.
fn about(number: usize, expert: usize, layer: &LayerRouting<'_>) -> String {
    match layer.mean_weight(expert) {
        None => format!("layer {number}, expert {expert}: never chosen"),
        Some(weight) => format!(
            "layer {number}, expert {expert}: {} of tokens, mean weight {weight:.3}",
            percent(layer.share(expert))
        ),
    }
}

fn axes(svg: &mut String, sums: &RoutingSums, layout: Layout) {
    let [cell_width, cell_height] = layout.cell;
    let bottom = TOP + layout.plot[1];
    let step = step(cell_height, LABEL_HEIGHT);
    for layer in (0..sums.n_layer()).step_by(step) {
        let y = TOP + layer as u32 * cell_height + cell_height / 2;
        let (x, base) = (LEFT - 8, f64::from(y) + 3.5);
        line(
            svg,
            format_args!("<text x=\"{x}\" y=\"{base}\" text-anchor=\"end\">{layer}</text>"),
        );
    }
    let step = self::step(cell_width, LABEL_WIDTH);
    for expert in (0..sums.n_expert()).step_by(step) {
        let x = f64::from(LEFT + expert as u32 * cell_width) + f64::from(cell_width) / 2.0;
        line(
            svg,
            format_args!(
                "<path d=\"M{x} {}v5\" stroke=\"#999\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{expert}</text>",
                bottom + 1,
                bottom + 17
            ),
        );
    }
    let (x, y) = (LEFT + layout.plot[0] / 2, bottom + 34);
    line(
        svg,
        format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"12\" text-anchor=\"middle\">expert</text>"
        ),
    );
    let (x, y) = (20, TOP + layout.plot[1] / 2);
    line(
        svg,
        format_args!(
            "<text transform=\"translate({x},{y}) rotate(-90)\" font-size=\"12\" \
         text-anchor=\"middle\">layer</text>"
        ),
    );
}

/// Returns how many cells apart numbers stand that need so much room.
fn step(cell: u32, room: u32) -> usize {
    let mut step = 1;
    while u64::from(cell) * step < u64::from(room) {
        step *= 2;
    }
    step as usize
}

fn legend(svg: &mut String, sums: &RoutingSums, layout: Layout, most: f64) {
    let (x, y) = (f64::from(LEFT), TOP + layout.plot[1] + 74);
    line(
        svg,
        format_args!(
            "<text x=\"{x}\" y=\"{}\" font-size=\"12\">tokens that go to the expert</text>",
            y - 24
        ),
    );
    svg.push_str("<defs><linearGradient id=\"scale\">");
    for i in 0..=8 {
        let (t, offset) = (f64::from(i) / 8.0, f64::from(i) * 12.5);
        let colour = hex(colour(t));
        let _ = write!(svg, "<stop offset=\"{offset}%\" stop-color=\"{colour}\"/>");
    }
    line(svg, format_args!("</linearGradient></defs>"));
    line(
        svg,
        format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{BAR}\" height=\"12\" fill=\"url(#scale)\" \
         stroke=\"#999\"/>"
        ),
    );
    for (share, label) in ticks(most) {
        let x = x + BAR * (share / most).sqrt();
        line(
            svg,
            format_args!(
                "<path d=\"M{x:.1} {}v4\" stroke=\"#333\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                y + 12,
                y + 27
            ),
        );
    }
    let even = sums.n_expert_used() as f64 / sums.n_expert() as f64;
    let x_even = x + BAR * (even / most).sqrt();
    line(
        svg,
        format_args!(
            "<path d=\"M{x_even:.1} {}l-4 -6h8z\"/>\
         <text x=\"{x_even:.1}\" y=\"{}\" text-anchor=\"middle\">even: {}</text>",
            y - 1,
            y - 10,
            percent(even)
        ),
    );
    let x = x + BAR + 40.0;
    line(
        svg,
        format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"20\" height=\"12\" fill=\"#fff\" stroke=\"#999\"/>\
         <text x=\"{}\" y=\"{}\">never chosen</text>",
            x + 28.0,
            y + 10
        ),
    );
}

/// Returns the shares that the legend names: both ends, and round numbers between them as far
/// as there is room.
fn ticks(most: f64) -> Vec<(f64, String)> {
    const ROOM: f64 = 40.0;
    const ROUND: [f64; 9] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0];
    let at = |share: f64| BAR * (share / most).sqrt();
    let mut ticks = vec![(0.0, "0".to_owned())];
    let mut free = ROOM;
    for share in ROUND.map(|percent| percent / 100.0) {
        if at(share) >= free && at(share) <= BAR - ROOM {
            ticks.push((share, percent(share)));
            free = at(share) + ROOM;
        }
    }
    ticks.push((most, percent(most)));
    ticks
}

/// A share in percent with two digits, more where it is large.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let decimals = match percent {
        ..0.995 => 2,
        ..9.95 => 1,
        _ => 0,
    };
    let number = format!("{percent:.decimals$}");
    let short = match number.split_once('.') {
        Some(_) => number.trim_end_matches('0').trim_end_matches('.'),
        None => &number,
    };
    format!("{short} %")
}

/// Returns text for a document: cut to `longest` letters, without what XML forbids.
fn text(text: &str, longest: usize) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars().take(longest) {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    if text.chars().nth(longest).is_some() {
        safe.push('…');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::{super::testing::sums, *};

    fn svg_of(title: &str) -> String {
        let sums = sums(4, &[[[0, 1], [2, 3]], [[0, 2], [2, 1]]]);
        let map = HeatMap {
            sums: &sums,
            title,
            subtitle: "two tokens",
        };
        map.svg()
    }

    #[test]
    fn every_expert_of_every_layer_has_a_cell_that_says_its_figures() {
        let svg = svg_of("a model");
        assert_eq!(svg.matches("<title>layer ").count(), 2 * 4);
        for about in [
            "layer 0, expert 0: 100 % of tokens, mean weight 0.500",
            "layer 1, expert 1: 50 % of tokens, mean weight 0.500",
            "layer 0, expert 3: never chosen",
        ] {
            assert!(svg.contains(&format!("<title>{about}</title>")), "{about}");
        }
        assert!(svg.contains("even: 50 %"));
    }

    #[test]
    fn names_cannot_break_the_document() {
        let svg = svg_of("</text><script>&\u{1}\u{ffff}\"");
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;&amp;\u{fffd}\u{fffd}&quot;"));
        assert!(!svg.contains("<script"));
        let long = svg_of(&"x".repeat(1000));
        assert!(long.contains("x…</title>") && !long.contains(&"x".repeat(100)));
    }

    #[test]
    fn the_picture_fits_a_screen_at_the_shape_of_real_models() {
        for (n_layer, n_expert) in [(48, 128), (94, 128), (4, 16), (1, 1)] {
            let [width, height] = Layout::of(n_layer, n_expert).size;
            assert!(width <= 1400 && height <= 1000, "{width} × {height}");
        }
        assert_eq!(Layout::of(48, 128).cell, [10, 16]);
    }

    #[test]
    fn a_picture_that_no_memory_holds_is_refused() {
        assert!(HeatMap::check_png(48, 128).is_ok());
        for (n_layer, n_expert) in [(100_000, 100_000), (usize::MAX, 1), (1, usize::MAX)] {
            let error = HeatMap::check_png(n_layer, n_expert).unwrap_err();
            assert!(error.to_string().contains("pixels"), "{error}");
        }
    }

    #[test]
    fn percents_have_the_digits_that_matter() {
        let shown = [0.0625, 0.5, 1.0, 0.001, 0.0123, 0.342].map(percent);
        assert_eq!(shown, ["6.2 %", "50 %", "100 %", "0.1 %", "1.2 %", "34 %"]);
    }

    #[test]
    fn numbers_of_the_legend_keep_their_distance() {
        for most in [0.002, 0.07, 0.3, 0.61, 1.0] {
            let ticks = ticks(most);
            let at: Vec<f64> = ticks
                .iter()
                .map(|(share, _)| BAR * (share / most).sqrt())
                .collect();
            assert!(
                at.windows(2).all(|pair| pair[1] - pair[0] >= 40.0),
                "{at:?}"
            );
            assert_eq!((at[0], *at.last().unwrap()), (0.0, BAR));
        }
    }
}
