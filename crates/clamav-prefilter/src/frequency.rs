//! How often a text stands in log lines: what it costs to look for it.
//!
//! Three bytes at a time say enough: `http://` is common because `htt`, `ttp`, `tp:`, `p:/` and `://` follow each other nearly
//! always. Wrong numbers make the prefilter slow, never wrong.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use super::text;

/// The length, in bytes of normalised text, of the message that costs are told for.
const MESSAGE_BYTES: f32 = 300.0;

/// So much of what follows two bytes is taken to be unknown, in occurrences.
const UNKNOWN: f32 = 2.0;

/// Counts of three bytes in a row, in normalised log text.
///
/// The built-in one was counted in some 150,000 lines of 23 kinds of logs: system, web, cloud and audit logs.
#[derive(Clone, Debug, Default)]
pub struct TextModel {
    threes: HashMap<[u8; 3], u32>,
    twos: HashMap<[u8; 2], u32>,
    ones: HashMap<u8, u32>,
    total: u32,
}

impl TextModel {
    /// The one that this crate ships.
    pub fn built_in() -> &'static TextModel {
        static BUILT_IN: LazyLock<TextModel> =
            LazyLock::new(|| TextModel::parse(include_str!("frequency.txt")).unwrap_or_default());
        &BUILT_IN
    }

    /// Counts what stands in messages; each weighs as much as it is long.
    pub fn count<'m>(messages: impl IntoIterator<Item = &'m [u8]>) -> TextModel {
        let mut model = TextModel::default();
        for message in messages {
            model.add_message(message);
        }
        model
    }

    /// Counts one message more.
    pub fn add_message(&mut self, message: &[u8]) {
        let mut normal = Vec::with_capacity(message.len());
        text::normalise(message, &mut normal);
        for three in threes(&normal) {
            self.add(three, 1);
        }
    }

    /// As [`TextModel::write`] wrote it.
    ///
    /// # Errors
    /// The number of the first line that is no count.
    pub fn parse(text: &str) -> Result<TextModel, usize> {
        let mut model = TextModel::default();
        for (line, number) in text.lines().zip(1_usize..) {
            let count = |line: &str| -> Option<([u8; 3], u32)> {
                let (three, count) = line.as_bytes().split_first_chunk::<3>()?;
                let count = std::str::from_utf8(count).ok()?.strip_prefix(' ')?;
                Some((*three, count.parse().ok()?))
            };
            let (three, count) = count(line).ok_or(number)?;
            model.add(three, count);
        }
        Ok(model)
    }

    /// As text: three bytes, a space and a count on each line. What is rarer than five in a million is left out.
    pub fn write(&self) -> String {
        let mut threes: Vec<_> = self.threes.iter().collect();
        threes.sort();
        // Counts in four million bytes, so that tables of any origin look alike.
        let scale = 4e6 / f64::from(self.total.max(1));
        let mut text = String::new();
        for (three, count) in threes {
            let count = (f64::from(*count) * scale) as u32;
            if count >= 20
                && let Ok(three) = std::str::from_utf8(three)
            {
                writeln!(text, "{three} {count}").unwrap_or_default();
            }
        }
        text
    }

    fn add(&mut self, three: [u8; 3], count: u32) {
        let [a, b, _] = three;
        let sum = |to: &mut u32| *to = to.saturating_add(count);
        sum(self.threes.entry(three).or_default());
        sum(self.twos.entry([a, b]).or_default());
        sum(self.ones.entry(a).or_default());
        sum(&mut self.total);
    }

    /// How often the text is expected in a message of 300 bytes.
    pub(crate) fn expected(&self, literal: &[u8]) -> f32 {
        let of = |count: Option<&u32>| count.copied().unwrap_or(0) as f32;
        let total = (self.total as f32).max(1.0);
        let one = |byte: u8| (of(self.ones.get(&byte)) + 1.0) / (total + 96.0);
        let first = match *literal {
            [] => return f32::INFINITY,
            [a] => one(a),
            [a, b, ..] => (of(self.twos.get(&[a, b])) + UNKNOWN * one(b)) / (total + UNKNOWN),
        };
        let rest = threes(literal).map(|three| {
            let [a, b, c] = three;
            (of(self.threes.get(&three)) + UNKNOWN * one(c))
                / (of(self.twos.get(&[a, b])) + UNKNOWN)
        });
        MESSAGE_BYTES * first * rest.product::<f32>()
    }
}

/// Any three bytes in a row.
fn threes(text: &[u8]) -> impl Iterator<Item = [u8; 3]> {
    text.windows(3).filter_map(|three| three.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_words_of_logs_cost_more_than_rare_ones() {
        let model = TextModel::built_in();
        let cost = |text: &str| model.expected(text.as_bytes());
        assert!(
            cost("http://") > 30.0 * cost("wget"),
            "{} {}",
            cost("http://"),
            cost("wget")
        );
        assert!(cost("error") > 100.0 * cost("xqzjk"));
        assert!(cost(" ") > 10.0 && cost("e") > 5.0);
        assert!(cost("evil-payload") < 1e-6);
        assert!(cost("").is_infinite());
    }

    #[test]
    fn a_longer_text_never_costs_more() {
        let model = TextModel::built_in();
        for text in [
            "http://www.example.com/index.php?id=1",
            "zzzzzzzz",
            "\x7f\x7f~~",
        ] {
            let mut last = f32::INFINITY;
            for end in 1..=text.len() {
                let cost = model.expected(&text.as_bytes()[..end]);
                assert!(
                    cost <= last * 1.001 && cost > 0.0,
                    "{}: {cost}",
                    &text[..end]
                );
                last = cost;
            }
        }
    }

    #[test]
    fn counts_of_the_user_s_own_lines_can_be_written_and_read() {
        let lines: [&[u8]; 2] = [b"Widget 7 Frobnicated", b"widget 8  frobnicated\n"];
        let model = TextModel::count(lines);
        let read = TextModel::parse(&model.write()).unwrap();
        for model in [&model, &read] {
            assert!(model.expected(b"frobnicated") > 1e3 * model.expected(b"http://"));
        }
        assert_eq!(TextModel::parse("abc 5\nabc\n").unwrap_err(), 2);
        assert_eq!(TextModel::parse("abc five\n").unwrap_err(), 1);
    }
}
