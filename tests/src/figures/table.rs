//! The figures of a run: medians, ratios to the baseline, and the bars they must clear.

use std::collections::HashMap;
use std::fmt;

use super::{Figure, Subject};

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Table {
    values: HashMap<(Figure, Subject), Vec<f64>>,
    pub(super) compared: Vec<Compared>,
}

/// This build beside another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compared {
    figure: Figure,
    subject: Subject,
    before: f64,
    after: f64,
    ratio: f64,
    /// Between these the median of very many turns would lie, 95 times of a hundred.
    interval: (f64, f64),
}

impl Compared {
    /// What both reached in each turn, the other build first; none without turns.
    pub(super) fn new(figure: Figure, subject: Subject, turns: Vec<(f64, f64)>) -> Option<Self> {
        let ratios = turns.iter().map(|(before, after)| after / before).collect();
        let (before, after) = turns.into_iter().unzip();
        Some(Self {
            figure,
            subject,
            before: median(before)?,
            after: median(after)?,
            ratio: median(Vec::clone(&ratios))?,
            interval: interval(ratios)?,
        })
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ratio: f64| format!("{:.1}", ratio * 100.0);
        write!(
            f,
            "| {:<32} | {:<15} | {:>9} | {:>9} | {:>6} % | {} to {} % |",
            self.figure.name(),
            self.subject.name(),
            self.figure.show(self.before),
            self.figure.show(self.after),
            percent(self.ratio),
            percent(self.interval.0),
            percent(self.interval.1),
        )
    }
}

/// The 95 % confidence interval of the median, by the ranks that a binomial distribution gives; none of
/// none.
fn interval(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let middle = last as f64 / 2.0;
    let half = 0.98 * (values.len() as f64).sqrt();
    let (low, high) = ((middle - half).floor().max(0.0), (middle + half).ceil());
    Some((
        values.get(low as usize).copied()?,
        values.get((high as usize).min(last)).copied()?,
    ))
}

/// The middle one; none of none.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((values.len() / 2).min(last)).copied()
}

impl Table {
    /// Adds one measurement; gives a line that says so.
    pub(super) fn add(&mut self, figure: Figure, subject: Subject, value: f64) -> String {
        self.values
            .entry((figure, subject))
            .or_default()
            .push(value);
        format!("  {}: {}", figure.name(), figure.show(value))
    }

    /// The median of one figure of one subject.
    #[must_use]
    pub fn median(&self, figure: Figure, subject: Subject) -> Option<f64> {
        median(self.values.get(&(figure, subject))?.clone())
    }

    fn ratio(&self, figure: Figure, subject: Subject) -> Option<f64> {
        let plain = self.median(figure, Subject::Plain)?;
        Some(self.median(figure, subject)? / plain)
    }

    /// What this build reaches of another one, in both forms; nothing if there was no other.
    #[must_use]
    pub fn against_base(&self) -> String {
        self.compared.iter().map(|it| format!("{it}\n")).collect()
    }

    /// Whether the figure clears its bar; none if it has none or was not measured.
    #[must_use]
    pub fn clears(&self, figure: Figure) -> Option<bool> {
        let bar = figure.bar()?;
        let both = [Subject::Serve, Subject::Apart];
        match bar {
            Bar::RatioAtLeast(least) => Some(self.ratio(figure, Subject::Apart)? >= least),
            Bar::AtMost(most) => {
                let values: Vec<_> = both
                    .into_iter()
                    .filter_map(|subject| self.median(figure, subject))
                    .collect();
                (!values.is_empty()).then(|| values.iter().all(|&value| value <= most))
            }
        }
    }
}

/// What the issue asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bar {
    /// Three processes reach this part of the baseline.
    RatioAtLeast(f64),
    /// Neither one process nor three are over this.
    AtMost(f64),
}

impl Figure {
    pub(super) const fn is_speed(self) -> bool {
        match self {
            Self::RoundTrips(_) | Self::Deliveries(_) => true,
            Self::IdleBytes | Self::ReloadSeconds => false,
        }
    }

    fn name(self) -> String {
        match self {
            Self::RoundTrips(connections) => format!("round trips/s, {connections} connections"),
            Self::Deliveries(members) => format!("deliveries/s, group of {members}"),
            Self::IdleBytes => "kB per idle connection".to_owned(),
            Self::ReloadSeconds => "ms from write to new version".to_owned(),
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::RoundTrips(_) | Self::Deliveries(_) => format!("{value:.0}"),
            Self::IdleBytes => format!("{:.2}", value / 1000.0),
            Self::ReloadSeconds => format!("{:.0}", value * 1000.0),
        }
    }

    fn bar(self) -> Option<Bar> {
        match self {
            Self::RoundTrips(500) => Some(Bar::RatioAtLeast(0.5)),
            Self::RoundTrips(_) => None,
            Self::Deliveries(_) => Some(Bar::RatioAtLeast(0.85)),
            Self::IdleBytes => Some(Bar::AtMost(8000.0)),
            Self::ReloadSeconds => Some(Bar::AtMost(1.0)),
        }
    }

    fn show_bar(self) -> String {
        match self.bar() {
            Some(Bar::RatioAtLeast(least)) => format!("three >= {:.0} % of plain", least * 100.0),
            Some(Bar::AtMost(most)) => format!("<= {}", self.show(most)),
            None => String::new(),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = [
            "",
            "plain",
            "one process",
            "",
            "three processes",
            "",
            "bar",
            "",
        ];
        row(f, heads.map(str::to_owned))?;
        for figure in Figure::ALL {
            let show = |subject| {
                self.median(figure, subject)
                    .map_or_else(|| "-".to_owned(), |value| figure.show(value))
            };
            let ratio = |subject| {
                self.ratio(figure, subject)
                    .map_or_else(String::new, |ratio| format!("{:.0} %", ratio * 100.0))
            };
            let verdict = match self.clears(figure) {
                Some(true) => "ok",
                Some(false) => "below",
                None => "",
            };
            row(
                f,
                [
                    figure.name(),
                    show(Subject::Plain),
                    show(Subject::Serve),
                    ratio(Subject::Serve),
                    show(Subject::Apart),
                    ratio(Subject::Apart),
                    figure.show_bar(),
                    verdict.to_owned(),
                ],
            )?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, cells: [String; 8]) -> fmt::Result {
    let [
        name,
        plain,
        serve,
        serve_ratio,
        apart,
        apart_ratio,
        bar,
        verdict,
    ] = cells;
    writeln!(
        f,
        "| {name:<32} | {plain:>9} | {serve:>11} | {serve_ratio:>6} | {apart:>15} \
         | {apart_ratio:>6} | {bar:<23} | {verdict:<5} |"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_and_is_held_against_its_bar() {
        let mut table = Table::default();
        let figure = Figure::RoundTrips(500);
        for value in [3.0, 100.0, 90.0] {
            table.add(figure, Subject::Plain, value);
        }
        table.add(figure, Subject::Apart, 44.0);
        assert_eq!(table.median(figure, Subject::Plain), Some(90.0));
        assert_eq!(table.clears(figure), Some(false));
        table.add(figure, Subject::Apart, 46.0);
        assert_eq!(table.clears(figure), Some(true));
        assert_eq!(table.against_base(), "");
        let turns = vec![(92.0, 46.0), (10.0, 9.0), (100.0, 10.0)];
        table
            .compared
            .extend(Compared::new(figure, Subject::Apart, turns));
        let compared = table.against_base();
        assert!(compared.contains(" 50.0 % | 10.0 to 90.0 %"), "{compared}");
    }
}
