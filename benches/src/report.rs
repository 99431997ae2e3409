//! The report: what was measured, beside the peers of the same run, as a table or as JSON lines.

use serde::Serialize;
use std::cell::{Cell, RefCell};

/// Whether more of a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// Rates.
    Higher,
    /// Times and memory.
    Lower,
}

/// What a figure of Synod has to come to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Nothing was promised.
    None,
    /// The figure itself.
    AtLeast(f64),
    /// The figure itself.
    AtMost(f64),
    /// So many times as good as the best peer of the same run.
    OfBestPeer(f64),
}

/// What one system came to, run by run.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) system: &'static str,
    pub(crate) figures: Vec<f64>,
}

/// One piece of work, done by Synod and by its peers in turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work<'a> {
    pub(crate) suite: &'static str,
    pub(crate) name: &'a str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) goal: Goal,
}

/// One line: one system at one piece of work.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) suite: &'static str,
    pub(crate) work: String,
    pub(crate) system: &'static str,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// Above 1 Synod is better; only in its own lines, and only where there is a peer. The median of the ratios pair by pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_to_best_peer: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) met: Option<bool>,
}

/// Takes results as they come, and prints them.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    worst: Cell<Option<f64>>,
    rows: RefCell<Vec<Row>>,
}

/// The name under which our own figures stand.
pub(crate) const SYNOD: &str = "synod";

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        if !json {
            println!(
                "{:<58} {:<12} {:>12} {:>12} {:>12}  {:<12} {:>8}  goal",
                "work", "system", "median", "min", "max", "unit", "ratio"
            );
        }
        Self { json, worst: Cell::new(None), rows: RefCell::default() }
    }

    /// Figures of Synod that stand beside no peer's, and of which more is better.
    pub(crate) fn rate(
        &self,
        suite: &'static str,
        name: &str,
        figures: &[f64],
        unit: &'static str,
        goal: Goal,
    ) {
        self.alone(Work { suite, name, unit, better: Better::Higher, goal }, figures);
    }

    /// The same, of which less is better.
    pub(crate) fn cost(
        &self,
        suite: &'static str,
        name: &str,
        figures: &[f64],
        unit: &'static str,
        goal: Goal,
    ) {
        self.alone(Work { suite, name, unit, better: Better::Lower, goal }, figures);
    }

    fn alone(&self, work: Work<'_>, figures: &[f64]) {
        self.compare(work, &[Series { system: SYNOD, figures: figures.to_vec() }]);
    }

    /// The figures of Synod, which come first, and of its peers: one line each.
    pub(crate) fn compare(&self, work: Work<'_>, series: &[Series]) {
        let Some((ours, peers)) = series.split_first() else { return };
        let ratio = peers.iter().filter_map(|peer| pairwise(work.better, ours, peer)).min_by(f64::total_cmp);
        for one in series {
            let mut sorted = one.figures.clone();
            sorted.sort_by(f64::total_cmp);
            let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else { continue };
            let median = sorted[sorted.len() / 2];
            let is_ours = std::ptr::eq(one, ours);
            let goal = if is_ours { work.goal } else { Goal::None };
            let met = goal.is_met(median, ratio);
            if is_ours && met.is_some() {
                let ratios = self.worst.get().into_iter().chain(ratio);
                self.worst.set(ratios.min_by(f64::total_cmp));
            }
            self.print(Row {
                suite: work.suite,
                work: work.name.to_owned(),
                system: one.system,
                median,
                min: *min,
                max: *max,
                unit: work.unit,
                better: work.better,
                ratio_to_best_peer: ratio.filter(|_| is_ours),
                goal: goal.text(),
                met,
            });
        }
    }

    fn print(&self, row: Row) {
        if self.json {
            println!("{}", serde_json::to_string(&row).unwrap_or_default());
        } else {
            let ratio = row.ratio_to_best_peer.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let goal = row.goal.clone().unwrap_or_default();
            let met = row.met.map_or("", |met| if met { ": met" } else { ": MISSED" });
            let Row { work, system, median, min, max, unit, .. } = &row;
            println!(
                "{work:<58} {system:<12} {median:>12.1} {min:>12.1} {max:>12.1}  {unit:<12} {ratio:>8}  {goal}{met}"
            );
        }
        self.rows.borrow_mut().push(row);
    }

    /// What stands under a table: how it came about, and what differs between the systems.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    /// Ends a suite with the worst of the ratios that a goal was set for.
    pub(crate) fn end(&self, suite: &str) {
        if self.json {
            println!("{}", serde_json::json!({ "suite": suite, "worst_ratio": self.worst.get() }));
        } else if let Some(worst) = self.worst.get() {
            println!("the worst ratio to a peer, of those with a goal: {worst:.2}");
        }
    }

    /// All that was printed.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.rows.borrow().clone()
    }
}

impl Goal {
    fn is_met(self, median: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtLeast(least) => Some(median >= least),
            Self::AtMost(most) => Some(median <= most),
            Self::OfBestPeer(times) => ratio.map(|ratio| ratio >= times),
        }
    }

    fn text(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::AtLeast(least) => Some(format!("at least {least}")),
            Self::AtMost(most) => Some(format!("at most {most}")),
            Self::OfBestPeer(times) => Some(format!("at least {times} times the best peer")),
        }
    }
}

/// The median of what the runs of a pair come to against each other: above 1 where ours is better.
fn pairwise(better: Better, ours: &Series, peer: &Series) -> Option<f64> {
    let ratios = ours.figures.iter().zip(&peer.figures).map(|(ours, theirs)| match better {
        Better::Higher => ours / theirs,
        Better::Lower => theirs / ours,
    });
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}

/// A system that does a piece of work once and says what it came to.
pub(crate) struct Contender<'a> {
    pub(crate) system: &'static str,
    pub(crate) run: Box<dyn FnMut() -> Result<f64, Box<dyn std::error::Error>> + 'a>,
}

/// Lets all contenders run in turn (A B A B …), `runs` times each.
pub(crate) fn in_turn(
    runs: usize,
    mut contenders: Vec<Contender<'_>>,
) -> Result<Vec<Series>, Box<dyn std::error::Error>> {
    let mut series: Vec<Series> =
        contenders.iter().map(|one| Series { system: one.system, figures: Vec::new() }).collect();
    for _ in 0..runs {
        for (contender, series) in contenders.iter_mut().zip(&mut series) {
            series.figures.push((contender.run)()?);
        }
    }
    Ok(series)
}
