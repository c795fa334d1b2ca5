//! Plots as SVG: lines over a linear or logarithmic axis, and bars. Small enough to be read as text.

use std::fmt::{self, Write};

use super::markdown::number;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
/// Room for labels.
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 28.0;
const RIGHT: f64 = 120.0;
/// Told apart by most who see colours differently (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333",
];

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero, evenly.
    Linear,
    /// By decades.
    Log,
    /// A quantile by the distance to 1: each nine takes the same room.
    Nines,
}

/// Points of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// For the legend; its colour follows from the place among the lines.
    pub name: String,
    /// In order.
    pub points: Vec<[f64; 2]>,
}

/// Lines in a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Above.
    pub title: String,
    /// Names of the axes with units.
    pub axes: [String; 2],
    /// How they run.
    pub scales: [Scale; 2],
    /// What is drawn.
    pub lines: Vec<Line>,
}

impl Plot {
    /// An `<svg>` element; nothing if there is nothing to draw.
    pub fn svg(&self) -> String {
        let mut out = String::new();
        if self.lines.iter().any(|line| !line.points.is_empty()) {
            // Writing to a String cannot fail.
            let _ = self.write(&mut out);
        }
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let [x, y] = [0, 1].map(|axis| {
            let points = self.lines.iter().flat_map(|line| &line.points);
            Axis::over(self.scales[axis], points.map(|point| point[axis]))
        });
        let across = |value: f64| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
        let up = |value: f64| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - BOTTOM - TOP);
        open(out, &self.title, &self.axes)?;
        for (value, label) in &x.ticks {
            let at = across(*value);
            tick(out, [at, TOP], [at, HEIGHT - BOTTOM])?;
            text(out, [at, HEIGHT - BOTTOM + 14.0], "middle", label)?;
        }
        for (value, label) in &y.ticks {
            let at = up(*value);
            tick(out, [LEFT, at], [WIDTH - RIGHT, at])?;
            text(out, [LEFT - 4.0, at + 4.0], "end", label)?;
        }
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points: Vec<String> = line
                .points
                .iter()
                .map(|[x, y]| format!("{:.1},{:.1}", across(*x), up(*y)))
                .collect();
            writeln!(
                out,
                r#"<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{}"/>"#,
                points.join(" ")
            )?;
            legend(out, index, &line.name)?;
        }
        writeln!(out, "</svg>")
    }
}

/// A bar for each name.
pub fn bars(title: &str, axis: &str, values: &[(String, f64)]) -> String {
    let mut out = String::new();
    if !values.is_empty() {
        // Writing to a String cannot fail.
        let _ = write_bars(&mut out, title, axis, values);
    }
    out
}

fn write_bars(out: &mut String, title: &str, name: &str, values: &[(String, f64)]) -> fmt::Result {
    let axis = Axis::over(Scale::Linear, values.iter().map(|(_, value)| *value));
    let up = |value: f64| HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - BOTTOM - TOP);
    open(out, title, &[String::new(), name.to_owned()])?;
    for (value, label) in &axis.ticks {
        tick(out, [LEFT, up(*value)], [WIDTH - RIGHT, up(*value)])?;
        text(out, [LEFT - 4.0, up(*value) + 4.0], "end", label)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of bars")]
    let step = (WIDTH - LEFT - RIGHT) / values.len() as f64;
    let mut left = LEFT;
    for (index, (name, value)) in values.iter().enumerate() {
        let (colour, top) = (COLOURS[index % COLOURS.len()], up(*value));
        writeln!(
            out,
            r#"<rect x="{:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
            left + step * 0.2,
            step * 0.6,
            HEIGHT - BOTTOM - top
        )?;
        text(
            out,
            [left + step / 2.0, top - 4.0],
            "middle",
            &number(*value),
        )?;
        legend(out, index, name)?;
        left += step;
    }
    writeln!(out, "</svg>")
}

/// The values that an axis spans, after its scale, and its labels.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Axis {
        let scaled: Vec<f64> = values.map(|value| scaled(scale, value)).collect();
        let most = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let least = scaled.iter().copied().fold(f64::INFINITY, f64::min);
        let (from, to) = match scale {
            Scale::Linear => (0.0, if most > 0.0 { most * 1.08 } else { 1.0 }),
            Scale::Log => (least.floor(), (least.floor() + 1.0).max(whole(most))),
            Scale::Nines => (0.0, whole(most).max(1.0)),
        };
        Axis {
            scale,
            from,
            to,
            ticks: ticks(scale, from, to),
        }
    }

    /// From 0 to 1 along the axis.
    fn place(&self, value: f64) -> f64 {
        (scaled(self.scale, value) - self.from) / (self.to - self.from)
    }
}

/// Rounded up, but not for what a logarithm is beside a whole number.
fn whole(decades: f64) -> f64 {
    (decades - 1e-6).ceil()
}

