//! The report: what was measured, as a table or as JSON lines.

use serde::Serialize;

/// Prints results as they come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    json: bool,
}

/// One row.
#[derive(Debug, Serialize)]
struct Row<'a> {
    suite: &'a str,
    work: &'a str,
    median: f64,
    min: f64,
    max: f64,
    unit: &'a str,
    goal: &'a str,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        if !json {
            println!("{:<58} {:>12} {:>12} {:>12}  {:<12} goal", "work", "median", "min", "max", "unit");
        }
        Self { json }
    }

    /// Prints the median and the range of `figures`.
    pub(crate) fn row(&self, suite: &str, work: &str, figures: &[f64], unit: &str, goal: &str) {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else { return };
        let row = Row { suite, work, median: sorted[sorted.len() / 2], min: *min, max: *max, unit, goal };
        if self.json {
            println!("{}", serde_json::to_string(&row).unwrap_or_default());
        } else {
            println!(
                "{work:<58} {:>12.1} {:>12.1} {:>12.1}  {unit:<12} {goal}",
                row.median, row.min, row.max
            );
        }
    }
}
