//! The chart of a run: records a second above, records that wait below, over time, with what happened.

use std::fmt::Write as _;

use crate::report::Run;
use crate::support::svg;

const LEFT: f64 = 70.0;
const RIGHT: f64 = 940.0;
/// From top to bottom, of either part.
const RATE: (f64, f64) = (80.0, 290.0);
const LAG: (f64, f64) = (330.0, 460.0);

/// As SVG.
pub fn chart(run: &Run) -> String {
    let mut svg = svg::page(980.0, 500.0);
    let end = run.samples.last().map_or(1.0, |sample| sample.second);
    let x = |second: f64| LEFT + second / end * (RIGHT - LEFT);

    // Of the time between one look and the next.
    let rates: Vec<(f64, f64)> = run
        .samples
        .windows(2)
        .map(|pair| {
            let seconds = pair[1].second - pair[0].second;
            let second = f64::midpoint(pair[0].second, pair[1].second);
            (second, (pair[1].results - pair[0].results) as f64 / seconds)
        })
        .collect();
    let lags: Vec<(f64, f64)> = run
        .samples
        .iter()
        .map(|sample| (sample.second, sample.lag.max(0) as f64))
        .collect();
    part(&mut svg, "results a second", RATE, &rates, x);
    part(&mut svg, "records that wait", LAG, &lags, x);
    // Numbers, whose meaning is in the table: words of neighbours would stand on each other.
    let (mut before, mut row) = (f64::NEG_INFINITY, 0.0);
    for (number, event) in (1..).zip(&run.events) {
        let at = x(event.second);
        row = if at - before < 18.0 { row + 13.0 } else { 0.0 };
        before = at;
        svg::event(&mut svg, at, (RATE.0 - 8.0, LAG.1));
        writeln!(
            svg,
            "<text x='{at:.1}' y='{:.0}' fill='#c60' text-anchor='middle'>{number}</text>",
            RATE.0 - 12.0 - row
        )
        .unwrap();
    }
    writeln!(
        svg,
        "<text x='{LEFT}' y='{0:.0}'>0 s</text><text x='{RIGHT}' y='{0:.0}' text-anchor='end'>{end:.0} s</text>\n</svg>",
        LAG.1 + 20.0
    )
    .unwrap();
    svg
}

fn part(
    svg: &mut String,
    title: &str,
    (top, bottom): (f64, f64),
    points: &[(f64, f64)],
    x: impl Fn(f64) -> f64,
) {
    let most = points.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    for quarter in 0..=2 {
        let share = f64::from(quarter) / 2.0;
        let y = bottom - share * (bottom - top);
        svg::rule(svg, (LEFT, RIGHT), y, &format!("{:.0}", share * most));
    }
    let line = points
        .iter()
        .map(|(second, value)| (x(*second), bottom - value / most * (bottom - top)));
    svg::line(svg, line, 1.5);
    writeln!(
        svg,
        "<text x='{RIGHT}' y='{:.0}' text-anchor='end' fill='#06c'>{title}</text>",
        top - 4.0
    )
    .unwrap();
}
