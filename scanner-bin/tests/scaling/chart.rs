//! The chart of a run: records a second beside the ideal line, and the records that wait, over time.

use std::fmt::Write as _;

use super::report::{LEAST_SPEEDUP, Run};
use super::support::svg;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 360.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 310.0;
/// From left to right.
const RATES: (f64, f64) = (70.0, 400.0);
const TIMES: (f64, f64) = (540.0, 880.0);

/// As SVG.
pub fn chart(run: &Run) -> String {
    let mut svg = svg::page(WIDTH, HEIGHT);
    rates(run, &mut svg);
    lag(run, &mut svg);
    if !run.void.is_empty() {
        svg +=
            "<text x='450' y='200' font-size='40' fill='#c00' text-anchor='middle'>VOID</text>\n";
    }
    svg + "</svg>\n"
}

/// A number of records, short.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.1} M", v / 1e6),
        v if v >= 1e4 => format!("{:.0} k", v / 1e3),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

/// A round number of which four are at least as much as this.
fn quarter(top: f64) -> f64 {
    let power = 10_f64.powf((top / 4.0).log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps.iter().find(|step| *step * power * 4.0 >= top);
    step.unwrap_or(&10.0) * power
}

/// Lines across at quarters of the highest value.
fn grid(svg: &mut String, span: (f64, f64), top: f64) {
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let y = BOTTOM - share * (BOTTOM - TOP);
        svg::rule(svg, span, y, &short(share * top));
    }
}

fn rates(run: &Run, svg: &mut String) {
    let (left, right) = RATES;
    let one = run.steps[0].per_second();
    let count = run.steps.len() as f64;
    let top = quarter(one * count * 1.02) * 4.0;
    let x = |replicas: f64| left + replicas / (count + 0.4) * (right - left);
    let y = |value: f64| BOTTOM - value / top * (BOTTOM - TOP);
    grid(svg, RATES, top);
    writeln!(
        svg,
        "<text x='{left}' y='24' font-size='14'>Records a second, by replicas</text>"
    )
    .unwrap();
    writeln!(
        svg,
        "<path d='M{:.1},{:.1}L{:.1},{:.1}' stroke='#999' stroke-dasharray='5,4'/><text x='{:.1}' y='{:.1}' fill='#666' \
         text-anchor='end'>ideal</text>",
        x(0.0),
        y(0.0),
        x(count),
        y(one * count),
        x(count) - 24.0,
        y(one * count) + 4.0
    )
    .unwrap();
    let points = run
        .steps
        .iter()
        .map(|step| (x(step.replicas as f64), y(step.per_second())));
    svg::line(svg, points, 2.0);
    for step in &run.steps {
        let (x, y) = (x(step.replicas as f64), y(step.per_second()));
        writeln!(
            svg,
            "<circle cx='{x:.1}' cy='{y:.1}' r='4' fill='#06c'/><text x='{:.1}' y='{:.1}'>{:.0}, × {:.2}</text>\
             <text x='{x:.1}' y='{:.0}' text-anchor='middle'>{}</text>",
            x + 9.0,
            y + 16.0,
            step.per_second(),
            run.speedup(step),
            BOTTOM + 18.0,
            step.replicas
        )
        .unwrap();
    }
    let quota = run.conditions.quota.map_or(String::new(), |share| {
        format!("each limited to {:.0} % of a core; ", share * 100.0)
    });
    writeln!(
        svg,
        "<text x='{left}' y='{:.0}' fill='#666'>{quota}wanted: × {LEAST_SPEEDUP} with 3</text>",
        BOTTOM + 38.0
    )
    .unwrap();
}

fn lag(run: &Run, svg: &mut String) {
    let (left, right) = TIMES;
    let end = run
        .samples
        .iter()
        .map(|sample| sample.second)
        .fold(1.0, f64::max);
    let top = run
        .samples
        .iter()
        .map(|sample| sample.lag as f64)
        .fold(1.0, f64::max);
    let top = quarter(top) * 4.0;
    let x = |second: f64| left + second / end * (right - left);
    let y = |value: f64| BOTTOM - value / top * (BOTTOM - TOP);
    grid(svg, TIMES, top);
    writeln!(
        svg,
        "<text x='{left}' y='24' font-size='14'>Records not committed yet, over time</text>"
    )
    .unwrap();
    let points = run
        .samples
        .iter()
        .map(|sample| (x(sample.second), y(sample.lag as f64)));
    svg::line(svg, points, 1.5);
    let mut before = 0;
    for sample in &run.samples {
        if sample.replicas != before {
            before = sample.replicas;
            let x = x(sample.second);
            svg::event(svg, x, (TOP, BOTTOM));
            writeln!(
                svg,
                "<text x='{:.1}' y='{:.0}' fill='#c60'>{before}</text>",
                x + 3.0,
                TOP - 4.0
            )
            .unwrap();
        }
    }
    writeln!(svg, "<text x='{left}' y='{:.0}'>0 s</text><text x='{right}' y='{:.0}' text-anchor='end'>{end:.0} s</text>", BOTTOM + 18.0, BOTTOM + 18.0).unwrap();
    writeln!(svg, "<text x='{left}' y='{:.0}' fill='#c60'>number of replicas from there on; at the end one is killed</text>", BOTTOM + 38.0).unwrap();
}
