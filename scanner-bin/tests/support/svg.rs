//! What the charts of all suites share.

use std::fmt::Write as _;

/// An empty white page of this size.
pub fn page(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n"
    )
}

/// A line through these points of the page.
pub fn line(svg: &mut String, points: impl Iterator<Item = (f64, f64)>, width: f64) {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    writeln!(
        svg,
        "<polyline fill='none' stroke='#06c' stroke-width='{width}' points='{}'/>",
        points.join(" ")
    )
    .unwrap();
}

/// A horizontal rule of a chart from `left` to `right`, with what it stands for.
pub fn rule(svg: &mut String, (left, right): (f64, f64), y: f64, label: &str) {
    writeln!(
        svg,
        "<path d='M{left},{y:.0}H{right}' stroke='#ddd'/><text x='{:.0}' y='{:.0}' text-anchor='end'>{label}</text>",
        left - 6.0,
        y + 4.0
    )
    .unwrap();
}

/// From the top to the bottom of a chart: something happened here.
pub fn event(svg: &mut String, x: f64, (top, bottom): (f64, f64)) {
    write!(
        svg,
        "<path d='M{x:.1},{top}V{bottom}' stroke='#c60' stroke-dasharray='2,3'/>"
    )
    .unwrap();
}
