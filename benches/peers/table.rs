//! What was measured, as a table and as a chart.

use std::fmt::Write as _;

/// One contender's result.
pub struct Row {
    pub name: String,
    /// Threads or connections.
    pub threads: usize,
    /// Messages in one round.
    pub messages: usize,
    /// Seconds for a message, in each round.
    pub rounds: Vec<f64>,
    /// What was found in one round.
    pub found: usize,
}

impl Row {
    /// The middle round, in seconds for a message.
    pub fn seconds(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }

    fn spread(&self) -> (f64, f64) {
        let (least, most) = (f64::min, f64::max);
        let all = self.rounds.iter().copied();
        (all.clone().fold(f64::MAX, least), all.fold(0.0, most))
    }
}

/// Ratios are to the rows of these names, if they are there.
pub fn markdown(rows: &[Row], references: &[&str]) -> String {
    let known: Vec<&Row> = references
        .iter()
        .filter_map(|name| rows.iter().find(|row| row.name == *name))
        .collect();
    let mut text =
        String::from("| | threads | messages | µs a message (least–most) | messages/s | found |");
    for reference in &known {
        write!(text, " × {} |", reference.name).expect("memory");
    }
    text += "\n|---|---:|---:|---:|---:|---:|";
    text += &"---:|".repeat(known.len());
    text.push('\n');
    for row in rows {
        let (least, most) = row.spread();
        let middle = row.seconds();
        write!(
            text,
            "| {} | {} | {} | {:.2} ({:.2}–{:.2}) | {:.0} | {} |",
            row.name,
            row.threads,
            row.messages,
            middle * 1e6,
            least * 1e6,
            most * 1e6,
            1.0 / middle,
            row.found
        )
        .expect("memory");
        for reference in &known {
            write!(text, " {:.1} |", reference.seconds() / middle).expect("memory");
        }
        text.push('\n');
    }
    text
}

/// Messages a second, each power of ten as wide as the next.
pub fn chart(rows: &[Row], title: &str) -> String {
    const LEFT: f64 = 330.0;
    const WIDTH: f64 = 420.0;
    const LINE: f64 = 26.0;
    let speed = |row: &Row| 1.0 / row.seconds();
    let top = rows.iter().map(speed).fold(1.0, f64::max).log10().ceil();
    let bottom = rows
        .iter()
        .map(speed)
        .fold(f64::MAX, f64::min)
        .log10()
        .floor();
    let x = |value: f64| LEFT + (value.log10() - bottom) / (top - bottom) * WIDTH;
    let height = LINE * rows.len() as f64 + 70.0;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 860 {height}' font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n<text x='10' y='20' font-size='14'>{title}</text>\n"
    );
    let mut power = bottom;
    while power <= top {
        let at = x(10_f64.powf(power));
        writeln!(
            svg,
            "<path d='M{at:.0},34V{:.0}' stroke='#ddd'/><text x='{at:.0}' y='{:.0}' text-anchor='middle'>10^{power:.0}</text>",
            height - 28.0,
            height - 12.0
        )
        .expect("memory");
        power += 1.0;
    }
    for (number, row) in rows.iter().enumerate() {
        let y = 40.0 + LINE * number as f64;
        let end = x(speed(row));
        let colour = if row.name.starts_with("scanner") {
            "#06c"
        } else {
            "#999"
        };
        writeln!(
            svg,
            "<text x='{:.0}' y='{:.0}' text-anchor='end'>{}, {} thread{}</text><rect x='{LEFT}' y='{y:.0}' width='{:.0}' height='16' fill='{colour}'/><text x='{:.0}' y='{:.0}'>{:.0}</text>",
            LEFT - 8.0,
            y + 12.0,
            row.name,
            row.threads,
            if row.threads == 1 { "" } else { "s" },
            end - LEFT,
            end + 6.0,
            y + 12.0,
            speed(row)
        )
        .expect("memory");
    }
    svg + "</svg>\n"
}