fn scaled(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        Scale::Log => value.max(1e-3).log10(),
        Scale::Nines => -(1.0 - value).max(1e-9).log10(),
    }
}

fn ticks(scale: Scale, from: f64, to: f64) -> Vec<(f64, String)> {
    let whole = (0..40)
        .map(|step| from + f64::from(step))
        .take_while(|at| *at <= to);
    match scale {
        Scale::Linear => {
            let step = step(to);
            let places = (0..20).map(|count| step * f64::from(count));
            places
                .take_while(|at| *at <= to)
                .map(|at| (at, number(at)))
                .collect()
        }
        Scale::Log => whole
            .map(|decade| 10_f64.powf(decade))
            .map(|value| {
                (
                    value,
                    if value < 1.0 {
                        number(value)
                    } else {
                        format!("{value:.0}")
                    },
                )
            })
            .collect(),
        Scale::Nines => whole
            .map(|nines| 1.0 - 10_f64.powf(-nines))
            .map(|quantile| (quantile, percentile(quantile)))
            .collect(),
    }
}

/// 1, 2 or 5 times a power of ten, four to nine of which reach `to`.
fn step(to: f64) -> f64 {
    let rough = to / 5.0;
    let decade = 10_f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|times| times * decade >= rough);
    times.unwrap_or(10.0) * decade
}

fn percentile(quantile: f64) -> String {
    let text = format!("{:.5}", quantile * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn open(out: &mut String, title: &str, axes: &[String; 2]) -> fmt::Result {
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">"#
    )?;
    writeln!(out, "<title>{}</title>", escaped(title))?;
    text(out, [LEFT, 14.0], "start", title)?;
    text(
        out,
        [(LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0],
        "middle",
        &axes[0],
    )?;
    text(out, [4.0, 25.0], "start", &axes[1])
}

fn tick(out: &mut String, from: [f64; 2], to: [f64; 2]) -> fmt::Result {
    writeln!(
        out,
        r##"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="#ddd"/>"##,
        from[0], from[1], to[0], to[1]
    )
}

fn text(out: &mut String, at: [f64; 2], anchor: &str, text: &str) -> fmt::Result {
    writeln!(
        out,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}">{}</text>"#,
        at[0],
        at[1],
        escaped(text)
    )
}

fn legend(out: &mut String, index: usize, name: &str) -> fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "a handful of lines")]
    let at = TOP + 16.0 * index as f64;
    let colour = COLOURS[index % COLOURS.len()];
    writeln!(
        out,
        r#"<rect x="{:.1}" y="{at:.1}" width="10" height="10" fill="{colour}"/>"#,
        WIDTH - RIGHT + 10.0
    )?;
    text(out, [WIDTH - RIGHT + 24.0, at + 9.0], "start", name)
}

/// What may stand in XML between tags and in quotes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scales: [Scale; 2], points: &[[f64; 2]]) -> Plot {
        Plot {
            title: "a < b".to_owned(),
            axes: ["x".to_owned(), "y".to_owned()],
            scales,
            lines: vec![Line {
                name: "one & only".to_owned(),
                points: points.to_vec(),
            }],
        }
    }

    #[test]
    fn a_line_ends_in_the_frame() {
        let svg = plot([Scale::Linear, Scale::Log], &[[0.0, 10.0], [4.0, 1000.0]]).svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let line = document
            .descendants()
            .find(|node| node.has_tag_name("polyline"));
        let points = line.unwrap().attribute("points").unwrap();
        assert_eq!(points, "64.0,260.0 412.1,28.0");
    }

    #[test]
    fn each_nine_takes_the_same_room() {
        let axis = Axis::over(Scale::Nines, [0.0, 0.9999].into_iter());
        let places = [0.9, 0.99, 0.999].map(|quantile| axis.place(quantile));
        for (place, expected) in places.into_iter().zip([0.25, 0.5, 0.75]) {
            assert!((place - expected).abs() < 1e-9, "{place}");
        }
        let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["p0", "p90", "p99", "p99.9", "p99.99"]);
    }

    #[test]
    fn steps_are_round() {
        let steps = [0.7, 9.0, 43.0, 1100.0].map(step);
        for (step, expected) in steps.into_iter().zip([0.2, 2.0, 10.0, 500.0]) {
            assert!((step - expected).abs() < 1e-9, "{step} {expected}");
        }
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(plot([Scale::Linear; 2], &[]).svg(), "");
        assert_eq!(bars("t", "y", &[]), "");
    }

    #[test]
    fn every_bar_is_as_high_as_its_value() {
        let svg = bars("t", "s", &[("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let heights: Vec<f64> = document
            .descendants()
            .filter(|node| node.has_tag_name("rect") && node.attribute("width") != Some("10"))
            .map(|node| node.attribute("height").unwrap().parse().unwrap())
            .collect();
        assert!((heights[1] / heights[0] - 2.0).abs() < 0.01, "{heights:?}");
    }
}
